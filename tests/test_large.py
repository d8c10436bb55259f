"""Messages of 256 MiB, against a plain socket that holds none of it."""

from __future__ import annotations

import hashlib
import os
import struct
from typing import Any

import pytest

from support import Recorder, Runner, time_limit
from support.memory import peak_of
from support.pairs import SIDES
from support.wire import RawPeer, RawServer, dial_websocket

pytestmark = pytest.mark.large

MIB = 1 << 20
SIZE = 256 * MIB
BLOCK = os.urandom(MIB)


def connect(runner: Runner, side: str) -> tuple[RawPeer, Recorder]:
    recorder = Recorder()
    if side == "server":
        listener = runner.context().listen(
            host="127.0.0.1", max_message_size=0, **recorder.callbacks
        )
        peer = dial_websocket(runner, listener)
    else:
        server = RawServer(runner)
        runner.context().connect(server.url, **recorder.callbacks)
        peer = server.accept_websocket()
    runner.run(recorder.saw("connect"))
    return peer, recorder


@pytest.mark.parametrize("side", SIDES)
def test_256_mib_are_received(runner: Runner, side: str) -> None:
    peer, recorder = connect(runner, side)
    masked = side == "server"

    def send(push: Any) -> None:
        # A mask of zeros leaves the payload as it is.
        push(struct.pack("!BBQ", 0x82, 0x80 * masked | 127, SIZE) + bytes(4 * masked))
        for _ in range(SIZE // MIB):
            push(BLOCK)

    def receive() -> None:
        peer.send_in_thread(send)
        runner.run(recorder.saw("message"), timeout=30)

    peak = peak_of(receive)
    (message,) = recorder.messages
    assert len(message) == SIZE
    assert all(message[at : at + MIB] == BLOCK for at in range(0, SIZE, MIB))
    # Once in C, and then once more for Python; instruments use memory of their own.
    assert peak < 2 * SIZE + 64 * MIB or time_limit(1) > 1


@pytest.mark.parametrize("side", SIDES)
def test_256_mib_are_sent(runner: Runner, side: str) -> None:
    peer, recorder = connect(runner, side)
    message = BLOCK * (SIZE // MIB)
    overhead = 14 if side == "client" else 10
    digest = hashlib.sha1()
    head = bytearray()
    received = 0

    def take(got: bytes) -> None:
        nonlocal received
        received += len(got)
        missing = overhead - len(head)
        head.extend(got[:missing])
        digest.update(got[missing:] if missing > 0 else got)

    peer.on_received = take  # type: ignore[method-assign]

    def send() -> None:
        recorder.connection.send(message)
        runner.run(lambda: received == SIZE + overhead, timeout=30)

    peak = peak_of(send)
    assert peak < 32 * MIB or time_limit(1) > 1  # instruments use memory of their own
    assert head[:10] == struct.pack("!BBQ", 0x82, 0x80 * (side == "client") | 127, SIZE)
    if side == "server":
        assert digest.digest() == hashlib.sha1(message).digest()
    else:
        mask = int.from_bytes(bytes(head[10:14]) * (MIB // 4), "big")
        masked = (int.from_bytes(BLOCK, "big") ^ mask).to_bytes(MIB, "big")
        expected = hashlib.sha1()
        for _ in range(SIZE // MIB):
            expected.update(masked)
        assert digest.digest() == expected.digest()
