"""pause_recv and resume_recv: what is held back, by whom, and what happens meanwhile."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import uvws
from support import Recorder, Runner, loop_kinds, measures_memory, url_of
from support.pairs import SIDES, WAYS, Pair, over, raw_pair
from support.payloads import binary
from support.wire import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    RawPeer,
    RawServer,
    close_payload,
    dial,
    frame,
    upgrade_request,
)

KIB, MIB = 1 << 10, 1 << 20
MASK = b"\x01\x02\x03\x04"
A_WHILE = 0.1  # seconds in which what is not held back would have come

by_side = pytest.mark.parametrize("side", SIDES)
by_way = pytest.mark.parametrize("way", WAYS)


def paused_pair(
    runner: Runner, side: str, *, way: str = "plain", **options: Any
) -> tuple[Any, Recorder, Any, Recorder]:
    """Connect two ends and pause one.

    Returns:
        The paused end with what it is told, and the other one with what that is told.
    """
    pair = Pair(runner, **over(runner, way), **options)
    paused = pair.connection(side)
    paused.pause_recv()
    other = "client" if side == "server" else "server"
    return paused, pair.recorder(side), pair.connection(other), pair.recorder(other)


def texts(peer: RawPeer, *messages: str) -> bytes:
    """Lay messages out for one segment."""
    return b"".join(peer.frame(TEXT, message.encode()) for message in messages)


def pausing_at(*messages: str) -> Callable[[Any, Any], None]:
    """Return an on_message that pauses at these messages."""

    def pause(connection: Any, data: Any) -> None:
        if data in messages:
            connection.pause_recv()

    return pause


def turns_in(runner: Runner, seconds: float) -> int:
    """Run the loop for a time, and return how often it turned."""
    turned = 0
    over: list[None] = []
    runner.call_later(seconds, lambda: over.append(None))

    def count() -> bool:
        nonlocal turned
        turned += 1
        return bool(over)

    runner.run(count, seconds + 5)
    return turned


def assert_idle(runner: Runner) -> None:
    """Run the loop for a while, in which it must neither turn much nor compute."""
    runner.run_for(0.02)  # what is under way is done with
    before = time.thread_time()
    turned = turns_in(runner, 0.3)
    used = time.thread_time() - before
    assert turned < 30, f"{turned} turns in 0.3 s"
    assert used < 0.1, f"{used:.3f} s of CPU time in 0.3 s"


# Holding back


@by_side
@by_way
def test_nothing_is_delivered_while_paused(runner: Runner, side: str, way: str) -> None:
    _, recorder, other, _ = paused_pair(runner, side, way=way)
    other.send("held")
    runner.run_for(A_WHILE)
    assert recorder.names == ["connect"]


@by_side
@by_way
def test_what_was_held_back_comes_in_order_after_resuming(
    runner: Runner, side: str, way: str
) -> None:
    messages = [f"{number}" * (number * 37 % 500) for number in range(1000)]
    paused, recorder, other, _ = paused_pair(runner, side, way=way)
    for message in messages:
        other.send(message)
    runner.run_for(A_WHILE)
    paused.resume_recv()
    runner.run(recorder.saw("message", len(messages)))
    assert recorder.messages == messages


@by_side
@by_way
@pytest.mark.parametrize("size", [70_000, 5 * MIB])
def test_a_large_message_is_delivered_whole_after_resuming(
    runner: Runner, side: str, way: str, size: int
) -> None:
    paused, recorder, other, _ = paused_pair(runner, side, way=way)
    other.send(binary(size))
    runner.run_for(A_WHILE)
    paused.resume_recv()
    runner.run(recorder.saw("message"))
    assert recorder.messages == [binary(size)]


@by_side
@by_way
def test_pausing_in_the_midst_of_a_large_message(runner: Runner, side: str, way: str) -> None:
    pair = Pair(runner, **over(runner, way))
    other = pair.connection("client" if side == "server" else "server")
    other.send(binary(15 * MIB))
    runner.run(lambda: other.send_queue_size < 12 * MIB)
    pair.connection(side).pause_recv()
    runner.run_for(A_WHILE)
    assert pair.recorder(side).messages == []
    pair.connection(side).resume_recv()
    runner.run(pair.recorder(side).saw("message"))
    assert pair.recorder(side).messages == [binary(15 * MIB)]


@by_side
def test_resuming_delivers_nothing_before_it_returns(runner: Runner, side: str) -> None:
    peer, recorder = raw_pair(runner, side, on_message=pausing_at("first"))
    peer.send(texts(peer, "first", "second"))
    runner.run(recorder.saw("message"))
    recorder.connection.resume_recv()
    assert recorder.messages == ["first"]
    runner.run(recorder.saw("message", 2))


@by_side
def test_pausing_and_resuming_at_once_changes_nothing(runner: Runner, side: str) -> None:
    paused, recorder, other, _ = paused_pair(runner, side)
    paused.resume_recv()
    other.send("hello")
    runner.run(recorder.saw("message"))
    assert recorder.messages == ["hello"]


@by_side
@by_way
def test_pausing_and_resuming_time_and_again_loses_nothing(
    runner: Runner, side: str, way: str
) -> None:
    count = 400
    messages = [f"{number}:".ljust(number * 911 % 30_000, "x") for number in range(count)]

    def pause_for_a_moment(connection: Any, _data: Any) -> None:
        connection.pause_recv()
        runner.call_later(0, connection.resume_recv)

    recorder = Recorder(on_message=pause_for_a_moment)
    pair = Pair(runner, **over(runner, way), **{side: recorder})
    other = pair.connection("client" if side == "server" else "server")
    for message in messages:
        other.send(message)
    runner.run(recorder.saw("message", count), timeout=20)
    assert recorder.messages == messages


@by_side
def test_sending_goes_on_while_paused(runner: Runner, side: str) -> None:
    paused, recorder, _, other_recorder = paused_pair(runner, side)
    paused.send("small")
    paused.send(binary(5 * MIB))
    runner.run(other_recorder.saw("message", 2))
    assert other_recorder.messages == ["small", binary(5 * MIB)]
    assert recorder.count("drain") == 1


@by_side
def test_other_connections_are_not_paused(runner: Runner, side: str) -> None:
    context = runner.context()
    paused = Pair(runner, context=context)
    running = Pair(runner, context=context, listen={"name": "another"})
    paused.connection(side).pause_recv()
    connection, receiver = running.sender("client" if side == "server" else "server")
    connection.send("hello")
    runner.run(receiver.saw("message"))
    assert receiver.messages == ["hello"]


# Calls that change nothing


@by_side
def test_pausing_twice_is_pausing_once(runner: Runner, side: str) -> None:
    paused, recorder, other, _ = paused_pair(runner, side)
    paused.pause_recv()
    other.send("held")
    runner.run_for(A_WHILE)
    assert recorder.names == ["connect"]
    paused.resume_recv()
    runner.run(recorder.saw("message"))


@by_side
def test_resuming_without_a_pause_does_nothing(runner: Runner, side: str) -> None:
    peer, recorder = raw_pair(runner, side)
    recorder.connection.resume_recv()
    recorder.connection.resume_recv()
    peer.send(texts(peer, "hello"))
    runner.run(recorder.saw("message"))
    assert recorder.messages == ["hello"]


@by_side
def test_resuming_twice_is_resuming_once(runner: Runner, side: str) -> None:
    peer, recorder = raw_pair(runner, side, on_message=pausing_at("1"))
    peer.send(texts(peer, "1", "2"))
    runner.run(recorder.saw("message"))
    recorder.connection.resume_recv()
    recorder.connection.resume_recv()
    runner.run(recorder.saw("message", 2))
    peer.send(texts(peer, "3"))
    runner.run(recorder.saw("message", 3))
    assert recorder.messages == ["1", "2", "3"]


def test_pausing_while_connecting_does_nothing(runner: Runner) -> None:
    received: list[Any] = []
    listener = runner.context().listen(host="127.0.0.1", on_connect=lambda c, _: c.send("hello"))
    connection = runner.context().connect(
        url_of(listener), on_message=lambda _, data: received.append(data)
    )
    connection.pause_recv()
    runner.run(lambda: received)
    assert received == ["hello"]


@by_side
def test_pausing_while_closing_does_nothing(runner: Runner, side: str) -> None:
    peer, recorder = raw_pair(runner, side)
    connection = recorder.connection
    connection.close(4000)
    connection.pause_recv()
    runner.run(peer.saw_close)
    peer.send_frame(CLOSE, close_payload(4000))
    runner.run(recorder.saw("close"))
    assert recorder.events[-1] == ("close", 4000, "")
    assert connection.state == "closed"


@by_side
@pytest.mark.parametrize("method", ["pause_recv", "resume_recv"])
def test_a_closed_connection_is_neither_paused_nor_resumed(
    runner: Runner, side: str, method: str
) -> None:
    peer, recorder = raw_pair(runner, side)
    peer.reset()
    runner.run(recorder.saw("close"))
    getattr(recorder.connection, method)()
    runner.run_for(0.01)
    assert recorder.names == ["connect", "close"]


@by_side
@pytest.mark.parametrize("method", ["pause_recv", "resume_recv"])
def test_a_destroyed_connection_is_neither_paused_nor_resumed(
    runner: Runner, side: str, method: str
) -> None:
    context = runner.context()
    pair = Pair(runner, context=context)
    context.close()
    getattr(pair.connection(side), method)()
    assert pair.connection(side).state == "destroyed"


# Pausing in callbacks


@by_side
def test_the_rest_of_a_burst_is_held_and_delivered_in_order(runner: Runner, side: str) -> None:
    burst = [f"{number}" for number in range(200)]
    peer, recorder = raw_pair(runner, side, on_message=pausing_at("49"))
    peer.send(texts(peer, *burst))
    runner.run(recorder.saw("message", 50))
    peer.send(texts(peer, "later"))
    runner.run_for(A_WHILE)
    assert recorder.messages == burst[:50]
    recorder.connection.resume_recv()
    runner.run(recorder.saw("message", 201))
    assert recorder.messages == [*burst, "later"]


@by_side
def test_pausing_at_each_message_delivers_one_for_each_resume(runner: Runner, side: str) -> None:
    burst = [f"{number}" for number in range(10)]
    peer, recorder = raw_pair(runner, side, on_message=pausing_at(*burst))
    peer.send(texts(peer, *burst))
    runner.run(recorder.saw("message"))
    for number in range(1, 10):
        recorder.connection.resume_recv()
        runner.run(recorder.saw("message", number + 1))
        runner.turns(3)
        assert recorder.messages == burst[: number + 1]


@by_side
def test_resuming_in_the_callback_that_pauses_keeps_the_order(runner: Runner, side: str) -> None:
    burst = [f"{number}" for number in range(100)]

    def blink(connection: Any, _data: Any) -> None:
        connection.pause_recv()
        connection.resume_recv()

    peer, recorder = raw_pair(runner, side, on_message=blink)
    peer.send(texts(peer, *burst[:50]))
    peer.send(texts(peer, *burst[50:]))
    runner.run(recorder.saw("message", 100))
    assert recorder.messages == burst


@by_side
def test_small_and_large_messages_are_held_in_order(runner: Runner, side: str) -> None:
    messages: list[Any] = ["pause", binary(20_000), "small", binary(70_000), b"last"]
    recorder = Recorder(on_message=pausing_at("pause"))
    pair = Pair(runner, **{side: recorder})
    other = pair.connection("client" if side == "server" else "server")
    for message in messages:
        other.send(message)
    runner.run(recorder.saw("message"))
    runner.run_for(A_WHILE)
    assert recorder.messages == ["pause"]
    recorder.connection.resume_recv()
    runner.run(recorder.saw("message", 5))
    assert recorder.messages == messages


@by_side
def test_pongs_are_held_in_order_with_messages(runner: Runner, side: str) -> None:
    peer, recorder = raw_pair(runner, side, on_message=pausing_at("1"))
    peer.send(texts(peer, "1") + peer.frame(PONG, b"a") + texts(peer, "2") + peer.frame(PONG, b"b"))
    runner.run(recorder.saw("message"))
    runner.run_for(A_WHILE)
    assert recorder.names == ["connect", "message"]
    recorder.connection.resume_recv()
    runner.run(recorder.saw("pong", 2))
    assert recorder.events[1:] == [
        ("message", "1"),
        ("pong", b"a"),
        ("message", "2"),
        ("pong", b"b"),
    ]


@by_side
@by_way
def test_pausing_in_on_connect(runner: Runner, side: str, way: str) -> None:
    recorder = Recorder(on_connect=lambda connection, _: connection.pause_recv())
    pair = Pair(runner, **over(runner, way), **{side: recorder})
    pair.connection("client" if side == "server" else "server").send("held")
    runner.run_for(A_WHILE)
    assert recorder.names == ["connect"]
    recorder.connection.resume_recv()
    runner.run(recorder.saw("message"))
    assert recorder.messages == ["held"]


def test_pausing_in_on_connect_holds_what_came_with_the_request(runner: Runner) -> None:
    recorder = Recorder(on_connect=lambda connection, _: connection.pause_recv())
    listener = runner.context().listen(host="127.0.0.1", **recorder.callbacks)
    peer = dial(runner, listener)
    peer.send(upgrade_request() + texts(peer, "1", "2"))
    runner.run(recorder.saw("connect"))
    assert_idle(runner)
    assert recorder.names == ["connect"]
    recorder.connection.resume_recv()
    runner.run(recorder.saw("message", 2))
    assert recorder.messages == ["1", "2"]


def test_pausing_in_on_connect_holds_what_came_with_the_response(runner: Runner) -> None:
    recorder = Recorder(on_connect=lambda connection, _: connection.pause_recv())
    server = RawServer(runner)
    runner.context().connect(server.url, **recorder.callbacks)
    server.accept_websocket(behind=frame(TEXT, b"1") + frame(TEXT, b"2"))
    runner.run(recorder.saw("connect"))
    assert_idle(runner)
    assert recorder.names == ["connect"]
    recorder.connection.resume_recv()
    runner.run(recorder.saw("message", 2))
    assert recorder.messages == ["1", "2"]


@by_side
def test_an_exception_in_on_message_does_not_stop_what_was_held_back(
    runner: Runner, side: str
) -> None:
    failures = {data: RuntimeError(data) for data in ("2", "4", "5")}

    def fail(connection: Any, data: Any) -> None:
        if data == "1":
            connection.pause_recv()
        if data in failures:
            raise failures[data]

    peer, recorder = raw_pair(runner, side, on_message=fail)
    peer.send(texts(peer, "1", "2", "3", "4", "5"))
    runner.run(recorder.saw("message"))
    recorder.connection.resume_recv()
    runner.run(recorder.saw("message", 5))
    peer.send(texts(peer, "6"))
    runner.run(recorder.saw("message", 6))
    assert recorder.messages == ["1", "2", "3", "4", "5", "6"]
    assert runner.reported == list(failures.values())
    runner.reported.clear()


@by_side
def test_an_exception_behind_the_pause_leaves_it_in_force(runner: Runner, side: str) -> None:
    failure = RuntimeError("after pausing")

    def pause_and_fail(connection: Any, data: Any) -> None:
        connection.pause_recv()
        if data == "1":
            raise failure

    peer, recorder = raw_pair(runner, side, on_message=pause_and_fail)
    peer.send(texts(peer, "1", "2"))
    runner.run(recorder.saw("message"))
    runner.run_for(A_WHILE)
    assert recorder.messages == ["1"]
    assert runner.reported == [failure]
    runner.reported.clear()
    recorder.connection.resume_recv()
    runner.run(recorder.saw("message", 2))


@loop_kinds("pyuv")
@by_side
def test_a_callback_that_runs_the_loop_gets_nothing_of_what_is_held(
    runner: Runner, side: str
) -> None:
    def run_inside(connection: Any, data: Any) -> None:
        if data == "1":
            connection.pause_recv()
        if data == "2":
            runner.turns(3)

    peer, recorder = raw_pair(runner, side, on_message=run_inside)
    peer.send(texts(peer, "1", "2", "3"))
    runner.run(recorder.saw("message"))
    recorder.connection.resume_recv()
    runner.run(recorder.saw("message", 3))
    assert recorder.messages == ["1", "2", "3"]


# What it costs, and whom it slows down


@by_side
@by_way
def test_the_queue_of_a_sender_stops_shrinking(runner: Runner, side: str, way: str) -> None:
    paused, recorder, other, _ = paused_pair(runner, side, way=way)
    for _ in range(64):
        other.send(binary(MIB))
    runner.run(lambda: other.send_queue_size < 64 * MIB)
    runner.run_for(A_WHILE)
    left = other.send_queue_size
    assert left > 32 * MIB
    runner.run_for(A_WHILE)
    assert other.send_queue_size == left
    paused.resume_recv()
    runner.run(recorder.saw("message", 64), timeout=20)
    assert other.send_queue_size == 0


@by_side
@by_way
def test_a_paused_connection_costs_no_time(runner: Runner, side: str, way: str) -> None:
    _, _, other, _ = paused_pair(runner, side, way=way)
    for _ in range(32):
        other.send(binary(MIB))
    assert_idle(runner)


@by_side
@by_way
def test_a_burst_that_is_held_back_costs_no_time(runner: Runner, side: str, way: str) -> None:
    # Of the first records some are decrypted already when the first message pauses.
    recorder = Recorder(on_message=lambda connection, _: connection.pause_recv())
    pair = Pair(runner, **over(runner, way), **{side: recorder})
    other = pair.connection("client" if side == "server" else "server")
    for number in range(5000):
        other.send(bytes(number))
    runner.run(recorder.saw("message"))
    assert_idle(runner)
    assert recorder.count("message") == 1


@by_side
@pytest.mark.parametrize("end", ["finish", "reset"])
def test_a_peer_that_ends_costs_no_time(runner: Runner, side: str, end: str) -> None:
    peer, recorder = raw_pair(runner, side)
    recorder.connection.pause_recv()
    peer.send(texts(peer, "last words"))
    getattr(peer, end)()
    assert_idle(runner)


@measures_memory
@by_side
def test_a_peer_that_floods_fills_no_memory(runner: Runner, side: str) -> None:
    # Small frames, so that one read is many events.
    peer, recorder = raw_pair(runner, side, on_message=lambda c, _: c.pause_recv())
    flood = peer.frame(TEXT, b"x" * 100) * 10_000
    pushed = 0

    def push(send: Callable[[bytes], None]) -> None:
        nonlocal pushed
        for _ in range(200):
            send(flood)
            pushed += len(flood)

    gc.collect()
    before = resident()
    peer.send_in_thread(push)
    runner.run(recorder.saw("message"))
    runner.run_for(0.3)
    assert pushed < 200 * len(flood)
    assert recorder.count("message") == 1
    # 256 KiB of payload cross into Python together: 2600 messages of some hundred bytes each.
    assert resident() - before < 8 * MIB


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


# Ends: by us


@by_side
def test_closing_ends_the_pause(runner: Runner, side: str) -> None:
    paused, recorder, other, other_recorder = paused_pair(runner, side)
    other.send("never delivered")
    paused.close(4000, "enough")
    runner.run(recorder.saw("close"))
    assert recorder.events[1:] == [("close", 4000, "enough")]
    assert other_recorder.events[-1] == ("close", 4000, "enough")


@by_side
@by_way
def test_closing_while_a_lot_waits_to_be_read(runner: Runner, side: str, way: str) -> None:
    paused, recorder, other, other_recorder = paused_pair(runner, side, way=way)
    for _ in range(32):
        other.send(binary(MIB))
    runner.run_for(A_WHILE)
    paused.close(4000)
    runner.run(recorder.saw("close"), timeout=20)
    assert recorder.events[1:] == [("close", 4000, "")]
    runner.run(other_recorder.saw("close"))
    assert other_recorder.events[-1] == ("close", 4000, "")


@by_side
def test_closing_drops_the_messages_that_are_held(runner: Runner, side: str) -> None:
    peer, recorder = raw_pair(runner, side, on_message=pausing_at("1"))
    peer.send(texts(peer, "1", "2", "3"))
    runner.run(recorder.saw("message"))
    recorder.connection.close(4000)
    runner.run(peer.saw_close)
    peer.send_frame(CLOSE, close_payload(4000))
    runner.run(recorder.saw("close"))
    assert recorder.events[1:] == [("message", "1"), ("close", 4000, "")]


@by_side
def test_closing_in_a_message_that_was_held_drops_the_rest(runner: Runner, side: str) -> None:
    def act(connection: Any, data: Any) -> None:
        if data == "1":
            connection.pause_recv()
        if data == "2":
            connection.close(4000)

    peer, recorder = raw_pair(runner, side, on_message=act)
    peer.send(texts(peer, "1", "2", "3"))
    runner.run(recorder.saw("message"))
    recorder.connection.resume_recv()
    runner.run(peer.saw_close)
    peer.send_frame(CLOSE, close_payload(4000))
    runner.run(recorder.saw("close"))
    assert recorder.events[1:] == [("message", "1"), ("message", "2"), ("close", 4000, "")]


@by_side
def test_closing_behind_a_held_close_frame_tells_what_the_peer_said(
    runner: Runner, side: str
) -> None:
    peer, recorder = raw_pair(runner, side, on_message=pausing_at("1"))
    peer.send(texts(peer, "1", "2") + peer.frame(CLOSE, close_payload(4001, "bye")))
    runner.run(recorder.saw("message"))
    runner.run_for(A_WHILE)
    recorder.connection.close(4000)
    runner.run(recorder.saw("close"))
    assert recorder.events[1:] == [("message", "1"), ("close", 4001, "bye")]


@by_side
@pytest.mark.parametrize("held", [0, 3])
def test_closing_the_context_while_paused(runner: Runner, side: str, held: int) -> None:
    context = runner.context()
    recorder = Recorder(on_message=lambda connection, _: connection.pause_recv())
    pair = Pair(runner, context=context, **{side: recorder})
    if held:
        connection = pair.connection("client" if side == "server" else "server")
        for _ in range(held):
            connection.send("x")
        runner.run(recorder.saw("message"))
    else:
        pair.connection(side).pause_recv()
    context.close()
    runner.turns(5)
    assert recorder.names.count("message") == min(held, 1)
    assert recorder.events[-1] == ("close", 1001, "")


@by_side
def test_closing_the_context_while_paused_says_goodbye(runner: Runner, side: str) -> None:
    context = runner.context()
    peer, recorder = raw_pair(runner, side, context=context)
    recorder.connection.pause_recv()
    runner.run_for(0.01)
    context.close()
    runner.run(peer.ended)
    assert [(each.opcode, each.payload) for each in peer.frames()] == [(CLOSE, close_payload(1001))]


@by_side
def test_closing_the_context_in_a_message_that_was_held(runner: Runner, side: str) -> None:
    context = runner.context()

    def act(connection: Any, data: Any) -> None:
        if data == "1":
            connection.pause_recv()
        if data == "2":
            context.close()

    recorder = Recorder(on_message=act)
    pair = Pair(runner, context=context, **{side: recorder})
    connection = pair.connection("client" if side == "server" else "server")
    for data in ("1", "2", "3"):
        connection.send(data)
    runner.run(recorder.saw("message"))
    pair.connection(side).resume_recv()
    runner.run(recorder.saw("close"))
    runner.turns(5)
    assert recorder.messages == ["1", "2"]
    assert recorder.events[-1] == ("close", 1001, "")


# Ends: by the peer


@by_side
@by_way
def test_a_close_frame_is_heard_after_resuming(runner: Runner, side: str, way: str) -> None:
    paused, recorder, other, _ = paused_pair(runner, side, way=way)
    other.send("last words")
    other.close(4001, "bye")
    runner.run_for(A_WHILE)
    assert recorder.names == ["connect"]
    assert paused.state == "connected"
    paused.resume_recv()
    runner.run(recorder.saw("close"))
    assert recorder.events[1:] == [("message", "last words"), ("close", 4001, "bye")]


@by_side
def test_a_close_frame_waits_behind_the_messages_that_are_held(runner: Runner, side: str) -> None:
    peer, recorder = raw_pair(runner, side, on_message=pausing_at("1"))
    peer.send(texts(peer, "1", "2") + peer.frame(CLOSE, close_payload(4001, "bye")))
    runner.run(recorder.saw("message"))
    connection = recorder.connection
    runner.run(peer.ended)
    runner.run_for(A_WHILE)
    assert recorder.names == ["connect", "message"]
    assert connection.state == "connected"
    connection.send("dropped")  # as on a connection whose end is not told yet
    connection.resume_recv()
    runner.run(recorder.saw("close"))
    assert recorder.events[1:] == [
        ("message", "1"),
        ("message", "2"),
        ("close", 4001, "bye"),
    ]


@by_side
def test_what_was_held_may_be_answered_though_the_peer_has_closed(
    runner: Runner, side: str
) -> None:
    def answer(connection: Any, data: Any) -> None:
        connection.send(data)
        connection.send(bytes(100_000))
        connection.send_ping()
        if data == "1":
            connection.pause_recv()

    peer, recorder = raw_pair(runner, side, on_message=answer)
    peer.send(texts(peer, "1", "2") + peer.frame(CLOSE, close_payload(4001)))
    runner.run(recorder.saw("message"))
    runner.run_for(A_WHILE)
    recorder.connection.resume_recv()
    runner.run(recorder.saw("close"))
    assert recorder.messages == ["1", "2"]
    assert recorder.events[-1] == ("close", 4001, "")


@by_side
def test_pausing_again_keeps_the_end_waiting(runner: Runner, side: str) -> None:
    peer, recorder = raw_pair(runner, side, on_message=pausing_at("1", "2", "3"))
    peer.send(texts(peer, "1", "2", "3") + peer.frame(CLOSE, close_payload(4001)))
    runner.run(recorder.saw("message"))
    for number in (2, 3):
        recorder.connection.resume_recv()
        runner.run(recorder.saw("message", number))
        runner.run_for(0.02)
        assert recorder.count("close") == 0
    recorder.connection.resume_recv()
    runner.run(recorder.saw("close"))
    assert recorder.messages == ["1", "2", "3"]


@by_side
@pytest.mark.parametrize("end", ["finish", "reset"])
def test_a_peer_that_ends_is_heard_after_resuming(runner: Runner, side: str, end: str) -> None:
    peer, recorder = raw_pair(runner, side)
    recorder.connection.pause_recv()
    getattr(peer, end)()
    runner.run_for(A_WHILE)
    assert recorder.names == ["connect"]
    recorder.connection.resume_recv()
    runner.run(recorder.saw("close"))
    assert recorder.events[1:] == [("close", 1006, "")]


@by_side
@pytest.mark.parametrize("end", ["finish", "reset"])
def test_an_end_waits_behind_the_messages_that_are_held(
    runner: Runner, side: str, end: str
) -> None:
    peer, recorder = raw_pair(runner, side, on_message=pausing_at("1"))
    peer.send(texts(peer, "1", "2", "3"))
    runner.run(recorder.saw("message"))
    getattr(peer, end)()
    runner.run_for(A_WHILE)
    assert recorder.names == ["connect", "message"]
    recorder.connection.resume_recv()
    runner.run(recorder.saw("close"))
    assert recorder.messages == ["1", "2", "3"]
    assert recorder.events[-1] == ("close", 1006, "")


@by_side
def test_an_end_that_sending_finds_out_waits_behind_the_messages_that_are_held(
    runner: Runner, side: str
) -> None:
    peer, recorder = raw_pair(runner, side, on_message=pausing_at("1"))
    peer.send(texts(peer, "1", "2"))
    runner.run(recorder.saw("message"))
    connection = recorder.connection
    peer.reset()
    for _ in range(3):
        connection.send("into the void")
        runner.run_for(0.02)
    assert [name for name in recorder.names if name != "drain"] == ["connect", "message"]
    connection.resume_recv()
    runner.run(recorder.saw("close"))
    assert recorder.messages == ["1", "2"]
    assert recorder.events[-1] == ("close", 1006, "")


@by_side
@pytest.mark.parametrize("held", [["2"], []])
def test_a_message_over_the_limit_is_told_behind_those_that_are_held(
    runner: Runner, side: str, held: list[str]
) -> None:
    peer, recorder = raw_pair(runner, side, on_message=pausing_at("1"), max_message_size=10)
    peer.send(texts(peer, "1", *held, "far too long for it"))
    runner.run(recorder.saw("message"))
    if held:
        runner.run_for(A_WHILE)
        assert recorder.names == ["connect", "message"]
    recorder.connection.resume_recv()
    runner.run(recorder.saw("close"))
    assert recorder.messages == ["1", *held]
    assert recorder.names[-2:] == ["error", "close"]
    assert type(recorder.events[-2][1]) is uvws.MessageTooBig
    assert recorder.events[-1][1] == 1009


@by_side
def test_a_peer_that_breaks_the_rules_behind_held_messages(runner: Runner, side: str) -> None:
    peer, recorder = raw_pair(runner, side, on_message=pausing_at("1"))
    mask = MASK if side == "server" else None
    peer.send(texts(peer, "1", "2") + frame(TEXT, b"\xff", mask=mask))
    runner.run(recorder.saw("message"))
    runner.run_for(A_WHILE)
    assert recorder.names == ["connect", "message"]
    recorder.connection.resume_recv()
    runner.run(recorder.saw("close"))
    assert recorder.messages == ["1", "2"]
    assert recorder.events[-1][1] == 1007


@by_side
def test_a_ping_is_answered_after_resuming(runner: Runner, side: str) -> None:
    peer, recorder = raw_pair(runner, side)
    recorder.connection.pause_recv()
    peer.send_frame(PING, b"anybody there?")
    runner.run_for(A_WHILE)
    assert peer.frames() == []
    recorder.connection.resume_recv()
    runner.run(peer.saw_frames())
    assert [(each.opcode, each.payload) for each in peer.frames()] == [(PONG, b"anybody there?")]


# Lifetimes


@by_side
def test_the_next_connection_is_not_paused(runner: Runner, side: str) -> None:
    # It gets the memory of the one that ended paused.
    context = runner.context()
    first = Pair(runner, context=context)
    first.connection(side).pause_recv()
    first.connection("client" if side == "server" else "server").close()
    first.connection(side).close()
    runner.run(lambda: "close" in first.server.names and "close" in first.client.names)
    second = Pair(runner, context=context, listen={"name": "another"})
    connection, receiver = second.sender("client" if side == "server" else "server")
    connection.send("hello")
    runner.run(receiver.saw("message"))
