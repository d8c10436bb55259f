"""The part of a context that C calls: it outlives the `Context` object where it has to.

C knows this object by a cffi handle. It stays registered until the loop has let go of the last
handle that C put on it, since libuv reads their memory until then; so it also holds the loop.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from . import fast, logs
from ._core import ffi, lib
from .errors import InvalidState, WrongThread
from .loops import LoopAdapter

if TYPE_CHECKING:
    from .connection import Connection
    from .context import Context
    from .listener import Listener

ERROR_SIZE = 256
_GOING_AWAY = 1001

_WORDS = lib.UVWS_EVENT_WORDS
_TEXT = lib.UVWS_EVENT_TEXT
_BINARY = lib.UVWS_EVENT_BINARY
_LARGE_TEXT = lib.UVWS_EVENT_LARGE_TEXT
_LARGE_BINARY = lib.UVWS_EVENT_LARGE_BINARY
_UNPIN = lib.UVWS_EVENT_UNPIN
_CODE_OF_PEER = lib.UVWS_CODE_OF_PEER

_registered: set[Core] = set()


def _forked() -> None:
    for core in _registered:
        core.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Core:
    """Connections, listeners and events of one context."""

    def __init__(self, adapter: LoopAdapter) -> None:
        self.adapter = adapter
        self.connections: dict[int, Connection] = {}
        self.listeners: dict[int, Listener] = {}  # also closed ones that still have connections
        self.open_listeners = 0
        self.listeners_made = 0
        self.closed = False
        self.is_copy = False  # in a process that was forked
        self.context: weakref.ref[Context] | None = None
        self._live_context: Context | None = None
        # Of a context that is meant to be closed with its loop: see aio/contexts.py.
        self.when_closed: Callable[[], object] | None = None
        # What was adopted, by the identity of the socket: see adopting.py.
        self.adopted: dict[tuple[int, int], object] = {}
        self._pinned: dict[int, bytes] = {}
        self._pins = 1
        self.asking = False  # the user, about a request that libwebsockets is at work on
        self._put_off: deque[Callable[[], None]] = deque()
        self._soon: deque[Callable[[], None]] = deque()
        # Held while another thread may be in C. A finaliser may take it again on the same thread.
        self._soon_lock = threading.RLock()
        self.handle = ffi.new_handle(self)
        error = ffi.new("char[]", ERROR_SIZE)
        adapter.attach(self)
        self.c = lib.uvws_context_new(
            self.handle,
            ffi.cast("void *", adapter.uv_loop),
            adapter.uv_library.encode(),
            adapter.keeps_alive,
            error,
            ERROR_SIZE,
        )
        if self.c == ffi.NULL:
            refused = ffi.errno
            adapter.detach()
            if refused:
                raise OSError(refused, os.strerror(refused))
            raise MemoryError(ffi.string(error).decode())
        if fast.enabled():
            lib.uvws_cpython_attach(
                self.c, ffi.cast("void *", id(self)), ffi.cast("void *", id(self.connections))
            )
        _registered.add(self)
        if logs.enabled:
            logs.log.debug("%s: made on %s", self._label, type(adapter).__name__)

    @property
    def _label(self) -> str:
        return f"context {id(self):#x}"

    def __del__(self) -> None:
        c = getattr(self, "c", ffi.NULL)
        if c != ffi.NULL:
            lib.uvws_context_release(c)

    def check(self) -> None:
        """Raise unless the context can be used here and now.

        Raises:
            InvalidState: it is closed.
            WrongThread: this is not the loop's thread.
        """
        if self.closed:
            raise InvalidState("Context is closed")
        self.check_thread()

    def check_thread(self) -> None:
        """Raise WrongThread unless this is the loop's thread."""
        if self.is_copy:
            raise WrongThread("uvws objects belong to the process that made them, not to its forks")
        if lib.uvws_context_check_thread(self.c) != lib.UVWS_OK:
            raise WrongThread("uvws objects belong to the thread that runs their loop")

    def is_adopted(self, identity: tuple[int, int]) -> bool:
        """Tell whether this context or another one has adopted a socket."""
        return any(identity in each.adopted for each in list(_registered))

    def live_changed(self) -> None:
        """Keep the Context from being collected while it has a listener or a connection."""
        self._live_context = self.context() if self.is_live and self.context is not None else None

    @property
    def is_live(self) -> bool:
        """Whether there is a connection or a listener."""
        return bool(self.connections or self.open_listeners)

    # Closing

    def close(self) -> None:
        """End everything: a Close frame with 1001 where that needs no waiting, the callbacks, C."""
        self._close(loop_is_closed=self.adapter.is_closed())

    def forked(self) -> None:
        """This process has a copy: sockets and loop are the parent's, and stay as they are."""
        self.is_copy = True
        lib.uvws_context_forked(self.c)

    def _close(self, *, loop_is_closed: bool) -> None:
        with self._soon_lock:
            if self.closed:
                return
            self.closed = True
        lib.uvws_context_say_goodbye(self.c, _GOING_AWAY)
        connections = list(self.connections.values())
        self.connections.clear()
        for listener in self.listeners.values():
            listener.context_closed()
        self.listeners.clear()
        for connection in connections:
            connection.context_closed(_GOING_AWAY)
        self.adapter.detach()
        lib.uvws_context_close(self.c, loop_is_closed)
        self._pinned.clear()
        self._live_context = None
        when_closed, self.when_closed = self.when_closed, None
        if when_closed is not None:
            when_closed()
        if logs.enabled:
            logs.log.debug("%s: closed", self._label)

    def loop_closing(self) -> None:
        """The loop is closed under the context: an error of the user's, and survivable."""
        if self.closed or self.is_copy:
            return
        expected = self.when_closed is not None and not self.is_live
        # A loop of libuv that says it is closed still has its handles, and waits for them to close.
        self._close(loop_is_closed=not self.adapter.uv_loop)
        if expected:
            return
        # Last, since the warning may be an exception.
        warnings.warn(
            "the event loop was closed before its uvws.Context", ResourceWarning, stacklevel=2
        )

    def close_abandoned(self) -> None:
        """The Context was collected, on whatever thread that happened."""
        if self.closed or self.is_copy:
            return
        if lib.uvws_context_check_thread(self.c) == lib.UVWS_OK:
            self.close()
        else:
            self.call_soon_threadsafe(self.close)

    def released(self) -> None:
        """C has let go: the last handle on the loop is closed."""
        _registered.discard(self)

    # Calls from other threads

    def call_soon_threadsafe(self, callback: Callable[[], None]) -> None:
        """Have something called from the loop's thread; the one call that any thread may make.

        Asked for after the context is closed, it is dropped.
        """
        with self._soon_lock:
            if self.closed or self.is_copy or self.adapter.call_soon_threadsafe(callback):
                return
            self._soon.append(callback)
            lib.uvws_context_call_soon(self.c)

    def run_soon(self) -> None:
        """Call what other threads asked for."""
        for _ in range(len(self._soon)):
            callback = self._soon.popleft()
            try:
                callback()
            except BaseException as error:
                self.adapter.report("Exception in a callback from another thread", error)

    # What loops that Python drives call (see loops.Driver)

    def descriptor_ready(self, fd: int, events: int) -> None:
        """Serve a descriptor."""
        lib.uvws_descriptor_ready(self.c, fd, events)

    def timer_due(self) -> None:
        """Serve the timer."""
        lib.uvws_timer_due(self.c)

    def flush(self) -> None:
        """Deliver and write what waits."""
        lib.uvws_flush(self.c)

    # Payloads that C reads where they are

    def pin(self, payload: bytes) -> int:
        """Keep a payload until C says UNPIN; returns the token for it."""
        self._pins += 2  # odd: the even ones are addresses of objects that csrc/cpython.c holds
        self._pinned[self._pins] = payload
        return self._pins

    def unpin(self, token: int) -> None:
        """Let go of a payload."""
        self._pinned.pop(token, None)

    # Events

    def dispatch(self, words: list[int], payload: bytes) -> None:
        """Work through a batch of events, in order, whatever the user's callbacks raise.

        Args:
            words: UVWS_EVENT_WORDS integers for each event.
            payload: what they refer to by offset.
        """
        connections = self.connections
        word = iter(words)
        events = zip(word, word, word, word, strict=True)
        while True:
            connection: Connection | None = None
            try:
                for tag, first, second, third in events:
                    connection = connections.get(tag >> 8)
                    kind = tag & 0xFF
                    if kind == _TEXT:
                        if connection is not None:
                            connection.deliver(connection, payload[first : first + second].decode())
                    elif kind == _BINARY:
                        if connection is not None:
                            connection.deliver(connection, payload[first : first + second])
                    else:
                        self.dispatch_rare((kind, tag >> 8, first, second, third), payload)
            except BaseException as error:
                self.report("Exception in a uvws callback", error)
                continue
            return

    def dispatch_rare(self, event: tuple[int, int, int, int, int], payload: bytes) -> None:
        """Work through an event other than a small message; csrc/cpython.c calls this as well."""
        kind, slot, first, second, third = event
        connection = self.connections.get(slot)
        if kind in (_LARGE_TEXT, _LARGE_BINARY):
            data = self._take_large(kind, first, second, third)
            if connection is not None:
                connection.deliver(connection, data)
        elif kind == _UNPIN:
            self.unpin(first)
        elif kind == lib.UVWS_EVENT_LISTENER_GONE:
            self.listeners.pop(first, None)
        elif kind == lib.UVWS_EVENT_TLS_FAILED:
            listener = self.listeners.get(third)
            if listener is not None:
                listener.tls_failed(payload[first : first + second])
        elif kind == lib.UVWS_EVENT_ACCEPTED:
            listener = self.listeners.get(third)
            if listener is not None and not self.closed:
                listener.accepted(slot, payload[first : first + second])
        elif connection is None:
            pass  # the context was closed by an earlier callback of this batch
        elif kind == lib.UVWS_EVENT_CONNECTED:
            connection.established(payload[first : first + second])
        elif kind == lib.UVWS_EVENT_ADOPTED:
            connection.adopted()
        elif kind == lib.UVWS_EVENT_CLOSED:
            by_peer = third >= _CODE_OF_PEER
            code = third - _CODE_OF_PEER if by_peer else third
            reason = payload[first : first + second]
            connection.in_order(partial(connection.ended, code, reason, by_peer=by_peer))
        elif kind == lib.UVWS_EVENT_CONNECT_FAILED:
            connection.attempt_failed(third & 0xFF, third >> 8, payload[first : first + second])
        elif kind == lib.UVWS_EVENT_MESSAGE_TOO_BIG:
            connection.in_order(partial(connection.message_too_big, first))
        elif kind == lib.UVWS_EVENT_SEND_QUEUE_FULL:
            connection.in_order(partial(connection.send_queue_full, first))
        elif kind == lib.UVWS_EVENT_PING_TIMEOUT:
            connection.in_order(partial(connection.ping_timed_out, first))
        elif kind == lib.UVWS_EVENT_DRAIN:
            connection.drained()
        elif kind == lib.UVWS_EVENT_CLOSING:
            connection.in_order(connection.closing)
        elif kind == lib.UVWS_EVENT_PONG:
            connection.pong(payload[first : first + second])
        elif kind == lib.UVWS_EVENT_RESUMED:
            connection.resumed()

    # What C asks at once, in the middle of a handshake

    def handshake(self, c: Any, slot: int, listener_slot: int, raw: bytes) -> bool:
        """Tell whether an upgrade is accepted."""
        if listener_slot == lib.UVWS_NO_LISTENER:
            return self.connections[slot].upgrading(c, raw)
        listener = self.listeners.get(listener_slot)
        if listener is None or self.closed:
            return False
        with self._asking():
            return listener.handshake(c, slot, raw)

    def negotiate(self, slot: int, raw: bytes) -> bool:
        """Tell whether a server's answer to what a client offered is one."""
        return not self.closed and self.connections[slot].negotiated(raw)

    def request(self, c: Any, listener_slot: int, method: str, raw: bytes) -> None:
        """Have a listener answer a plain HTTP request."""
        listener = self.listeners.get(listener_slot)
        if listener is not None and not self.closed:
            with self._asking():
                listener.request(c, method, raw)

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        self.asking = True
        try:
            yield
        finally:
            self.asking = False
            while self._put_off:
                self.call_soon_threadsafe(self._put_off.popleft())

    def put_off(self, callback: Callable[[], None]) -> None:
        """Have something called once libwebsockets is through with what Python was asked about."""
        self._put_off.append(callback)

    def _take_large(self, kind: int, address: int, size: int, capacity: int) -> str | bytes:
        """Make a Python object of a message that has memory of its own, and give that back."""
        memory = ffi.cast("char *", address)
        try:
            view = ffi.buffer(memory, size)
            return str(view, "utf-8") if kind == _LARGE_TEXT else view[:]
        finally:
            lib.uvws_recycle(self.c, memory, capacity)

    def report_current(self, error: BaseException) -> None:
        """Report what a callback raised that csrc/cpython.c called."""
        self.report("Exception in a uvws callback", error)

    def report(self, message: str, error: BaseException) -> None:
        """Report an exception of the user's, once, and survive what that raises."""
        try:
            self.adapter.report(message, error)
        except BaseException as raised:
            if raised.__context__ is None:
                raised.__context__ = error
            logging.getLogger("uvws").exception("the exception handler raised")
