"""Any asyncio event loop that can watch descriptors: Python drives."""

from __future__ import annotations

import asyncio
import errno
import socket
import weakref
from collections.abc import Callable
from typing import Any

from .adapter import Address, Driver, LoopAdapter, Resolved

_READABLE = 1
_WRITABLE = 2
# Far enough away to mean never, near enough for every loop's clock (a hundred years, in seconds).
_NEVER = 100 * 365 * 24 * 3600.0


class _ClosingSentinel:
    """Its death tells that the loop is being closed.

    Loops have no hook for that, but every one of them drops its timers when it is closed. The only
    reference to this object is the argument of a timer that never fires, and the only one to that
    timer is the loop's.
    """

    __slots__ = ("_adapter",)

    def __init__(self, adapter: AsyncioAdapter) -> None:
        self._adapter = adapter

    def __del__(self) -> None:
        self._adapter.loop_closing()


def _never(_sentinel: _ClosingSentinel) -> None:
    """Do nothing; the timer is there for its argument."""


class AsyncioAdapter(LoopAdapter):
    """An asyncio loop, through add_reader, add_writer, call_later and call_soon."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._driver: Driver | None = None
        self._watched: dict[int, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._flush: asyncio.Handle | None = None
        self._closing: weakref.ref[asyncio.TimerHandle] | None = None

    def attach(self, driver: Driver) -> None:
        """Learn whom to call."""
        self._driver = driver
        self._closing = weakref.ref(self._loop.call_later(_NEVER, _never, _ClosingSentinel(self)))

    def detach(self) -> None:
        """Forget the driver."""
        self._driver = None
        closing, self._closing = self._closing, None
        timer = closing() if closing is not None else None
        if timer is not None:
            timer.cancel()
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None

    def is_closed(self) -> bool:
        """Tell whether the loop is closed."""
        return self._loop.is_closed()

    def loop_closing(self) -> None:
        """The sentinel died: the loop is being closed."""
        if self._driver is not None:
            self._driver.loop_closing()

    def resolve(self, host: str, port: int, resolved: Resolved) -> Callable[[], None]:
        """Look a name up; see `LoopAdapter`."""
        task: Any = self._loop.create_task(self._look_up(host, port, resolved))

        def done(_task: object) -> None:
            if task.cancelled():  # by somebody else: whoever asked here does not listen any more
                resolved(OSError(errno.ECANCELED, f"the look-up of {host} was cancelled"))

        def cancel() -> None:
            if self._loop.is_closed():
                task._log_destroy_pending = False  # it was, and by the user's own doing
            else:
                task.cancel()

        task.add_done_callback(done)
        return cancel

    async def _look_up(self, host: str, port: int, resolved: Resolved) -> None:
        answer: list[Address] | OSError
        try:
            found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answer = [(str(entry[4][0]), port) for entry in found]
        except OSError as error:
            answer = error
        except Exception as error:  # such as an executor that is shut down
            answer = OSError(f"look-up of {host} failed: {error}")
            answer.__cause__ = error
        resolved(answer)

    def report(self, message: str, error: BaseException) -> None:
        """Report an exception of a callback."""
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            # As from any callback of asyncio: these end the loop.
            self._loop.call_soon(_raise, error)
            return
        self._loop.call_exception_handler({"message": message, "exception": error})

    def call_soon_threadsafe(self, callback: Callable[[], None]) -> bool:
        """Call from the loop's thread."""
        self._loop.call_soon_threadsafe(callback)
        return True

    def watch(self, fd: int, events: int) -> None:
        """Set what is wanted of a descriptor."""
        before = self._watched.pop(fd, 0)
        if events:
            self._watched[fd] = events
        if self._loop.is_closed():
            return
        added, removed = events & ~before, before & ~events
        if added & _READABLE:
            self._loop.add_reader(fd, self._ready, fd, _READABLE)
        if removed & _READABLE:
            self._loop.remove_reader(fd)
        if added & _WRITABLE:
            self._loop.add_writer(fd, self._ready, fd, _WRITABLE)
        if removed & _WRITABLE:
            self._loop.remove_writer(fd)

    def _ready(self, fd: int, events: int) -> None:
        # A callback that ran before in this turn may have ended what this one is about.
        if self._driver is not None and self._watched.get(fd, 0) & events:
            self._driver.descriptor_ready(fd, events)

    def set_timer(self, milliseconds: int) -> None:
        """Set the timer, or stop it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if milliseconds >= 0 and not self._loop.is_closed():
            self._timer = self._loop.call_later(milliseconds / 1000, self._timer_due)

    def _timer_due(self) -> None:
        self._timer = None
        if self._driver is not None:
            self._driver.timer_due()

    def wake(self) -> None:
        """Have the driver flush soon."""
        if self._flush is None and not self._loop.is_closed():
            self._flush = self._loop.call_soon(self._run_flush)

    def _run_flush(self) -> None:
        self._flush = None
        if self._driver is not None:
            self._driver.flush()


def _raise(error: BaseException) -> None:
    raise error
