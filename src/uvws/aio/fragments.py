"""Sending a message of which the parts come one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

from .frames import CloseCode

if TYPE_CHECKING:
    from .connection import Connection


async def send_fragments(
    connection: Connection, parts: Iterable[Any] | AsyncIterable[Any], text: bool | None
) -> None:
    """Send a message in fragments, all of one type; none at all where there are none.

    Raises:
        TypeError: one is neither str nor bytes-like, or not of the type of the first. The
            connection is closed then, as it is after whatever the iterable raises.
    """
    is_async = isinstance(parts, AsyncIterable)
    fragments = parts.__aiter__() if isinstance(parts, AsyncIterable) else _iterate(parts)
    try:
        first = await fragments.__anext__()
    except StopAsyncIteration:
        return
    kind = "async iterable" if is_async else "iterable"
    if not isinstance(first, (str, bytes, bytearray, memoryview)):
        connection.begin_close(CloseCode.INTERNAL_ERROR, "error in fragmented message")
        raise TypeError(f"{kind} must contain bytes or str")
    connection.fragments_begin()
    done = False
    try:
        await _send_all(connection, first, fragments, text, kind)
        done = True
    finally:
        connection.fragments_end()
        if not done:
            # What was begun cannot be ended.
            connection.begin_close(CloseCode.INTERNAL_ERROR, "error in fragmented message")


async def _iterate(parts: Iterable[Any]) -> AsyncIterator[Any]:
    for part in parts:
        yield part


async def _send_all(
    connection: Connection,
    first: str | bytes | bytearray | memoryview,
    rest: AsyncIterator[Any],
    text: bool | None,
    kind: str,
) -> None:
    is_text = isinstance(first, str)
    binary = not is_text if text is None else not text
    await connection.send_fragment(first, binary=binary, final=False)
    async for part in rest:
        fits = (
            isinstance(part, str) if is_text else isinstance(part, (bytes, bytearray, memoryview))
        )
        if not fits:
            raise TypeError(f"{kind} must contain uniform types")
        await connection.send_fragment(part, binary=binary, final=False)
    await connection.send_fragment(b"", binary=binary, final=True)
