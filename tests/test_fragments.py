"""Messages that are sent in fragments: what is on the wire, what arrives, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import websockets

import uvws
from support import Recorder, Runner, url_of
from support.pairs import SIDES, WAYS, Pair, over, raw_pair
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
    close_payload,
)

MIB = 1 << 20

by_side = pytest.mark.parametrize("side", SIDES)
by_way = pytest.mark.parametrize("way", WAYS)

# Every way to send a whole message; the last two are not copied at send time.
WHOLE: dict[str, Callable[[Any], object]] = {
    "send text": lambda connection: connection.send("text"),
    "send bytes": lambda connection: connection.send(b"bytes"),
    "send a bytearray": lambda connection: connection.send(bytearray(b"bytes")),
    "send_text": lambda connection: connection.send_text("text"),
    "send_binary": lambda connection: connection.send_binary(b"bytes"),
    "send much text": lambda connection: connection.send("x" * 100_000),
    "send many bytes": lambda connection: connection.send(bytes(100_000)),
}


def sent_by(peer: RawPeer) -> list[tuple[int, bytes, bool]]:
    """Return opcode, payload and "final" of the frames that a peer received."""
    return [(each.opcode, each.payload, each.final) for each in peer.frames()]


# What arrives


@by_side
@by_way
def test_the_fragments_of_a_text_arrive_as_one_message(runner: Runner, side: str, way: str) -> None:
    connection, receiver = Pair(runner, **over(runner, way)).sender(side)
    for part in ("part one, ", "ein zweiter: ü, "):
        connection.send_fragment(part, final=False)
    connection.send_fragment("the end")
    runner.run(receiver.saw("message"))
    assert receiver.messages == ["part one, ein zweiter: ü, the end"]


@by_side
def test_the_fragments_of_a_binary_message_arrive_as_one(runner: Runner, side: str) -> None:
    connection, receiver = Pair(runner).sender(side)
    connection.send_fragment(b"\xff\x00", binary=True, final=False)
    connection.send_fragment(bytearray(b"\x80"), binary=True, final=False)
    connection.send_fragment(memoryview(b"end"), binary=True)
    runner.run(receiver.saw("message"))
    assert receiver.messages == [b"\xff\x00\x80end"]


@by_side
def test_a_text_may_be_given_as_bytes(runner: Runner, side: str) -> None:
    connection, receiver = Pair(runner).sender(side)
    connection.send_fragment(b"bytes ", final=False)
    connection.send_fragment("and str")
    runner.run(receiver.saw("message"))
    assert receiver.messages == ["bytes and str"]


@by_side
def test_a_binary_message_may_be_given_as_str(runner: Runner, side: str) -> None:
    connection, receiver = Pair(runner).sender(side)
    connection.send_fragment("ü", binary=True, final=False)
    connection.send_fragment(b"\xff", binary=True)
    runner.run(receiver.saw("message"))
    assert receiver.messages == ["ü".encode() + b"\xff"]


@by_side
@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_text_may_be_cut_inside_its_characters(runner: Runner, side: str, size: int) -> None:
    message = "aé€😀" * 3
    encoded = message.encode()
    connection, receiver = Pair(runner).sender(side)
    for at in range(0, len(encoded), size):
        connection.send_fragment(encoded[at : at + size], final=at + size >= len(encoded))
    runner.run(receiver.saw("message"))
    assert receiver.messages == [message]


@by_side
@pytest.mark.parametrize(("is_binary", "arrives"), [(False, ""), (True, b"")])
def test_fragments_without_anything_in_them_make_an_empty_message(
    runner: Runner, side: str, is_binary: bool, arrives: object
) -> None:
    connection, receiver = Pair(runner).sender(side)
    for number in range(3):
        connection.send_fragment(b"", binary=is_binary, final=number == 2)
    runner.run(receiver.saw("message"))
    assert receiver.messages == [arrives]


@by_side
def test_empty_fragments_between_others_add_nothing(runner: Runner, side: str) -> None:
    connection, receiver = Pair(runner).sender(side)
    for part in ("", "a", "", "", "b", ""):
        connection.send_fragment(part, final=False)
    connection.send_fragment("")
    runner.run(receiver.saw("message"))
    assert receiver.messages == ["ab"]


@by_side
def test_one_final_fragment_is_a_message(runner: Runner, side: str) -> None:
    connection, receiver = Pair(runner).sender(side)
    connection.send_fragment("whole")
    connection.send_fragment(b"whole", binary=True)
    connection.send("next")
    runner.run(receiver.saw("message", 3))
    assert receiver.messages == ["whole", b"whole", "next"]


@by_side
def test_one_message_in_fragments_may_follow_the_other(runner: Runner, side: str) -> None:
    connection, receiver = Pair(runner).sender(side)
    for number in range(50):
        connection.send_fragment(f"{number} ", binary=bool(number % 2), final=False)
        connection.send_fragment("end")
        connection.send(f"whole {number}")
    runner.run(receiver.saw("message", 100))
    parts = [f"{number} end" for number in range(50)]
    assert receiver.messages[0::2] == [
        part.encode() if number % 2 else part for number, part in enumerate(parts)
    ]
    assert receiver.messages[1::2] == [f"whole {number}" for number in range(50)]


@by_side
@by_way
def test_large_fragments_arrive_whole(runner: Runner, side: str, way: str) -> None:
    parts = [binary(size) for size in (65_535, 3 * MIB, 0, 65_536, 5 * MIB)]
    connection, receiver = Pair(runner, **over(runner, way)).sender(side)
    for part in parts:
        connection.send_fragment(part, binary=True, final=False)
    connection.send_fragment(b"", binary=True)
    connection.send("behind")
    runner.run(receiver.saw("message", 2), timeout=20)
    assert receiver.messages == [b"".join(parts), "behind"]


@by_side
def test_changing_a_fragment_afterwards_does_not_change_what_is_sent(
    runner: Runner, side: str
) -> None:
    data = bytearray(b"x" * 100_000)
    connection, receiver = Pair(runner).sender(side)
    connection.send_fragment(data, binary=True)
    data[:] = b"y" * len(data)
    runner.run(receiver.saw("message"))
    assert receiver.messages == [b"x" * 100_000]


def test_a_websockets_client_gets_the_fragments_one_by_one(
    runner: Runner, websockets_client: Any
) -> None:
    def send(connection: Any, _headers: Any) -> None:
        connection.send_fragment("one ", final=False)
        connection.send_ping(b"between")
        connection.send_fragment("two ", final=False)
        connection.send_fragment("three")

    listener = runner.context().listen(host="127.0.0.1", on_connect=send)

    async def receive() -> list[str]:
        async with websockets.connect(url_of(listener)) as peer:
            return [part async for part in peer.recv_streaming(decode=True)]

    client = websockets_client(receive)
    runner.run(client.done)
    assert client.result() == ["one ", "two ", "three"]


def test_a_websockets_server_gets_the_message(runner: Runner, websockets_server: Any) -> None:
    async def give_back(peer: Any) -> None:
        async for message in peer:
            await peer.send(message)

    def send(connection: Any, _headers: Any) -> None:
        for byte in "aé€😀".encode():
            connection.send_fragment(bytes([byte]), final=False)
        connection.send_fragment("")

    recorder = Recorder(on_connect=send)
    runner.context().connect(websockets_server(give_back), **recorder.callbacks)
    runner.run(recorder.saw("message"))
    assert recorder.messages == ["aé€😀"]


# The wire


@by_side
def test_the_frames_are_those_of_rfc_6455(runner: Runner, side: str) -> None:
    peer, recorder = raw_pair(runner, side)
    connection = recorder.connection
    connection.send_fragment("one", final=False)
    connection.send_fragment(b"", final=False)
    connection.send_fragment("two")
    connection.send_fragment(b"three", binary=True, final=False)
    connection.send_fragment(b"four", binary=True)
    connection.send_fragment("alone")
    runner.run(peer.saw_frames(6))
    masked = side == "client"
    assert peer.frames() == [
        Frame(TEXT, b"one", False, masked),
        Frame(CONTINUATION, b"", False, masked),
        Frame(CONTINUATION, b"two", True, masked),
        Frame(BINARY, b"three", False, masked),
        Frame(CONTINUATION, b"four", True, masked),
        Frame(TEXT, b"alone", True, masked),
    ]


@by_side
def test_binary_counts_with_the_first_fragment_only(runner: Runner, side: str) -> None:
    peer, recorder = raw_pair(runner, side)
    recorder.connection.send_fragment("text", final=False)
    recorder.connection.send_fragment("text", binary=True)
    recorder.connection.send_fragment(b"\xff", binary=True, final=False)
    recorder.connection.send_fragment(b"\xff")
    runner.run(peer.saw_frames(4))
    assert [each.opcode for each in peer.frames()] == [TEXT, CONTINUATION, BINARY, CONTINUATION]


@by_side
def test_fragments_are_sent_before_the_message_is_complete(runner: Runner, side: str) -> None:
    peer, recorder = raw_pair(runner, side)
    recorder.connection.send_fragment("first", final=False)
    runner.run(peer.saw_frames())
    assert sent_by(peer) == [(TEXT, b"first", False)]


@by_side
def test_pings_and_pongs_may_be_sent_inside(runner: Runner, side: str) -> None:
    peer, recorder = raw_pair(runner, side)
    recorder.connection.send_fragment("begin", final=False)
    recorder.connection.send_ping(b"i")
    recorder.connection.send_pong(b"o")
    recorder.connection.send_fragment("end")
    runner.run(peer.saw_frames(4))
    assert sent_by(peer) == [
        (TEXT, b"begin", False),
        (PING, b"i", True),
        (PONG, b"o", True),
        (CONTINUATION, b"end", True),
    ]


@by_side
def test_a_ping_of_the_peer_is_answered_inside(runner: Runner, side: str) -> None:
    peer, recorder = raw_pair(runner, side)
    recorder.connection.send_fragment("begin", final=False)
    runner.run(peer.saw_frames())
    peer.send_frame(PING, b"now")
    runner.run(peer.saw_frames(2))
    recorder.connection.send_fragment("end")
    runner.run(peer.saw_frames(3))
    assert [each.opcode for each in peer.frames()] == [TEXT, PONG, CONTINUATION]


@by_side
def test_messages_are_received_inside(runner: Runner, side: str) -> None:
    pair = Pair(runner)
    connection, receiver = pair.sender(side)
    connection.send_fragment("begin", final=False)
    receiver.connections[0].send("meanwhile")
    runner.run(pair.recorder(side).saw("message"))
    connection.send_fragment("end")
    runner.run(receiver.saw("message"))
    assert receiver.messages == ["beginend"]


@by_side
def test_fragments_count_in_the_send_queue(runner: Runner, side: str) -> None:
    _, recorder = raw_pair(runner, side)
    recorder.connection.send_fragment("12345", final=False)
    recorder.connection.send_fragment("678", final=False)
    assert recorder.connection.send_queue_size == 8
    runner.run(lambda: recorder.connection.send_queue_size == 0)


# Closing


@by_side
def test_closing_inside_sends_the_fragments_and_then_the_close_frame(
    runner: Runner, side: str
) -> None:
    peer, recorder = raw_pair(runner, side)
    recorder.connection.send_fragment("begin", final=False)
    recorder.connection.send_fragment(b"\xe2\x82", final=False)
    recorder.connection.close(4000, "enough")
    runner.run(peer.saw_close)
    assert sent_by(peer) == [
        (TEXT, b"begin", False),
        (CONTINUATION, b"\xe2\x82", False),
        (CLOSE, close_payload(4000, "enough"), True),
    ]


@by_side
def test_closing_behind_the_final_fragment_delivers_the_message(runner: Runner, side: str) -> None:
    connection, receiver = Pair(runner).sender(side)
    connection.send_fragment("begin", final=False)
    connection.send_fragment("end")
    connection.close(4000)
    runner.run(receiver.saw("close"))
    assert receiver.events[1:] == [("message", "beginend"), ("close", 4000, "")]


@by_side
def test_the_peer_may_close_inside(runner: Runner, side: str) -> None:
    peer, recorder = raw_pair(runner, side)
    recorder.connection.send_fragment("begin", final=False)
    runner.run(peer.saw_frames())
    peer.send_frame(CLOSE, close_payload(4001))
    runner.run(recorder.saw("close"))
    assert recorder.events[-1] == ("close", 4001, "")


@by_side
def test_no_fragment_can_be_sent_once_we_close(runner: Runner, side: str) -> None:
    _, recorder = raw_pair(runner, side)
    recorder.connection.send_fragment("begin", final=False)
    recorder.connection.close()
    with pytest.raises(uvws.ConnectionClosed, match=r"^Connection is not open$"):
        recorder.connection.send_fragment("end")


def test_no_fragment_can_be_sent_before_the_connection_is_open(runner: Runner) -> None:
    listener = runner.context().listen(host="127.0.0.1")
    connection = runner.context().connect(url_of(listener))
    with pytest.raises(uvws.ConnectionClosed, match=r"^Connection is not open$"):
        connection.send_fragment("x")


# What is refused


@by_side
@pytest.mark.parametrize("way", WHOLE)
def test_no_whole_message_can_be_sent_inside(runner: Runner, side: str, way: str) -> None:
    connection, receiver = Pair(runner).sender(side)
    connection.send_fragment("begin ", final=False)
    with pytest.raises(uvws.InvalidState, match=r"^a fragmented message has begun"):
        WHOLE[way](connection)
    connection.send_fragment("end")
    WHOLE[way](connection)
    runner.run(receiver.saw("message", 2))
    assert receiver.messages[0] == "begin end"


@pytest.mark.parametrize("data", [None, 7, ["list"]])
def test_a_wrong_type_raises_and_sends_nothing(runner: Runner, data: Any) -> None:
    what = type(data).__name__
    peer, recorder = raw_pair(runner, "server")
    with pytest.raises(TypeError, match=f"^data must be str or bytes-like, not {what}$"):
        recorder.connection.send_fragment(data, final=False)
    recorder.connection.send("whole")
    runner.run(peer.saw_frames())
    assert sent_by(peer) == [(TEXT, b"whole", True)]


INVALID: dict[str, list[bytes]] = {
    "a byte that never occurs": [b"a\xff"],
    "a continuation byte first": [b"\x82"],
    "a character that does not go on": [b"\xe2\x82", b"x"],
    "an overlong form": [b"\xc0\xaf"],
    "an overlong form, cut": [b"\xe0", b"\x80\x80"],
    "a surrogate, cut": [b"\xed", b"\xa0\x80"],
    "above the last character, cut": [b"\xf4", b"\x90\x80\x80"],
}


@by_side
@pytest.mark.parametrize("how", INVALID)
def test_invalid_utf8_raises_and_is_not_sent(runner: Runner, side: str, how: str) -> None:
    *good, bad = INVALID[how]
    peer, recorder = raw_pair(runner, side)
    connection = recorder.connection
    for part in good:
        connection.send_fragment(part, final=False)
    for is_final in (False, True):
        with pytest.raises(ValueError, match=r"^data must go on with the text message in UTF-8$"):
            connection.send_fragment(bad, final=is_final)
    connection.send_ping(b"behind")
    runner.run(lambda: any(each.opcode == PING for each in peer.frames()))
    assert [each.payload for each in peer.frames()] == [*good, b"behind"]


@by_side
def test_a_text_that_ends_inside_a_character_raises_and_can_go_on(
    runner: Runner, side: str
) -> None:
    connection, receiver = Pair(runner).sender(side)
    connection.send_fragment(b"5 \xe2\x82", final=False)
    with pytest.raises(ValueError, match="UTF-8"):
        connection.send_fragment(b"")
    connection.send_fragment(b"\xac")
    runner.run(receiver.saw("message"))
    assert receiver.messages == ["5 €"]


@by_side
def test_a_first_fragment_that_is_refused_begins_no_message(runner: Runner, side: str) -> None:
    connection, receiver = Pair(runner).sender(side)
    with pytest.raises(ValueError, match="UTF-8"):
        connection.send_fragment(b"\xff", final=False)
    connection.send("whole")
    runner.run(receiver.saw("message"))
    assert receiver.messages == ["whole"]


@by_side
def test_each_text_is_checked_by_itself(runner: Runner, side: str) -> None:
    connection, receiver = Pair(runner).sender(side)
    connection.send_fragment(b"\xe2\x82", binary=True)
    connection.send_fragment(text(10), final=False)
    connection.send_fragment("")
    with pytest.raises(ValueError, match="UTF-8"):
        connection.send_fragment(b"\xac", final=False)
    runner.run(receiver.saw("message", 2))
    assert receiver.messages == [b"\xe2\x82", text(10)]


def test_a_lone_surrogate_raises_and_sends_nothing(runner: Runner) -> None:
    connection, receiver = Pair(runner).sender("client")
    with pytest.raises(ValueError, match="surrogate"):
        connection.send_fragment("\ud800", final=False)
    connection.send("whole")
    runner.run(receiver.saw("message"))
    assert receiver.messages == ["whole"]
