"""Pings and pongs: what is sent, what is answered, what is heard of."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
import websockets

import uvws
from support import ClientThread, Recorder, Runner, certificates, time_limit, url_of
from support.pairs import SIDES, Pair, over, raw_pair
from support.payloads import binary
from support.wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    close_payload,
    frame,
    parse_frames,
    upgrade_request,
)

MIB = 1 << 20

by_side = pytest.mark.parametrize("side", SIDES)
by_method = pytest.mark.parametrize("method", ["send_ping", "send_pong"])
PAYLOADS: list[tuple[Any, bytes]] = [
    (b"bytes", b"bytes"),
    ("text: é", "text: é".encode()),
    (bytearray(b"bytearray"), b"bytearray"),
    (memoryview(b"every other byte")[::2], b"eeyohrbt"),
    (bytes(range(125)), bytes(range(125))),
]


# Pings that are answered


@by_side
@pytest.mark.parametrize(("payload", "arrives"), PAYLOADS)
def test_the_answer_to_a_ping_brings_its_payload_back(
    runner: Runner, side: str, payload: Any, arrives: bytes
) -> None:
    pair = Pair(runner)
    pair.connection(side).send_ping(payload)
    runner.run(pair.recorder(side).saw("pong"))
    assert pair.recorder(side).events[-1] == ("pong", arrives)
    assert type(pair.recorder(side).events[-1][1]) is bytes


@by_side
@pytest.mark.parametrize("arguments", [(), (b"",), ("",)])
def test_an_empty_ping_is_answered_with_an_empty_pong(
    runner: Runner, side: str, arguments: tuple[Any, ...]
) -> None:
    pair = Pair(runner)
    pair.connection(side).send_ping(*arguments)
    runner.run(pair.recorder(side).saw("pong"))
    assert pair.recorder(side).events[-1] == ("pong", b"")


@by_side
def test_pings_work_over_tls(runner: Runner, side: str) -> None:
    pair = Pair(runner, **over(runner, "TLS"))
    pair.connection(side).send_ping(b"secret")
    runner.run(pair.recorder(side).saw("pong"))
    assert pair.recorder(side).events[-1] == ("pong", b"secret")


@by_side
def test_one_ping_after_the_other_is_answered(runner: Runner, side: str) -> None:
    payloads = [b"%d" % number for number in range(20)]
    pair = Pair(runner)
    for number, payload in enumerate(payloads):
        pair.connection(side).send_ping(payload)
        runner.run(pair.recorder(side).saw("pong", number + 1))
    told = [event[1] for event in pair.recorder(side).events if event[0] == "pong"]
    assert told == payloads


@by_side
def test_pings_of_both_sides_at_once_are_answered(runner: Runner, side: str) -> None:
    pair = Pair(runner)
    for each in SIDES:
        pair.connection(each).send_ping(each)
    runner.run(lambda: "pong" in pair.server.names and "pong" in pair.client.names)
    assert pair.recorder(side).events[-1] == ("pong", side.encode())


@by_side
def test_several_pings_in_one_segment_are_all_answered(runner: Runner, side: str) -> None:
    peer, _ = raw_pair(runner, side)
    mask = b"mask" if side == "server" else None
    payloads = [b"%d" % n for n in range(20)]
    peer.send(b"".join(frame(PING, each, mask=mask) for each in payloads))
    runner.run(peer.saw_frames(len(payloads)))
    assert [(each.opcode, each.payload) for each in peer.frames()] == [
        (PONG, each) for each in payloads
    ]


@by_side
def test_a_ping_is_answered_before_what_is_queued(runner: Runner, side: str) -> None:
    count = 400
    peer, recorder = raw_pair(runner, side)
    connection = recorder.connection
    peer.pause()
    for _ in range(count):
        connection.send(bytes(60_000))
    runner.turns(20)
    assert connection.send_queue_size > 0  # the socket is full
    peer.send(frame(PING, b"now", mask=b"mask" if side == "server" else None))
    runner.turns(20)
    peer.resume()
    runner.run(peer.saw_frames(count + 1), timeout=15)
    opcodes = [each.opcode for each in peer.frames()]
    assert opcodes.index(PONG) < count


@pytest.mark.parametrize("round_", range(4))
def test_pings_while_tls_holds_a_part_of_a_large_message_break_nothing(
    runner: Runner, round_: int
) -> None:
    # OpenSSL wants a write that it could not finish repeated as it was.
    messages = [binary(100_000 + 17 * n + round_) for n in range(100)]
    recorder = Recorder()
    listener = runner.context().listen(
        host="127.0.0.1", **certificates.certificate().server_options, **recorder.callbacks
    )

    async def peer() -> bytes:
        return await asyncio.to_thread(_read_slowly, listener.port)

    client = ClientThread(peer, runner.wake)
    runner.add_peer(client)
    runner.run(recorder.saw("connect"))
    for message in messages:
        recorder.connection.send(message)
    recorder.connection.close()
    runner.run(client.done, timeout=30)
    frames, _ = parse_frames(client.result())
    assert [each.payload for each in frames if each.opcode == BINARY] == messages
    assert any(each.opcode == PONG for each in frames)


def _read_slowly(port: int) -> bytes:
    """Read over TLS in a narrow window until a Close frame comes, with a ping now and then."""
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        plain.settimeout(time_limit(10))
        plain.connect(("127.0.0.1", port))
        with certificates.client_context().wrap_socket(plain, server_hostname="localhost") as sock:
            sock.sendall(upgrade_request())
            data = b""
            while b"\r\n\r\n" not in data:
                data += sock.recv(1)
            data, reads = b"", 0
            while not data.endswith(frame(CLOSE, close_payload(1000))):
                reads += 1
                if reads % 3 == 0:
                    sock.sendall(frame(PING, b"%d" % reads, mask=b"mask"))
                part = sock.recv(20_000 if reads % 2 else 60_000)
                assert part, f"ended after {len(data)} bytes"
                data += part
            return data


@by_side
def test_of_more_pings_than_are_worth_answering_the_last_is_answered(
    runner: Runner, side: str
) -> None:
    # RFC 6455, section 5.5.3: a peer that does not read need not get a pong for each.
    peer, recorder = raw_pair(runner, side)
    mask = b"mask" if side == "server" else None
    connection = recorder.connection
    peer.pause()
    while connection.send_queue_size < MIB:  # the socket is full
        connection.send(bytes(MIB))
        runner.turns(3)
    peer.send(b"".join(frame(PING, b"%06d" % n, mask=mask) for n in range(5000)))
    runner.turns(50)
    peer.resume()
    runner.run(lambda: any(each.payload == b"004999" for each in peer.frames()), timeout=15)
    pongs = [each for each in peer.frames() if each.opcode == PONG]
    assert pongs[-1].payload == b"004999"
    assert len(pongs) < 4000


@by_side
def test_a_ping_is_no_event_for_the_one_that_answers_it(runner: Runner, side: str) -> None:
    pair = Pair(runner)
    connection, receiver = pair.sender(side)
    connection.send_ping(b"anybody there?")
    runner.run(pair.recorder(side).saw("pong"))
    assert receiver.names == ["connect"]


def test_a_websockets_server_answers(runner: Runner, websockets_server: Any) -> None:
    async def wait(peer: Any) -> None:
        await peer.wait_closed()

    recorder = Recorder(on_connect=lambda connection, _: connection.send_ping(b"are you there"))
    runner.context().connect(websockets_server(wait), **recorder.callbacks)
    runner.run(recorder.saw("pong"))
    assert recorder.events[-1] == ("pong", b"are you there")


def test_a_websockets_client_is_answered(runner: Runner, websockets_client: Any) -> None:
    listener = runner.context().listen(host="127.0.0.1")

    async def ping() -> float:
        async with websockets.connect(url_of(listener)) as peer:
            return float(await (await peer.ping(b"are you there")))

    client = websockets_client(ping)
    runner.run(client.done)
    assert client.result() >= 0


# Pongs that nobody asked for


@by_side
@pytest.mark.parametrize(("payload", "arrives"), [*PAYLOADS, (b"", b"")])
def test_a_pong_that_nobody_asked_for_arrives(
    runner: Runner, side: str, payload: Any, arrives: bytes
) -> None:
    pair = Pair(runner)
    connection, receiver = pair.sender(side)
    connection.send_pong(payload)
    runner.run(receiver.saw("pong"))
    assert receiver.events[-1] == ("pong", arrives)


@by_side
def test_several_pongs_in_one_segment_are_all_told(runner: Runner, side: str) -> None:
    peer, recorder = raw_pair(runner, side)
    payloads = [b"%d" % number if number % 3 else b"" for number in range(30)]
    peer.send(b"".join(peer.frame(PONG, payload) for payload in payloads))
    runner.run(recorder.saw("pong", 30))
    assert recorder.events[1:] == [("pong", payload) for payload in payloads]


@by_side
def test_a_pong_is_told_in_order_with_messages(runner: Runner, side: str) -> None:
    peer, recorder = raw_pair(runner, side)
    peer.send(
        peer.frame(TEXT, b"first")
        + peer.frame(PONG)
        + peer.frame(TEXT, b"second")
        + peer.frame(PONG, b"two")
        + peer.frame(TEXT, b"third")
    )
    runner.run(recorder.saw("message", 3))
    assert recorder.events[1:] == [
        ("message", "first"),
        ("pong", b""),
        ("message", "second"),
        ("pong", b"two"),
        ("message", "third"),
    ]


@by_side
@pytest.mark.parametrize("payload", [b"", b"between"])
def test_a_pong_between_fragments_does_not_disturb_them(
    runner: Runner, side: str, payload: bytes
) -> None:
    peer, recorder = raw_pair(runner, side)
    peer.send_frame(TEXT, b"begin", final=False)
    peer.send_frame(PONG, payload)
    peer.send_frame(CONTINUATION, b"end")
    runner.run(recorder.saw("message"))
    assert recorder.events[1:] == [("pong", payload), ("message", "beginend")]


@by_side
def test_a_pong_without_a_callback_is_ignored(runner: Runner, side: str) -> None:
    received: list[Any] = []

    def keep(_connection: Any, data: Any) -> None:
        received.append(data)

    context = runner.context()
    other = Recorder(on_connect=lambda connection, _: _pong_and_text(connection))
    callbacks = {"on_message": keep}
    server, client = (callbacks, other.callbacks)[:: 1 if side == "server" else -1]
    listener = context.listen(host="127.0.0.1", **server)
    context.connect(url_of(listener), **client)
    runner.run(lambda: received)
    assert received == ["after the pong"]


def _pong_and_text(connection: Any) -> None:
    connection.send_pong(b"nobody listens")
    connection.send("after the pong")


@by_side
def test_an_exception_in_on_pong_is_reported_and_survived(runner: Runner, side: str) -> None:
    failure = RuntimeError("in on_pong")

    def fail(*_arguments: Any) -> None:
        raise failure

    peer, recorder = raw_pair(runner, side, on_pong=fail)
    peer.send(peer.frame(PONG, b"x") + peer.frame(TEXT, b"goes on"))
    runner.run(recorder.saw("message"))
    assert runner.reported == [failure]
    runner.reported.clear()
    assert recorder.connection.is_connected


@by_side
def test_no_pong_is_told_once_we_close(runner: Runner, side: str) -> None:
    peer, recorder = raw_pair(runner, side)
    recorder.connection.close()
    peer.send_frame(PONG, b"too late")
    runner.run(peer.saw_close)
    peer.send_frame(8, b"\x03\xe8")
    runner.run(recorder.saw("close"))
    assert recorder.names == ["connect", "close"]


# The wire


@by_side
@by_method
def test_the_payload_is_cut_to_125_bytes(runner: Runner, side: str, method: str) -> None:
    peer, recorder = raw_pair(runner, side)
    getattr(recorder.connection, method)(bytes(range(126)))
    getattr(recorder.connection, method)("x" * (1 << 20))
    runner.run(peer.saw_frames(2))
    assert [each.payload for each in peer.frames()] == [bytes(range(125)), b"x" * 125]


@by_side
@by_method
def test_only_a_client_masks(runner: Runner, side: str, method: str) -> None:
    peer, recorder = raw_pair(runner, side)
    getattr(recorder.connection, method)(b"payload")
    runner.run(peer.saw_frames())
    (sent,) = peer.frames()
    assert sent.opcode == (PING if method == "send_ping" else PONG)
    assert (sent.payload, sent.final, sent.masked) == (b"payload", True, side == "client")


@by_side
@by_method
def test_they_are_sent_in_order_with_messages(runner: Runner, side: str, method: str) -> None:
    opcode = PING if method == "send_ping" else PONG
    peer, recorder = raw_pair(runner, side)
    for number in range(50):
        recorder.connection.send(f"{number}")
        getattr(recorder.connection, method)(f"{number}")
    runner.run(peer.saw_frames(100))
    assert [(each.opcode, each.payload) for each in peer.frames()] == [
        (kind, b"%d" % number) for number in range(50) for kind in (TEXT, opcode)
    ]


@by_side
@by_method
def test_they_may_be_sent_between_fragments(runner: Runner, side: str, method: str) -> None:
    opcode = PING if method == "send_ping" else PONG
    peer, recorder = raw_pair(runner, side)
    recorder.connection.send_fragment("begin", final=False)
    getattr(recorder.connection, method)(b"between")
    recorder.connection.send_fragment("end")
    runner.run(peer.saw_frames(3))
    assert [(each.opcode, each.payload) for each in peer.frames()] == [
        (TEXT, b"begin"),
        (opcode, b"between"),
        (CONTINUATION, b"end"),
    ]


@by_side
@by_method
def test_they_wait_until_a_large_message_is_whole(runner: Runner, side: str, method: str) -> None:
    opcode = PING if method == "send_ping" else PONG
    message = binary(8 * MIB)
    peer, recorder = raw_pair(runner, side)
    peer.pause()
    recorder.connection.send(message)
    runner.run(lambda: 0 < recorder.connection.send_queue_size < len(message))
    getattr(recorder.connection, method)(b"behind it")
    peer.resume()
    runner.run(peer.saw_frames(2))
    assert [(each.opcode, each.payload) for each in peer.frames()] == [
        (BINARY, message),
        (opcode, b"behind it"),
    ]


@by_side
@by_method
def test_their_payload_counts_in_the_send_queue(runner: Runner, side: str, method: str) -> None:
    _, recorder = raw_pair(runner, side)
    getattr(recorder.connection, method)(b"12345")
    assert recorder.connection.send_queue_size == 5
    runner.run(lambda: recorder.connection.send_queue_size == 0)


# What is refused


@by_method
@pytest.mark.parametrize("payload", [None, 7, ["list"], object])
def test_a_wrong_type_raises_and_sends_nothing(runner: Runner, method: str, payload: Any) -> None:
    peer, recorder = raw_pair(runner, "server")
    what = type(payload).__name__
    with pytest.raises(TypeError, match=f"^payload must be str or bytes-like, not {what}$"):
        getattr(recorder.connection, method)(payload)
    recorder.connection.send("right")
    runner.run(peer.saw_frames())
    assert [each.payload for each in peer.frames()] == [b"right"]


@by_method
def test_a_lone_surrogate_raises_and_sends_nothing(runner: Runner, method: str) -> None:
    peer, recorder = raw_pair(runner, "server")
    with pytest.raises(ValueError, match="surrogate"):
        getattr(recorder.connection, method)("\ud800")
    recorder.connection.send("right")
    runner.run(peer.saw_frames())
    assert [each.payload for each in peer.frames()] == [b"right"]


@by_method
def test_neither_can_be_sent_before_the_connection_is_open(runner: Runner, method: str) -> None:
    listener = runner.context().listen(host="127.0.0.1")
    connection = runner.context().connect(url_of(listener))
    with pytest.raises(uvws.ConnectionClosed, match=r"^Connection is not open$"):
        getattr(connection, method)()


@by_method
def test_neither_can_be_sent_once_we_close(runner: Runner, method: str) -> None:
    _, recorder = raw_pair(runner, "server")
    recorder.connection.close()
    with pytest.raises(uvws.ConnectionClosed, match=r"^Connection is not open$"):
        getattr(recorder.connection, method)()


@by_side
def test_a_ping_sent_behind_a_close_frame_that_nobody_has_heard_of_is_dropped(
    runner: Runner, side: str
) -> None:
    def ping(connection: Any, _data: Any) -> None:
        connection.send_ping(b"to nobody")

    peer, recorder = raw_pair(runner, side, on_message=ping)
    peer.send(peer.frame(TEXT, b"last") + peer.frame(8, b"\x03\xe8"))
    runner.run(recorder.saw("close"))
    assert recorder.events[1:] == [("message", "last"), ("close", 1000, "")]


# Peers that break the rules


@by_side
@pytest.mark.parametrize("opcode", [PING, PONG])
@pytest.mark.parametrize("how", ["126 bytes", "not final"])
def test_one_that_breaks_the_rules_ends_the_connection_with_1002(
    runner: Runner, side: str, opcode: int, how: str
) -> None:
    mask = b"\x01\x02\x03\x04" if side == "server" else None
    payload = b"x" * (126 if how == "126 bytes" else 5)
    peer, recorder = raw_pair(runner, side)
    peer.send(frame(opcode, payload, final=how != "not final", mask=mask))
    runner.run(recorder.saw("close"))
    assert recorder.names == ["connect", "close"]
    assert recorder.events[-1][1] == 1002
