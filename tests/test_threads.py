"""A connection belongs to the thread of its loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import uvws
from support import Recorder, Runner, echo, loop_kinds, time_limit, url_of


def _elsewhere(function: Callable[[], Any]) -> Any:
    """Call a function on another thread; returns what it returned or raised."""
    outcome: list[Any] = []
    thread = threading.Thread(target=lambda: outcome.append(_outcome(function)))
    thread.start()
    thread.join(time_limit(10))
    assert not thread.is_alive(), "the call does not return"
    return outcome[0]


def _outcome(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except BaseException as error:
        return error


class _Scene:
    """A context with a listener and an open connection."""

    def __init__(self, runner: Runner) -> None:
        self.recorder = Recorder()
        self.server = Recorder(on_message=lambda connection, data: connection.send(data))
        self.context = runner.context()
        self.listener = self.context.listen(host="127.0.0.1", **self.server.callbacks)
        self.connection = self.context.connect(url_of(self.listener), **self.recorder.callbacks)
        runner.run(lambda: self.recorder.count("connect") and self.server.count("connect"))


METHODS: dict[str, Callable[[_Scene], Any]] = {
    "Context.connect": lambda scene: scene.context.connect("ws://127.0.0.1:1/"),
    "Context.listen": lambda scene: scene.context.listen(host="127.0.0.1", name="other"),
    "Context.close": lambda scene: scene.context.close(),
    "Context.connections": lambda scene: scene.context.connections,
    "Listener.close": lambda scene: scene.listener.close(),
    "Connection.send of text": lambda scene: scene.connection.send("x"),
    "Connection.send of bytes": lambda scene: scene.connection.send(b"x"),
    "Connection.send of a bytearray": lambda scene: scene.connection.send(bytearray(b"x")),
    "Connection.send of much text": lambda scene: scene.connection.send("x" * 100_000),
    "Connection.send of many bytes": lambda scene: scene.connection.send(b"x" * 100_000),
    "Connection.send_text": lambda scene: scene.connection.send_text("x"),
    "Connection.send_binary": lambda scene: scene.connection.send_binary(b"x"),
    "Connection.send_fragment": lambda scene: scene.connection.send_fragment("x", final=False),
    "Connection.send_ping": lambda scene: scene.connection.send_ping(),
    "Connection.send_pong": lambda scene: scene.connection.send_pong(),
    "Connection.pause_recv": lambda scene: scene.connection.pause_recv(),
    "Connection.resume_recv": lambda scene: scene.connection.resume_recv(),
    "Connection.close": lambda scene: scene.connection.close(),
    "Connection.state": lambda scene: scene.connection.state,
    "Connection.is_connected": lambda scene: scene.connection.is_connected,
    "Connection.is_connecting": lambda scene: scene.connection.is_connecting,
    "Connection.send_queue_size": lambda scene: scene.connection.send_queue_size,
    "Connection.stash": lambda scene: scene.connection.stash,
}

methods = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


@pytest.mark.memcheck
@methods
def test_a_call_from_another_thread_raises_wrong_thread_and_does_nothing(
    runner: Runner, method: Callable[[_Scene], Any]
) -> None:
    scene = _Scene(runner)
    outcome = _elsewhere(lambda: method(scene))
    assert isinstance(outcome, uvws.WrongThread), outcome
    assert isinstance(outcome, RuntimeError)
    runner.run_for(0.02)
    assert scene.recorder.names == scene.server.names == ["connect"]
    assert scene.connection.is_connected
    assert scene.connection.send_queue_size == 0
    assert scene.listener.is_open
    scene.connection.send("x")
    runner.run(scene.recorder.saw("message"))


@methods
def test_a_call_from_another_thread_raises_while_the_loop_is_busy(
    runner: Runner, method: Callable[[_Scene], Any]
) -> None:
    scene = _Scene(runner)
    outcomes: list[Any] = []

    def work() -> None:
        while len(outcomes) < 50:
            outcomes.append(_outcome(lambda: method(scene)))
        runner.wake()

    def flood(connection: Any) -> None:
        if len(outcomes) < 50:
            for _ in range(100):
                connection.send("x" * 100)
            connection.send("again")

    scene.recorder._hooks["on_message"] = lambda connection, data: (
        flood(connection) if data == "again" else None
    )
    flood(scene.connection)
    thread = threading.Thread(target=work)
    thread.start()
    runner.run(lambda: len(outcomes) == 50, 20)
    thread.join()
    assert {type(outcome) for outcome in outcomes} == {uvws.WrongThread}
    assert scene.connection.is_connected
    assert "close" not in scene.recorder.names


@pytest.mark.parametrize("end", ["connection", "context"])
def test_what_is_dead_still_belongs_to_its_thread(runner: Runner, end: str) -> None:
    scene = _Scene(runner)
    if end == "connection":
        scene.connection.close()
        runner.run(scene.recorder.saw("close"))
    else:
        scene.context.close()
    for call in (
        lambda: scene.connection.state,
        lambda: scene.connection.send("x"),
        lambda: scene.connection.send(b"x" * 100_000),
        lambda: scene.connection.send_text("x"),
        lambda: scene.connection.send_binary(b"x"),
        scene.connection.close,
        scene.listener.close,
        lambda: scene.context.connections,
        lambda: scene.connection.stash,
        lambda: scene.connection.send_queue_size,
        lambda: scene.connection.is_connected,
    ):
        outcome = _elsewhere(call)
        assert isinstance(outcome, uvws.WrongThread), outcome


def test_a_context_that_is_closed_may_be_closed_again_on_any_thread(runner: Runner) -> None:
    scene = _Scene(runner)
    scene.context.close()
    assert _elsewhere(scene.context.close) is None


def test_a_connecting_one_belongs_to_its_thread_too(runner: Runner) -> None:
    connection = runner.context().connect(url_of(echo(runner)))
    for call in (lambda: connection.state, lambda: connection.send("x"), connection.close):
        assert isinstance(_elsewhere(call), uvws.WrongThread)
    assert connection.is_connecting


def test_the_representation_can_be_had_on_every_thread(runner: Runner) -> None:
    scene = _Scene(runner)
    assert "Connection" in _elsewhere(lambda: repr(scene.connection))
    assert "Context" in _elsewhere(lambda: repr(scene.context))
    assert "Listener" in _elsewhere(lambda: repr(scene.listener))


def test_a_context_belongs_to_the_thread_that_runs_its_loop(runner: Runner) -> None:
    """It may be made on one thread, and its loop run on another."""
    recorder = Recorder(on_connect=lambda connection, headers: connection.send("x"))
    context = runner.context()
    listener = context.listen(
        host="127.0.0.1", on_message=lambda connection, data: connection.send(data)
    )
    context.connect(url_of(listener), **recorder.callbacks)
    ran, leave = threading.Event(), threading.Event()

    def run() -> None:
        runner.run(recorder.saw("message"))
        ran.set()
        leave.wait(time_limit(10))
        context.close()
        runner.turns(3)

    outcome: list[Any] = []
    thread = threading.Thread(target=lambda: outcome.append(_outcome(run)))
    thread.start()
    assert ran.wait(time_limit(10))
    with pytest.raises(uvws.WrongThread):
        context.close()
    with pytest.raises(uvws.WrongThread):
        recorder.connection.send("from where it was made")
    leave.set()
    thread.join(time_limit(10))
    assert outcome == [None]
    assert recorder.messages == ["x"]
    assert recorder.events[-1] == ("close", 1001, "")


def test_a_context_is_used_first_in_a_callback_of_its_loop_on_another_thread(
    runner: Runner,
) -> None:
    context = runner.context()
    listened: list[Any] = []

    def listen() -> None:
        listened.append(_outcome(lambda: context.listen(host="127.0.0.1")))

    def run() -> None:
        runner.call_soon(listen)
        runner.run(lambda: listened)
        context.close()
        runner.turns(3)

    outcome = _elsewhere(run)
    assert [type(each).__name__ for each in listened] == ["Listener"], listened
    assert outcome is None


def test_something_can_be_called_on_the_loops_thread_from_another(runner: Runner) -> None:
    scene = _Scene(runner)
    called_on: list[int] = []
    core = scene.context._core

    def send() -> None:
        called_on.append(threading.get_ident())
        scene.connection.send("from elsewhere")

    thread = threading.Thread(target=lambda: core.call_soon_threadsafe(send))
    thread.start()
    runner.run(scene.recorder.saw("message"))
    thread.join()
    assert called_on == [threading.get_ident()]
    assert scene.recorder.messages == ["from elsewhere"]


def test_what_other_threads_ask_for_is_done_in_order_and_all_of_it(runner: Runner) -> None:
    core = _Scene(runner).context._core
    done: list[tuple[int, int]] = []

    def ask(thread: int) -> None:
        for number in range(200):
            core.call_soon_threadsafe(lambda number=number: done.append((thread, number)))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    runner.run(lambda: len(done) == 800)
    for thread in threads:
        thread.join()
    for number in range(4):
        assert [each for thread, each in done if thread == number] == list(range(200))


def test_what_was_asked_for_from_another_thread_may_raise(runner: Runner) -> None:
    core = _Scene(runner).context._core
    boom = ValueError("from elsewhere")
    done: list[None] = []

    def raise_it() -> None:
        raise boom

    def ask() -> None:
        core.call_soon_threadsafe(raise_it)
        core.call_soon_threadsafe(lambda: done.append(None))

    _elsewhere(ask)
    runner.run(lambda: done)
    assert runner.reported == [boom]
    runner.reported.clear()


@pytest.mark.memcheck
def test_the_context_can_be_closed_by_what_another_thread_asked_for(runner: Runner) -> None:
    scene = _Scene(runner)
    core = scene.context._core
    _elsewhere(lambda: core.call_soon_threadsafe(scene.context.close))
    runner.run(scene.recorder.saw("close"))
    runner.turns(3)
    assert scene.connection.state == "destroyed"


def test_asking_after_the_context_is_closed_is_harmless(runner: Runner) -> None:
    scene = _Scene(runner)
    core = scene.context._core
    scene.context.close()
    called: list[None] = []
    outcome = _elsewhere(lambda: core.call_soon_threadsafe(lambda: called.append(None)))
    assert outcome is None
    runner.turns(5)
    outcome = _elsewhere(lambda: core.call_soon_threadsafe(lambda: called.append(None)))
    assert outcome is None


def test_contexts_on_two_threads_talk_to_each_other(runner: Runner) -> None:
    """Each on a loop of its own: nothing is shared that must not be."""
    from support.runners import make_runner

    url = url_of(echo(runner))
    outcome: list[Any] = []

    def work() -> None:
        try:
            other = make_runner(runner.kind)
            recorder = Recorder(on_connect=lambda connection, headers: connection.send("0"))

            def on_message(connection: Any, data: str) -> None:
                connection.send(str(int(data) + 1))

            recorder._hooks["on_message"] = on_message
            context = other.context()
            context.connect(url, **recorder.callbacks)
            other.run(recorder.saw("message", 500))
            other.finish()
            outcome.append(recorder.messages[:500])
        except BaseException as error:
            outcome.append(error)
        runner.wake()

    thread = threading.Thread(target=work)
    thread.start()
    runner.run(lambda: outcome, 20)
    thread.join()
    assert outcome == [[str(number) for number in range(500)]]


@loop_kinds("asyncio")
def test_contexts_are_made_and_closed_on_many_threads_at_once(runner: Runner) -> None:
    import asyncio

    def live() -> int:
        loop = asyncio.new_event_loop()
        for _ in range(10):
            with uvws.Context(loop) as context:
                context.listen(host="127.0.0.1")
        loop.close()
        return 0

    threads = [threading.Thread(target=live) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(time_limit(20))
        assert not thread.is_alive()
