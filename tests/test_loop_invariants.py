"""What uvws may and may not do to the loop that it is on."""

from __future__ import annotations

import time
from typing import Any

import pytest

import uvws
from support import Recorder, Runner, echo, loop_kinds, time_limit, url_of
from support.libuv import Handle, UVLoop, uv_loop_of

# A generous share of one core for a loop that has nothing to do.
IDLE_SHARE = 0.05
IDLE_SECONDS = 0.5
# Timers of libwebsockets may turn the loop now and then; a loop that spins does so without end.
IDLE_TURNS = 20


class _Census:
    """The handles on a loop that are not the loop's own and were not there at first."""

    def __init__(self, runner: Runner) -> None:
        self.uv: UVLoop = uv_loop_of(runner.loop)
        runner.turns(2)  # whatever helped to find the loop closes
        self._before = {handle.address for handle in self.uv.foreign_handles()}

    def new(self) -> list[Handle]:
        found = self.uv.foreign_handles()
        return [handle for handle in found if handle.address not in self._before]


class _Pair:
    """A server and a client that are connected, on two contexts of one loop."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.server = Recorder(on_message=lambda connection, data: connection.send(data))
        self.client = Recorder()
        self.server_context = runner.context()
        self.client_context = runner.context()
        self.listener = self.server_context.listen(host="127.0.0.1", **self.server.callbacks)
        self.connection = self.client_context.connect(
            url_of(self.listener), **self.client.callbacks
        )
        runner.run(lambda: self.client.count("connect") and self.server.count("connect"))

    def exchange(self, text: str = "hello") -> None:
        seen = self.client.count("message")
        self.connection.send(text)
        self.runner.run(lambda: self.client.count("message") > seen)


# --- Handles on the uv_loop_t ---------------------------------------------------------------------


@pytest.mark.memcheck
@loop_kinds("pyuv", "uvloop")
def test_every_handle_of_uvws_has_no_data(runner: Runner) -> None:
    census = _Census(runner)
    pair = _Pair(runner)
    found = []

    def look(connection: Any, data: str) -> None:
        found.extend(census.new())
        connection.send(data)

    listener = pair.server_context.listen(name="another", host="127.0.0.1", on_message=look)
    recorder = Recorder(on_connect=lambda connection, headers: connection.send("x"))
    pair.client_context.connect(url_of(listener), **recorder.callbacks)
    runner.run(recorder.saw("message"))
    found += census.new()
    assert len(found) > 5
    assert [handle for handle in found if handle.data] == [], "uvloop and pyuv would follow that"


@loop_kinds("pyuv")
def test_pyuv_does_not_see_the_handles_of_uvws(runner: Runner) -> None:
    before = len(runner.loop.handles)
    _Pair(runner)
    runner.turns(2)  # the runner's own timer closes
    assert len(runner.loop.handles) == before


@pytest.mark.memcheck
@loop_kinds("pyuv", "uvloop")
def test_closing_a_context_leaves_no_handle_on_the_loop(runner: Runner) -> None:
    census = _Census(runner)
    pair = _Pair(runner)
    pair.exchange()
    pair.client_context.close()
    pair.server_context.close()
    assert all(handle.is_closing for handle in census.new())
    runner.turns(3)
    assert census.new() == []


@loop_kinds("pyuv", "uvloop")
def test_a_connection_that_ended_leaves_no_handle_on_the_loop(runner: Runner) -> None:
    census = _Census(runner)
    server = runner.context()
    client = runner.context()
    listener = server.listen(host="127.0.0.1")
    runner.turns(3)
    before = len(census.new())
    recorder = Recorder(on_connect=lambda connection, headers: connection.close())
    client.connect(url_of(listener), **recorder.callbacks)
    runner.run(recorder.saw("close"))
    runner.run(lambda: not server.connections)
    runner.turns(3)
    assert len(census.new()) == before


@loop_kinds("pyuv", "uvloop")
def test_a_closed_listener_leaves_no_handle_on_the_loop(runner: Runner) -> None:
    census = _Census(runner)
    context = runner.context()
    runner.turns(3)
    before = len(census.new())
    context.listen(host="127.0.0.1").close()
    runner.turns(3)
    assert len(census.new()) == before


@loop_kinds("pyuv", "uvloop")
def test_a_connect_that_was_refused_leaves_no_handle_on_the_loop(runner: Runner) -> None:
    census = _Census(runner)
    context = runner.context()
    listener = context.listen(host="127.0.0.1")
    url = url_of(listener)
    listener.close()
    runner.turns(3)
    before = len(census.new())
    recorder = Recorder()
    context.connect(url, **recorder.callbacks)
    runner.run(recorder.saw("error"))
    runner.turns(3)
    assert len(census.new()) == before


@loop_kinds("pyuv", "uvloop")
def test_a_context_that_has_done_nothing_leaves_no_handle_on_the_loop(runner: Runner) -> None:
    census = _Census(runner)
    runner.context().close()
    runner.turns(3)
    assert census.new() == []


@loop_kinds("pyuv", "uvloop")
def test_only_one_handle_keeps_the_loop_alive(runner: Runner) -> None:
    census = _Census(runner)
    context = runner.context()
    assert [handle for handle in census.new() if handle.has_ref] == []
    context.listen(host="127.0.0.1")
    expected = 1 if runner.kind == "pyuv" else 0  # uvloop's close() would wait for it
    assert len([handle for handle in census.new() if handle.has_ref]) == expected


# --- Which things keep loop.run() from returning --------------------------------------------------


@loop_kinds("pyuv")
def test_an_idle_context_does_not_keep_run_from_returning(runner: Runner) -> None:
    runner.context()
    assert not uv_loop_of_settled(runner).is_alive
    runner.run_to_end()


def uv_loop_of_settled(runner: Runner) -> UVLoop:
    """Return the uv_loop_t once the handle that helped to find it is closed."""
    uv = uv_loop_of(runner.loop)
    runner.turns(2)
    return uv


@loop_kinds("pyuv")
def test_a_listener_keeps_run_from_returning_until_it_is_closed(runner: Runner) -> None:
    listener = runner.context().listen(host="127.0.0.1")
    closed = []

    def close() -> None:
        closed.append(True)
        listener.close()

    runner.call_later(0.05, close)
    runner.run_to_end()
    assert closed


@loop_kinds("pyuv")
def test_a_listener_alone_keeps_the_loop_alive(runner: Runner) -> None:
    listener = runner.context().listen(host="127.0.0.1")
    uv = uv_loop_of_settled(runner)
    assert uv.is_alive
    listener.close()
    runner.turns(2)
    assert not uv.is_alive


@pytest.mark.memcheck
@loop_kinds("pyuv")
def test_run_returns_when_the_last_connection_is_closed(runner: Runner) -> None:
    pair = _Pair(runner)
    pair.listener.close()
    runner.call_later(0.05, lambda: pair.connection.send("one more"))
    runner.call_later(0.1, pair.connection.close)
    runner.run_to_end()
    assert pair.client.messages == ["one more"]
    assert pair.client.names[-1] == "close"
    assert pair.server.names[-1] == "close"


@loop_kinds("pyuv")
def test_a_live_connection_alone_keeps_run_from_returning(runner: Runner) -> None:
    pair = _Pair(runner)
    pair.listener.close()
    uv = uv_loop_of_settled(runner)
    assert uv.is_alive
    pair.exchange()
    assert uv.is_alive
    pair.connection.close()
    runner.run_to_end()
    runner.turns(2)
    assert not uv.is_alive


@loop_kinds("pyuv")
def test_a_connect_that_is_under_way_keeps_run_from_returning(runner: Runner) -> None:
    recorder = Recorder()
    context = runner.context()
    listener = context.listen(host="127.0.0.1")
    url = url_of(listener)
    listener.close()
    context.connect(url, **recorder.callbacks)
    runner.run_to_end()
    assert recorder.names == ["error"]


@loop_kinds("pyuv")
def test_a_name_look_up_that_is_under_way_keeps_run_from_returning(runner: Runner) -> None:
    recorder = Recorder()
    runner.context().connect("ws://does-not-exist.invalid/", **recorder.callbacks)
    runner.run_to_end(20)
    assert recorder.names == ["error"]


@loop_kinds("pyuv")
def test_closing_the_context_lets_run_return(runner: Runner) -> None:
    pair = _Pair(runner)
    runner.call_later(0.02, pair.server_context.close)
    runner.call_later(0.04, pair.client_context.close)
    runner.run_to_end()


@loop_kinds("pyuv")
def test_run_returns_although_the_connect_timeout_is_far_away(runner: Runner) -> None:
    context = runner.context()
    listener = context.listen(host="127.0.0.1")
    recorder = Recorder(on_connect=lambda connection, headers: connection.close())
    context.connect(url_of(listener), connect_timeout=600, **recorder.callbacks)
    runner.run(recorder.saw("close"))
    listener.close()
    runner.run_to_end()


@loop_kinds("pyuv")
def test_a_loop_can_be_run_again(runner: Runner) -> None:
    for _ in range(3):
        pair = _Pair(runner)
        pair.exchange()
        pair.listener.close()
        pair.connection.close()
        runner.run_to_end()
        assert pair.client.names[-1] == "close"


# --- An idle context costs nothing ----------------------------------------------------------------


def _idle_cost(runner: Runner) -> tuple[int, float]:
    """Run the loop with nothing to do: how often it turned, and its share of a core."""
    runner.turns(10)  # what is left over from before
    turns = 0

    def count() -> bool:
        nonlocal turns
        turns += 1
        return bool(over)

    over: list[None] = []
    runner.call_later(IDLE_SECONDS, lambda: over.append(None))
    wall, cpu = time.monotonic(), time.thread_time()
    runner.run(count)
    return turns, (time.thread_time() - cpu) / (time.monotonic() - wall)


def _assert_idle(runner: Runner) -> None:
    turns, share = _idle_cost(runner)
    assert turns < IDLE_TURNS
    assert share < IDLE_SHARE * time_limit(1)


def test_a_context_without_anything_costs_nothing(runner: Runner) -> None:
    runner.context()
    _assert_idle(runner)


def test_a_listener_without_connections_costs_nothing(runner: Runner) -> None:
    runner.context().listen(host="127.0.0.1")
    _assert_idle(runner)


def test_a_connection_without_traffic_costs_nothing(runner: Runner) -> None:
    pair = _Pair(runner)
    pair.exchange()
    _assert_idle(runner)


def test_a_context_whose_connections_ended_costs_nothing(runner: Runner) -> None:
    pair = _Pair(runner)
    pair.connection.close()
    runner.run(lambda: pair.client.count("close") and pair.server.count("close"))
    pair.listener.close()
    _assert_idle(runner)


def test_a_connect_that_is_not_answered_costs_nothing(runner: Runner) -> None:
    context = runner.context()
    silent = _SilentServer()
    try:
        context.connect(f"ws://127.0.0.1:{silent.port}/", connect_timeout=60)
        runner.turns(10)
        _assert_idle(runner)
    finally:
        context.close()
        silent.close()


class _SilentServer:
    """Takes connections in the kernel's queue and says nothing."""

    def __init__(self) -> None:
        import socket

        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]

    def close(self) -> None:
        self._socket.close()


def test_a_peer_that_does_not_read_costs_nothing(runner: Runner) -> None:
    silent = _StuckPeer(runner)
    try:
        connection = silent.accepted
        connection.send(b"x" * 20_000_000)
        runner.run_for(0.1)
        assert connection.send_queue_size > 0
        _assert_idle(runner)
    finally:
        silent.close()


class _StuckPeer:
    """A client that has shaken hands and then does not read any more."""

    def __init__(self, runner: Runner) -> None:
        import socket

        recorder = Recorder()
        listener = runner.context().listen(host="127.0.0.1", **recorder.callbacks)
        self._socket = socket.create_connection(("127.0.0.1", listener.port))
        self._socket.sendall(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        runner.run(recorder.saw("connect"))
        self.accepted = recorder.connection

    def close(self) -> None:
        self._socket.close()


# --- Several things on one loop -------------------------------------------------------------------


@pytest.mark.memcheck
def test_two_contexts_on_one_loop_talk_to_each_other(runner: Runner) -> None:
    pair = _Pair(runner)
    for number in range(20):
        pair.exchange(f"message {number}")
    assert pair.client.messages == [f"message {number}" for number in range(20)]


def test_a_context_talks_to_itself(runner: Runner) -> None:
    context = runner.context()
    listener = context.listen(
        host="127.0.0.1", on_message=lambda connection, data: connection.send(data)
    )
    recorder = Recorder(on_connect=lambda connection, headers: connection.send("x"))
    context.connect(url_of(listener), **recorder.callbacks)
    runner.run(recorder.saw("message"))
    assert recorder.messages == ["x"]


def test_many_contexts_live_on_one_loop_at_once(runner: Runner) -> None:
    recorders = []
    for _ in range(10):
        listener = echo(runner)
        recorder = Recorder(on_connect=lambda connection, headers: connection.send("x"))
        runner.context().connect(url_of(listener), **recorder.callbacks)
        recorders.append(recorder)
    runner.run(lambda: all(recorder.messages for recorder in recorders))


def test_a_context_on_a_loop_that_runs_again_and_again(runner: Runner) -> None:
    pair = _Pair(runner)
    for number in range(10):
        pair.connection.send(str(number))
        runner.turns(1)
    runner.run(pair.client.saw("message", 10))
    assert pair.client.messages == [str(number) for number in range(10)]


def test_a_loop_that_does_not_run_for_a_while_loses_nothing(runner: Runner) -> None:
    pair = _Pair(runner)
    for number in range(100):
        pair.connection.send(str(number))
    runner.run(pair.client.saw("message", 100))
    assert pair.client.messages == [str(number) for number in range(100)]


def test_what_is_sent_is_written_without_anything_else_turning_the_loop(runner: Runner) -> None:
    pair = _Pair(runner)
    started = time.monotonic()
    for _ in range(50):
        pair.exchange()
    assert time.monotonic() - started < time_limit(2)


def test_a_descriptor_number_that_is_used_again_is_watched_anew(runner: Runner) -> None:
    listener = echo(runner)
    context = runner.context()
    for number in range(30):
        recorder = Recorder(
            on_connect=lambda connection, headers: connection.send("x"),
            on_message=lambda connection, data: connection.close(),
        )
        context.connect(url_of(listener), **recorder.callbacks)
        runner.run(recorder.saw("close"))
        assert recorder.messages == ["x"], number


def test_a_connection_replaced_in_the_callback_of_the_one_that_ended(runner: Runner) -> None:
    listener = echo(runner)
    context = runner.context()
    done = []

    def connect(*_arguments: object) -> None:
        if len(done) < 20:
            context.connect(url_of(listener), on_connect=greet, on_message=take, on_close=connect)

    def greet(connection: Any, _headers: object) -> None:
        connection.send("x")

    def take(connection: Any, data: str) -> None:
        done.append(data)
        connection.close()

    connect()
    runner.run(lambda: len(done) == 20)


# --- The loop's own turn --------------------------------------------------------------------------


@loop_kinds("pyuv")
def test_a_loop_run_inside_a_callback_does_not_reorder_messages(runner: Runner) -> None:
    import pyuv

    depth = 0
    deepest = 0
    got = []

    def on_message(_connection: Any, data: str) -> None:
        nonlocal depth, deepest
        depth += 1
        deepest = max(depth, deepest)
        got.append(data)
        runner.loop.run(pyuv.UV_RUN_NOWAIT)
        depth -= 1

    listener = runner.context().listen(host="127.0.0.1", on_message=on_message)

    def send_all(connection: Any, _headers: object) -> None:
        for number in range(50):
            connection.send(str(number))

    runner.context().connect(url_of(listener), on_connect=send_all)
    runner.run(lambda: len(got) == 50)
    assert got == [str(number) for number in range(50)]
    assert deepest == 1, "a callback came inside a callback"


@loop_kinds("pyuv")
def test_a_context_can_be_closed_by_a_loop_run_inside_a_callback(runner: Runner) -> None:
    import pyuv

    context = runner.context()

    def on_message(connection: Any, _data: str) -> None:
        runner.call_soon(context.close)
        while not closed:
            runner.loop.run(pyuv.UV_RUN_NOWAIT)
        with pytest.raises(uvws.ConnectionClosed):
            connection.send("too late")

    closed: list[int] = []
    listener = context.listen(
        host="127.0.0.1",
        on_message=on_message,
        on_close=lambda connection, code, reason: closed.append(code),
    )
    recorder = Recorder(on_connect=lambda connection, headers: connection.send("x"))
    runner.context().connect(url_of(listener), **recorder.callbacks)
    runner.run(recorder.saw("close"))
    assert closed == [1001]


@loop_kinds("pyuv")
def test_sending_goes_on_while_a_callback_runs_the_loop(runner: Runner) -> None:
    """The callback waits, in a loop of its own, for its message to leave."""
    import pyuv

    left = []

    def on_connect(connection: Any, _headers: object) -> None:
        connection.send("x" * 1000)
        deadline = time.monotonic() + time_limit(5)
        while connection.send_queue_size and time.monotonic() < deadline:
            runner.loop.run(pyuv.UV_RUN_NOWAIT)
        left.append(connection.send_queue_size)

    listener = echo(runner)
    runner.context().connect(url_of(listener), on_connect=on_connect)
    runner.run(lambda: left)
    assert left == [0]
