"""uvloop: an asyncio loop whose uv_loop_t C can drive directly."""

from __future__ import annotations

import asyncio
import ctypes
from typing import Any

from uvloop import loop as uvloop_module

from .asyncio_loop import AsyncioAdapter


def _capsule_pointer(capsule: object) -> int:
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype = ctypes.c_void_p
    get_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    return int(get_pointer(capsule, None) or 0)


class UvloopAdapter(AsyncioAdapter):
    """A uvloop loop.

    `keeps_alive` stays False: `run_forever` does not return for want of handles, and `close` would
    wait for ever for one that counts.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        get_pointer: Any = uvloop_module.libuv_get_loop_t_ptr  # type: ignore[attr-defined]
        self.uv_loop = _capsule_pointer(get_pointer(loop))
        self.uv_library = str(uvloop_module.__file__)
