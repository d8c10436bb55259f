"""Echo server on uvws: `uvws_server.py pyuv|uvloop|asyncio`."""

import sys
from collections.abc import Callable
from typing import Any

import uvws


def make_loop(kind: str) -> tuple[Any, Callable[[], Any]]:
    """Make a loop of the kind asked for.

    Args:
        kind: pyuv, uvloop or asyncio.

    Returns:
        The loop, and what runs it for ever.
    """
    if kind == "pyuv":
        import pyuv  # type: ignore[import-not-found, import-untyped, unused-ignore]

        loop = pyuv.Loop.default_loop()
        return loop, loop.run
    if kind == "uvloop":
        import uvloop

        uv = uvloop.new_event_loop()
        return uv, uv.run_forever
    if kind == "asyncio":
        import asyncio

        plain = asyncio.new_event_loop()
        return plain, plain.run_forever
    raise SystemExit(f"what loop is {kind!r}? Known: pyuv, uvloop, asyncio")


if len(sys.argv) != 2:
    raise SystemExit(__doc__)
loop, run = make_loop(sys.argv[1])
context = uvws.Context(loop)
listener = context.listen(
    port=0, host="127.0.0.1", on_message=lambda connection, data: connection.send(data)
)
print("PORT", listener.port, flush=True)
run()
