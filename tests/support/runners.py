"""One way to run every kind of loop in a test.

A runner does not poll: the condition is looked at on every turn of the loop, when nothing more is
to be done before the loop blocks. A loop that goes to sleep with work left over is thus seen to
hang.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import gc
import inspect
from collections.abc import Callable
from typing import Any, Protocol

import pytest

from .deadlines import time_limit

KINDS = ("pyuv", "uvloop", "asyncio")

Predicate = Callable[[], object]


class Peer(Protocol):
    """Something that runs in a thread and has to be stopped."""

    def stop(self) -> None:
        """Stop it; idempotent."""


class Runner(abc.ABC):
    """A loop and what a test does with it.

    Attributes:
        kind: "pyuv", "uvloop" or "asyncio".
        loop: the loop itself.
        reported: exceptions that were reported the way this kind of loop reports them. A test that
            expects some empties the list; what is left over fails it.
    """

    kind: str

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.reported: list[BaseException] = []
        self._contexts: list[Any] = []
        self._peers: list[Peer] = []
        self._until: Predicate | None = None
        self._raised: BaseException | None = None

    # What tests call

    def context(self, **options: Any) -> Any:
        """Return a new context on this loop, which is closed when the test is over."""
        import uvws

        context = uvws.Context(self.loop, **options)
        self._contexts.append(context)
        return context

    def run(self, until: Predicate, timeout: float = 5.0) -> None:
        """Run the loop until a condition holds; the test fails if that takes too long."""
        __tracebackhide__ = True
        self._until, self._raised = until, None
        if self._holds():
            self._until = None
            self._reraise()
            return
        expired = self._run(time_limit(timeout))
        self._until = None
        self._reraise()
        if expired:
            pytest.fail(f"{_describe(until)}: not so within {time_limit(timeout):g} s")

    def run_to_end(self, timeout: float = 5.0) -> None:
        """Run the loop until its run() returns by itself; the test fails if that takes too long."""
        raise TypeError(f"the run() of {self.kind} does not return by itself")

    def run_for(self, seconds: float) -> None:
        """Run the loop for a time: for tests that something does not happen."""
        over: list[None] = []
        self.call_later(seconds, lambda: over.append(None))
        self.run(lambda: over, seconds + 5)

    @abc.abstractmethod
    def turns(self, count: int) -> None:
        """Run so many turns of the loop, without waiting for anything."""

    @abc.abstractmethod
    def call_later(self, seconds: float, callback: Callable[[], object]) -> None:
        """Call something from the loop."""

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call something from the loop as soon as it runs."""
        self.call_later(0, callback)

    @abc.abstractmethod
    def wake(self) -> None:
        """Have the loop turn, so that the condition is looked at again; any thread may call it."""

    def let_go(self) -> None:  # noqa: B027
        """Take off the loop what the runner has on it, for tests that close the loop.

        There is no `run` after this.
        """

    # What fixtures call

    def add_peer(self, peer: Peer) -> None:
        """Have a peer stopped when the test is over, after the contexts are closed."""
        self._peers.append(peer)

    def finish(self) -> None:
        """Close the contexts, stop the peers, close the loop."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._forget_loop)
            stack.callback(self._close_loop)
            for peer in self._peers:
                stack.callback(peer.stop)
            for context in self._contexts:
                stack.callback(context.close)
            self._contexts.clear()
            self._peers.clear()  # what they hold may hold the loop

    # For the kinds

    @abc.abstractmethod
    def _run(self, seconds: float) -> bool:
        """Run until `_turned` says that it is enough; returns whether time ran out."""

    @abc.abstractmethod
    def _close_loop(self) -> None:
        """Let close callbacks run, then close the loop."""

    def _forget_loop(self) -> None:
        self.loop = None
        gc.collect()

    def _turned(self) -> bool:
        """The loop turned: tell whether to stop it."""
        return self._until is not None and self._holds()

    def _holds(self) -> bool:
        assert self._until is not None
        try:
            answer = self._until()
            assert not callable(answer), "the condition returned a function: call it"
            return bool(answer)
        except BaseException as error:
            self._raised = error
            return True

    def _reraise(self) -> None:
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised


class PyuvRunner(Runner):
    """A `pyuv.Loop`."""

    kind = "pyuv"

    def __init__(self) -> None:
        import pyuv

        self._pyuv = pyuv
        super().__init__(pyuv.Loop())
        self.loop.excepthook = self._report
        # libuv calls first what was started last, so this one is called after those of uvws.
        self._hook = pyuv.Prepare(self.loop)
        self._hook.start(self._on_prepare)
        self._hook.ref = False
        self._async = pyuv.Async(self.loop, lambda _handle: None)
        self._async.ref = False

    def _report(self, _kind: object, error: BaseException, _traceback: object) -> None:
        self.reported.append(error)

    def _on_prepare(self, _handle: object) -> None:
        # On every turn until it stops: a run inside a callback stops instead of the outer one.
        if self._turned():
            self.loop.stop()

    def _run(self, seconds: float) -> bool:
        self._async.ref = True  # a condition may be for another thread to fulfil
        try:
            return self._run_with_deadline(seconds)
        finally:
            self._async.ref = False

    def _run_with_deadline(self, seconds: float) -> bool:
        expired: list[None] = []

        def expire(_timer: object) -> None:
            expired.append(None)
            self.loop.stop()

        timer = self._pyuv.Timer(self.loop)
        timer.start(expire, seconds, 0)
        timer.ref = False
        try:
            self.loop.run()
        finally:
            timer.close()
        return bool(expired)

    def run_to_end(self, timeout: float = 5.0) -> None:
        __tracebackhide__ = True
        if self._run_with_deadline(time_limit(timeout)):
            pytest.fail(f"loop.run() did not return within {time_limit(timeout):g} s")

    def turns(self, count: int) -> None:
        for _ in range(count):
            self.loop.run(self._pyuv.UV_RUN_NOWAIT)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> None:
        def due(timer: Any) -> None:
            timer.close()
            callback()

        self._pyuv.Timer(self.loop).start(due, seconds, 0)

    def wake(self) -> None:
        self._async.send()

    def _close_loop(self) -> None:
        for handle in self.loop.handles:
            if not handle.closed:
                handle.close()
        self.turns(3)
        del self._hook, self._async


class AsyncioRunner(Runner):
    """An asyncio loop."""

    kind = "asyncio"

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        super().__init__(loop if loop is not None else _HookedLoop(self._on_turn))
        self.loop.set_exception_handler(self._report)

    def _report(self, _loop: object, context: dict[str, Any]) -> None:
        self.reported.append(context.get("exception") or RuntimeError(context["message"]))

    def _on_turn(self) -> None:
        if self._turned():
            self._until = None  # a loop may turn again before it stops, and would be stopped twice
            self.loop.stop()

    def _run(self, seconds: float) -> bool:
        expired: list[None] = []

        def expire() -> None:
            expired.append(None)
            self.loop.stop()

        deadline = self.loop.call_later(seconds, expire)
        try:
            self.loop.run_forever()
        finally:
            deadline.cancel()
        return bool(expired)

    def turns(self, count: int) -> None:
        for _ in range(count):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def call_later(self, seconds: float, callback: Callable[[], object]) -> None:
        self.loop.call_later(seconds, callback)

    def wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(lambda: None)

    def _close_loop(self) -> None:
        if self.loop.is_closed():  # the test did it
            return
        self.turns(3)
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


class _HookedLoop(asyncio.SelectorEventLoop):
    """An asyncio loop that says when it has done a turn."""

    def __init__(self, on_turn: Callable[[], None]) -> None:
        super().__init__()
        self._on_turn = on_turn

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]
        self._on_turn()


class UvloopRunner(AsyncioRunner):
    """A uvloop loop."""

    kind = "uvloop"

    def __init__(self) -> None:
        import uvloop

        from .libuv import TurnHook, uv_loop_of

        super().__init__(uvloop.new_event_loop())
        self._hook = TurnHook(uv_loop_of(self.loop), self._on_turn)

    def let_go(self) -> None:
        if not self._hook.is_closed:
            self._hook.close()
            self.turns(2)
        assert self._hook.is_closed

    def _close_loop(self) -> None:
        self.let_go()
        super()._close_loop()


def make_runner(kind: str) -> Runner:
    """Return a runner, or skip the test where the loop's module is not installed."""
    if kind != "asyncio":
        pytest.importorskip(kind)
    return {"pyuv": PyuvRunner, "uvloop": UvloopRunner, "asyncio": AsyncioRunner}[kind]()


def _describe(until: Predicate) -> str:
    """Say what was waited for: the source of a lambda, the name of anything else."""
    name: str = getattr(until, "__qualname__", repr(until))
    if "<lambda>" not in name:
        return name
    with contextlib.suppress(OSError, TypeError):
        return " ".join(inspect.getsource(until).split())
    return name
