"""The bounds that a connection is held to, so that no peer can take more than its share."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from . import options
from ._core import ffi, lib
from .overflow import SendOverflow

# The defaults where anybody can be the peer: of listeners and adopted sockets.
SERVER_MESSAGE_SIZE = 16 * 1024 * 1024
SERVER_SEND_QUEUE = 64 * 1024 * 1024
SERVER_HEADER_SIZE = options.LARGEST_HEAD
SERVER_HANDSHAKE_TIMEOUT = 10.0
SERVER_PING_INTERVAL = 60.0
PING_TIMEOUT = 30.0

_OVERFLOWS = {
    SendOverflow.RAISE: lib.UVWS_OVERFLOW_RAISE,
    SendOverflow.CLOSE: lib.UVWS_OVERFLOW_CLOSE,
    SendOverflow.PAUSE: lib.UVWS_OVERFLOW_PAUSE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The struct `uvws_limits` of csrc/api.h, which docs/limits.md explains. 0 stands for no limit.

    Attributes:
        max_message_size: bytes after decompression.
        max_send_queue: bytes of frames that are queued, from which on none is added.
        on_send_overflow: one of UVWS_OVERFLOW_..., what happens then.
        max_header_size: bytes of a request's head; a server's alone.
        handshake_timeout: milliseconds; likewise.
        idle_timeout: milliseconds of silence from which on the connection is closed.
        ping_interval: milliseconds of silence after which a Ping is sent.
        ping_timeout: milliseconds of silence after that Ping.
    """

    max_message_size: int
    max_send_queue: int
    on_send_overflow: int
    max_header_size: int
    handshake_timeout: int
    idle_timeout: int
    ping_interval: int
    ping_timeout: int

    @classmethod
    def checked(
        cls,
        *,
        max_message_size: object,
        max_send_queue: object,
        on_send_overflow: object,
        idle_timeout: object,
        ping_interval: object,
        ping_timeout: object,
        max_header_size: object = options.LARGEST_HEAD,
        handshake_timeout: object = None,
    ) -> Limits:
        """Make it from keyword arguments.

        Raises:
            TypeError, ValueError: one is wrong; the message names it.
        """
        return cls(
            max_message_size=options.message_limit(max_message_size),
            max_send_queue=options.count_limit("max_send_queue", max_send_queue),
            on_send_overflow=_OVERFLOWS[options.overflow(on_send_overflow)],
            max_header_size=options.header_limit(max_header_size),
            handshake_timeout=_milliseconds("handshake_timeout", handshake_timeout),
            idle_timeout=_milliseconds("idle_timeout", idle_timeout),
            ping_interval=_milliseconds("ping_interval", ping_interval),
            ping_timeout=_milliseconds("ping_timeout", ping_timeout),
        )

    def for_c(self) -> Any:
        """Return the struct for C, which copies it."""
        return ffi.new("uvws_limits *", asdict(self))


def _milliseconds(name: str, value: object) -> int:
    seconds = options.timeout(name, value)
    return 0 if seconds is None else math.ceil(seconds * 1000)
