"""What `connect` and `serve` have in common: options of their connections, checked."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from .. import options
from ..compression import Deflate
from ..limits import SERVER_SEND_QUEUE, Limits
from ..overflow import SendOverflow
from .compressing import deflate_option

Marks = int | tuple[int | None, int | None] | None
"""A high-water mark, or that and a low one."""

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]

_NO_MARK = 1 << 62


@dataclass(frozen=True, slots=True)
class Settings:
    """What each connection of a server, or a client's, is held to.

    Attributes:
        limits: those that C keeps.
        queue_high: of messages received; above this, reading stops.
        queue_low: at this many, it goes on.
        write_high: of bytes to be sent; above this, `send` waits.
        close_timeout: seconds for the closing handshake; None for what C allows.
        max_size: largest message to receive, in bytes; None for no limit.
        compression: what is offered or accepted.
        logger: where the connection says what went wrong.
    """

    limits: Limits
    queue_high: int
    queue_low: int
    write_high: int
    close_timeout: float | None
    max_size: int | None
    compression: Deflate | None
    logger: Logger


def checked_settings(
    *,
    compression: str | Deflate | None,
    open_timeout: float | None,
    ping_interval: float | None,
    ping_timeout: float | None,
    close_timeout: float | None,
    max_size: int | tuple[int | None, int | None] | None,
    max_queue: Marks,
    write_limit: Marks,
    logger: Logger,
) -> Settings:
    """Make settings of keyword arguments.

    Raises:
        TypeError, ValueError: one is wrong; the message names it.
    """
    high, low = _marks("max_queue", max_queue)
    message_size = max_size[0] if isinstance(max_size, tuple) else max_size
    return Settings(
        limits=Limits.checked(
            max_message_size=message_size or 0,
            max_send_queue=SERVER_SEND_QUEUE,
            on_send_overflow=SendOverflow.CLOSE,
            handshake_timeout=options.timeout("open_timeout", open_timeout),
            idle_timeout=None,
            ping_interval=options.timeout("ping_interval", ping_interval),
            ping_timeout=options.timeout("ping_timeout", ping_timeout),
        ),
        queue_high=high,
        queue_low=low,
        write_high=_marks("write_limit", write_limit)[0],
        close_timeout=options.timeout("close_timeout", close_timeout),
        max_size=message_size,
        compression=deflate_option(compression),
        logger=logger,
    )


def _marks(name: str, value: Marks) -> tuple[int, int]:
    """Return the high and the low mark; the latter is a quarter of the former by default."""
    high, low = value if isinstance(value, tuple) else (value, None)
    for mark in (high, low):
        if mark is not None and (isinstance(mark, bool) or not isinstance(mark, int)):
            raise TypeError(f"{name} must be an int, a pair of them, or None")
    if high is None:
        high = _NO_MARK if low is None else 4 * low
    if low is None:
        low = high // 4
    if low < 0:
        raise ValueError(f"{name} must not be negative")
    if high < low:
        raise ValueError(f"{name}: the high mark must not be below the low one")
    return high, low


def subprotocol_list(value: object) -> list[str] | None:
    """Check `subprotocols`.

    Raises:
        TypeError: it is a str, which would be taken for its characters.
        ValueError: a name is none.
    """
    if isinstance(value, str):
        raise TypeError("subprotocols must be a list, not a str")
    return None if value is None else options.protocols(value)
