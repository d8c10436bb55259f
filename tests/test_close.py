"""How connections end: by either side, in good order or not, with which code and reason."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest
import websockets

import uvws
from support import ClientThread, Recorder, Runner, echo, loop_kinds, time_limit, url_of
from support.memory import allocated
from support.pairs import SIDES, Pair, over
from support.patches import compresses
from support.payloads import binary, text
from support.wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    RawPeer,
    RawServer,
    close_payload,
    dial_websocket,
    frame,
    masked_with,
    upgrade_request,
)

MIB = 1 << 20
MASK = b"\x01\x02\x03\x04"

by_closer = pytest.mark.parametrize("closer", SIDES)
by_side = pytest.mark.parametrize("side", SIDES)


def other(side: str) -> str:
    return "client" if side == "server" else "server"


def against_a_raw_peer(runner: Runner, side: str, **options: Any) -> tuple[RawPeer, Recorder]:
    """Connect uvws, as server or client, with a plain socket."""
    hooks = {name: options.pop(name) for name in list(options) if name.startswith("on_")}
    recorder = Recorder(**hooks)
    context = options.pop("context", None) or runner.context()
    if side == "server":
        listener = context.listen(host="127.0.0.1", **options, **recorder.callbacks)
        peer = dial_websocket(runner, listener)
    else:
        server = RawServer(runner)
        context.connect(server.url, **options, **recorder.callbacks)
        peer = server.accept_websocket()
    runner.run(recorder.saw("connect"))
    return peer, recorder


# Closing in good order


@by_closer
@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 4999])
def test_both_sides_are_told_the_code(runner: Runner, closer: str, code: int) -> None:
    pair = Pair(runner)
    pair.connection(closer).close(code, "why not")
    runner.run(lambda: "close" in pair.server.names and "close" in pair.client.names)
    assert pair.recorder(other(closer)).events[-1] == ("close", code, "why not")
    assert pair.recorder(closer).events[-1][:2] == ("close", code)


@by_closer
def test_closing_without_arguments_says_1000_and_no_reason(runner: Runner, closer: str) -> None:
    pair = Pair(runner)
    pair.connection(closer).close()
    runner.run(pair.recorder(other(closer)).saw("close"))
    assert pair.recorder(other(closer)).events[-1] == ("close", 1000, "")


@by_closer
@pytest.mark.parametrize(
    ("reason", "arrives"),
    [
        ("", ""),
        ("grün", "grün"),
        ("x" * 123, "x" * 123),
        ("x" * 124, "x" * 123),
        ("é" * 62, "é" * 61),
        ("😀" * 31, "😀" * 30),
        ("x" * 122 + "é", "x" * 122),
    ],
    ids=["empty", "short", "just fits", "one too many", "two bytes", "four bytes", "one of two"],
)
def test_a_reason_is_cut_at_a_character_to_123_bytes(
    runner: Runner, closer: str, reason: str, arrives: str
) -> None:
    pair = Pair(runner)
    pair.connection(closer).close(4000, reason)
    runner.run(pair.recorder(other(closer)).saw("close"))
    assert pair.recorder(other(closer)).events[-1] == ("close", 4000, arrives)


@by_closer
def test_the_states_of_a_close(runner: Runner, closer: str) -> None:
    pair = Pair(runner)
    states = []
    connection = pair.connection(closer)
    states.append(str(connection.state))
    connection.close()
    states.append(str(connection.state))
    runner.run(pair.recorder(closer).saw("close"))
    states.append(str(connection.state))
    assert states == ["connected", "closing", "closed"]


@by_side
def test_the_state_in_on_close_is_closed(runner: Runner, side: str) -> None:
    states = []
    recorder = Recorder(on_close=lambda connection, *_: states.append(connection.state))
    pair = Pair(runner, **{side: recorder})
    pair.connection("client").close()
    runner.run(recorder.saw("close"))
    assert states == ["closed"]


@by_closer
def test_on_close_is_called_once_and_last(runner: Runner, closer: str) -> None:
    pair = Pair(runner)
    pair.connection(closer).close()
    runner.run(lambda: "close" in pair.server.names and "close" in pair.client.names)
    runner.run_for(0.02)
    for recorder in (pair.server, pair.client):
        assert recorder.names == ["connect", "close"]


@by_closer
@pytest.mark.parametrize("size", [10, 100_000, 8 * MIB])
def test_what_was_queued_is_sent_before_the_close(runner: Runner, closer: str, size: int) -> None:
    pair = Pair(runner)
    messages = [binary(size), "next", binary(size + 1)]
    connection, receiver = pair.sender(closer)
    for message in messages:
        connection.send(message)
    connection.close(4001, "bye")
    runner.run(receiver.saw("close"), timeout=10)
    assert receiver.messages == messages
    assert receiver.events[-1] == ("close", 4001, "bye")


LARGE_SENDS: dict[str, tuple[dict[str, Any], Any]] = {
    "a message": ({}, lambda connection, data: connection.send(data)),
    "a fragment": ({}, lambda connection, data: connection.send_fragment(data, binary=True)),
    "a compressed message": (
        {"compression": "deflate"},
        lambda connection, data: connection.send(data),
    ),
}


@loop_kinds("uvloop")
@compresses
@pytest.mark.parametrize("what", LARGE_SENDS)
def test_what_a_slow_peer_takes_is_sent_before_the_close_however_long_it_takes(
    runner: Runner, what: str
) -> None:
    options, send = LARGE_SENDS[what]
    data = binary(14 * MIB)
    recorder = Recorder()
    listener = runner.context().listen(host="127.0.0.1", **options, **recorder.callbacks)

    async def peer() -> bytes:
        # 7 seconds, where a peer that takes nothing has 5.
        return await asyncio.to_thread(_read_at, listener.port, 2 * MIB)

    client = ClientThread(peer, runner.wake)
    runner.add_peer(client)
    runner.run(recorder.saw("connect"))
    send(recorder.connection, data)
    recorder.connection.close()
    runner.run(client.done, timeout=30)
    runner.run(recorder.saw("close"))
    assert recorder.events[-1] == ("close", 1000, "")
    assert client.result().endswith(frame(CLOSE, close_payload(1000)))


def _read_at(port: int, rate: int) -> bytes:
    """Read so many bytes a second until a Close frame comes, and answer that."""
    offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.settimeout(time_limit(10))
        sock.connect(("127.0.0.1", port))
        sock.sendall(upgrade_request(headers=offer))
        last = b""
        while not last.endswith(frame(CLOSE, close_payload(1000))):
            part = sock.recv(65536)
            if not part:
                return last
            last = (last + part)[-16:]
            time.sleep(len(part) / rate)
        sock.sendall(frame(CLOSE, close_payload(1000), mask=MASK))
        return last


def test_both_may_close_at_the_same_time(runner: Runner) -> None:
    pair = Pair(runner)
    pair.connection("server").close(4001, "server")
    pair.connection("client").close(4002, "client")
    runner.run(lambda: "close" in pair.server.names and "close" in pair.client.names)
    codes = (pair.server.events[-1][1], pair.client.events[-1][1])
    assert set(codes) <= {4001, 4002}


@by_side
def test_no_message_is_delivered_after_close(runner: Runner, side: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side)
    peer.send_frame(TEXT, b"before")
    runner.run(recorder.saw("message"))
    peer.send(peer.frame(TEXT, b"in time to be read, too late to be heard"))
    recorder.connection.close()
    runner.run(peer.saw_close)
    peer.send(peer.frame(TEXT, b"late") + peer.frame(CLOSE, close_payload(1000)))
    runner.run(recorder.saw("close"))
    assert recorder.messages == ["before"]


def test_closing_in_on_message_stops_the_messages_behind_it(runner: Runner) -> None:
    recorder = Recorder(on_message=lambda connection, _: connection.close())
    pair = Pair(runner, server=recorder)
    for number in range(100):
        pair.connection("client").send(str(number))
    runner.run(recorder.saw("close"))
    assert recorder.messages == ["0"]


@by_side
def test_a_close_in_the_segment_of_messages_comes_after_them(runner: Runner, side: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side)
    large = binary(50_000)
    peer.send(
        peer.frame(TEXT, b"one")
        + peer.frame(BINARY, large)
        + peer.frame(CLOSE, close_payload(4005, "enough"))
        + peer.frame(TEXT, b"not allowed any more")
    )
    runner.run(recorder.saw("close"))
    assert recorder.events[1:] == [
        ("message", "one"),
        ("message", large),
        ("close", 4005, "enough"),
    ]


@by_side
def test_a_violation_behind_a_close_frame_does_not_count(runner: Runner, side: str) -> None:
    # RFC 6455, section 1.4: what comes behind a Close frame is discarded.
    peer, recorder = against_a_raw_peer(runner, side)
    peer.send(peer.frame(CLOSE, close_payload(4010, "over")) + broken(side, 0x3))
    end_when_told(runner, peer, recorder)
    assert [(each.opcode, each.payload[:2]) for each in peer.frames()] == [
        (CLOSE, close_payload(4010))
    ]
    assert recorder.events[1:] == [("close", 4010, "over")]


@by_side
def test_the_answer_to_a_close_repeats_its_code(runner: Runner, side: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side)
    peer.send_frame(CLOSE, close_payload(4010, "over"))
    runner.run(lambda: peer.saw_close() and "close" in recorder.names)
    (answer,) = peer.frames()
    assert answer.payload[:2] == close_payload(4010)


@by_side
def test_a_close_frame_without_a_code_is_1005(runner: Runner, side: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side)
    peer.send_frame(CLOSE)
    runner.run(recorder.saw("close"))
    assert recorder.events[-1] == ("close", 1005, "")


@by_side
def test_the_answer_to_a_close_without_a_code_has_none(runner: Runner, side: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side)
    peer.send_frame(CLOSE)
    runner.run(lambda: peer.saw_close() and "close" in recorder.names)
    assert [each.payload for each in peer.frames()] == [b""]


@by_side
@pytest.mark.parametrize("first", ["us", "the peer"])
def test_nothing_is_sent_behind_a_close_frame(runner: Runner, side: str, first: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side)
    if first == "us":
        recorder.connection.close()
        runner.run(peer.saw_close)
        peer.send(peer.frame(PING, b"still there?") + peer.frame(TEXT, b"late"))
        peer.send_frame(CLOSE, close_payload(1000))
    else:
        peer.send(peer.frame(CLOSE, close_payload(1000)) + peer.frame(PING, b"and another"))
    runner.run(lambda: peer.is_ended and "close" in recorder.names)
    assert peer.frames() == [Frame(CLOSE, close_payload(1000), masked=side == "client")]


@by_side
def test_the_network_side_ends_after_the_handshake(runner: Runner, side: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side)
    peer.send_frame(CLOSE, close_payload(1000))
    if side == "client":
        runner.run(peer.saw_close)
        peer.finish()  # it is for the server to close first (RFC 6455, section 7.1.1)
    runner.run(lambda: peer.is_ended and "close" in recorder.names)


@by_side
def test_closing_after_the_peer_began_to_close_changes_nothing(runner: Runner, side: str) -> None:
    recorder = Recorder(on_close=lambda connection, *_: connection.close(4999, "me too"))
    pair = Pair(runner, **{side: recorder})
    pair.connection(other(side)).close(4000, "first")
    runner.run(recorder.saw("close"))
    assert recorder.events[-1] == ("close", 4000, "first")


@by_side
def test_a_peer_may_close_while_a_large_message_is_on_its_way(runner: Runner, side: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side)
    message = binary(16 * MIB)
    peer.pause()
    connection = recorder.connection
    connection.send(message)
    connection.send("never begun")
    runner.run(lambda: 0 < connection.send_queue_size < len(message))
    peer.send_frame(CLOSE, close_payload(4000, "stop"))
    runner.run(lambda: connection.state == "closing")
    peer.resume()
    runner.run(recorder.saw("close"), timeout=10)
    assert recorder.events[-1] == ("close", 4000, "stop")
    runner.run(lambda: peer.is_ended or peer.saw_close())
    # The frame that was begun is whole before the answer, or there is no answer.
    assert [each.opcode for each in peer.frames()] in ([], [BINARY, CLOSE])


@by_side
def test_a_peer_that_closes_behind_a_full_socket_is_answered(runner: Runner, side: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side)
    connection = recorder.connection
    peer.pause()
    for _ in range(2000):
        connection.send(b"x" * 10_000)
    runner.run(lambda: 0 < connection.send_queue_size < 2000 * 10_000)
    runner.run_for(0.05)
    peer.send_frame(CLOSE, close_payload(4000, "stop"))
    runner.run(lambda: connection.state == "closing")
    peer.resume()
    runner.run(lambda: peer.is_ended or peer.saw_close(), timeout=10)
    assert peer.frames()[-1].opcode == CLOSE
    assert {each.payload for each in peer.frames()[:-1]} == {b"x" * 10_000}
    peer.finish()
    runner.run(recorder.saw("close"))
    assert recorder.events[-1] == ("close", 4000, "stop")


# Closing when there is nothing to close


@by_side
def test_closing_again_does_nothing(runner: Runner, side: str) -> None:
    pair = Pair(runner)
    connection = pair.connection(side)
    connection.close(4000, "first")
    connection.close(4001, "second")
    runner.run(pair.recorder(other(side)).saw("close"))
    assert pair.recorder(other(side)).events[-1] == ("close", 4000, "first")


@by_side
def test_closing_a_closed_connection_does_nothing(runner: Runner, side: str) -> None:
    pair = Pair(runner)
    pair.connection(side).close()
    runner.run(pair.recorder(side).saw("close"))
    pair.connection(side).close()
    assert pair.connection(side).state == "closed"


@by_side
def test_closing_a_destroyed_connection_does_nothing(runner: Runner, side: str) -> None:
    context = runner.context()
    pair = Pair(runner, context=context)
    context.close()
    pair.connection(side).close()
    assert pair.connection(side).state == "destroyed"


def test_closing_while_connecting_does_nothing(runner: Runner) -> None:
    recorder = Recorder()
    connection = runner.context().connect(url_of(echo(runner)), **recorder.callbacks)
    connection.close()
    assert connection.state == "connecting"
    runner.run(recorder.saw("connect"))
    assert connection.state == "connected"


@loop_kinds("asyncio")
@pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65536])
@pytest.mark.parametrize("life", ["connecting", "connected", "closed"])
def test_an_invalid_code_is_refused_in_every_state(runner: Runner, code: int, life: str) -> None:
    if life == "connecting":
        connection = runner.context().connect(RawServer(runner).url)
    else:
        pair = Pair(runner)
        connection = pair.connection("client")
    if life == "closed":
        connection.close()
        runner.run(pair.client.saw("close"))
    with pytest.raises(ValueError, match=r"^code must be .*, not -?\d+$"):
        connection.close(code)
    assert connection.state == life


@loop_kinds("asyncio")
@pytest.mark.parametrize(
    ("arguments", "named"),
    [(("1000",), "code"), ((None,), "code"), ((True,), "code"), ((1000, b"bytes"), "reason")],
)
def test_a_wrong_type_is_named(runner: Runner, arguments: Any, named: str) -> None:
    connection = Pair(runner).connection("client")
    with pytest.raises(TypeError, match=rf"^{named} must be "):
        connection.close(*arguments)
    assert connection.is_connected


def test_a_lone_surrogate_in_the_reason_is_a_value_error(runner: Runner) -> None:
    connection = Pair(runner).connection("client")
    with pytest.raises(ValueError, match="surrogate"):
        connection.close(1000, "\ud800")
    assert connection.is_connected


# With the websockets package


def test_a_websockets_client_is_told_code_and_reason(
    runner: Runner, websockets_client: Any
) -> None:
    listener = runner.context().listen(
        host="127.0.0.1", on_connect=lambda connection, _: connection.close(4123, "go away")
    )

    async def wait() -> Any:
        async with websockets.connect(url_of(listener)) as peer:
            await peer.wait_closed()
            return peer.close_code, peer.close_reason

    client = websockets_client(wait)
    runner.run(client.done)
    assert client.result() == (4123, "go away")


def test_a_websockets_client_tells_code_and_reason(runner: Runner, websockets_client: Any) -> None:
    recorder = Recorder()
    listener = runner.context().listen(host="127.0.0.1", **recorder.callbacks)

    async def close() -> Any:
        async with websockets.connect(url_of(listener)) as peer:
            await peer.close(4124, "adieu")
            return peer.close_code

    client = websockets_client(close)
    runner.run(lambda: client.done() and "close" in recorder.names)
    assert recorder.events[-1] == ("close", 4124, "adieu")
    assert client.result() == 4124


def test_a_websockets_server_tells_code_and_reason(runner: Runner, websockets_server: Any) -> None:
    async def close(peer: Any) -> None:
        await peer.close(4125, "adieu")

    recorder = Recorder()
    runner.context().connect(websockets_server(close), **recorder.callbacks)
    runner.run(recorder.saw("close"))
    assert recorder.events[-1] == ("close", 4125, "adieu")


# The end without a close


@by_side
@pytest.mark.parametrize("how", ["finish", "reset"])
def test_an_end_without_a_close_frame_is_1006(runner: Runner, side: str, how: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side)
    getattr(peer, how)()
    runner.run(recorder.saw("close"))
    assert recorder.events[1:] == [("close", 1006, "")]


@by_side
@pytest.mark.parametrize("how", ["finish", "reset"])
def test_a_message_that_breaks_off_is_not_delivered(runner: Runner, side: str, how: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side)
    peer.send(peer.frame(BINARY, binary(100_000))[:50_000])
    runner.turns(3)
    getattr(peer, how)()
    runner.run(recorder.saw("close"))
    assert recorder.events[1:] == [("close", 1006, "")]


@by_side
@pytest.mark.parametrize("how", ["finish", "reset"])
def test_an_end_in_the_midst_of_sending_is_1006(runner: Runner, side: str, how: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side)
    peer.pause()
    connection = recorder.connection
    connection.send(binary(16 * MIB))
    for _ in range(1000):
        connection.send(text(1000))
    runner.run(lambda: connection.send_queue_size < 16 * MIB)
    getattr(peer, how)()
    runner.run(recorder.saw("close"))
    assert recorder.events[1:] == [("close", 1006, "")]
    assert connection.send_queue_size == 0


@by_side
def test_a_peer_that_ends_instead_of_answering_our_close_is_1006(runner: Runner, side: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side)
    recorder.connection.close(4000)
    runner.run(peer.saw_close)
    peer.finish()
    runner.run(recorder.saw("close"))
    assert recorder.events[1:] == [("close", 1006, "")]


@loop_kinds("pyuv")
@by_side
def test_a_peer_that_never_answers_our_close_is_given_up(runner: Runner, side: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side)
    recorder.connection.close(4000)
    runner.run(peer.saw_close)
    runner.run(recorder.saw("close"), timeout=8)
    assert recorder.events[1:] == [("close", 1006, "")]
    runner.run(peer.ended)


# A peer that breaks the protocol


def broken(side: str, opcode: int, payload: bytes = b"", **options: Any) -> bytes:
    """Lay out a frame as the peer of `side` has to, but for what is wrong with it."""
    return frame(opcode, payload, mask=MASK if side == "server" else None, **options)


def sized(side: str, payload: bytes, width: int, *, announced: int | None = None) -> bytes:
    """Lay a message out whose length is written in so many bytes behind the first two."""
    size = len(payload) if announced is None else announced
    key = MASK if side == "server" else b""
    header = bytes([0x80 | BINARY, (0x80 if key else 0) | (126 if width == 2 else 127)])
    return (
        header + size.to_bytes(width, "big") + key + (masked_with(key, payload) if key else payload)
    )


VIOLATIONS = {
    "an unknown data opcode": lambda side: broken(side, 0x3),
    "an unknown control opcode": lambda side: broken(side, 0xB),
    "reserved bit 1": lambda side: broken(side, TEXT, b"x", reserved=4),
    "reserved bit 2": lambda side: broken(side, TEXT, b"x", reserved=2),
    "reserved bit 3": lambda side: broken(side, BINARY, b"x", reserved=1),
    "a ping in fragments": lambda side: broken(side, PING, b"x", final=False),
    "a ping of 126 bytes": lambda side: broken(side, PING, b"x" * 126),
    "a close in fragments": lambda side: broken(side, CLOSE, close_payload(1000), final=False),
    "a close of 126 bytes": lambda side: broken(side, CLOSE, close_payload(1000, "x" * 124)),
    "0 bytes in the form of 16 bits": lambda side: sized(side, b"", 2),
    "125 bytes in the form of 16 bits": lambda side: sized(side, b"x" * 125, 2),
    "125 bytes in the form of 64 bits": lambda side: sized(side, b"x" * 125, 8),
    "65535 bytes in the form of 64 bits": lambda side: sized(side, b"x" * 65535, 8),
    "a length with the top bit": lambda side: sized(side, b"", 8, announced=1 << 63),
    "a continuation of nothing": lambda side: broken(side, CONTINUATION, b"x"),
    "a message inside a message": lambda side: (
        broken(side, TEXT, b"x", final=False) + broken(side, TEXT, b"y")
    ),
    "a close with half a code": lambda side: broken(side, CLOSE, b"\x03"),
    "close code 0": lambda side: broken(side, CLOSE, close_payload(0)),
    "close code 999": lambda side: broken(side, CLOSE, close_payload(999)),
    "close code 1004": lambda side: broken(side, CLOSE, close_payload(1004)),
    "close code 1005": lambda side: broken(side, CLOSE, close_payload(1005)),
    "close code 1006": lambda side: broken(side, CLOSE, close_payload(1006)),
    "close code 1015": lambda side: broken(side, CLOSE, close_payload(1015)),
    "close code 1016": lambda side: broken(side, CLOSE, close_payload(1016)),
    "close code 2999": lambda side: broken(side, CLOSE, close_payload(2999)),
    "close code 5000": lambda side: broken(side, CLOSE, close_payload(5000)),
    "a wrong mask": lambda side: frame(TEXT, b"x", mask=MASK if side == "client" else None),
}


@by_side
@pytest.mark.parametrize("violation", VIOLATIONS)
def test_breaking_the_protocol_is_answered_with_1002(
    runner: Runner, side: str, violation: str
) -> None:
    peer, recorder = against_a_raw_peer(runner, side)
    peer.send(VIOLATIONS[violation](side) + peer.frame(TEXT, b"not heard any more"))
    end_when_told(runner, peer, recorder)
    assert [(each.opcode, each.payload[:2]) for each in peer.frames()] == [
        (CLOSE, close_payload(1002))
    ]
    assert recorder.names == ["connect", "close"]
    assert recorder.events[-1][1] == 1002


@by_side
def test_a_peer_that_broke_the_protocol_is_not_waited_for(runner: Runner, side: str) -> None:
    # RFC 6455, section 7.1.7: nothing of it is processed any more, not even a Close frame.
    peer, recorder = against_a_raw_peer(runner, side)
    peer.send(broken(side, 0x3))
    runner.run(recorder.saw("close"), timeout=2)


def fill_the_socket(runner: Runner, peer: RawPeer, connection: Any) -> None:
    """Send to a peer that does not read, until the socket takes nothing any more."""
    peer.pause()
    for _ in range(1000):
        connection.send(b"x" * 10_000)
    runner.run(lambda: 0 < connection.send_queue_size < 1000 * 10_000)
    runner.run_for(0.1)


@by_side
def test_a_violation_is_answered_behind_a_full_socket(runner: Runner, side: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side)
    fill_the_socket(runner, peer, recorder.connection)
    peer.send(broken(side, 0x3))
    runner.run_for(0.1)
    peer.resume()
    runner.run(lambda: peer.is_ended or peer.saw_close())
    assert peer.frames()[-1].opcode == CLOSE
    assert peer.frames()[-1].payload[:2] == close_payload(1002)


@by_side
def test_a_peer_that_goes_on_behind_a_violation_does_not_keep_the_loop_busy(
    runner: Runner, side: str
) -> None:
    peer, recorder = against_a_raw_peer(runner, side)
    fill_the_socket(runner, peer, recorder.connection)
    peer.send(broken(side, 0x3))
    runner.run_for(0.1)
    peer.send(b"x" * 1000)
    turns = 0
    over: list[None] = []

    def turned() -> bool:
        nonlocal turns
        turns += 1
        return bool(over)

    runner.call_later(0.3, lambda: over.append(None))
    runner.run(turned)
    assert turns < 100


@by_side
def test_nothing_follows_the_close_frame_for_a_peer_that_broke_the_protocol(
    runner: Runner, side: str
) -> None:
    peer, recorder = against_a_raw_peer(runner, side)
    peer.send(broken(side, 0x3))
    runner.run(peer.saw_close)
    with contextlib.suppress(uvws.ConnectionClosed):  # it may know by now
        recorder.connection.send("too late")
    recorder.connection.close()
    peer.finish()
    runner.run(recorder.saw("close"))
    assert recorder.events[-1][:2] == ("close", 1002)
    runner.run(peer.ended)
    assert [each.opcode for each in peer.frames()] == [CLOSE]


def end_when_told(runner: Runner, peer: RawPeer, recorder: Recorder) -> None:
    """Close the peer's socket once it got a Close frame, and run until uvws knows."""
    runner.run(lambda: peer.saw_close() or peer.is_ended)
    peer.stop()
    runner.run(recorder.saw("close"))


INVALID_UTF8 = {
    "a stray continuation byte": [b"\x80"],
    "an overlong slash": [b"\xc0\xaf"],
    "a surrogate": [b"ok \xed\xa0\x80"],
    "beyond U+10FFFF": [b"\xf4\x90\x80\x80"],
    "a character cut off at the end": ["é".encode()[:1]],
    "a character cut off at the end of the last fragment": [b"a", "😀".encode()[:3]],
    "in the second fragment": [b"fine", b"\xff", b"fine"],
}


@by_side
@pytest.mark.parametrize("pieces", INVALID_UTF8.values(), ids=INVALID_UTF8)
def test_invalid_utf8_is_answered_with_1007(runner: Runner, side: str, pieces: list[bytes]) -> None:
    peer, recorder = against_a_raw_peer(runner, side)
    last = len(pieces) - 1
    for number, piece in enumerate(pieces):
        peer.send_frame(CONTINUATION if number else TEXT, piece, final=number == last)
    end_when_told(runner, peer, recorder)
    assert recorder.names == ["connect", "close"]
    assert recorder.events[-1][1] == 1007
    assert peer.frames()[-1].payload[:2] == close_payload(1007)


@by_side
def test_invalid_utf8_in_a_close_reason_is_answered_with_1007(runner: Runner, side: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side)
    peer.send_frame(CLOSE, close_payload(1000) + b"\xff")
    end_when_told(runner, peer, recorder)
    assert recorder.events[-1][1] == 1007


@by_side
def test_binary_messages_need_not_be_utf8(runner: Runner, side: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side)
    peer.send_frame(BINARY, b"\xff\xfe")
    runner.run(recorder.saw("message"))
    assert recorder.messages == [b"\xff\xfe"]


@by_side
def test_a_pong_that_nobody_asked_for_is_ignored(runner: Runner, side: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side)
    peer.send(peer.frame(PONG, b"unasked") + peer.frame(TEXT, b"fine"))
    runner.run(recorder.saw("message"))
    assert recorder.messages == ["fine"]


@by_side
def test_a_violation_after_good_messages_does_not_take_them_back(runner: Runner, side: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side)
    peer.send(peer.frame(TEXT, b"one") + peer.frame(TEXT, b"two") + broken(side, 0x3))
    end_when_told(runner, peer, recorder)
    assert recorder.messages == ["one", "two"]
    assert recorder.events[-1][1] == 1002


# max_message_size


@by_side
@pytest.mark.parametrize("limit", [1, 100, 70_000, 200_000])
@pytest.mark.parametrize("pieces", [1, 3])
def test_a_message_of_just_the_limit_passes(
    runner: Runner, side: str, limit: int, pieces: int
) -> None:
    peer, recorder = against_a_raw_peer(runner, side, max_message_size=limit)
    send_in_pieces(peer, binary(limit), pieces)
    runner.run(recorder.saw("message"))
    assert recorder.messages == [binary(limit)]


@by_side
@pytest.mark.parametrize("limit", [1, 100, 70_000, 200_000])
@pytest.mark.parametrize("pieces", [1, 3])
def test_a_message_over_the_limit_ends_the_connection_with_1009(
    runner: Runner, side: str, limit: int, pieces: int
) -> None:
    peer, recorder = against_a_raw_peer(runner, side, max_message_size=limit)
    send_in_pieces(peer, binary(limit + 1), pieces)
    end_when_told(runner, peer, recorder)
    assert recorder.names == ["connect", "error", "close"]
    assert type(recorder.events[1][1]) is uvws.MessageTooBig
    assert recorder.events[2][1] == 1009
    assert peer.frames()[-1].payload[:2] == close_payload(1009)


@by_side
def test_a_header_that_announces_too_much_is_enough(runner: Runner, side: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side, max_message_size=1000)
    header = peer.frame(BINARY, bytes(1 << 20))[:14]
    peer.send(header + bytes(200_000))  # a client looks at 128 KiB at a time
    end_when_told(runner, peer, recorder)
    assert recorder.names == ["connect", "error", "close"]
    assert recorder.events[2][1] == 1009


@by_side
def test_fragments_that_never_end_are_stopped_at_the_limit(runner: Runner, side: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side, max_message_size=1000)
    peer.send_frame(BINARY, b"x" * 100, final=False)
    for _ in range(10):
        peer.send_frame(CONTINUATION, b"x" * 100, final=False)
    end_when_told(runner, peer, recorder)
    assert recorder.names == ["connect", "error", "close"]


@by_side
def test_the_limit_counts_each_message_by_itself(runner: Runner, side: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side, max_message_size=100)
    for _ in range(20):
        peer.send_frame(BINARY, b"x" * 60, final=False)
        peer.send_frame(CONTINUATION, b"x" * 40)
    runner.run(recorder.saw("message", 20))


@by_side
def test_a_limit_of_0_is_none(runner: Runner, side: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side, max_message_size=0)
    send_in_pieces(peer, binary(MIB), 3)
    runner.run(recorder.saw("message"))
    assert recorder.messages == [binary(MIB)]


@by_side
def test_the_limit_does_not_hold_for_what_is_sent(runner: Runner, side: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side, max_message_size=10)
    recorder.connection.send("x" * 1000)
    runner.run(peer.saw_frames())
    assert peer.frames()[0].payload == b"x" * 1000


def send_in_pieces(peer: RawPeer, data: bytes, pieces: int) -> None:
    """Send a binary message in so many fragments, the last of which may be empty."""
    size = -(-len(data) // pieces)
    wire = b""
    for number in range(pieces):
        part = data[number * size : (number + 1) * size]
        opcode = CONTINUATION if number else BINARY
        wire += peer.frame(opcode, part, final=number == pieces - 1)
    peer.send(wire)


# A sender that is still at it hears why: its message is not what ends the connection.


@by_side
@pytest.mark.parametrize("way", ["plain", "TLS"])
@pytest.mark.parametrize("size", [MIB, 50 * MIB])
def test_the_sender_of_a_large_message_is_told_1009(
    runner: Runner, side: str, way: str, size: int
) -> None:
    options = over(runner, way)
    for call in ("listen", "connect"):
        options[call] = {**options.get(call, {}), "max_message_size": size - 1}
    pair = Pair(runner, **options)
    pair.connection(side).send(bytes(size))
    runner.run(
        lambda: pair.recorder(side).saw("close")() and pair.recorder(other(side)).saw("close")()
    )
    assert pair.recorder(side).events[-1] == ("close", 1009, "message too big")
    assert pair.recorder(other(side)).names == ["connect", "error", "close"]
    assert pair.recorder(other(side)).events[-1][1] == 1009


def test_a_sender_of_another_package_is_told_1009(
    runner: Runner, websockets_client: Callable[..., ClientThread]
) -> None:
    listener = echo(runner, max_message_size=1000)

    async def send() -> int | None:
        connection = await websockets.connect(url_of(listener), compression=None)
        with contextlib.suppress(websockets.ConnectionClosed):
            await connection.send(bytes(20 * MIB))
        await connection.wait_closed()
        return connection.close_code

    client = websockets_client(send)
    runner.run(client.done)
    assert client.result() == 1009


@by_side
def test_a_sender_that_knows_no_end_is_cut_off(runner: Runner, side: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side, max_message_size=1000)
    sent = send_without_end(peer)
    runner.run(recorder.saw("close"), timeout=8)
    runner.run(peer.ended)
    assert recorder.names == ["connect", "error", "close"]
    assert recorder.events[-1][1] == 1009
    assert sum(sent) < 80 * MIB


@by_side
def test_what_is_not_heard_takes_no_memory(runner: Runner, side: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side, max_message_size=1000)
    before = allocated()
    sent = send_without_end(peer)
    runner.run(lambda: sum(sent) > 30 * MIB or recorder.saw("close")())
    assert allocated() - before < 8 * MIB


@loop_kinds("pyuv")
@by_side
def test_a_sender_that_goes_silent_is_given_up(runner: Runner, side: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side, max_message_size=1000)
    peer.send_frame(BINARY, bytes(2000))
    runner.run(recorder.saw("close"), timeout=2)
    assert recorder.events[-1][1] == 1009


def send_without_end(peer: RawPeer) -> list[int]:
    """Send a frame without end, in a thread; returns what grows by the size of each piece."""
    sent: list[int] = []

    def work(push: Callable[[bytes], None]) -> None:
        masked = 0x80 if peer.masks else 0
        push(struct.pack(">BBQ", 0x80 | BINARY, masked | 127, 1 << 40))
        for _ in range(200):
            push(bytes(MIB))
            sent.append(MIB)

    peer.send_in_thread(work)
    return sent


# Closing the context


@by_side
def test_closing_the_context_tells_every_peer_1001(runner: Runner, side: str) -> None:
    context = runner.context()
    made = [
        against_a_raw_peer(runner, side, context=context, name=str(number))
        if side == "server"
        else against_a_raw_peer(runner, side, context=context)
        for number in range(3)
    ]
    context.close()
    for peer, recorder in made:
        assert recorder.events == [recorder.events[0], ("close", 1001, "")]
        runner.run(peer.ended)
        assert [(each.opcode, each.payload) for each in peer.frames()] == [
            (CLOSE, close_payload(1001))
        ]


@by_side
def test_closing_the_context_sends_what_was_queued_and_fits(runner: Runner, side: str) -> None:
    context = runner.context()
    peer, recorder = against_a_raw_peer(runner, side, context=context)
    recorder.connection.send("last words")
    context.close()
    runner.run(peer.ended)
    assert [each.payload for each in peer.frames()] == [b"last words", close_payload(1001)]


@by_side
def test_closing_the_context_does_not_wait_for_a_peer_that_does_not_read(
    runner: Runner, side: str
) -> None:
    context = runner.context()
    peer, recorder = against_a_raw_peer(runner, side, context=context)
    peer.pause()
    recorder.connection.send(binary(16 * MIB))
    runner.run(lambda: recorder.connection.send_queue_size < 16 * MIB)
    context.close()
    assert recorder.events[-1] == ("close", 1001, "")
    peer.resume()
    runner.run(peer.ended)
    assert not [each for each in peer.frames() if each.opcode == CLOSE]


def test_closing_the_context_tells_a_connecting_client_by_on_error(runner: Runner) -> None:
    context = runner.context()
    recorder = Recorder()
    connection = context.connect(RawServer(runner).url, **recorder.callbacks)
    runner.turns(2)
    context.close()
    assert recorder.names == ["error"]
    assert isinstance(recorder.events[0][1], uvws.Error)
    assert connection.state == "destroyed"


def test_nothing_is_called_after_the_context_closed(runner: Runner) -> None:
    context = runner.context()
    pair = Pair(runner, context=context)
    other_context = runner.context()
    recorder = Recorder()
    other_context.connect(url_of(pair.listener), **recorder.callbacks)
    runner.run(recorder.saw("connect"))
    for _ in range(100):
        recorder.connection.send("x")
        pair.connection("client").send("y")
    context.close()
    before = list(pair.server.events), list(pair.client.events)
    runner.run(recorder.saw("close"))
    runner.run_for(0.02)
    assert (pair.server.events, pair.client.events) == before


def test_closing_the_context_in_a_callback_ends_the_callbacks(runner: Runner) -> None:
    context = runner.context()
    recorder = Recorder(on_message=lambda *_: context.close())
    listener = context.listen(host="127.0.0.1", **recorder.callbacks)
    sender = Recorder(on_connect=lambda connection, _: [connection.send("x") for _ in range(9)])
    runner.context().connect(url_of(listener), **sender.callbacks)
    runner.run(sender.saw("close"))
    assert recorder.names == ["connect", "message", "close"]
    assert sender.events[-1][1] == 1001


def test_closing_the_context_twice_does_nothing(runner: Runner) -> None:
    context = runner.context()
    pair = Pair(runner, context=context)
    context.close()
    context.close()
    assert pair.server.count("close") == pair.client.count("close") == 1


# --- Peers that do not read ---------------------------------------------------------------------


@by_side
def test_a_close_behind_data_that_nobody_reads_is_given_up(runner: Runner, side: str) -> None:
    peer, recorder = against_a_raw_peer(runner, side)
    peer.pause()
    recorder.connection.send(bytes(64 * 1024 * 1024))
    runner.run_for(0.3)  # until the socket takes nothing any more
    recorder.connection.close()
    runner.run(recorder.saw("close"), timeout=10)
    assert recorder.events[-1] == ("close", 1006, "")


@by_side
@pytest.mark.parametrize("messages", [[b"x" * (64 << 20)], [b"x" * 10_000] * 6_000])
def test_a_peer_that_closes_without_reading_is_heard(
    runner: Runner, side: str, messages: list[bytes]
) -> None:
    peer, recorder = against_a_raw_peer(runner, side)
    peer.pause()
    for message in messages:
        recorder.connection.send(message)
    runner.run(lambda: 0 < recorder.connection.send_queue_size < sum(map(len, messages)))
    peer.send(peer.frame(CLOSE, close_payload(1000)))
    runner.run(recorder.saw("close"), timeout=10)
    assert recorder.events[-1][1] == 1000
