"""One message for many connections."""

from __future__ import annotations

import builtins
import traceback
from collections.abc import Iterable

from .connection import Connection, DataLike
from .exceptions import ConcurrencyError


def broadcast(
    connections: Iterable[Connection],
    message: DataLike,
    raise_exceptions: bool = False,
    text: bool | None = None,
) -> None:
    """Send a message to each connection that is open, without waiting for any.

    A peer that does not read has its connection closed with 1013 once 64 MiB are queued for it.

    Args:
        connections: of servers or clients.
        message: a str or bytes-like.
        raise_exceptions: whether to raise, at the end, what went wrong: an ExceptionGroup, or the
            first of the exceptions on a Python that has none. Otherwise that is logged.
        text: True to send bytes as a text, False to send a str as binary.

    Raises:
        TypeError: `message` is neither.
    """
    if not isinstance(message, (str, bytes, bytearray, memoryview)):
        raise TypeError("data must be str or bytes")
    data: str | bytes
    if isinstance(message, str):
        data = message.encode() if text is False else message
    else:
        data = bytes(message).decode() if text is True else bytes(message)
    problems: list[Exception] = []
    for connection in connections:
        if not connection.is_open:
            continue
        problem = _send(connection, data)
        if problem is None:
            continue
        if raise_exceptions:
            problems.append(problem)
        else:
            _log(connection, problem)
    if problems:
        _raise(problems)


def _send(connection: Connection, data: str | bytes) -> Exception | None:
    if connection.is_sending_fragments:
        return ConcurrencyError("sending a fragmented message")
    try:
        connection.send_soon(data)
    except Exception as error:
        problem = RuntimeError("failed to write message")
        problem.__cause__ = error
        return problem
    return None


def _log(connection: Connection, problem: Exception) -> None:
    error = problem.__cause__
    if error is None:
        connection.logger.warning("skipped broadcast: %s", problem)
        return
    text = traceback.format_exception_only(type(error), error)[0].strip()
    connection.logger.warning("skipped broadcast: failed to write message: %s", text)


def _raise(problems: list[Exception]) -> None:
    group = getattr(builtins, "ExceptionGroup", None)
    if group is None:
        raise problems[0]
    raise group("skipped broadcast", problems)
