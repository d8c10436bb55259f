"""Pings that nobody has to ask for, and the end of connections whose peer is silent."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

import pytest

import uvws
from support import Recorder, Runner
from support.helpers import loop_kinds
from support.pairs import SIDES, raw_pair
from support.wire import BINARY, CLOSE, PING, PONG, TEXT, RawPeer, upgrade_request

INTERVAL = 0.1


def answer_pings(runner: Runner, peer: RawPeer) -> None:
    """Answer each Ping from the loop, once."""
    answered = 0

    def look() -> None:
        nonlocal answered
        pings = [each for each in peer.frames() if each.opcode == PING]
        with contextlib.suppress(OSError):  # the test is over
            for each in pings[answered:]:
                peer.send_frame(PONG, each.payload)
        answered = len(pings)
        if not peer.is_ended:
            runner.call_later(0.005, look)

    look()


def pings_of(peer: RawPeer) -> list[bytes]:
    """Return the payloads of the pings that came."""
    return [each.payload for each in peer.frames() if each.opcode == PING]


# ping_interval


@pytest.mark.parametrize("side", SIDES)
def test_a_silent_peer_is_pinged_and_lives_by_its_answers(runner: Runner, side: str) -> None:
    peer, recorder = raw_pair(runner, side, ping_interval=INTERVAL, ping_timeout=1.0)
    answer_pings(runner, peer)
    runner.run(lambda: len(pings_of(peer)) >= 4)
    assert recorder.names == ["connect"]  # and on_pong is not told of it


def test_a_pong_that_the_user_asked_for_is_told(runner: Runner) -> None:
    peer, recorder = raw_pair(runner, "server", ping_interval=INTERVAL, ping_timeout=1.0)
    answer_pings(runner, peer)
    runner.run(lambda: pings_of(peer))
    recorder.connection.send_ping(b"mine")
    runner.run(recorder.saw("pong"))
    assert recorder.events[-1] == ("pong", b"mine")


def test_who_talks_is_not_pinged(runner: Runner) -> None:
    peer, recorder = raw_pair(runner, "server", ping_interval=0.4)
    for n in range(20):
        peer.send_frame(TEXT, b"%d" % n)
        runner.run(recorder.saw("message", n + 1))
        runner.run_for(0.05)
    assert pings_of(peer) == []


def test_a_ping_goes_out_between_what_is_queued(runner: Runner) -> None:
    peer, recorder = raw_pair(runner, "server", ping_interval=INTERVAL, max_send_queue=0)
    peer.pause()
    for _ in range(400):
        recorder.connection.send(bytes(32 * 1024))
    runner.run_for(3 * INTERVAL)
    peer.resume()
    runner.run(lambda: not recorder.connection.send_queue_size)
    recorder.connection.send(b"the end")
    runner.run(lambda: peer.frames()[-1].payload == b"the end" or len(pings_of(peer)) > 5)
    opcodes = [each.opcode for each in peer.frames()]
    assert PING in opcodes[: opcodes.count(BINARY)]


# ping_timeout


@pytest.mark.parametrize("side", SIDES)
def test_who_does_not_answer_is_dead(runner: Runner, side: str) -> None:
    peer, recorder = raw_pair(runner, side, ping_interval=INTERVAL, ping_timeout=0.2)
    runner.run(recorder.saw("close"))
    assert recorder.names == ["connect", "error", "close"]
    error = recorder.events[1][1]
    assert isinstance(error, uvws.PingTimeout)
    assert isinstance(error, TimeoutError)
    assert recorder.events[2] == ("close", 1006, "")
    runner.run(peer.ended)
    assert len(pings_of(peer)) == 1


def test_who_does_not_answer_is_told(runner: Runner) -> None:
    peer, _ = raw_pair(runner, "server", ping_interval=INTERVAL, ping_timeout=0.2)
    runner.run(peer.ended)
    last = peer.frames()[-1]
    assert (last.opcode, last.payload) == (CLOSE, b"\x03\xf3keepalive ping timeout")


def test_who_does_not_even_read_is_dead_too(runner: Runner) -> None:
    peer, recorder = raw_pair(
        runner, "server", ping_interval=INTERVAL, ping_timeout=0.2, max_send_queue=0
    )
    peer.pause()
    recorder.connection.send(bytes(32 << 20))
    runner.run(recorder.saw("close"), timeout=10)
    assert recorder.names == ["connect", "error", "close"]
    assert isinstance(recorder.events[1][1], uvws.PingTimeout)
    assert recorder.events[-1] == ("close", 1006, "")


@pytest.mark.parametrize("what", [(TEXT, b"x"), (PING, b""), (PONG, b"of another")])
def test_whatever_comes_is_life(runner: Runner, what: tuple[int, bytes]) -> None:
    peer, recorder = raw_pair(runner, "server", ping_interval=INTERVAL, ping_timeout=0.4)
    for _ in range(10):
        peer.send_frame(*what)
        runner.run_for(0.15)
    assert "error" not in recorder.names


def test_the_rest_of_a_large_message_is_life(runner: Runner) -> None:
    peer, recorder = raw_pair(runner, "server", ping_interval=INTERVAL, ping_timeout=0.4)
    data = peer.frame(BINARY, bytes(20))
    for n in range(len(data)):
        peer.send(data[n : n + 1])
        runner.run_for(0.05)
    runner.run(recorder.saw("message"))
    assert "error" not in recorder.names


def test_a_loop_that_stood_still_kills_nobody(runner: Runner) -> None:
    peer, recorder = raw_pair(runner, "server", ping_interval=INTERVAL, ping_timeout=0.2)
    answer_pings(runner, peer)
    runner.run(lambda: pings_of(peer))
    for _ in range(3):
        runner.call_soon(lambda: time.sleep(0.5))
        runner.run_for(0.1)
    assert "error" not in recorder.names
    assert recorder.connection.is_connected


def test_who_is_not_read_from_is_not_silent(runner: Runner) -> None:
    peer, recorder = raw_pair(runner, "server", ping_interval=INTERVAL, ping_timeout=0.1)
    answer_pings(runner, peer)
    recorder.connection.pause_recv()
    runner.run_for(1)
    recorder.connection.resume_recv()
    runner.run_for(0.3)
    assert recorder.names == ["connect"]


def test_without_a_ping_timeout_nobody_is_given_up(runner: Runner) -> None:
    peer, recorder = raw_pair(runner, "server", ping_interval=0.05, ping_timeout=None)
    runner.run_for(0.5)
    assert recorder.names == ["connect"]
    assert len(pings_of(peer)) == 1  # one is enough until something comes


# idle_timeout


@pytest.mark.parametrize("side", SIDES)
def test_who_says_nothing_is_told_1001(runner: Runner, side: str) -> None:
    peer, recorder = raw_pair(runner, side, ping_interval=None, idle_timeout=INTERVAL)
    runner.run(peer.saw_close)
    close = peer.frames()[-1].payload
    assert close == (1001).to_bytes(2, "big") + b"idle timeout"
    peer.send_frame(CLOSE, close)
    runner.run(recorder.saw("close"))
    assert recorder.events[1:] == [("close", 1001, "idle timeout")]


def test_who_says_something_now_and_then_is_not_idle(runner: Runner) -> None:
    peer, recorder = raw_pair(runner, "server", ping_interval=None, idle_timeout=0.4)
    for _ in range(8):
        peer.send_frame(TEXT, b"x")
        runner.run_for(0.1)
    assert "close" not in recorder.names


# One timer


def test_without_limits_on_silence_the_loop_sleeps(runner: Runner) -> None:
    peer, recorder = raw_pair(runner, "server", ping_interval=None, handshake_timeout=0.05)
    runner.run_for(0.2)  # the last sweep finds nothing to do
    before = time.process_time()
    runner.run_for(0.5)
    assert time.process_time() - before < 0.25
    assert recorder.names == ["connect"]
    assert pings_of(peer) == []


@loop_kinds("pyuv")
def test_the_timer_does_not_keep_the_loop_alive(runner: Runner) -> None:
    peer, recorder = raw_pair(runner, "client", ping_interval=60.0)
    peer.reset()
    runner.run(recorder.saw("close"))
    runner.run_to_end()


def test_each_connection_has_its_own_limits(runner: Runner) -> None:
    context = runner.context()
    patient, one = raw_pair(runner, "server", context=context, ping_interval=60.0)
    hasty, other = raw_pair(
        runner, "client", context=context, ping_interval=0.05, ping_timeout=0.05
    )
    runner.run(other.saw("close"))
    assert one.names == ["connect"]
    assert pings_of(patient) == []
    assert hasty is not patient


def test_hundreds_of_silent_connections_are_pinged(runner: Runner) -> None:
    recorder = Recorder()
    listener = runner.context().listen(
        host="127.0.0.1", ping_interval=0.2, ping_timeout=20.0, **recorder.callbacks
    )
    socks = []
    for _ in range(200):
        sock = socket.create_connection(("127.0.0.1", listener.port))
        sock.sendall(upgrade_request())
        socks.append(sock)
    try:
        runner.run(recorder.saw("connect", 200), timeout=10)
        runner.run_for(1)
        for sock in socks:
            sock.settimeout(5)
            data = b""
            while b"\r\n\r\n\x89\x08" not in data:
                got = sock.recv(4096)
                assert got, data
                data += got
    finally:
        for sock in socks:
            sock.close()


# Defaults and arguments


@loop_kinds("asyncio")
@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"ping_interval": 0}, ValueError, "ping_interval"),
        ({"ping_interval": "1"}, TypeError, "ping_interval"),
        ({"ping_timeout": -1}, ValueError, "ping_timeout"),
        ({"idle_timeout": True}, TypeError, "idle_timeout"),
    ],
)
def test_a_bad_limit_is_named(
    runner: Runner, options: dict[str, Any], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=rf"\b{named}\b"):
        runner.context().connect("ws://127.0.0.1:1/", **options)
