"""The loops that uvws is measured on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def make_loop(kind: str) -> tuple[Any, Callable[[], Any]]:
    """Make a loop of the kind asked for.

    Args:
        kind: pyuv, uvloop or asyncio.

    Returns:
        The loop, and what runs it until it is stopped.
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
