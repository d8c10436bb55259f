"""What a context asks of a loop, and what a loop that Python drives asks of a context."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

Address = tuple[str, int]
"""A numeric IP address and a port."""

Resolved = Callable[["list[Address] | OSError"], None]
"""Called with the addresses in the order in which to try them, or with what went wrong."""


class Driver(Protocol):
    """The context, as an adapter for a loop driven by Python sees it."""

    def descriptor_ready(self, fd: int, events: int) -> None:
        """Say that a watched descriptor is readable (1), writable (2) or both."""

    def timer_due(self) -> None:
        """Say that the timer fired."""

    def flush(self) -> None:
        """Deliver and write what waits; the answer to `wake`."""

    def loop_closing(self) -> None:
        """Say that the loop is being closed, or was."""


class LoopAdapter(ABC):
    """One event loop.

    Attributes:
        uv_loop: address of the `uv_loop_t`, or 0 where Python drives.
        uv_library: path of the shared object that the loop's libuv is in, or "".
        keeps_alive: whether listeners and connections keep the loop's `run()` from returning.
    """

    uv_loop: int = 0
    uv_library: str = ""
    keeps_alive: bool = False

    def attach(self, driver: Driver) -> None:  # noqa: B027
        """Learn whom to call. Called once, before anything else."""

    def detach(self) -> None:  # noqa: B027
        """Forget the driver: the context is closed."""

    @abstractmethod
    def is_closed(self) -> bool:
        """Tell whether the loop is closed, so that its library must not be called for it."""

    @abstractmethod
    def resolve(self, host: str, port: int, resolved: Resolved) -> Callable[[], None]:
        """Look a name up without blocking the loop.

        Args:
            host: the name.
            port: goes into the addresses as it is.
            resolved: called once, from the loop, never before this returns.

        Returns:
            What cancels the look-up; harmless when it is done.
        """

    @abstractmethod
    def report(self, message: str, error: BaseException) -> None:
        """Report an exception that a callback raised, in the way of this loop."""

    def call_soon_threadsafe(self, callback: Callable[[], None]) -> bool:  # noqa: ARG002
        """Call from the loop's thread, soon; any thread may ask.

        Returns:
            False where the loop has no such thing of its own and the C core's is to be used.
        """
        return False

    def watch(self, fd: int, events: int) -> None:
        """Set what is wanted of a descriptor: 1 readable, 2 writable, 0 nothing."""
        raise NotImplementedError

    def set_timer(self, milliseconds: int) -> None:
        """Set the timer, or stop it (-1)."""
        raise NotImplementedError

    def wake(self) -> None:
        """Call `Driver.flush` before the loop blocks."""
        raise NotImplementedError
