"""How contexts, listeners, connections and loops end, in every order."""

from __future__ import annotations

import gc
import textwrap
import threading
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import uvws
from support import (
    KINDS,
    Recorder,
    Runner,
    echo,
    loop_kinds,
    measures_memory,
    run_program,
    url_of,
)

# What the programs below begin with: a loop, a way to run it, a listener and a live connection.
PRELUDE = """
import gc, sys, warnings
import uvws
from support import Recorder, url_of
from support.runners import make_runner

def connect(loop_runner, server_context, client_context):
    server, client = Recorder(), Recorder()
    listener = server_context.listen(host="127.0.0.1", **server.callbacks)
    connection = client_context.connect(url_of(listener), **client.callbacks)
    loop_runner.run(lambda: server.count("connect") and client.count("connect"))
    return listener, connection, server, client
"""

kinds = pytest.mark.parametrize("kind", KINDS)
asyncio_kinds = pytest.mark.parametrize("kind", ["uvloop", "asyncio"])


def _run(kind: str, source: str, **options: Any) -> str:
    """Run a program, on the kind of loop that is its first argument; returns what it said."""
    if kind != "asyncio":
        pytest.importorskip(kind)
    done = run_program(PRELUDE + textwrap.dedent(source), kind, **options)
    return done.stdout + done.stderr


def _connected(runner: Runner, **hooks: Callable[..., object]) -> tuple[Any, Recorder, Recorder]:
    """Connect two contexts; returns the client's connection and both recorders."""
    server, client = Recorder(), Recorder(**hooks)
    listener = runner.context().listen(host="127.0.0.1", **server.callbacks)
    connection = runner.context().connect(url_of(listener), **client.callbacks)
    runner.run(lambda: server.count("connect") and client.count("connect"))
    return connection, client, server


# --- Closing a context ----------------------------------------------------------------------------


@pytest.mark.memcheck
def test_closing_a_context_tells_its_connections_once_with_1001(runner: Runner) -> None:
    recorder = Recorder()
    context = runner.context()
    context.connect(url_of(echo(runner)), **recorder.callbacks)
    runner.run(recorder.saw("connect"))
    context.close()
    assert recorder.events[1:] == [("close", 1001, "")]
    runner.run_for(0.05)
    assert recorder.names == ["connect", "close"]


def test_closing_a_context_sends_a_close_frame_with_1001(runner: Runner) -> None:
    server = Recorder()
    context = runner.context()
    context.connect(url_of(echo(runner, **server.callbacks)))
    runner.run(server.saw("connect"))
    context.close()
    runner.run(server.saw("close"))
    assert server.events[-1] == ("close", 1001, "")


def test_what_was_sent_before_the_context_is_closed_arrives(runner: Runner) -> None:
    server = Recorder()
    context = runner.context()
    connection = context.connect(url_of(echo(runner, **server.callbacks)))
    runner.run(server.saw("connect"))
    runner.run(lambda: connection.is_connected)
    connection.send("last words")
    context.close()
    runner.run(server.saw("close"))
    assert server.messages == ["last words"]


def test_closing_a_context_gives_a_connecting_one_an_error(runner: Runner) -> None:
    recorder = Recorder()
    context = runner.context()
    connection = context.connect(url_of(echo(runner)), **recorder.callbacks)
    context.close()
    assert recorder.names == ["error"]
    assert isinstance(recorder.events[0][1], uvws.ConnectionClosed)
    assert connection.state == "destroyed"
    runner.run_for(0.05)
    assert recorder.names == ["error"]


def test_closing_a_context_cancels_a_name_look_up(runner: Runner) -> None:
    recorder = Recorder()
    context = runner.context()
    context.connect("ws://does-not-exist.invalid/", **recorder.callbacks)
    context.close()
    assert recorder.names == ["error"]
    runner.run_for(0.05)
    assert recorder.names == ["error"]


def test_closing_a_context_twice_does_nothing(runner: Runner) -> None:
    _connection, client, _server = _connected(runner)
    context = runner.context()
    context.close()
    context.close()
    runner.turns(3)
    context.close()
    assert client.names == ["connect"]


def test_a_context_closes_itself_at_the_end_of_a_with_block(runner: Runner) -> None:
    with runner.context() as context:
        listener = context.listen(host="127.0.0.1")
        assert listener.is_open
    assert not listener.is_open
    with pytest.raises(uvws.InvalidState):
        context.listen()


def test_a_context_closes_itself_when_a_with_block_raises(runner: Runner) -> None:
    context = runner.context()
    listener = context.listen(host="127.0.0.1")
    with pytest.raises(ZeroDivisionError), context:
        raise ZeroDivisionError
    assert not listener.is_open


def test_a_context_that_was_closed_at_once_does_no_harm(runner: Runner) -> None:
    for _ in range(10):
        runner.context().close()
    runner.turns(3)


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_the_port_is_free_once_the_context_is_closed(runner: Runner, turns: int) -> None:
    context = runner.context()
    port = context.listen(host="127.0.0.1").port
    runner.turns(turns)
    context.close()
    assert runner.context().listen(port, host="127.0.0.1").port == port


# --- Using what is closed -------------------------------------------------------------------------


def test_using_a_closed_context_is_invalid_state(runner: Runner) -> None:
    context = runner.context()
    context.close()
    with pytest.raises(uvws.InvalidState, match="closed"):
        context.listen(host="127.0.0.1")
    with pytest.raises(uvws.InvalidState, match="closed"):
        context.connect("ws://127.0.0.1:1/")
    with pytest.raises(RuntimeError):
        context.listen(host="127.0.0.1")
    assert context.connections == []


def test_sending_on_a_connection_that_ended_says_that_it_is_not_open(runner: Runner) -> None:
    connection, client, server = _connected(runner)
    connection.close()
    runner.run(lambda: client.count("close") and server.count("close"))
    for ended in (connection, server.connection):
        assert ended.state == "closed"
        for send, data in _sends(ended):
            with pytest.raises(uvws.ConnectionClosed, match="Connection is not open"):
                send(data)
            with pytest.raises(ConnectionError):
                send(data)


def test_sending_on_a_connection_whose_context_is_closed_says_so(runner: Runner) -> None:
    connection, _client, server = _connected(runner)
    connection._core.context().close()
    server.connection._core.context().close()
    for ended in (connection, server.connection):
        assert ended.state == "destroyed"
        for send, data in _sends(ended):
            with pytest.raises(uvws.ConnectionClosed, match="Connection has been destroyed"):
                send(data)


def _sends(connection: Any) -> list[tuple[Callable[[Any], None], Any]]:
    large = "x" * 200_000
    return [
        (connection.send, "text"),
        (connection.send, b"bytes"),
        (connection.send, large),
        (connection.send, large.encode()),
        (connection.send_text, "text"),
        (connection.send_binary, b"bytes"),
        (connection.send_binary, memoryview(b"bytes")),
    ]


def test_sending_before_the_connection_is_open_says_that_it_is_not_open(runner: Runner) -> None:
    connection = runner.context().connect(url_of(echo(runner)))
    for send, data in _sends(connection):
        with pytest.raises(uvws.ConnectionClosed, match="Connection is not open"):
            send(data)


def test_the_stash_is_a_dict_of_the_connections_own(runner: Runner) -> None:
    context = runner.context()
    listener = context.listen(host="127.0.0.1")
    one, two = (context.connect(url_of(listener)) for _ in range(2))
    assert one.stash == {}
    one.stash["user"] = 42
    assert one.stash is one.stash
    assert one.stash == {"user": 42}
    assert two.stash == {}


def test_the_stash_is_the_same_in_every_callback(runner: Runner) -> None:
    seen = []

    def note(connection: Any, *_arguments: object) -> None:
        seen.append(connection.stash.setdefault("number", len(seen)))

    connection, client, _server = _connected(runner, on_connect=note, on_close=note)
    connection.close()
    runner.run(client.saw("close"))
    assert seen == [0, 0]


def test_the_predicates_follow_the_state(runner: Runner) -> None:
    listener = echo(runner)
    context = runner.context()
    recorder = Recorder()
    connection = context.connect(url_of(listener), **recorder.callbacks)
    seen = []

    def note() -> None:
        seen.append((str(connection.state), connection.is_connecting, connection.is_connected))

    note()
    runner.run(recorder.saw("connect"))
    note()
    connection.close()
    note()
    runner.run(recorder.saw("close"))
    note()
    context.close()
    note()
    assert seen == [
        ("connecting", True, False),
        ("connected", False, True),
        ("closing", False, False),
        ("closed", False, False),
        ("destroyed", False, False),
    ]


@pytest.mark.parametrize("end", ["close", "context"])
def test_a_dead_connection_can_still_be_asked_and_closed(runner: Runner, end: str) -> None:
    connection, client, _server = _connected(runner)
    connection.stash["key"] = "value"
    if end == "close":
        connection.close()
        runner.run(client.saw("close"))
    else:
        connection._core.context().close()
    connection.close()
    connection.close(1000, "again")
    assert connection.state == ("closed" if end == "close" else "destroyed")
    assert not connection.is_connected
    assert not connection.is_connecting
    assert connection.send_queue_size == 0
    assert connection.stash == {"key": "value"}
    assert str(connection.state) in repr(connection)


def test_a_connection_that_ended_is_destroyed_with_its_context(runner: Runner) -> None:
    """In every state: "destroyed" is what a connection of a closed context is."""
    connection, client, _server = _connected(runner)
    connection.close()
    runner.run(client.saw("close"))
    connection._core.context().close()
    assert connection.state == "destroyed"
    with pytest.raises(uvws.ConnectionClosed, match="Connection has been destroyed"):
        connection.send("x")


def test_a_dead_connection_still_refuses_a_bad_close_code(runner: Runner) -> None:
    connection, client, _server = _connected(runner)
    connection.close()
    runner.run(client.saw("close"))
    for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000):
        with pytest.raises(ValueError, match="code"):
            connection.close(code)


def test_listeners_and_connections_of_a_closed_context_can_be_closed(runner: Runner) -> None:
    context = runner.context()
    listener = context.listen(host="127.0.0.1")
    context.close()
    listener.close()
    assert not listener.is_open
    assert listener.port


# --- Closing the context from its own callbacks ---------------------------------------------------


@pytest.mark.memcheck
@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("where", ["connect", "message", "close", "drain"])
def test_a_context_can_be_closed_from_every_callback(runner: Runner, side: str, where: str) -> None:
    contexts = {"server": runner.context(), "client": runner.context()}
    states = []

    def close_context(connection: Any, *_arguments: Any) -> None:
        contexts[side].close()
        states.append(connection.state)
        with pytest.raises(uvws.InvalidState):
            contexts[side].listen()

    hooks: dict[str, dict[str, Callable[..., Any]]] = {"server": {}, "client": {}}
    other = "server" if side == "client" else "client"
    hooks[other]["on_connect"] = lambda connection, headers: connection.send("hello")
    if where == "drain":
        hooks[side]["on_connect"] = lambda connection, headers: connection.send("hello")
    if where == "close":
        hooks[other]["on_connect"] = lambda connection, headers: connection.close()
    hooks[side][f"on_{where}"] = close_context
    recorders = {name: Recorder(**hooks[name]) for name in hooks}
    listener = contexts["server"].listen(host="127.0.0.1", **recorders["server"].callbacks)
    contexts["client"].connect(url_of(listener), **recorders["client"].callbacks)
    runner.run(lambda: states)
    runner.run(recorders[other].saw("close"))
    assert states == ["destroyed"]
    names = recorders[side].names
    assert names.count("close") == 1
    assert names[-1] == "close"
    runner.run_for(0.02)
    assert recorders[side].names == names, "a callback after the context was closed"


@pytest.mark.memcheck
def test_a_context_can_be_closed_from_on_error(runner: Runner) -> None:
    context = runner.context()
    listener = context.listen(host="127.0.0.1")
    url = url_of(listener)
    listener.close()
    recorder = Recorder(on_error=lambda connection, error: context.close())
    context.connect(url, **recorder.callbacks)
    runner.run(recorder.saw("error"))
    runner.turns(3)
    assert recorder.names == ["error"]


def test_a_context_can_be_closed_from_on_error_of_a_message_too_big(runner: Runner) -> None:
    context = runner.context()
    recorder = Recorder(on_error=lambda connection, error: context.close())
    listener = context.listen(host="127.0.0.1", max_message_size=10, **recorder.callbacks)
    client = Recorder(on_connect=lambda connection, headers: connection.send("x" * 100))
    runner.context().connect(url_of(listener), **client.callbacks)
    runner.run(client.saw("close"))
    assert recorder.names == ["connect", "error", "close"]


def test_a_context_can_be_closed_in_the_middle_of_a_batch_of_messages(runner: Runner) -> None:
    got: list[str] = []
    context = runner.context()

    def on_message(_connection: Any, data: str) -> None:
        got.append(data)
        if len(got) == 5:
            context.close()

    listener = context.listen(host="127.0.0.1", on_message=on_message)
    client = Recorder(
        on_connect=lambda connection, headers: [connection.send(str(n)) for n in range(1000)]
    )
    runner.context().connect(url_of(listener), **client.callbacks)
    runner.run(client.saw("close"))
    assert got == ["0", "1", "2", "3", "4"]


def test_another_context_can_be_closed_from_a_callback(runner: Runner) -> None:
    client_context = runner.context()
    client = Recorder()
    listener = runner.context().listen(
        host="127.0.0.1", on_connect=lambda connection, headers: client_context.close()
    )
    client_context.connect(url_of(listener), **client.callbacks)
    runner.run(lambda: client.count("close") or client.count("error"))
    runner.run_for(0.02)
    assert len(client.names) <= 2
    assert client.names[-1] in ("close", "error")


def test_a_context_closed_by_on_close_of_its_own_closing_is_closed_once(runner: Runner) -> None:
    context = runner.context()
    recorder = Recorder(on_close=lambda connection, code, reason: context.close())
    for _ in range(3):
        context.connect(url_of(echo(runner)), **recorder.callbacks)
    runner.run(recorder.saw("connect", 3))
    context.close()
    assert recorder.count("close") == 3


def test_connecting_from_on_close_while_the_context_closes_is_invalid_state(
    runner: Runner,
) -> None:
    context = runner.context()
    url = url_of(echo(runner))
    refused = []

    def on_close(*_arguments: object) -> None:
        with pytest.raises(uvws.InvalidState):
            context.connect(url)
        with pytest.raises(uvws.InvalidState):
            context.listen()
        refused.append(True)

    recorder = Recorder(on_close=on_close)
    context.connect(url, **recorder.callbacks)
    runner.run(recorder.saw("connect"))
    context.close()
    assert refused == [True]


@pytest.mark.parametrize("where", ["connect", "message", "drain", "close"])
def test_a_listener_can_be_closed_from_every_callback(runner: Runner, where: str) -> None:
    listeners: list[Any] = []

    def on_anything(what: str, connection: Any) -> None:
        if what == where:
            listeners[0].close()
        if what == "message":
            connection.send("answer")

    server = Recorder(
        on_connect=lambda connection, headers: on_anything("connect", connection),
        on_message=lambda connection, data: on_anything("message", connection),
        on_drain=lambda connection: on_anything("drain", connection),
        on_close=lambda connection, code, reason: on_anything("close", connection),
    )
    listeners.append(runner.context().listen(host="127.0.0.1", **server.callbacks))
    client = Recorder(
        on_connect=lambda connection, headers: connection.send("x"),
        on_message=lambda connection, data: connection.close(),
    )
    runner.context().connect(url_of(listeners[0]), **client.callbacks)
    runner.run(lambda: client.count("close") and server.count("close"))
    assert client.messages == ["answer"]
    assert not listeners[0].is_open


def test_closing_a_listener_keeps_its_connections(runner: Runner) -> None:
    listener = echo(runner)
    client = Recorder()
    context = runner.context()
    connection = context.connect(url_of(listener), **client.callbacks)
    runner.run(client.saw("connect"))
    url = url_of(listener)
    listener.close()
    listener.close()
    connection.send("still there")
    runner.run(client.saw("message"))
    refused = Recorder()
    context.connect(url, **refused.callbacks)
    runner.run(refused.saw("error"))
    assert refused.names == ["error"]


# --- Dropping references --------------------------------------------------------------------------


def test_a_listener_goes_on_when_nobody_refers_to_it(runner: Runner) -> None:
    url = url_of(echo(runner))
    gc.collect()
    recorder = Recorder(on_connect=lambda connection, headers: connection.send("x"))
    runner.context().connect(url, **recorder.callbacks)
    runner.run(recorder.saw("message"))


@pytest.mark.memcheck
def test_a_context_with_a_listener_goes_on_when_nobody_refers_to_it(runner: Runner) -> None:
    def listen() -> tuple[str, weakref.ref[Any]]:
        context = uvws.Context(runner.loop)
        listener = context.listen(
            host="127.0.0.1", on_message=lambda connection, data: connection.send(data)
        )
        return url_of(listener), weakref.ref(context)

    url, context = listen()
    gc.collect()
    recorder = Recorder(on_connect=lambda connection, headers: connection.send("x"))
    runner.context().connect(url, **recorder.callbacks)
    runner.run(recorder.saw("message"))
    kept = context()
    assert kept is not None
    kept.close()


@pytest.mark.memcheck
def test_a_context_with_a_connection_goes_on_when_nobody_refers_to_either(
    runner: Runner,
) -> None:
    url = url_of(echo(runner))
    recorder = Recorder(on_connect=lambda connection, headers: connection.send("x"))

    def connect() -> weakref.ref[Any]:
        context = uvws.Context(runner.loop)
        context.connect(url, **recorder.callbacks)
        return weakref.ref(context)

    context = connect()
    gc.collect()
    runner.run(recorder.saw("message"))
    assert context() is not None
    recorder.connection.close()
    with pytest.warns(ResourceWarning, match="unclosed"):
        runner.run(recorder.saw("close"))
    assert recorder.names[-1] == "close"
    assert context() is None


@pytest.mark.memcheck
def test_a_context_that_has_nothing_and_is_dropped_warns_and_is_closed(runner: Runner) -> None:
    context = uvws.Context(runner.loop)
    with pytest.warns(ResourceWarning, match=r"unclosed .*Context"):
        del context
    runner.turns(3)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_dropped_context_is_closed_even_where_the_warning_is_an_error(runner: Runner) -> None:
    context = uvws.Context(runner.loop)
    core = context._core
    assert core is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del context
        gc.collect()
    assert core.closed
    runner.turns(3)


def test_a_context_in_a_cycle_is_collected(runner: Runner) -> None:
    class Application:
        """Has a context and is known to it."""

        def __init__(self) -> None:
            self.context = uvws.Context(runner.loop)
            self.listener = self.context.listen(host="127.0.0.1", on_connect=self.on_connect)

        def on_connect(self, connection: Any, headers: Any) -> None:
            """Do nothing."""

    application = Application()
    application.listener.close()
    runner.turns(3)
    gone = weakref.ref(application.context)
    gc.collect()
    assert gone() is not None
    del application
    with pytest.warns(ResourceWarning, match="unclosed"):
        gc.collect()
    assert gone() is None
    runner.turns(3)


@pytest.mark.memcheck
def test_a_closed_context_and_all_that_it_had_are_collected(runner: Runner) -> None:
    gone: list[str] = []

    def live() -> None:
        context = uvws.Context(runner.loop)
        recorder = Recorder(
            on_connect=lambda connection, headers: connection.stash.update(me=connection)
        )
        listener = context.listen(host="127.0.0.1", **recorder.callbacks)
        connection = context.connect(url_of(listener), **recorder.callbacks)
        runner.run(recorder.saw("connect", 2))
        for name, thing in (
            ("context", context),
            ("listener", listener),
            ("client", connection),
            ("server", recorder.connections[0]),
            ("recorder", recorder),
        ):
            weakref.finalize(thing, gone.append, name)
        context.close()

    live()
    runner.turns(3)
    gc.collect()
    assert sorted(gone) == ["client", "context", "listener", "recorder", "server"]


def test_a_connection_that_ended_is_collected_while_its_context_lives(runner: Runner) -> None:
    listener = echo(runner)
    context = runner.context()
    gone: list[str] = []

    def live() -> None:
        recorder = Recorder(on_connect=lambda connection, headers: connection.close())
        connection = context.connect(url_of(listener), **recorder.callbacks)
        weakref.finalize(connection, gone.append, "connection")
        runner.run(recorder.saw("close"))

    live()
    runner.turns(3)
    gc.collect()
    assert gone == ["connection"]


def test_a_connection_outlives_its_context(runner: Runner) -> None:
    connection, _client, _server = _connected(runner)
    context = connection._core.context()
    context.close()
    runner.turns(5)
    del context
    gc.collect()
    assert connection.state == "destroyed"
    assert connection.send_queue_size == 0
    connection.close()


# --- Many -----------------------------------------------------------------------------------------


def _resident_kib() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


@measures_memory
def test_a_hundred_contexts_made_and_closed_leave_nothing(runner: Runner) -> None:
    """No descriptor (see the fixture), and memory is flat."""

    def live() -> None:
        with uvws.Context(runner.loop) as context:
            recorder = Recorder(on_connect=lambda connection, headers: connection.send("x" * 1000))
            listener = context.listen(host="127.0.0.1", **recorder.callbacks)
            context.connect(url_of(listener), **recorder.callbacks)
            runner.run(recorder.saw("message", 2))
        runner.turns(2)

    def live_often(times: int) -> int:
        for _ in range(times):
            live()
        gc.collect()
        return _resident_kib()

    before = live_often(30)
    after = live_often(100)
    assert after - before < 100 * 20  # KiB; a context that leaks would be over 100 each


@measures_memory
def test_a_thousand_connections_one_after_the_other_leave_nothing(runner: Runner) -> None:
    listener = echo(runner)
    context = runner.context()

    def live(times: int) -> int:
        for _ in range(times):
            recorder = Recorder(on_connect=lambda connection, headers: connection.close())
            context.connect(url_of(listener), **recorder.callbacks)
            runner.run(recorder.saw("close"))
        gc.collect()
        return _resident_kib()

    before = live(200)
    after = live(1000)
    assert after - before < 2000  # KiB


# --- The loop is closed first ---------------------------------------------------------------------

LEAK = """
async def main():
    global leaked
    context = uvws.Context()
    closed = asyncio.Event()
    if what == "context":
        leaked = context
    elif what == "listener":
        context.listen(host="127.0.0.1")
    else:
        opened = asyncio.Event()
        listener = context.listen(host="127.0.0.1")
        context.connect(url_of(listener), on_connect=lambda *arguments: opened.set())
        await opened.wait()
    if what == "dropped":
        del context
        gc.collect()
"""


@asyncio_kinds
@pytest.mark.parametrize("what", ["context", "listener", "connection", "dropped"])
def test_the_run_function_of_the_loop_ends_although_something_is_leaked(
    kind: str, what: str
) -> None:
    said = _run(
        kind,
        f"import asyncio, {kind}\nwhat = {what!r}\n{LEAK}\n{kind}.run(main())\n"
        "print('end of program')\n",
        options=("-W", "default"),
    )
    assert "end of program" in said
    assert "ResourceWarning" in said
    assert "Context" in said
    assert "Traceback" not in said


@asyncio_kinds
def test_a_loop_that_is_closed_first_ends_the_connections_like_a_context(kind: str) -> None:
    said = _run(
        kind,
        """
        runner = make_runner(sys.argv[1])
        context = uvws.Context(runner.loop)
        listener, connection, server, client = connect(runner, context, context)
        runner.let_go()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            runner.loop.close()
            gc.collect()
        assert [each.category for each in caught] == [ResourceWarning], caught
        assert "uvws.Context" in str(caught[0].message), caught[0].message
        assert client.events[-1][:2] == ("close", 1001), client.events
        assert server.events[-1][:2] == ("close", 1001), server.events
        assert connection.state == "destroyed", connection.state
        try:
            connection.send("x")
        except uvws.ConnectionClosed:
            pass
        try:
            context.listen()
        except uvws.InvalidState:
            pass
        connection.close()
        listener.close()
        context.close()
        print("end of program")
        """,
    )
    assert "end of program" in said


@asyncio_kinds
def test_closing_the_context_after_its_loop_is_harmless(kind: str) -> None:
    _run(
        kind,
        """
        for what in ("nothing", "listener"):
            runner = make_runner(sys.argv[1])
            context = uvws.Context(runner.loop)
            if what == "listener":
                context.listen(host="127.0.0.1")
            runner.let_go()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                runner.loop.close()
                gc.collect()
            context.close()
            context.close()
        """,
    )


@asyncio_kinds
def test_a_loop_closed_first_leaves_no_descriptors(kind: str) -> None:
    _run(
        kind,
        """
        import os
        warnings.simplefilter("ignore")
        def live():
            runner = make_runner(sys.argv[1])
            context = uvws.Context(runner.loop)
            connect(runner, context, context)
            runner.let_go()
            runner.loop.close()
        live()
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            live()
            gc.collect()
        assert len(os.listdir("/proc/self/fd")) <= before, os.listdir("/proc/self/fd")
        """,
    )


@asyncio_kinds
def test_a_loop_closed_while_a_context_is_closing_is_harmless(kind: str) -> None:
    """The handles of the context are still on their way out."""
    _run(
        kind,
        """
        warnings.simplefilter("error")
        runner = make_runner(sys.argv[1])
        context = uvws.Context(runner.loop)
        connect(runner, context, context)
        runner.let_go()
        context.close()
        runner.loop.close()
        gc.collect()
        """,
    )


@pytest.mark.parametrize("what", ["context", "listener", "connection"])
@pytest.mark.parametrize("held", ["nothing", "context", "loop"])
def test_a_pyuv_loop_that_is_dropped_with_everything_open_does_no_harm(
    what: str, held: str
) -> None:
    _run(
        "pyuv",
        f"""
        import pyuv
        what, held = {what!r}, {held!r}
        def live():
            runner = make_runner("pyuv")
            context = uvws.Context(runner.loop)
            if what == "listener":
                context.listen(host="127.0.0.1")
            elif what == "connection":
                connect(runner, context, context)
            return dict(nothing=None, context=context, loop=runner.loop)[held]
        kept = live()
        gc.collect()
        if held == "loop":
            kept.run(pyuv.UV_RUN_NOWAIT)
        del kept
        gc.collect()
        # Life goes on, with other loops.
        runner = make_runner("pyuv")
        context = uvws.Context(runner.loop)
        connect(runner, context, context)
        context.close()
        runner.turns(3)
        print("end of program")
        """,
        options=("-W", "default"),
    )


# --- The interpreter ends -------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("what", ["context", "listener", "connecting", "connection", "queued"])
@pytest.mark.parametrize("how", ["end", "exit", "raise"])
def test_the_interpreter_ends_with_everything_open(kind: str, what: str, how: str) -> None:
    said = _run(
        kind,
        f"""
        what, how = {what!r}, {how!r}
        runner = make_runner(sys.argv[1])
        context = uvws.Context(runner.loop)
        if what == "listener":
            context.listen(host="127.0.0.1")
        elif what == "connecting":
            context.connect(url_of(context.listen(host="127.0.0.1")))
        elif what in ("connection", "queued"):
            listener, connection, server, client = connect(runner, context, context)
            if what == "queued":
                connection.send(b"x" * 10_000_000)
        print("end of program", flush=True)
        if how == "exit":
            sys.exit(3)
        if how == "raise":
            raise RuntimeError("on purpose")
        """,
        returncode={"end": 0, "exit": 3, "raise": 1}[how],
    )
    assert "end of program" in said
    assert said.count("Traceback") == (how == "raise")


@kinds
def test_the_interpreter_ends_from_a_callback(kind: str) -> None:
    said = _run(
        kind,
        """
        import os
        def leave(connection, headers):
            print("end of program", flush=True)
            os._exit(7)
        runner = make_runner(sys.argv[1])
        context = uvws.Context(runner.loop)
        context.connect(url_of(context.listen(host="127.0.0.1")), on_connect=leave)
        runner.run(lambda: False)
        """,
        returncode=7,
    )
    assert "end of program" in said


@kinds
def test_the_interpreter_ends_without_warnings_when_all_was_closed(kind: str) -> None:
    said = _run(
        kind,
        """
        runner = make_runner(sys.argv[1])
        with uvws.Context(runner.loop) as context:
            connect(runner, context, context)
        runner.finish()
        """,
        options=("-W", "error"),
    )
    assert said == ""


@kinds
def test_a_process_that_forks_without_exec_can_leave(kind: str) -> None:
    """The child does not use the loop; that it ends must not close anything of the parent's."""
    _run(
        kind,
        """
        import os
        runner = make_runner(sys.argv[1])
        context = uvws.Context(runner.loop)
        listener, connection, server, client = connect(runner, context, context)
        child = os.fork()
        if child == 0:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        connection.send("still here")
        runner.run(server.saw("message"))
        context.close()
        runner.finish()
        """,
    )


# --- Finalisers on other threads ------------------------------------------------------------------


def _on_another_thread(function: Callable[[], object]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


@pytest.mark.parametrize("what", ["nothing", "listener"])
def test_a_context_dropped_on_another_thread_is_closed_on_the_thread_of_its_loop(
    runner: Runner, what: str
) -> None:
    context = uvws.Context(runner.loop)
    core = context._core
    assert core is not None
    if what == "listener":
        context.listen(host="127.0.0.1").close()
        runner.turns(2)
    holder = [context]
    del context

    with pytest.warns(ResourceWarning, match="unclosed"):
        _on_another_thread(holder.clear)
    assert not core.closed, "C was called on the wrong thread"
    runner.run(lambda: core.closed)


@pytest.mark.parametrize("running", [False, True])
def test_connections_dropped_on_another_thread_do_no_harm(runner: Runner, running: bool) -> None:
    listener = echo(runner)
    context = runner.context()
    holder = []
    for _ in range(20):
        recorder = Recorder(on_connect=lambda connection, headers: connection.close())
        holder.append(context.connect(url_of(listener), **recorder.callbacks))
        runner.run(recorder.saw("close"))

    def drop() -> None:
        while holder:
            holder.pop()
        gc.collect()
        runner.wake()

    thread = threading.Thread(target=drop)
    thread.start()
    if running:
        runner.run(lambda: not holder)
    thread.join()


@loop_kinds("asyncio", "uvloop")
def test_a_context_dropped_on_another_thread_after_its_loop_was_closed(runner: Runner) -> None:
    holder: list[Any] = [uvws.Context(runner.loop)]
    runner.let_go()
    with pytest.warns(ResourceWarning, match="closed before"):
        runner.loop.close()
    _on_another_thread(holder.clear)
    gc.collect()
