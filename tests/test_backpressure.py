"""Queues: order, loss, and what they hold when a peer is slow, stops, or dies."""

from __future__ import annotations

import gc
import random
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from support import Recorder, Runner, measures_memory
from support.pairs import SIDES, Pair
from support.payloads import binary
from support.wire import (
    CLOSE,
    RawPeer,
    RawServer,
    close_payload,
    dial_websocket,
    shrink_send_buffer,
)

KIB, MIB = 1 << 10, 1 << 20

# Instruments use memory of their own, and keep what is freed.
by_sender = pytest.mark.parametrize("sender", SIDES)


def numbered(number: int, size: int) -> bytes:
    """Return a message that says which it is, and whether it is whole."""
    body = number.to_bytes(4, "big") + random.Random(number).randbytes(size)
    return body + zlib.crc32(body).to_bytes(4, "big")


def number_of(message: bytes) -> int:
    """Return the number of a message, which must be whole."""
    assert zlib.crc32(message[:-4]).to_bytes(4, "big") == message[-4:]
    return int.from_bytes(message[:4], "big")


def sizes(count: int) -> list[int]:
    """Return sizes as traffic has them: many small ones, some large."""
    dice = random.Random(count)
    return [
        dice.choice((60_000, 65_520, 70_000, 150_000))
        if dice.random() < 0.005
        else dice.choice((0, 10, 117, 118, 200, 1500))
        for _ in range(count)
    ]


def slow_peer(
    runner: Runner, sender: str, *, receive_buffer: int = 0, **hooks: Any
) -> tuple[Any, RawPeer, Recorder]:
    """Connect uvws, as server or client, with a plain socket that does not read."""
    recorder = Recorder(**hooks)
    context = runner.context()
    if sender == "server":
        listener = context.listen(host="127.0.0.1", max_message_size=0, **recorder.callbacks)
        peer = dial_websocket(runner, listener, receive_buffer=receive_buffer)
    else:
        server = RawServer(runner, receive_buffer=receive_buffer)
        context.connect(server.url, **recorder.callbacks)
        peer = server.accept_websocket()
    runner.run(recorder.saw("connect"))
    peer.pause()
    return recorder.connection, peer, recorder


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def numbers_until_the_end(runner: Runner, connection: Any, peer: RawPeer) -> list[int]:
    """Close, and return the numbers of all messages that the peer got before that."""
    connection.close(4000)
    runner.run(lambda: connection.send_queue_size == 0, timeout=20)
    runner.run(peer.saw_close, timeout=20)
    return [number_of(each.payload) for each in peer.frames() if each.opcode != CLOSE]


# Order and loss


@by_sender
def test_20000_messages_queued_at_once_arrive_in_order(runner: Runner, sender: str) -> None:
    numbers = []
    receiving = Recorder(on_message=lambda _, data: numbers.append(number_of(data)))
    pair = Pair(runner, **{"client" if sender == "server" else "server": receiving})
    connection, _ = pair.sender(sender)
    for number, size in enumerate(sizes(20_000)):
        connection.send(numbered(number, size))
    runner.run(lambda: len(numbers) == 20_000, timeout=20)
    assert numbers == list(range(20_000))


@by_sender
def test_a_peer_that_pauses_gets_everything_in_order(runner: Runner, sender: str) -> None:
    connection, peer, _ = slow_peer(runner, sender)
    count = 5000
    for number, size in enumerate(sizes(count)):
        connection.send(numbered(number, size + 2000))
    runner.run_for(0.05)
    assert connection.send_queue_size > 0
    peer.resume()
    runner.run(lambda: connection.send_queue_size == 0)
    assert numbers_until_the_end(runner, connection, peer) == list(range(count))


@by_sender
def test_a_peer_with_tiny_buffers_gets_everything_in_order(runner: Runner, sender: str) -> None:
    connection, peer, _ = slow_peer(runner, sender, receive_buffer=4 * KIB)
    shrink_send_buffer(peer, 4 * KIB)
    count = 300
    total = 0
    for number, size in enumerate(sizes(count)):
        message = numbered(number, size)
        total += len(message)
        connection.send(message)
    peer.resume()
    runner.run(lambda: connection.send_queue_size == 0, timeout=20)
    assert numbers_until_the_end(runner, connection, peer) == list(range(count))


@by_sender
def test_messages_sent_while_the_socket_is_full_wait_their_turn(
    runner: Runner, sender: str
) -> None:
    connection, peer, _ = slow_peer(runner, sender)
    number = 0
    for _ in range(20):
        for size in (300_000, 10):
            connection.send(numbered(number, size))
            number += 1
        runner.turns(3)
    peer.resume()
    runner.run(lambda: connection.send_queue_size == 0)
    assert numbers_until_the_end(runner, connection, peer) == list(range(number))


# What the queue says


@by_sender
@pytest.mark.parametrize("size", [0, 10, 1000, 70_000])
def test_the_queue_counts_the_payload_until_the_loop_turns(
    runner: Runner, sender: str, size: int
) -> None:
    connection, receiver = Pair(runner).sender(sender)
    assert connection.send_queue_size == 0
    connection.send(bytes(size))
    connection.send("é")
    assert connection.send_queue_size == size + 2
    runner.run(receiver.saw("message", 2))
    assert connection.send_queue_size == 0


@by_sender
def test_the_queue_grows_while_the_peer_does_not_read(runner: Runner, sender: str) -> None:
    connection, peer, _ = slow_peer(runner, sender)
    connection.send(bytes(16 * MIB))
    runner.run_for(0.05)  # the kernel has taken what it will
    held = connection.send_queue_size
    assert held > 0
    for number in range(1, 6):
        connection.send(bytes(MIB))
        runner.turns(3)
        assert connection.send_queue_size == held + number * MIB
    peer.resume()
    runner.run(lambda: connection.send_queue_size == 0)


@by_sender
def test_on_drain_is_called_once_when_the_queue_became_empty(runner: Runner, sender: str) -> None:
    left = []
    connection, peer, recorder = slow_peer(
        runner, sender, on_drain=lambda connection: left.append(connection.send_queue_size)
    )
    for _ in range(20):
        connection.send(bytes(MIB))
    runner.run_for(0.05)
    assert recorder.names == ["connect"]
    peer.resume()
    runner.run(recorder.saw("drain"))
    runner.run_for(0.02)
    assert recorder.names == ["connect", "drain"]
    assert left == [0]


@by_sender
def test_on_drain_is_called_once_for_messages_sent_together(runner: Runner, sender: str) -> None:
    pair = Pair(runner)
    for _ in range(100):
        pair.connection(sender).send("x")
    runner.run(pair.recorder(sender).saw("drain"))
    runner.run_for(0.01)
    assert pair.recorder(sender).names == ["connect", "drain"]


@by_sender
def test_on_drain_may_send_the_next_batch(runner: Runner, sender: str) -> None:
    batches = []

    def next_batch(connection: Any) -> None:
        if len(batches) < 50:
            batches.append(len(batches))
            connection.send(batches[-1].to_bytes(4, "big"))
            connection.send(bytes(100_000))

    pair = Pair(runner, **{sender: Recorder(on_drain=next_batch)})
    connection, receiver = pair.sender(sender)
    connection.send("begin")
    runner.run(receiver.saw("message", 101))
    assert receiver.messages[1::2] == [number.to_bytes(4, "big") for number in range(50)]


@by_sender
def test_on_drain_is_not_called_once_closing(runner: Runner, sender: str) -> None:
    pair = Pair(runner)
    pair.connection(sender).send(bytes(MIB))
    pair.connection(sender).close()
    runner.run(pair.recorder(sender).saw("close"))
    assert pair.recorder(sender).names == ["connect", "close"]


@by_sender
def test_on_drain_is_not_called_once_closed_by_the_on_drain_of_another(
    runner: Runner, sender: str
) -> None:
    both: list[Pair] = []
    drained: list[Any] = []

    def close_all(connection: Any) -> None:
        drained.append(connection)
        for pair in both:
            pair.connection(sender).close()

    context = runner.context()
    options = {sender: Recorder(on_drain=close_all)}
    both += [
        Pair(runner, context=context, listen={"name": name}, **options) for name in ("one", "two")
    ]
    for pair in both:
        pair.connection(sender).send("drains")
    runner.run(lambda: all(pair.recorder("server").saw("close")() for pair in both))
    assert len(drained) == 1


@by_sender
def test_on_drain_is_not_called_without_a_send(runner: Runner, sender: str) -> None:
    pair = Pair(runner)
    pair.sender("client" if sender == "server" else "server")[0].send("only received")
    runner.run(pair.recorder(sender).saw("message"))
    runner.run_for(0.01)
    assert pair.recorder(sender).names == ["connect", "message"]


# What the queue holds


class Watched(bytes):
    """A payload that says when it is gone."""

    gone = 0

    def __del__(self) -> None:
        Watched.gone += 1


@by_sender
@pytest.mark.parametrize("how", ["reset", "finish"])
def test_a_dead_peer_releases_what_was_queued_for_it(runner: Runner, sender: str, how: str) -> None:
    connection, peer, recorder = slow_peer(runner, sender)
    before = Watched.gone
    for _ in range(10):
        connection.send(Watched(2 * MIB))
    runner.run(lambda: connection.send_queue_size < 20 * MIB)
    getattr(peer, how)()
    runner.run(recorder.saw("close"))
    runner.turns(2)
    assert recorder.events[-1] == ("close", 1006, "")
    assert connection.send_queue_size == 0
    gc.collect()
    assert Watched.gone - before == 10


@by_sender
def test_closing_the_context_releases_what_was_queued(runner: Runner, sender: str) -> None:
    before = Watched.gone
    context = runner.context()
    pair = Pair(runner, context=context)
    for _ in range(10):
        pair.connection(sender).send(Watched(2 * MIB))
    context.close()
    gc.collect()
    assert Watched.gone - before == 10


@by_sender
def test_closing_the_context_releases_bytes_that_were_queued(runner: Runner, sender: str) -> None:
    payload = bytes(2 * MIB)
    references = sys.getrefcount(payload)
    context = runner.context()
    pair = Pair(runner, context=context)
    connection = pair.connection(sender)
    for _ in range(10):
        connection.send(payload)
    context.close()
    assert sys.getrefcount(payload) == references


@by_sender
def test_a_text_that_is_not_ascii_is_no_larger_for_being_sent(runner: Runner, sender: str) -> None:
    text = "é" * MIB
    size = sys.getsizeof(text)
    connection, receiver = Pair(runner).sender(sender)
    connection.send(text)
    runner.run(receiver.saw("message"))
    assert receiver.messages == [text]
    assert sys.getsizeof(text) == size


@by_sender
def test_what_was_sent_is_released(runner: Runner, sender: str) -> None:
    connection, receiver = Pair(runner).sender(sender)
    before = Watched.gone
    for _ in range(5):
        connection.send(Watched(MIB))
    runner.run(receiver.saw("message", 5))
    runner.turns(2)
    gc.collect()
    assert Watched.gone - before == 5


@by_sender
def test_a_refused_send_keeps_nothing(runner: Runner, sender: str) -> None:
    pair = Pair(runner)
    pair.connection(sender).close()
    payload = bytes(MIB)
    references = sys.getrefcount(payload)
    with pytest.raises(ConnectionError):
        pair.connection(sender).send(payload)
    assert sys.getrefcount(payload) == references


@measures_memory
@by_sender
def test_small_messages_take_little_more_memory_than_they_hold(runner: Runner, sender: str) -> None:
    connection, peer, _ = slow_peer(runner, sender)
    message = bytes(1000)
    before = resident()
    for _ in range(64_000):
        connection.send(message)
    runner.turns(5)
    grown = resident() - before
    peer.reset()
    assert grown < 64_000 * 1000 * 1.15 + 8 * MIB


@measures_memory
@by_sender
def test_a_large_payload_sent_often_is_held_once(runner: Runner, sender: str) -> None:
    connection, peer, _ = slow_peer(runner, sender)
    payload = binary(4 * MIB)
    before = resident()
    for _ in range(100):
        connection.send(payload)
    runner.turns(5)
    grown = resident() - before
    peer.reset()
    assert grown < 16 * MIB


@measures_memory
@by_sender
def test_the_memory_of_a_queue_is_used_again(runner: Runner, sender: str) -> None:
    connection, peer, _ = slow_peer(runner, sender)
    peer.on_received = lambda got: None  # type: ignore[method-assign]
    message = bytes(60_000)
    after = []
    for _ in range(4):
        peer.pause()
        for _ in range(500):
            connection.send(message)
        runner.turns(5)
        peer.resume()
        runner.run(lambda: connection.send_queue_size == 0)
        after.append(resident())
    assert after[-1] - after[0] < 8 * MIB


@measures_memory
@by_sender
def test_a_header_that_announces_much_reserves_little(runner: Runner, sender: str) -> None:
    connection, peer, _ = slow_peer(runner, sender)
    masked = 0x80 if sender == "server" else 0
    before = resident()
    peer.send(bytes([0x82, masked | 127]) + (1 << 40).to_bytes(8, "big") + bytes(50_000))
    runner.run_for(0.05)
    assert connection.is_connected
    assert resident() - before < 16 * MIB


@by_sender
def test_other_connections_go_on_while_one_is_stuck(runner: Runner, sender: str) -> None:
    connection, peer, _ = slow_peer(runner, sender)
    connection.send(bytes(32 * MIB))
    other, receiver = Pair(runner).sender(sender)
    for number in range(10):
        other.send(str(number))
        runner.run(receiver.saw("message", number + 1))
    assert connection.send_queue_size > 0
    peer.reset()


@by_sender
def test_a_peer_that_does_not_read_is_still_heard(runner: Runner, sender: str) -> None:
    connection, peer, recorder = slow_peer(runner, sender)
    connection.send(bytes(32 * MIB))
    runner.turns(5)
    peer.send_frame(1, b"I am listening, in a way")
    runner.run(recorder.saw("message"))
    peer.send_frame(CLOSE, close_payload(1000))
    runner.run(lambda: connection.state != "connected")


def test_receiving_and_sending_at_full_speed_at_once(runner: Runner) -> None:
    pair = Pair(runner)
    count = 40
    for _ in range(count):
        pair.connection("client").send(binary(MIB))
        pair.connection("server").send(binary(MIB))
    runner.run(
        lambda: pair.server.count("message") == pair.client.count("message") == count,
        timeout=20,
    )
    assert set(pair.server.messages) == set(pair.client.messages) == {binary(MIB)}
