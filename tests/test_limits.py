"""Bounds against peers that want too much: sizes, times and numbers, and their defaults."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

import uvws
from support import Recorder, Runner
from support.wire import CLOSE, RawPeer, dial_websocket, upgrade_request

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
