"""The functions that C calls, by the names that csrc/api.h gives them.

C passes the handle of the context's `Core`. Nothing may be raised here: cffi would print it and go
on.
"""

from __future__ import annotations

import logging
from typing import Any

from ._core import ffi, lib
from .core import Core

_WORDS = lib.UVWS_EVENT_WORDS
# lws's LLL_ERR, LLL_WARN and LLL_NOTICE; the others are for debugging.
_LEVELS = {1: logging.ERROR, 2: logging.WARNING, 4: logging.INFO}

# A peer's words may be in a line, and are not to make it look like two.
_CONTROL_CHARACTERS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])

_library_log = logging.getLogger("uvws.lws")


def _core(handle: Any) -> Core:
    core: Core = ffi.from_handle(handle)
    return core


@ffi.def_extern()  # type: ignore[untyped-decorator]
def uvws_py_events(handle: Any, records: Any, count: int, arena: Any, arena_size: int) -> None:
    """Take a batch of events; C reuses the memory afterwards."""
    payload = ffi.buffer(arena, arena_size)[:] if arena_size else b""
    _core(handle).dispatch(ffi.unpack(records, count * _WORDS), payload)


@ffi.def_extern(error=1)  # type: ignore[untyped-decorator]
def uvws_py_handshake(
    handle: Any, connection: Any, slot: int, listener: int, head: Any, size: int
) -> int:
    """Decide on an upgrade: 0 accepts it."""
    return int(not _core(handle).handshake(connection, slot, listener, ffi.buffer(head, size)[:]))


@ffi.def_extern(error=1)  # type: ignore[untyped-decorator]
def uvws_py_negotiate(handle: Any, slot: int, head: Any, size: int) -> int:
    """Check a server's choice of extensions: 0 agrees."""
    return int(not _core(handle).negotiate(slot, ffi.buffer(head, size)[:]))


@ffi.def_extern()  # type: ignore[untyped-decorator]
def uvws_py_request(
    handle: Any, connection: Any, listener: int, method: Any, head: Any, size: int
) -> None:
    """Answer a plain HTTP request."""
    name = ffi.string(method).decode()
    _core(handle).request(connection, listener, name, ffi.buffer(head, size)[:])


@ffi.def_extern()  # type: ignore[untyped-decorator]
def uvws_py_watch(handle: Any, fd: int, events: int) -> None:
    """Watch a descriptor, on a loop that Python drives."""
    _core(handle).adapter.watch(fd, events)


@ffi.def_extern()  # type: ignore[untyped-decorator]
def uvws_py_timer(handle: Any, milliseconds: int) -> None:
    """Set the timer, on a loop that Python drives."""
    _core(handle).adapter.set_timer(milliseconds)


@ffi.def_extern()  # type: ignore[untyped-decorator]
def uvws_py_wake(handle: Any) -> None:
    """Call `uvws_flush` soon, on a loop that Python drives."""
    _core(handle).adapter.wake()


@ffi.def_extern()  # type: ignore[untyped-decorator]
def uvws_py_called_soon(handle: Any) -> None:
    """Run what other threads asked for."""
    _core(handle).run_soon()


@ffi.def_extern()  # type: ignore[untyped-decorator]
def uvws_py_released(handle: Any) -> None:
    """Let go of the context: nothing of it is on the loop any more."""
    _core(handle).released()


@ffi.def_extern()  # type: ignore[untyped-decorator]
def uvws_py_log(level: int, line: Any, size: int) -> None:
    """Log a line of libwebsockets."""
    text = ffi.buffer(line, size)[:].decode("utf-8", "replace").translate(_CONTROL_CHARACTERS)
    _library_log.log(_LEVELS.get(level, logging.DEBUG), "%s", text)
