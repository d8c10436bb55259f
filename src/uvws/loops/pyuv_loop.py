"""pyuv: loops of libuv without an API that gives their address."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import socket
from collections.abc import Callable
from typing import Any

import pyuv

from .._core import ffi, lib
from .adapter import Address, LoopAdapter, Resolved

_log = logging.getLogger("uvws")
_POINTER = ctypes.sizeof(ctypes.c_void_p)
_ERROR_SIZE = 256


def _library() -> str:
    """Return the path of the shared object that pyuv's libuv is in."""
    compiled: Any = getattr(pyuv, "_cpyuv", None) or pyuv
    return str(compiled.__file__)


def _candidates(loop: Any) -> list[int]:
    """Find where the loop's `uv_loop_t` may be.

    Its first field, `data`, points back at the Python object. It is a part of the object itself,
    or it is libuv's default loop. Only memory known to be readable is looked at.
    """
    base = id(loop)
    size = pyuv.Loop.__basicsize__
    words = (ctypes.c_size_t * (size // _POINTER)).from_address(base)
    inside = {base + n * _POINTER for n, word in enumerate(words) if word == base}
    if loop.default:  # to ask for it otherwise would make one, which stays for good
        inside.add(int(ffi.cast("uintptr_t", lib.uvws_uv_default_loop(_library().encode()))))
    # The object keeps the address of its loop, wherever that is.
    kept = set(words)
    return [address for address in inside if address in kept]


def _check(address: int, loop: Any, error: Any) -> bool:
    """Ask libuv itself whether there is a loop at that address, and this one."""
    pointer = ffi.cast("void *", address)
    library = _library().encode()
    return bool(
        lib.uvws_uv_loop_check(pointer, library, loop.fileno(), error, _ERROR_SIZE) == lib.UVWS_OK
    )


def find_loop(loop: Any) -> int:
    """Return the address of a pyuv loop's `uv_loop_t`.

    Raises:
        RuntimeError: it cannot be found or does not prove to be the loop's.
    """
    error = ffi.new("char[]", _ERROR_SIZE)
    for address in _candidates(loop):
        if _check(address, loop, error):
            return address
    reason = ffi.string(error).decode() or "no field of the object points back at it"
    raise RuntimeError(f"the uv_loop_t of {loop!r} was not found: {reason}")


class PyuvAdapter(LoopAdapter):
    """A `pyuv.Loop`: its `run()` returns when the last listener and connection is gone."""

    keeps_alive = True

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self.uv_loop = find_loop(loop)
        self.uv_library = _library()

    def is_closed(self) -> bool:
        """Tell whether the loop is closed."""
        return False  # a pyuv loop lives as long as its object, which this holds

    def resolve(self, host: str, port: int, resolved: Resolved) -> Callable[[], None]:
        """Look a name up; see `LoopAdapter`."""

        def done(result: Any, error: int | None) -> None:
            if error is not None and error != 0:
                resolved(_resolve_error(host, error))
                return
            resolved(_addresses(result, port))

        request = pyuv.dns.getaddrinfo(
            self._loop, host, port, 0, socket.SOCK_STREAM, 0, 0, callback=done
        )

        return lambda: request.cancel() and None

    def report(self, message: str, error: BaseException) -> None:
        """Report an exception of a callback."""
        hook = getattr(self._loop, "excepthook", None)
        if hook is None:
            _log.error(message, exc_info=error)
            return
        hook(type(error), error, error.__traceback__)


def _addresses(result: Any, port: int) -> list[Address]:
    return [(str(entry.sockaddr[0]), port) for entry in result]


def _resolve_error(host: str, error: int) -> OSError:
    name = pyuv.errno.errorcode.get(error, "")
    text = pyuv.errno.strerror(error)
    if name.startswith("UV_EAI_"):
        code = getattr(socket, name.removeprefix("UV_"), error)
        return socket.gaierror(code, f"{text}: {host}")
    number = getattr(errno, name.removeprefix("UV_"), 0)
    return OSError(number, os.strerror(number) if number else text)
