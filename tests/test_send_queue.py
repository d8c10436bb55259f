"""The limit of the send queue: what counts, and what happens when it is reached."""

from __future__ import annotations

from typing import Any

import pytest

import uvws
from support import Recorder, Runner
from support.helpers import loop_kinds
from support.pairs import SIDES, raw_pair
from support.wire import BINARY, CLOSE, PING, PONG, TEXT, RawPeer

KIB = 1024
LIMIT = 256 * KIB


def clogged(runner: Runner, side: str, overflow: str, **options: Any) -> tuple[RawPeer, Recorder]:
    """Connect with a peer that does not read, whose socket is full."""
    options.setdefault("max_send_queue", LIMIT)
    peer, recorder = raw_pair(runner, side, on_send_overflow=overflow, **options)
    peer.pause()
    connection = recorder.connection
    while connection.send_queue_size < LIMIT // 4:
        connection.send(bytes(32 * KIB))
        runner.turns(2)
    return peer, recorder


def fill(connection: Any, size: int = 32 * KIB) -> None:
    """Queue messages until the limit is reached."""
    while connection.send_queue_size < LIMIT:
        connection.send(bytes(size))


# What counts


def test_one_message_of_any_size_has_room_in_an_empty_queue(runner: Runner) -> None:
    peer, recorder = raw_pair(runner, "server", max_send_queue=10, on_send_overflow="raise")
    recorder.connection.send(bytes(100_000))
    recorder_size = recorder.connection.send_queue_size
    assert recorder_size == 100_000
    with pytest.raises(uvws.SendQueueFull):
        recorder.connection.send(b"x")
    runner.run(recorder.saw("drain"))
    recorder.connection.send(b"x")
    runner.run(peer.saw_frames(2))


def test_messages_without_payload_count_as_well(runner: Runner) -> None:
    _, recorder = raw_pair(runner, "server", max_send_queue=10, on_send_overflow="raise")
    for _ in range(5):
        recorder.connection.send(b"")
    with pytest.raises(uvws.SendQueueFull):
        recorder.connection.send(b"")


@pytest.mark.parametrize("side", SIDES)
def test_0_is_no_limit(runner: Runner, side: str) -> None:
    _, recorder = raw_pair(runner, side, max_send_queue=0)
    for _ in range(100):
        recorder.connection.send(bytes(1 << 20))
    assert recorder.connection.send_queue_size == 100 << 20
    assert recorder.connection.is_connected


def test_a_listener_has_a_limit_of_64_mib_unless_told_otherwise(runner: Runner) -> None:
    peer, recorder = raw_pair(runner, "server")
    peer.pause()
    payload = bytes(1 << 20)
    for _ in range(64):
        recorder.connection.send(payload)
    assert recorder.connection.send_queue_size == 64 << 20
    recorder.connection.send(payload)
    runner.run(recorder.saw("close"), timeout=10)
    assert recorder.events[-1][:2] == ("close", 1013)


# raise


@pytest.mark.parametrize("side", SIDES)
def test_raise_refuses_the_message_and_keeps_the_connection(runner: Runner, side: str) -> None:
    peer, recorder = clogged(runner, side, "raise")
    connection = recorder.connection
    fill(connection)
    size = connection.send_queue_size
    sends: list[Any] = [
        lambda: connection.send(b"x"),
        lambda: connection.send("x"),
        lambda: connection.send(bytearray(b"x")),
        lambda: connection.send(bytes(100_000)),
        lambda: connection.send_text("x"),
        lambda: connection.send_binary(b"x"),
        lambda: connection.send_fragment("x"),
        lambda: connection.send_ping(b"x"),
        lambda: connection.send_pong(b"x"),
    ]
    for send in sends:
        with pytest.raises(uvws.SendQueueFull, match="on_drain"):
            send()
    assert connection.send_queue_size == size
    peer.resume()
    runner.run(lambda: not connection.send_queue_size)
    connection.send("on we go")
    runner.run(lambda: peer.frames()[-1].payload == b"on we go")
    assert {each.opcode for each in peer.frames()} == {BINARY, TEXT}


def test_what_was_queued_before_is_sent_all_the_same(runner: Runner) -> None:
    peer, recorder = clogged(runner, "server", "raise")
    fill(recorder.connection)
    with pytest.raises(uvws.SendQueueFull):
        recorder.connection.send(b"x")
    recorder.connection.close(1000)
    peer.resume()
    runner.run(peer.saw_close)
    assert all(len(each.payload) == 32 * KIB for each in peer.frames()[:-1])


# close


@pytest.mark.parametrize("size", [32 * KIB, 200 * KIB])
@pytest.mark.parametrize("side", SIDES)
def test_close_ends_the_connection_with_1013(runner: Runner, side: str, size: int) -> None:
    _, recorder = clogged(runner, side, "close")
    connection = recorder.connection
    fill(connection, size)
    runner.turns(2)
    fill(connection, size)
    connection.send("one too many")
    assert connection.send_queue_size <= size  # what has begun is all that is left
    connection.send("dropped, as what is sent behind a Close frame")
    runner.run(recorder.saw("error"))
    error = recorder.events[-1][1]
    assert isinstance(error, uvws.SendQueueFull)
    assert str(LIMIT) in str(error)
    runner.run(recorder.saw("close"), timeout=15)
    assert recorder.events[-1] == ("close", 1013, "send queue full")
    with pytest.raises(uvws.ConnectionClosed):
        connection.send("x")


def test_the_peer_is_told_1013_where_it_reads_again(runner: Runner) -> None:
    peer, recorder = clogged(runner, "server", "close")
    fill(recorder.connection)
    recorder.connection.send("one too many")
    peer.resume()
    runner.run(peer.saw_close)
    assert peer.frames()[-1].payload[:2] == (1013).to_bytes(2, "big")
    peer.send_frame(CLOSE, (1013).to_bytes(2, "big"))
    runner.run(recorder.saw("close"))
    assert recorder.events[-1][:2] == ("close", 1013)


# pause


def test_pause_queues_it_and_reads_no_more_from_the_peer(runner: Runner) -> None:
    peer, recorder = clogged(runner, "server", "pause")
    connection = recorder.connection
    fill(connection)
    connection.send("over the limit")
    peer.send_frame(TEXT, b"not yet")
    runner.run_for(0.2)
    assert recorder.messages == []
    peer.resume()
    runner.run(recorder.saw("message"))
    assert recorder.names.index("drain") < recorder.names.index("message")
    runner.run(lambda: peer.frames()[-1].payload == b"over the limit")


def test_the_users_own_pause_outlasts_it(runner: Runner) -> None:
    peer, recorder = clogged(runner, "server", "pause")
    fill(recorder.connection)
    recorder.connection.send("over the limit")
    recorder.connection.pause_recv()
    peer.resume()
    runner.run(lambda: not recorder.connection.send_queue_size)
    peer.send_frame(TEXT, b"later")
    runner.run_for(0.1)
    assert recorder.messages == []
    recorder.connection.resume_recv()
    runner.run(recorder.saw("message"))


def test_an_echo_to_a_peer_that_does_not_read_holds_little(runner: Runner) -> None:
    peer, recorder = raw_pair(
        runner,
        "server",
        max_send_queue=LIMIT,
        on_send_overflow="pause",
        on_message=lambda connection, data: connection.send(data),
    )
    peer.pause()
    frame = peer.frame(BINARY, bytes(16 * KIB))
    peer.send_in_thread(lambda push: [push(frame) for _ in range(2000)])
    connection = recorder.connection
    runner.run(lambda: connection.send_queue_size >= LIMIT, timeout=10)
    runner.run_for(0.3)
    assert connection.send_queue_size < 4 * LIMIT
    peer.resume()
    runner.run(recorder.saw("message", 2000), timeout=20)


# Automatic answers


def test_pings_from_a_peer_that_does_not_read_cost_no_more_than_a_few(runner: Runner) -> None:
    peer, recorder = clogged(runner, "server", "raise")
    pings = peer.frame(PING, bytes(125)) * 1000
    before = recorder.connection.send_queue_size
    peer.send_in_thread(lambda push: [push(pings) for _ in range(20)])
    runner.run_for(0.5)
    peer.send_in_thread(lambda push: push(peer.frame(TEXT, b"the end")))
    runner.run(recorder.saw("message"), timeout=10)
    assert recorder.connection.send_queue_size == before
    peer.resume()
    runner.run(lambda: not recorder.connection.send_queue_size)
    recorder.connection.send("the end")
    runner.run(lambda: peer.frames()[-1].payload == b"the end")
    assert 0 < sum(each.opcode == PONG for each in peer.frames()) < 2000


# Arguments


@loop_kinds("asyncio")
@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"max_send_queue": -1}, ValueError, "max_send_queue"),
        ({"max_send_queue": None}, TypeError, "max_send_queue"),
        ({"on_send_overflow": "drop"}, ValueError, "on_send_overflow"),
        ({"on_send_overflow": None}, TypeError, "on_send_overflow"),
    ],
)
def test_a_bad_limit_is_named(
    runner: Runner, options: dict[str, Any], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=rf"\b{named}\b"):
        runner.context().connect("ws://127.0.0.1:1/", **options)


def test_the_choices_equal_their_names() -> None:
    assert [str(each) for each in uvws.SendOverflow] == ["raise", "close", "pause"]
