"""Bounds against peers that want too much: sizes, times and numbers, and their defaults."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import uvws
from support import Recorder, Runner
from support.certificates import certificate
from support.helpers import loop_kinds, no_callbacks
from support.wire import CLOSE, TEXT, RawPeer, dial, dial_websocket, upgrade_request

HOST = "127.0.0.1"
MIB = 1 << 20


@pytest.fixture
def accepted(runner: Runner) -> Callable[[], tuple[socket.socket, RawPeer]]:
    """Return what makes a connected socket and the peer at its other end."""

    def make() -> tuple[socket.socket, RawPeer]:
        with socket.create_server((HOST, 0)) as listening:
            peer = RawPeer(runner, socket.create_connection(listening.getsockname()), masks=True)
            runner.add_peer(peer)
            return listening.accept()[0], peer

    return make


def announce(peer: RawPeer, size: int) -> None:
    """Send the header of a binary message, and a byte of the rest."""
    peer.send(struct.pack("!BBQ", 0x82, 0x80 | 127, size) + bytes(4 + 1))


def refused_with(peer: RawPeer) -> int:
    """Return the code of the Close frame that came."""
    frames = peer.frames()
    assert frames[-1].opcode == CLOSE, frames
    return int.from_bytes(frames[-1].payload[:2], "big")


# max_message_size


def test_a_listener_refuses_more_than_16_mib_unless_told_otherwise(runner: Runner) -> None:
    recorder = Recorder()
    listener = runner.context().listen(host=HOST, **recorder.callbacks)
    peer = dial_websocket(runner, listener)
    announce(peer, 16 * MIB + 1)
    runner.run(recorder.saw("close"))
    assert recorder.names == ["connect", "error", "close"]
    assert isinstance(recorder.events[1][1], uvws.MessageTooBig)
    runner.run(peer.saw_close)
    assert refused_with(peer) == 1009


def test_an_adopted_socket_refuses_more_than_16_mib_unless_told_otherwise(
    runner: Runner, accepted: Any
) -> None:
    recorder = Recorder()
    sock, peer = accepted()
    runner.context().adopt(sock, **recorder.callbacks)
    peer.send(upgrade_request())
    runner.run(recorder.saw("connect"))
    announce(peer, 16 * MIB + 1)
    runner.run(recorder.saw("close"))
    assert isinstance(recorder.events[1][1], uvws.MessageTooBig)


@pytest.mark.parametrize("options", [{}, {"max_message_size": 0}])
def test_16_mib_pass_and_with_0_so_does_more(runner: Runner, options: dict[str, Any]) -> None:
    recorder = Recorder()
    size = 16 * MIB + len(options)
    listener = runner.context().listen(host=HOST, **options, **recorder.callbacks)
    peer = dial_websocket(runner, listener)
    announce(peer, size)
    peer.send_in_thread(lambda push: push(bytes(size - 1)))
    runner.run(recorder.saw("message"), timeout=20)
    assert len(recorder.messages[0]) == size


# handshake_timeout


def drip(runner: Runner, peer: RawPeer, data: bytes, pause: float) -> None:
    """Send byte by byte from the loop, for as long as the other side listens."""
    rest = iter(data)

    def send_one() -> None:
        if not peer.is_ended:
            with contextlib.suppress(OSError, StopIteration):
                peer.send(bytes([next(rest)]))
                runner.call_later(pause, send_one)

    send_one()


@pytest.mark.parametrize("tls", [False, True])
def test_who_sends_nothing_is_given_up(runner: Runner, tls: bool) -> None:
    options = certificate().server_options if tls else {}
    listener = runner.context().listen(
        host=HOST, handshake_timeout=0.1, **options, **no_callbacks()
    )
    peer = dial(runner, listener)
    runner.run(peer.ended)
    assert peer.take() == b""


def test_a_steady_drip_is_no_reason_to_wait_longer(runner: Runner) -> None:
    listener = runner.context().listen(host=HOST, handshake_timeout=0.3, **no_callbacks())
    peer = dial(runner, listener)
    drip(runner, peer, upgrade_request(headers=f"X: {'x' * 5000}\r\n"), 0.02)
    runner.run(peer.ended)
    assert not peer.has_head()


def test_a_connection_outlives_its_handshake_timeout(runner: Runner) -> None:
    recorder = Recorder()
    listener = runner.context().listen(host=HOST, handshake_timeout=0.05, **recorder.callbacks)
    peer = dial_websocket(runner, listener)
    runner.run_for(0.3)
    peer.send_frame(TEXT, b"still here")
    runner.run(recorder.saw("message"))


def test_a_loop_that_stood_still_does_not_count(runner: Runner) -> None:
    recorder = Recorder()
    listener = runner.context().listen(host=HOST, handshake_timeout=0.2, **recorder.callbacks)
    first = dial(runner, listener)
    second = dial(runner, listener)
    second.send(upgrade_request())
    runner.call_soon(lambda: first.send(upgrade_request()))
    runner.call_soon(lambda: time.sleep(1))
    runner.run(recorder.saw("connect", 2))


def test_an_adopted_socket_without_a_request_is_given_up(runner: Runner, accepted: Any) -> None:
    recorder = Recorder()
    sock, peer = accepted()
    runner.context().adopt(sock, handshake_timeout=0.1, **recorder.callbacks)
    runner.run(recorder.saw("error"))
    assert recorder.names == ["error"]
    error = recorder.events[0][1]
    assert isinstance(error, uvws.HandshakeError)
    assert "handshake_timeout" in str(error)
    runner.run(peer.ended)


def test_no_timer_runs_once_the_handshakes_are_over(runner: Runner) -> None:
    recorder = Recorder()
    context = runner.context()
    listener = context.listen(host=HOST, handshake_timeout=0.05, **recorder.callbacks)
    dial_websocket(runner, listener)
    peer = dial(runner, listener)
    runner.run(peer.ended)
    if runner.kind == "pyuv":
        listener.close()
        for connection in context.connections:
            connection.close()
        runner.run_to_end(timeout=8)


# max_header_size


def request_of(size: int) -> bytes:
    """Return an upgrade request of so many bytes."""
    short = upgrade_request(headers="X: \r\n")
    return upgrade_request(headers=f"X: {'x' * (size - len(short))}\r\n")


def test_a_head_of_just_the_limit_passes(runner: Runner) -> None:
    recorder = Recorder()
    listener = runner.context().listen(host=HOST, max_header_size=500, **recorder.callbacks)
    peer = dial(runner, listener)
    peer.send(request_of(500) + peer.frame(TEXT, b"what follows is no head"))
    runner.run(recorder.saw("message"))


@pytest.mark.parametrize("whole", [True, False])
def test_a_head_over_the_limit_is_refused_with_431(runner: Runner, whole: bool) -> None:
    listener = runner.context().listen(host=HOST, max_header_size=500, **no_callbacks())
    peer = dial(runner, listener)
    peer.send(request_of(501) if whole else request_of(600)[:501])
    runner.run(peer.ended)
    assert peer.take_head().startswith(b"HTTP/1.1 431 ")


# max_connections


def test_one_connection_too_many_is_told_503(runner: Runner) -> None:
    recorder = Recorder()
    listener = runner.context().listen(host=HOST, max_connections=2, **recorder.callbacks)
    dial_websocket(runner, listener)
    dial(runner, listener)  # it counts as soon as it is there
    runner.run(recorder.saw("connect"))
    peer = dial(runner, listener)
    peer.send(upgrade_request())
    runner.run(peer.ended)
    assert peer.take_head().startswith(b"HTTP/1.1 503 ")
    assert not peer.was_reset
    assert recorder.names == ["connect"]


def test_many_that_are_refused_cost_few_descriptors(runner: Runner) -> None:
    listener = runner.context().listen(host=HOST, max_connections=1)
    dial_websocket(runner, listener)
    before = len(list(Path("/proc/self/fd").iterdir()))
    peers = [socket.create_connection((HOST, listener.port)) for _ in range(100)]
    runner.run_for(0.1)
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= len(peers) + 40
    for peer in peers:
        peer.close()


def test_over_tls_it_is_closed(runner: Runner) -> None:
    options = certificate().server_options
    listener = runner.context().listen(host=HOST, max_connections=1, **options)
    dial(runner, listener)
    peer = dial(runner, listener)
    runner.run(peer.ended)
    assert peer.take() == b""


def test_there_is_room_again_when_one_has_gone(runner: Runner) -> None:
    recorder = Recorder()
    listener = runner.context().listen(host=HOST, max_connections=1, **recorder.callbacks)
    dial_websocket(runner, listener).reset()
    runner.run(recorder.saw("close"))
    dial_websocket(runner, listener)
    runner.run(recorder.saw("connect", 2))


# Arguments


@loop_kinds("asyncio")
@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"max_header_size": 255}, ValueError, "max_header_size"),
        ({"max_header_size": 16385}, ValueError, "max_header_size"),
        ({"max_header_size": None}, TypeError, "max_header_size"),
        ({"handshake_timeout": 0}, ValueError, "handshake_timeout"),
        ({"handshake_timeout": "1"}, TypeError, "handshake_timeout"),
        ({"max_connections": -1}, ValueError, "max_connections"),
        ({"max_connections": None}, TypeError, "max_connections"),
    ],
)
def test_a_bad_limit_is_named(
    runner: Runner, options: dict[str, Any], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=rf"\b{named}\b"):
        runner.context().listen(host=HOST, **options)
