"""libuv's own view of a loop, through the functions that pyuv and uvloop export."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from typing import Any

_UV_PREPARE = 9

_Walk = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
_HandleCallback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Handle:
    """One handle on a loop, as it was when the loop was walked.

    Attributes:
        address: where it is.
        type: a uv_handle_type.
        data: its `data` field, the first one of every handle.
    """

    def __init__(self, library: Any, address: int) -> None:
        self.address = address
        # Every handle begins with: void *data; uv_loop_t *loop; uv_handle_type type;
        pointer = ctypes.sizeof(ctypes.c_void_p)
        self.data = ctypes.c_size_t.from_address(address).value
        self.type = ctypes.c_int.from_address(address + 2 * pointer).value
        self.has_ref = bool(library.uv_has_ref(ctypes.c_void_p(address)))
        self.is_active = bool(library.uv_is_active(ctypes.c_void_p(address)))
        self.is_closing = bool(library.uv_is_closing(ctypes.c_void_p(address)))

    def belongs_to(self, types: set[int]) -> bool:
        """Tell whether `data` points at a Python object of one of these types, given by address."""
        if not self.data:
            return False
        # An object begins with: Py_ssize_t ob_refcnt; PyTypeObject *ob_type;
        kind = ctypes.c_size_t.from_address(self.data + ctypes.sizeof(ctypes.c_ssize_t)).value
        return kind in types

    def __repr__(self) -> str:
        state = "closing" if self.is_closing else "active" if self.is_active else "stopped"
        return f"<handle of type {self.type}, {state}, data={self.data:#x}>"


class UVLoop:
    """A uv_loop_t and the library that made it."""

    def __init__(self, module: Any, address: int) -> None:
        self.library = ctypes.CDLL(module.__file__)
        self._types = {id(each) for each in vars(module).values() if isinstance(each, type)}
        self.address = ctypes.c_void_p(address)
        self.library.uv_now.restype = ctypes.c_uint64

    def foreign_handles(self) -> list[Handle]:
        """Walk the loop, leaving out the handles of the module that the loop is from."""
        return [each for each in self.handles() if not each.belongs_to(self._types)]

    def handles(self) -> list[Handle]:
        """Walk the loop."""
        found: list[Handle] = []

        @_Walk
        def visit(handle: int, _argument: int | None) -> None:
            found.append(Handle(self.library, handle))

        self.library.uv_walk(self.address, visit, None)
        return found

    @property
    def is_alive(self) -> bool:
        """Whether uv_run() has something to wait for."""
        return bool(self.library.uv_loop_alive(self.address))

    @property
    def backend_fd(self) -> int:
        """The descriptor of the loop's epoll."""
        return int(self.library.uv_backend_fd(self.address))


class TurnHook:
    """Calls a function on every turn of a loop, right before it blocks and after everything else
    that is called there: the hook that was started first is called last.
    """

    def __init__(self, loop: UVLoop, function: Callable[[], object]) -> None:
        self._loop = loop
        size = loop.library.uv_handle_size(_UV_PREPARE)
        self._memory = ctypes.create_string_buffer(size + 16)
        self._handle = ctypes.c_void_p((ctypes.addressof(self._memory) + 15) & ~15)
        self._callback = _HandleCallback(lambda _handle: function() and None)
        self._on_closed = _HandleCallback(self._closed)
        self.is_closed = False
        library = loop.library
        assert library.uv_prepare_init(loop.address, self._handle) == 0
        library.uv_unref(self._handle)
        assert library.uv_prepare_start(self._handle, self._callback) == 0

    def close(self) -> None:
        """Have libuv let go; `is_closed` once it has."""
        self._loop.library.uv_close(self._handle, self._on_closed)

    def _closed(self, _handle: int) -> None:
        self.is_closed = True


def uv_loop_of(loop: Any) -> UVLoop:
    """Return the uv_loop_t of a pyuv or uvloop loop, found in another way than uvws does."""
    module = type(loop).__module__
    if "uvloop" in {base.__module__.split(".")[0] for base in type(loop).__mro__}:
        import uvloop.loop

        get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
        get_pointer.restype = ctypes.c_void_p
        get_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
        address = get_pointer(uvloop.loop.libuv_get_loop_t_ptr(loop), None)
        return UVLoop(uvloop.loop, address)
    assert "pyuv" in {base.__module__.split(".")[0] for base in type(loop).__mro__}, module
    import pyuv._cpyuv

    return UVLoop(pyuv._cpyuv, _pyuv_address(loop))


def _pyuv_address(loop: Any) -> int:
    """A handle of libuv knows its loop, and pyuv's handles are libuv's with a header in front: the
    loop's address is the word behind the one that points back at the handle's Python object.
    """
    import pyuv

    pointer = ctypes.sizeof(ctypes.c_void_p)
    handle = pyuv.Idle(loop)
    words = list((ctypes.c_size_t * (pyuv.Idle.__basicsize__ // pointer)).from_address(id(handle)))
    library = ctypes.CDLL(pyuv._cpyuv.__file__)
    for first, second in itertools.pairwise(words):
        if first == id(handle) and second:
            assert library.uv_backend_fd(ctypes.c_void_p(second)) == loop.fileno()
            handle.close()
            return second
    raise AssertionError("the layout of pyuv's handles is not what was thought")
