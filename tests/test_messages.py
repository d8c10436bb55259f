"""Messages: every size, both kinds, in both directions, whole and unchanged."""

from __future__ import annotations

import array
import os
from typing import Any

import pytest
import websockets

import uvws
from support import Recorder, Runner, echo, loop_kinds, url_of
from support.pairs import SIDES, Pair
from support.payloads import SIZES, binary, of_kind, text
from support.wire import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawPeer,
    RawServer,
    dial,
    dial_websocket,
    frame,
    upgrade_request,
)

KINDS = ("text", "binary")
MIB = 1 << 20

by_sender = pytest.mark.parametrize("sender", SIDES)
by_receiver = pytest.mark.parametrize("receiver", SIDES)
by_kind = pytest.mark.parametrize("kind", KINDS)


class SubStr(str):
    __slots__ = ()


class SubBytes(bytes):
    __slots__ = ()


def raw_peer_of(runner: Runner, receiver: str, **options: Any) -> tuple[RawPeer, Recorder]:
    """Connect a plain socket to uvws, which is the server or the client; returns both ends."""
    recorder = Recorder()
    if receiver == "server":
        listener = runner.context().listen(host="127.0.0.1", **options, **recorder.callbacks)
        peer = dial_websocket(runner, listener)
    else:
        server = RawServer(runner)
        runner.context().connect(server.url, **options, **recorder.callbacks)
        peer = server.accept_websocket()
    runner.run(recorder.saw("connect"))
    return peer, recorder


# Between uvws and uvws


@by_kind
@by_sender
def test_a_message_of_any_size_arrives_whole(runner: Runner, sender: str, kind: str) -> None:
    pair = Pair(runner)
    connection, receiver = pair.sender(sender)
    for size in SIZES:
        message = of_kind(kind, size)
        connection.send(message)
        runner.run(receiver.saw("message"))
        (received,) = receiver.messages
        assert type(received) is type(message)
        assert received == message, f"{size} bytes"
        receiver.events.clear()


@by_kind
@by_sender
def test_16_mib_arrive_whole(runner: Runner, sender: str, kind: str) -> None:
    message = of_kind(kind, 16 * MIB)
    connection, receiver = Pair(runner).sender(sender)
    connection.send(message)
    runner.run(receiver.saw("message"), timeout=20)
    assert receiver.messages[0] == message


@by_sender
def test_messages_of_all_sizes_queued_together_arrive_in_order(runner: Runner, sender: str) -> None:
    connection, receiver = Pair(runner).sender(sender)
    messages = [of_kind(kind, size) for size in (*SIZES, *SIZES[::-1]) for kind in KINDS]
    for message in messages:
        connection.send(message)
    runner.run(receiver.saw("message", len(messages)), timeout=20)
    assert receiver.messages == messages


@by_sender
@pytest.mark.parametrize("size", [9, 70_000])
@pytest.mark.parametrize(
    "make",
    [SubBytes, bytearray, memoryview, lambda data: memoryview(bytearray(data * 2))[::2]],
    ids=["subclass of bytes", "bytearray", "memoryview", "memoryview with gaps"],
)
def test_anything_bytes_like_is_sent_as_binary(
    runner: Runner, sender: str, make: Any, size: int
) -> None:
    data = make(binary(size))
    connection, receiver = Pair(runner).sender(sender)
    connection.send(data)
    connection.send_binary(data)
    runner.run(receiver.saw("message", 2))
    assert receiver.messages == [bytes(data)] * 2
    assert {type(each) for each in receiver.messages} == {bytes}


def test_a_buffer_of_wider_items_is_sent_as_its_bytes(runner: Runner) -> None:
    numbers = array.array("d", [1.5, -2.25])
    connection, receiver = Pair(runner).sender("client")
    connection.send(numbers)
    runner.run(receiver.saw("message"))
    assert receiver.messages == [numbers.tobytes()]


@pytest.mark.parametrize("size", [9, 70_000])
def test_a_subclass_of_str_is_sent_as_text(runner: Runner, size: int) -> None:
    message = SubStr(text(size))
    connection, receiver = Pair(runner).sender("client")
    connection.send(message)
    connection.send_text(message)
    runner.run(receiver.saw("message", 2))
    assert receiver.messages == [text(size)] * 2
    assert {type(each) for each in receiver.messages} == {str}


@by_sender
@pytest.mark.parametrize("size", [9, 200_000])
@pytest.mark.parametrize("view", [lambda data: data, memoryview], ids=["bytearray", "memoryview"])
def test_changing_what_was_sent_does_not_change_the_message(
    runner: Runner, sender: str, view: Any, size: int
) -> None:
    data = bytearray(binary(size))
    connection, receiver = Pair(runner).sender(sender)
    connection.send(view(data))
    data[:] = bytes(size)
    runner.run(receiver.saw("message"))
    assert receiver.messages == [binary(size)]


def test_a_bytearray_that_was_sent_can_be_resized(runner: Runner) -> None:
    data = bytearray(200_000)
    connection, _ = Pair(runner).sender("client")
    connection.send(data)
    data.clear()


# With the websockets package


@by_kind
def test_a_websockets_client_gets_back_what_it_sent(
    runner: Runner, websockets_client: Any, kind: str
) -> None:
    listener = echo(runner)

    async def send_all() -> list[int]:
        wrong = []
        async with websockets.connect(url_of(listener), max_size=None) as peer:
            for size in (*SIZES, 16 * MIB):
                message = of_kind(kind, size)
                await peer.send(message)
                if await peer.recv() != message:
                    wrong.append(size)
        return wrong

    client = websockets_client(send_all)
    runner.run(client.done, timeout=20)
    assert client.result() == []


@by_kind
def test_a_websockets_server_gives_back_what_was_sent(
    runner: Runner, websockets_server: Any, kind: str
) -> None:
    async def give_back(peer: Any) -> None:
        async for message in peer:
            await peer.send(message)

    uri = websockets_server(give_back, max_size=None)
    messages = [of_kind(kind, size) for size in (*SIZES, 16 * MIB)]
    recorder = Recorder(on_connect=lambda connection, _: [connection.send(m) for m in messages])
    runner.context().connect(uri, **recorder.callbacks)
    runner.run(recorder.saw("message", len(messages)), timeout=20)
    assert recorder.messages == messages


def test_what_a_websockets_client_sends_in_fragments_arrives_whole(
    runner: Runner, websockets_client: Any
) -> None:
    listener = echo(runner)
    parts = [text(size) for size in (10, 0, 70_000, 1)]

    async def send_fragments() -> Any:
        async with websockets.connect(url_of(listener)) as peer:
            await peer.send(parts)
            return await peer.recv()

    client = websockets_client(send_fragments)
    runner.run(client.done)
    assert client.result() == "".join(parts)


# By hand: how messages are cut up on the wire


@by_receiver
@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=KINDS)
@pytest.mark.parametrize("piece", [1, 3, 7])
def test_a_fragmented_message_is_put_together(
    runner: Runner, receiver: str, opcode: int, piece: int
) -> None:
    message = text(50)
    data = message.encode()
    pieces = [data[at : at + piece] for at in range(0, len(data), piece)]
    peer, recorder = raw_peer_of(runner, receiver)
    for number, each in enumerate(pieces):
        peer.send_frame(CONTINUATION if number else opcode, each, final=number == len(pieces) - 1)
    runner.run(recorder.saw("message"))
    assert recorder.messages == [message if opcode == TEXT else data]


@by_receiver
def test_large_fragments_are_put_together(runner: Runner, receiver: str) -> None:
    data = binary(900_000)
    peer, recorder = raw_peer_of(runner, receiver)

    def send(push: Any) -> None:
        push(peer.frame(BINARY, data[:300_000], final=False))
        push(peer.frame(CONTINUATION, data[300_000:300_001], final=False))
        push(peer.frame(CONTINUATION, data[300_001:]))

    peer.send_in_thread(send)
    runner.run(recorder.saw("message"))
    assert recorder.messages == [data]


@by_receiver
@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=KINDS)
def test_empty_fragments_make_an_empty_message(runner: Runner, receiver: str, opcode: int) -> None:
    peer, recorder = raw_peer_of(runner, receiver)
    peer.send_frame(opcode, b"", final=False)
    peer.send_frame(CONTINUATION, b"", final=False)
    peer.send_frame(CONTINUATION, b"")
    runner.run(recorder.saw("message"))
    assert recorder.messages == ["" if opcode == TEXT else b""]


@by_receiver
def test_an_empty_last_fragment_ends_the_message(runner: Runner, receiver: str) -> None:
    peer, recorder = raw_peer_of(runner, receiver)
    peer.send_frame(TEXT, b"all of it", final=False)
    peer.send_frame(CONTINUATION, b"")
    runner.run(recorder.saw("message"))
    assert recorder.messages == ["all of it"]


@by_receiver
def test_pings_between_fragments_do_not_disturb_them(runner: Runner, receiver: str) -> None:
    peer, recorder = raw_peer_of(runner, receiver)
    for number, part in enumerate((b"one ", b"two ", b"three")):
        peer.send_frame(CONTINUATION if number else TEXT, part, final=number == 2)
        if number < 2:
            peer.send_frame(PING, part)
            runner.run(peer.saw_frames(number + 1))
    runner.run(recorder.saw("message"))
    assert recorder.messages == ["one two three"]
    pongs = [(each.opcode, each.payload, each.masked) for each in peer.frames()]
    masked = receiver == "client"
    assert pongs == [(PONG, b"one ", masked), (PONG, b"two ", masked)]


@by_receiver
def test_a_message_after_a_fragmented_one_stands_alone(runner: Runner, receiver: str) -> None:
    peer, recorder = raw_peer_of(runner, receiver)
    peer.send(
        peer.frame(BINARY, b"a" * 40_000, final=False)
        + peer.frame(CONTINUATION, b"b")
        + peer.frame(TEXT, b"next")
        + peer.frame(BINARY, b"last")
    )
    runner.run(recorder.saw("message", 3))
    assert recorder.messages == [b"a" * 40_000 + b"b", "next", b"last"]


@by_receiver
def test_bytes_that_come_one_by_one_make_the_same_messages(runner: Runner, receiver: str) -> None:
    messages = [text(size) for size in (0, 1, 20, 126)] + [binary(size) for size in (0, 3, 130)]
    peer, recorder = raw_peer_of(runner, receiver)
    wire = b"".join(
        peer.frame(TEXT, each.encode()) if isinstance(each, str) else peer.frame(BINARY, each)
        for each in messages
    )
    for byte in wire:
        peer.send(bytes([byte]))
        runner.turns(2)
    runner.run(recorder.saw("message", len(messages)))
    assert recorder.messages == messages


def test_an_opening_handshake_may_come_byte_by_byte(runner: Runner) -> None:
    recorder = Recorder()
    listener = runner.context().listen(host="127.0.0.1", **recorder.callbacks)
    peer = dial(runner, listener)
    for byte in upgrade_request():
        peer.send(bytes([byte]))
        runner.turns(1)
    runner.run(recorder.saw("connect"))


@by_receiver
@pytest.mark.parametrize("size", [0, 1, 100, 200])
def test_many_messages_in_one_segment_all_arrive(runner: Runner, receiver: str, size: int) -> None:
    peer, recorder = raw_peer_of(runner, receiver)
    count = 200
    messages = [bytes([number]) * size for number in range(count)]
    peer.send(b"".join(peer.frame(BINARY, each) for each in messages))
    runner.run(recorder.saw("message", count))
    assert recorder.messages == messages


@pytest.mark.parametrize("size", [3, 200, 5000, 40_000])
def test_a_message_in_the_segment_of_the_request_arrives(runner: Runner, size: int) -> None:
    recorder = Recorder()
    listener = runner.context().listen(host="127.0.0.1", **recorder.callbacks)
    peer = dial(runner, listener)
    peer.send(upgrade_request() + peer.frame(BINARY, binary(size)) + peer.frame(TEXT, b"next"))
    runner.run(recorder.saw("message", 2))
    assert recorder.names == ["connect", "message", "message"]
    assert recorder.messages == [binary(size), "next"]


@pytest.mark.parametrize("headers", ["", "Sec-WebSocket-Extensions: permessage-deflate\r\n"])
@pytest.mark.parametrize("tail", [1, 2, 30])
def test_a_message_in_the_segment_of_the_end_of_the_request_arrives(
    runner: Runner, tail: int, headers: str
) -> None:
    recorder = Recorder()
    listener = runner.context().listen(host="127.0.0.1", **recorder.callbacks)
    peer = dial(runner, listener)
    request = upgrade_request(headers=headers)
    peer.send(request[:-tail])
    runner.turns(5)
    peer.send(request[-tail:] + peer.frame(BINARY, binary(200)) + peer.frame(TEXT, b"next"))
    runner.run(recorder.saw("message", 2))
    assert recorder.messages == [binary(200), "next"]


@pytest.mark.parametrize("size", [3, 200, 5000, 40_000])
def test_a_message_in_the_segment_of_the_response_arrives(runner: Runner, size: int) -> None:
    recorder = Recorder()
    server = RawServer(runner)
    runner.context().connect(server.url, **recorder.callbacks)
    server.accept_websocket(behind=frame(BINARY, binary(size)) + frame(TEXT, b"next"))
    runner.run(recorder.saw("message", 2))
    assert recorder.names == ["connect", "message", "message"]
    assert recorder.messages == [binary(size), "next"]


@by_receiver
def test_a_message_right_before_the_end_is_delivered_before_on_close(
    runner: Runner, receiver: str
) -> None:
    peer, recorder = raw_peer_of(runner, receiver)
    peer.send(peer.frame(TEXT, b"last words"))
    peer.finish()
    runner.run(recorder.saw("close"))
    assert recorder.events[1:] == [("message", "last words"), ("close", 1006, "")]


@by_receiver
def test_a_ping_is_answered_with_its_payload(runner: Runner, receiver: str) -> None:
    peer, _ = raw_peer_of(runner, receiver)
    peer.send_frame(PING, b"x" * 125)
    runner.run(peer.saw_frames())
    (pong,) = peer.frames()
    assert (pong.opcode, pong.payload) == (PONG, b"x" * 125)


@by_receiver
def test_a_ping_is_answered_between_messages_not_inside_one(runner: Runner, receiver: str) -> None:
    peer, recorder = raw_peer_of(runner, receiver)
    message = binary(8 * MIB)
    peer.pause()
    recorder.connection.send(message)
    recorder.connection.send("after")
    peer.send_frame(PING, b"now")
    runner.run(lambda: 0 < recorder.connection.send_queue_size < len(message))
    peer.resume()
    runner.run(peer.saw_frames(3))
    frames = peer.frames()
    assert sorted(each.opcode for each in frames) == [TEXT, BINARY, PONG]
    assert {each.opcode: each.payload for each in frames} == {
        BINARY: message,
        TEXT: b"after",
        PONG: b"now",
    }


def test_a_client_masks_and_a_server_does_not(runner: Runner) -> None:
    for receiver in SIDES:
        peer, recorder = raw_peer_of(runner, receiver)
        recorder.connection.send("hello")
        runner.run(peer.saw_frames())
        assert peer.frames()[0].masked is (receiver == "client")


def test_mask_keys_differ(runner: Runner) -> None:
    peer, recorder = raw_peer_of(runner, "client")
    count = 1000
    for _ in range(count):
        recorder.connection.send(b"")
    runner.run(lambda: peer._collect() or len(peer.data) == 6 * count)
    keys = {peer.data[at + 2 : at + 6] for at in range(0, 6 * count, 6)}
    assert len(keys) > count - 5


# Sending from callbacks


@by_sender
def test_on_connect_may_send(runner: Runner, sender: str) -> None:
    greeting = Recorder(on_connect=lambda connection, _: connection.send("welcome"))
    pair = Pair(runner, **{sender: greeting})
    _, receiver = pair.sender(sender)
    runner.run(receiver.saw("message"))
    assert receiver.messages == ["welcome"]


def test_on_message_may_send_many_messages(runner: Runner) -> None:
    def answer(connection: Any, data: str) -> None:
        for number in range(int(data)):
            connection.send(str(number))

    pair = Pair(runner, server=Recorder(on_message=answer))
    pair.connection("client").send("1000")
    runner.run(pair.client.saw("message", 1000))
    assert pair.client.messages == [str(number) for number in range(1000)]


def test_two_ends_may_go_on_answering_each_other(runner: Runner) -> None:
    def next_number(connection: Any, data: str) -> None:
        if int(data) < 500:
            connection.send(str(int(data) + 1))

    pair = Pair(
        runner, server=Recorder(on_message=next_number), client=Recorder(on_message=next_number)
    )
    pair.connection("client").send("1")
    runner.run(lambda: "500" in (*pair.server.messages, *pair.client.messages))


@by_sender
def test_on_close_cannot_send_any_more(runner: Runner, sender: str) -> None:
    errors = []

    def try_to_send(connection: Any, code: int, reason: str) -> None:
        with pytest.raises(uvws.ConnectionClosed, match=r"^Connection is not open$") as raised:
            connection.send("too late")
        errors.append(raised.value)

    pair = Pair(runner, **{sender: Recorder(on_close=try_to_send)})
    pair.connection("server").close()
    runner.run(lambda: errors)


def test_callbacks_that_were_not_given_are_not_missed(runner: Runner) -> None:
    context = runner.context()
    listener = context.listen(host="127.0.0.1")
    recorder = Recorder(on_connect=lambda connection, _: connection.send("to nobody"))
    connection = context.connect(url_of(listener), **recorder.callbacks)
    runner.run(recorder.saw("drain"))
    connection.close()
    runner.run(recorder.saw("close"))


# What cannot be sent


@loop_kinds("asyncio")
@pytest.mark.parametrize(
    ("method", "data"),
    [
        ("send", None),
        ("send", 5),
        ("send", ["text"]),
        ("send_text", b"bytes"),
        ("send_text", None),
        ("send_binary", "text"),
        ("send_binary", 7),
        ("send_binary", None),
    ],
)
def test_a_wrong_type_raises_and_sends_nothing(runner: Runner, method: str, data: Any) -> None:
    pair = Pair(runner)
    connection, receiver = pair.sender("client")
    with pytest.raises(TypeError, match=r"^data must be .*, not (NoneType|int|list|bytes|str)$"):
        getattr(connection, method)(data)
    connection.send("right")
    runner.run(receiver.saw("message"))
    assert receiver.messages == ["right"]


def test_a_message_is_given_by_position(runner: Runner) -> None:
    connection, _ = Pair(runner).sender("client")
    with pytest.raises(TypeError):
        connection.send(data="text")


@pytest.mark.parametrize("method", ["send", "send_text"])
def test_a_lone_surrogate_raises_and_sends_nothing(runner: Runner, method: str) -> None:
    connection, receiver = Pair(runner).sender("client")
    with pytest.raises(ValueError, match="surrogate"):
        getattr(connection, method)("\ud800")
    connection.send("right")
    runner.run(receiver.saw("message"))
    assert receiver.messages == ["right"]


@pytest.mark.parametrize("method", ["send", "send_text", "send_binary"])
@pytest.mark.parametrize("size", [1, 100_000])
def test_sending_while_connecting_raises(runner: Runner, method: str, size: int) -> None:
    connection = runner.context().connect(RawServer(runner).url)
    data = binary(size) if method == "send_binary" else text(size)
    with pytest.raises(uvws.ConnectionClosed, match=r"^Connection is not open$"):
        getattr(connection, method)(data)


@by_sender
@pytest.mark.parametrize("size", [1, 100_000])
def test_sending_after_close_raises(runner: Runner, sender: str, size: int) -> None:
    connection, _ = Pair(runner).sender(sender)
    connection.close()
    with pytest.raises(uvws.ConnectionClosed, match=r"^Connection is not open$"):
        connection.send(text(size))


@by_sender
def test_sending_after_the_context_closed_raises(runner: Runner, sender: str) -> None:
    context = runner.context()
    connection, _ = Pair(runner, context=context).sender(sender)
    context.close()
    with pytest.raises(uvws.ConnectionClosed, match=r"^Connection has been destroyed$"):
        connection.send("too late")


def test_connections_do_not_see_each_others_messages(runner: Runner) -> None:
    listener = echo(runner)
    context = runner.context()
    names = [f"{number} {os.urandom(4).hex()}" for number in range(50)]
    recorders = []
    for name in names:
        recorder = Recorder(
            on_connect=lambda connection, _, name=name: [connection.send(name) for _ in range(20)]
        )
        context.connect(url_of(listener), **recorder.callbacks)
        recorders.append(recorder)
    runner.run(lambda: all(recorder.count("message") == 20 for recorder in recorders))
    assert [set(recorder.messages) for recorder in recorders] == [{name} for name in names]
