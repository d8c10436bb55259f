"""The event loops that a context can live on: which there are, and how to tell.

Nothing outside this package knows about pyuv or uvloop.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from .adapter import Driver, LoopAdapter
from .asyncio_loop import AsyncioAdapter

__all__ = ["Driver", "LoopAdapter", "adapt"]

SUPPORTED = "a pyuv.Loop, a uvloop loop, an asyncio event loop, or None"


def adapt(loop: object) -> LoopAdapter:
    """Return the adapter for a loop.

    Args:
        loop: a `pyuv.Loop`, a uvloop loop, any asyncio event loop that can watch descriptors; None
            is the running asyncio loop, else pyuv's default loop.

    Returns:
        The adapter; it holds the loop.

    Raises:
        TypeError: it is none of these.
        RuntimeError: `loop` is None, no asyncio loop is running, and pyuv is not installed; or the
            loop is closed.
    """
    if loop is None:
        loop = _default_loop()
    if _is_from("pyuv", "Loop", loop):
        from .pyuv_loop import PyuvAdapter

        return PyuvAdapter(loop)
    if isinstance(loop, asyncio.AbstractEventLoop):
        if loop.is_closed():
            raise RuntimeError("loop is closed")
        if _is_from("uvloop.loop", "Loop", loop):
            from .uvloop_loop import UvloopAdapter

            return UvloopAdapter(loop)
        return AsyncioAdapter(loop)
    raise TypeError(f"loop must be {SUPPORTED}, not {type(loop).__name__}")


def _is_from(module: str, name: str, loop: object) -> bool:
    """Tell whether `loop` is an instance of a class without importing what defines it."""
    defining: Any = sys.modules.get(module)
    cls = getattr(defining, name, None)
    return isinstance(cls, type) and isinstance(loop, cls)


def _default_loop() -> object:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        pass
    try:
        import pyuv
    except ImportError:
        raise RuntimeError(
            "no asyncio event loop is running and pyuv is not installed: give Context a loop, or "
            "install pyuv (pip install 'uvws[pyuv]'; see `python -m uvws pyuv-cflags`)"
        ) from None
    return pyuv.Loop.default_loop()
