"""permessage-deflate (RFC 7692): messages, fragments, limits, memory."""

from __future__ import annotations

import os
import random
import socket
import zlib
from typing import Any

import pytest

import uvws
from support import Recorder, Runner, loop_kinds, measures_memory, run_program, url_of
from support.certificates import ca_of, certificate
from support.deflating import (
    RSV1,
    Deflater,
    Inflater,
    against_a_raw_peer,
    deflated,
    deflated_zeros,
    inflated,
)
from support.memory import allocated, peak_of
from support.pairs import SIDES, Pair
from support.patches import compresses
from support.payloads import SIZES, binary, of_kind
from support.wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawPeer,
    close_payload,
    dial,
    dial_websocket,
    upgrade_request,
)

pytestmark = compresses

KIB, MIB = 1 << 10, 1 << 20
DEFLATE = {"compression": "deflate"}
BITS = range(9, 16)

by_side = pytest.mark.parametrize("side", SIDES)
by_sender = pytest.mark.parametrize("sender", SIDES)
by_kind = pytest.mark.parametrize("kind", ["text", "binary"])

# The octets of RFC 7692, section 7.2.3.
HELLO = bytes.fromhex("f248cdc9c90700")
HELLO_AGAIN = bytes.fromhex("f200110000")
EXAMPLES = {
    "7.2.3.1, one block": HELLO,
    "7.2.3.3, no compression": bytes.fromhex("000500faff48656c6c6f00"),
    "7.2.3.4, a block marked as the last": bytes.fromhex("f348cdc9c9070000"),
    "7.2.3.5, two blocks": bytes.fromhex("f24805000000ffffcac9c90700"),
}


def pair_of(runner: Runner, **options: Any) -> Pair:
    """Connect uvws with uvws, compressing at both ends."""
    return Pair(runner, listen=DEFLATE, connect=DEFLATE, **options)


def own(side: str, what: str) -> str:
    """Return the name of a parameter, as one that is about this side."""
    return f"{side}_{what}"


def other(side: str) -> str:
    return "client" if side == "server" else "server"


def wordy(size: int) -> bytes:
    """Return bytes that deflate makes much smaller."""
    words = [b"WebSocket ", b"libuv ", b"compress ", b"window ", b"frame "]
    return b"".join(random.Random(size).choices(words, k=size // 5 + 1))[:size]


def payloads(runner: Runner, peer: RawPeer, count: int) -> list[bytes]:
    """Run until the plain socket has so many messages, all compressed; return their payloads."""
    runner.run(peer.saw_frames(count))
    frames = peer.frames()
    assert [(each.final, each.reserved) for each in frames] == [(True, RSV1)] * count
    return [each.payload for each in frames]


# --- Messages -------------------------------------------------------------------------------------


@by_sender
@by_kind
def test_messages_of_every_size_arrive_unchanged(runner: Runner, sender: str, kind: str) -> None:
    connection, receiver = pair_of(runner).sender(sender)
    messages = [of_kind(kind, size) for size in (*SIZES, 5 * MIB, *SIZES)]
    for message in messages:
        connection.send(message)
    runner.run(receiver.saw("message", len(messages)), timeout=20)
    assert receiver.messages == messages


@by_sender
def test_messages_of_every_size_arrive_over_tls(runner: Runner, sender: str) -> None:
    context = runner.context(ssl_ca=ca_of())
    pair = Pair(
        runner,
        context=context,
        listen={**certificate().server_options, **DEFLATE},
        connect=DEFLATE,
    )
    connection, receiver = pair.sender(sender)
    messages = [make(size) for size in (*SIZES, 5 * MIB) for make in (binary, wordy)]
    for message in messages:
        connection.send(message)
    runner.run(receiver.saw("message", len(messages)), timeout=20)
    assert receiver.messages == messages


@by_sender
@pytest.mark.parametrize("size", SIZES)
def test_a_message_of_any_size_is_sent_as_the_rfc_says(
    runner: Runner, sender: str, size: int
) -> None:
    connection, peer, _ = against_a_raw_peer(runner, sender)
    messages = [wordy(size), binary(size), wordy(size)]
    for message in messages:
        connection.send(message)
    inflater = Inflater()
    sent = payloads(runner, peer, 3)
    assert [inflater.message(payload) for payload in sent] == messages
    assert all(sent)  # section 7.2.3.6: not even an empty one has no payload


@by_sender
def test_what_is_sent_is_smaller(runner: Runner, sender: str) -> None:
    connection, peer, _ = against_a_raw_peer(runner, sender)
    connection.send(wordy(100_000))
    (payload,) = payloads(runner, peer, 1)
    assert len(payload) < 25_000


@by_sender
def test_what_cannot_be_compressed_grows_by_little(runner: Runner, sender: str) -> None:
    connection, peer, _ = against_a_raw_peer(runner, sender)
    connection.send(binary(MIB))
    (payload,) = payloads(runner, peer, 1)
    assert len(payload) < MIB * 1.001


@by_sender
def test_the_kind_of_a_message_is_kept(runner: Runner, sender: str) -> None:
    connection, peer, _ = against_a_raw_peer(runner, sender)
    connection.send("text")
    connection.send(b"binary")
    payloads(runner, peer, 2)
    assert [each.opcode for each in peer.frames()] == [TEXT, BINARY]


@by_sender
def test_hello_is_sent_as_in_the_rfc(runner: Runner, sender: str) -> None:
    connection, peer, _ = against_a_raw_peer(runner, sender)
    connection.send("Hello")
    connection.send("Hello")
    assert payloads(runner, peer, 2) == [HELLO, HELLO_AGAIN]


@by_sender
def test_a_client_masks_what_it_has_compressed_and_a_server_does_not(
    runner: Runner, sender: str
) -> None:
    connection, peer, _ = against_a_raw_peer(runner, sender)
    for size in (10, 200, 100_000):
        connection.send(binary(size))
    payloads(runner, peer, 3)
    assert {each.masked for each in peer.frames()} == {sender == "client"}


@by_side
@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_of_the_rfc_are_understood(runner: Runner, side: str, example: str) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side)
    peer.send_frame(TEXT, EXAMPLES[example], reserved=RSV1)
    peer.send_frame(TEXT, EXAMPLES[example], reserved=RSV1)
    runner.run(recorder.saw("message", 2))
    assert recorder.messages == ["Hello"] * 2


@by_side
def test_the_fragments_of_the_rfc_are_understood(runner: Runner, side: str) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side)  # section 7.2.3.1
    peer.send_frame(TEXT, HELLO[:3], final=False, reserved=RSV1)
    peer.send_frame(CONTINUATION, HELLO[3:])
    runner.run(recorder.saw("message"))
    assert recorder.messages == ["Hello"]


@by_side
def test_the_shared_window_of_the_rfc_is_understood(runner: Runner, side: str) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side)  # section 7.2.3.2
    peer.send_frame(TEXT, HELLO, reserved=RSV1)
    peer.send_frame(TEXT, HELLO_AGAIN, reserved=RSV1)
    runner.run(recorder.saw("message", 2))
    assert recorder.messages == ["Hello"] * 2


@by_side
def test_a_block_marked_as_the_last_does_not_end_the_window(runner: Runner, side: str) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side)
    peer.send_frame(TEXT, EXAMPLES["7.2.3.4, a block marked as the last"], reserved=RSV1)
    peer.send_frame(TEXT, HELLO_AGAIN, reserved=RSV1)
    runner.run(recorder.saw("message", 2))
    assert recorder.messages == ["Hello"] * 2


@by_side
def test_many_blocks_marked_as_the_last_are_one_message(runner: Runner, side: str) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side)
    stream = zlib.compressobj(6, zlib.DEFLATED, -15)
    block = stream.compress(wordy(300)) + stream.flush(zlib.Z_FINISH)
    peer.send_frame(BINARY, block * 500 + b"\x00", reserved=RSV1)
    runner.run(recorder.saw("message"))
    assert recorder.messages == [wordy(300) * 500]


@by_side
@by_kind
def test_an_empty_message_is_understood(runner: Runner, side: str, kind: str) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side)  # section 7.2.3.6
    opcode = TEXT if kind == "text" else BINARY
    for _ in range(3):
        peer.send_frame(opcode, b"\x00", reserved=RSV1)
    runner.run(recorder.saw("message", 3))
    assert recorder.messages == [of_kind(kind, 0)] * 3


@by_side
@by_kind
@pytest.mark.parametrize("pieces", [1, 3])
def test_a_message_without_any_payload_is_empty(
    runner: Runner, side: str, kind: str, pieces: int
) -> None:
    # Section 7.2.3.6 wants a byte, but others take it as well.
    _, peer, recorder = against_a_raw_peer(runner, side)
    opcode = TEXT if kind == "text" else BINARY
    peer.send_frame(opcode, b"", final=pieces == 1, reserved=RSV1)
    for number in range(1, pieces):
        peer.send_frame(CONTINUATION, b"", final=number == pieces - 1)
    runner.run(recorder.saw("message"))
    assert recorder.messages == [of_kind(kind, 0)]


@by_side
def test_what_follows_a_message_without_any_payload_is_understood(
    runner: Runner, side: str
) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side)
    for payload in (HELLO, b"", HELLO_AGAIN, b"", HELLO_AGAIN):
        peer.send_frame(TEXT, payload, reserved=RSV1)
    runner.run(recorder.saw("message", 5))
    assert recorder.messages == ["Hello", "", "Hello", "", "Hello"]


@by_side
def test_empty_messages_are_sent_among_others(runner: Runner, side: str) -> None:
    connection, peer, _ = against_a_raw_peer(runner, side)
    messages = [b"", b"", b"something", b"", b"", b"something", b""]
    for message in messages:
        connection.send(message)
    inflater = Inflater()
    assert [inflater.message(each) for each in payloads(runner, peer, 7)] == messages


@by_side
def test_uncompressed_messages_among_compressed_ones_arrive(runner: Runner, side: str) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side)
    deflater = Deflater()
    messages = [wordy(size) for size in (10, 20_000, 70_000, 10, 10, 300_000)]

    def send(push: Any) -> None:
        for number, message in enumerate(messages):
            if number % 2:
                push(peer.frame(BINARY, message))
            else:
                push(peer.frame(BINARY, deflater.message(message), reserved=RSV1))

    peer.send_in_thread(send)
    runner.run(recorder.saw("message", len(messages)))
    assert recorder.messages == messages


@by_side
def test_a_message_that_inflates_in_many_pieces_arrives_once(runner: Runner, side: str) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side, max_message_size=0)
    peer.send_frame(BINARY, deflated_zeros(32), reserved=RSV1)
    runner.run(recorder.saw("message"))
    runner.turns(3)
    assert recorder.messages == [bytes(32 * MIB)]


@by_side
def test_a_message_that_comes_byte_by_byte_arrives_once(runner: Runner, side: str) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side)
    data = peer.frame(TEXT, deflated("é€😀 and more".encode()), reserved=RSV1)
    for at in range(len(data)):
        peer.send(data[at : at + 1])
        runner.turns(3)
    runner.run(recorder.saw("message"))
    assert recorder.messages == ["é€😀 and more"]


@by_side
def test_a_message_of_many_reads_arrives_once(runner: Runner, side: str) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side)
    message = binary(3 * MIB)
    data = peer.frame(BINARY, deflated(message), reserved=RSV1)

    def send(push: Any) -> None:
        dice = random.Random(1)
        at = 0
        while at < len(data):
            size = dice.choice((1, 1000, 50_000, 200_000))
            push(data[at : at + size])
            at += size

    peer.send_in_thread(send)
    runner.run(recorder.saw("message"))
    assert recorder.messages == [message]


@by_side
def test_many_messages_of_one_read_arrive_in_order(runner: Runner, side: str) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side)
    deflater = Deflater()
    numbers = [f"message {number}" for number in range(2000)]
    peer.send(
        b"".join(
            peer.frame(TEXT, deflater.message(each.encode()), reserved=RSV1) for each in numbers
        )
    )
    runner.run(recorder.saw("message", 2000))
    assert recorder.messages == numbers


@by_side
def test_a_message_in_the_segment_of_the_handshake_arrives(runner: Runner, side: str) -> None:
    masked = RawPeer.frame.__get__(_Masks(side == "server"))
    behind = masked(TEXT, HELLO, reserved=RSV1) + masked(TEXT, HELLO_AGAIN, reserved=RSV1)
    _, _, recorder = against_a_raw_peer(runner, side, behind=behind)
    runner.run(recorder.saw("message", 2))
    assert recorder.messages == ["Hello"] * 2


class _Masks:
    """As much of a RawPeer as laying out a frame takes."""

    def __init__(self, masks: bool) -> None:
        self.masks = masks


@by_side
def test_connections_that_take_turns_do_not_mix_their_windows(runner: Runner, side: str) -> None:
    ends = [against_a_raw_peer(runner, side) for _ in range(3)]
    deflaters = [Deflater() for _ in ends]
    inflaters = [Inflater() for _ in ends]
    for turn in range(20):
        for number, (connection, peer, recorder) in enumerate(ends):
            message = wordy(1000 + 10 * turn + number)
            peer.send_frame(BINARY, deflaters[number].message(message), reserved=RSV1)
            runner.run(recorder.saw("message", turn + 1))
            assert recorder.messages[-1] == message
            connection.send(message)
            sent = payloads(runner, peer, turn + 1)[-1]
            assert inflaters[number].message(sent) == message


# --- Takeover, windows, levels --------------------------------------------------------------------


@by_sender
def test_with_takeover_a_message_refers_to_those_before(runner: Runner, sender: str) -> None:
    connection, peer, _ = against_a_raw_peer(runner, sender)
    for _ in range(3):
        connection.send(binary(5000))
    first, second, third = payloads(runner, peer, 3)
    assert len(first) > 5000
    assert len(second) < 100
    assert len(third) < 100


@by_sender
@pytest.mark.parametrize("who", ["we", "they"])
def test_without_takeover_each_message_stands_by_itself(
    runner: Runner, sender: str, who: str
) -> None:
    parameter = own(sender, "no_context_takeover")
    connection, peer, _ = against_a_raw_peer(
        runner,
        sender,
        compression=uvws.Deflate(**{parameter: True}) if who == "we" else "deflate",
        extensions="permessage-deflate" if who == "we" else f"permessage-deflate; {parameter}",
    )
    for _ in range(3):
        connection.send(binary(5000))
    assert [inflated(each) for each in payloads(runner, peer, 3)] == [binary(5000)] * 3


@by_side
def test_without_takeover_a_peer_cannot_refer_to_messages_before(runner: Runner, side: str) -> None:
    parameter = own(other(side), "no_context_takeover")
    _, peer, recorder = against_a_raw_peer(
        runner, side, extensions=f"permessage-deflate; {parameter}"
    )
    peer.send_frame(TEXT, HELLO, reserved=RSV1)
    peer.send_frame(TEXT, HELLO_AGAIN, reserved=RSV1)
    runner.run(recorder.saw("close"))
    assert recorder.messages == ["Hello"]
    assert recorder.events[-1] == ("close", 1007, "")


@pytest.mark.parametrize("server", [False, True])
@pytest.mark.parametrize("client", [False, True])
def test_messages_arrive_with_takeover_on_and_off(
    runner: Runner, server: bool, client: bool
) -> None:
    compression = uvws.Deflate(server_no_context_takeover=server, client_no_context_takeover=client)
    pair = Pair(runner, listen={"compression": compression}, connect={"compression": compression})
    messages = [make(size) for size in (0, 100, 70_000, 100) for make in (wordy, binary)]
    for message in messages:
        pair.connection("client").send(message)
        pair.connection("server").send(message)
    runner.run(lambda: pair.server.count("message") == pair.client.count("message") == 8)
    assert pair.server.messages == pair.client.messages == messages


@by_sender
@pytest.mark.parametrize("bits", BITS)
def test_no_message_refers_beyond_the_window_agreed_on(
    runner: Runner, sender: str, bits: int
) -> None:
    connection, peer, _ = against_a_raw_peer(
        runner, sender, extensions=f"permessage-deflate; {own(sender, 'max_window_bits')}={bits}"
    )
    # What repeats, repeats further back than the window reaches, if not in the largest.
    messages = [binary((1 << bits) + 100) * 2, binary(300), binary((1 << bits) + 100), binary(300)]
    for message in messages:
        connection.send(message)
    inflater = Inflater(bits)
    assert [inflater.message(each) for each in payloads(runner, peer, 4)] == messages


@by_side
@pytest.mark.parametrize("bits", BITS)
def test_a_peer_may_use_the_window_agreed_on(runner: Runner, side: str, bits: int) -> None:
    _, peer, recorder = against_a_raw_peer(
        runner,
        side,
        extensions=f"permessage-deflate; {own(other(side), 'max_window_bits')}={bits}",
    )
    deflater = Deflater(bits)
    size = (1 << bits) - 300
    messages = [binary(size), binary(size), wordy(70_000), binary(size)]
    for message in messages:
        peer.send_frame(BINARY, deflater.message(message), reserved=RSV1)
    runner.run(recorder.saw("message", 4))
    assert recorder.messages == messages


@by_side
def test_a_peer_may_use_the_smallest_window(runner: Runner, side: str) -> None:
    _, peer, recorder = against_a_raw_peer(
        runner, side, extensions=f"permessage-deflate; {own(other(side), 'max_window_bits')}=8"
    )
    for payload in (HELLO, HELLO_AGAIN):
        peer.send_frame(TEXT, payload, reserved=RSV1)
    runner.run(recorder.saw("message", 2))
    assert recorder.messages == ["Hello"] * 2


@by_side
def test_a_peer_that_exceeds_its_window_is_refused(runner: Runner, side: str) -> None:
    # So there is no more memory in use than was agreed on.
    _, peer, recorder = against_a_raw_peer(
        runner, side, extensions=f"permessage-deflate; {own(other(side), 'max_window_bits')}=9"
    )
    deflater = Deflater(15)
    for _ in range(2):
        peer.send_frame(BINARY, deflater.message(binary(2000)), reserved=RSV1)
    runner.run(recorder.saw("close"))
    assert recorder.messages == [binary(2000)]
    assert recorder.events[-1] == ("close", 1007, "")


@pytest.mark.parametrize("bits", BITS)
def test_messages_arrive_with_every_window(runner: Runner, bits: int) -> None:
    compression = uvws.Deflate(server_max_window_bits=bits, client_max_window_bits=24 - bits)
    pair = Pair(runner, listen=DEFLATE, connect={"compression": compression})
    messages = [make(size) for size in (0, 100, 70_000, 100) for make in (wordy, binary)]
    for message in messages:
        pair.connection("client").send(message)
        pair.connection("server").send(message)
    runner.run(lambda: pair.server.count("message") == pair.client.count("message") == 8)
    assert pair.server.messages == pair.client.messages == messages


def test_a_client_asked_for_a_window_that_zlib_does_not_write_does_not_compress(
    runner: Runner,
) -> None:
    connection, peer, recorder = against_a_raw_peer(
        runner, "client", extensions="permessage-deflate; client_max_window_bits=8"
    )
    connection.send("Hello")
    connection.send(wordy(100_000))
    connection.send_fragment("frag", final=False)
    connection.send_fragment("ments")
    runner.run(peer.saw_frames(4))
    assert [(each.reserved, each.payload) for each in peer.frames()] == [
        (0, b"Hello"),
        (0, wordy(100_000)),
        (0, b"frag"),
        (0, b"ments"),
    ]
    peer.send_frame(TEXT, HELLO, reserved=RSV1)  # a server may still
    runner.run(recorder.saw("message"))
    assert recorder.messages == ["Hello"]


@by_sender
@pytest.mark.parametrize("level", range(10))
def test_messages_arrive_at_every_level(runner: Runner, sender: str, level: int) -> None:
    compression = uvws.Deflate(level=level, memory_level=max(level, 1))
    connection, peer, _ = against_a_raw_peer(runner, sender, compression=compression)
    messages = [make(size) for size in (0, 0, 1, 5000, 200_000) for make in (wordy, binary)]
    for message in messages:
        connection.send(message)
    inflater = Inflater()
    assert [inflater.message(each) for each in payloads(runner, peer, 10)] == messages


@by_sender
def test_a_higher_level_makes_messages_smaller(runner: Runner, sender: str) -> None:
    sizes = []
    for level in (0, 1, 9):
        compression = uvws.Deflate(level=level)
        connection, peer, _ = against_a_raw_peer(runner, sender, compression=compression)
        connection.send(wordy(50_000))
        sizes.append(len(payloads(runner, peer, 1)[0]))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 50_000


@by_sender
def test_messages_below_the_threshold_are_sent_as_they_are(runner: Runner, sender: str) -> None:
    compression = uvws.Deflate(threshold=100)
    connection, peer, _ = against_a_raw_peer(runner, sender, compression=compression)
    for size in (0, 1, 99, 100, 101, 99):
        connection.send(wordy(size))
    runner.run(peer.saw_frames(6))
    frames = peer.frames()
    assert [each.reserved for each in frames] == [0, 0, 0, RSV1, RSV1, 0]
    inflater = Inflater()
    assert [
        inflater.message(each.payload) if each.reserved else each.payload for each in frames
    ] == [wordy(size) for size in (0, 1, 99, 100, 101, 99)]


@by_sender
def test_the_threshold_counts_the_bytes_of_a_text(runner: Runner, sender: str) -> None:
    connection, peer, _ = against_a_raw_peer(runner, sender, compression=uvws.Deflate(threshold=10))
    connection.send("é" * 4)
    connection.send("é" * 5)
    runner.run(peer.saw_frames(2))
    assert [each.reserved for each in peer.frames()] == [0, RSV1]


@by_sender
def test_a_large_message_below_the_threshold_is_sent_as_it_is(runner: Runner, sender: str) -> None:
    compression = uvws.Deflate(threshold=200_000)
    connection, peer, _ = against_a_raw_peer(runner, sender, compression=compression)
    connection.send(wordy(199_999))
    connection.send(wordy(200_000))
    runner.run(peer.saw_frames(2))
    assert [each.reserved for each in peer.frames()] == [0, RSV1]
    assert peer.frames()[0].payload == wordy(199_999)


# --- Fragments and control frames -----------------------------------------------------------------


@by_sender
@pytest.mark.parametrize("takeover", [True, False])
def test_fragments_are_compressed_as_one_message(
    runner: Runner, sender: str, takeover: bool
) -> None:
    compression = uvws.Deflate(**{own(sender, "no_context_takeover"): not takeover})
    connection, peer, _ = against_a_raw_peer(runner, sender, compression=compression)
    parts = [b"", wordy(10), b"", binary(70_000), wordy(3000), b""]
    for _ in range(2):
        for number, part in enumerate(parts):
            connection.send_fragment(part, binary=True, final=number == len(parts) - 1)
    runner.run(peer.saw_frames(12))
    frames = peer.frames()
    assert [(each.opcode, each.reserved, each.final) for each in frames] == 2 * [
        (BINARY, RSV1, False),
        *[(CONTINUATION, 0, False)] * 4,
        (CONTINUATION, 0, True),
    ]
    inflater = Inflater()
    for half in (frames[:6], frames[6:]):
        payload = b"".join(each.payload for each in half)
        assert inflater.message(payload) == b"".join(parts)
        inflater = inflater if takeover else Inflater()


@by_sender
def test_text_fragments_may_be_cut_inside_a_character(runner: Runner, sender: str) -> None:
    connection, receiver = pair_of(runner).sender(sender)
    encoded = "é€😀".encode()
    for at in range(len(encoded)):
        connection.send_fragment(encoded[at : at + 1], final=at == len(encoded) - 1)
    runner.run(receiver.saw("message"))
    assert receiver.messages == ["é€😀"]


@by_sender
@pytest.mark.parametrize(("first", "reserved"), [(99, 0), (100, RSV1)])
def test_the_first_fragment_decides_about_the_threshold(
    runner: Runner, sender: str, first: int, reserved: int
) -> None:
    compression = uvws.Deflate(threshold=100)
    connection, peer, _ = against_a_raw_peer(runner, sender, compression=compression)
    connection.send_fragment(wordy(first), binary=True, final=False)
    connection.send_fragment(wordy(5000), final=False)
    connection.send_fragment(wordy(1))
    runner.run(peer.saw_frames(3))
    frames = peer.frames()
    assert [each.reserved for each in frames] == [reserved, 0, 0]
    payload = b"".join(each.payload for each in frames)
    assert (inflated(payload) if reserved else payload) == wordy(first) + wordy(5000) + wordy(1)


@by_sender
def test_a_refused_fragment_leaves_the_window_as_it_was(runner: Runner, sender: str) -> None:
    connection, peer, _ = against_a_raw_peer(runner, sender)
    connection.send_fragment("é", final=False)
    with pytest.raises(ValueError, match="UTF-8"):
        connection.send_fragment(b"\xff" * 1000, final=False)
    connection.send_fragment("€")
    connection.send("é€")
    runner.run(peer.saw_frames(3))
    one, two, three = (each.payload for each in peer.frames())
    inflater = Inflater()
    assert [inflater.message(one + two), inflater.message(three)] == ["é€".encode()] * 2


@by_side
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_compressed_message_may_be_cut_anywhere(runner: Runner, side: str, size: int) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side)
    deflater = Deflater()
    messages = ["é€😀 and so on", "é€😀" * 500, "é€😀 and so on"]
    for message in messages:
        payload = deflater.message(message.encode())
        parts = [payload[at : at + size] for at in range(0, len(payload), size)]
        for number, part in enumerate(parts):
            peer.send_frame(
                CONTINUATION if number else TEXT,
                part,
                final=number == len(parts) - 1,
                reserved=0 if number else RSV1,
            )
    runner.run(recorder.saw("message", 3))
    assert recorder.messages == messages


@by_side
def test_fragments_that_are_flushed_are_put_together(runner: Runner, side: str) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side)
    deflater = Deflater()
    peer.send_frame(BINARY, deflater.fragment(wordy(100)), final=False, reserved=RSV1)
    peer.send_frame(CONTINUATION, deflater.fragment(wordy(40_000)), final=False)
    peer.send_frame(CONTINUATION, deflater.message(b"end"))
    runner.run(recorder.saw("message"))
    assert recorder.messages == [wordy(100) + wordy(40_000) + b"end"]


@by_side
def test_empty_fragments_of_a_compressed_message_are_nothing(runner: Runner, side: str) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side)
    for message in (HELLO, HELLO_AGAIN):
        peer.send_frame(TEXT, b"", final=False, reserved=RSV1)
        peer.send_frame(CONTINUATION, message, final=False)
        peer.send_frame(CONTINUATION, b"", final=False)
        peer.send_frame(CONTINUATION, b"")
    runner.run(recorder.saw("message", 2))
    assert recorder.messages == ["Hello"] * 2


@by_side
@pytest.mark.parametrize("takeover", [True, False])
def test_fragments_of_several_connections_interleave(
    runner: Runner, side: str, takeover: bool
) -> None:
    # Without takeover connections share what they compress with, but only between messages.
    compression = uvws.Deflate(
        server_no_context_takeover=not takeover, client_no_context_takeover=not takeover
    )
    options = {"compression": compression}
    context = runner.context()
    pairs = [
        Pair(runner, context=context, listen={"name": name, **options}, connect=options)
        for name in "abcd"
    ]
    ends = [pair.sender(side) for pair in pairs]
    parts = [[wordy(50 * (number + 1) + part) for part in range(5)] for number in range(4)]
    for turn in range(3):
        for part in range(5):
            for number, (connection, _) in enumerate(ends):
                if part == 2 and number == turn:
                    runner.turns(3)
                connection.send_fragment(parts[number][part], binary=True, final=part == 4)
                runner.turns(1)
        # One whole message of one of them, while the others have what they need.
        ends[turn][0].send(wordy(99))
    for number, (_, receiver) in enumerate(ends):
        expected = [b"".join(parts[number])] * 3
        if number < 3:
            expected.insert(number + 1, wordy(99))
        runner.run(receiver.saw("message", len(expected)))
        assert receiver.messages == expected


@by_side
def test_a_message_that_was_begun_does_not_disturb_other_connections(
    runner: Runner, side: str
) -> None:
    parameters = "; server_no_context_takeover; client_no_context_takeover"
    ends = [
        against_a_raw_peer(runner, side, extensions="permessage-deflate" + parameters)
        for _ in range(2)
    ]
    (_, begun, first), (_, whole, second) = ends
    begun.send_frame(TEXT, HELLO[:3], final=False, reserved=RSV1)
    runner.turns(3)
    whole.send_frame(TEXT, HELLO, reserved=RSV1)
    runner.run(second.saw("message"))
    begun.send_frame(CONTINUATION, HELLO[3:])
    runner.run(first.saw("message"))
    assert first.messages == second.messages == ["Hello"]


@by_side
def test_control_frames_come_between_compressed_fragments(runner: Runner, side: str) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side)
    peer.send_frame(TEXT, HELLO[:3], final=False, reserved=RSV1)
    peer.send_frame(PING, b"are you there")
    runner.run(peer.saw_frames(1))
    peer.send_frame(PONG, b"I am")
    runner.run(recorder.saw("pong"))
    peer.send_frame(CONTINUATION, HELLO[3:])
    runner.run(recorder.saw("message"))
    assert [(each.opcode, each.payload) for each in peer.frames()] == [(PONG, b"are you there")]
    assert recorder.events[1:] == [("pong", b"I am"), ("message", "Hello")]


@by_sender
def test_control_frames_are_never_compressed(runner: Runner, sender: str) -> None:
    connection, peer, _ = against_a_raw_peer(runner, sender)
    connection.send_ping(b"a" * 100)
    connection.send_fragment("Hel", final=False)
    connection.send_pong(b"b" * 100)
    connection.send_fragment("lo")
    connection.close(1000, "c" * 100)
    runner.run(peer.saw_close)
    frames = peer.frames()
    assert [(each.opcode, each.reserved) for each in frames] == [
        (PING, 0),
        (TEXT, RSV1),
        (PONG, 0),
        (CONTINUATION, 0),
        (CLOSE, 0),
    ]
    assert frames[0].payload == b"a" * 100
    assert frames[2].payload == b"b" * 100
    assert frames[4].payload == close_payload(1000, "c" * 100)
    assert inflated(frames[1].payload + frames[3].payload) == b"Hello"


# --- What a peer must not send --------------------------------------------------------------------


def ends_with(runner: Runner, peer: RawPeer, recorder: Recorder, code: int) -> None:
    """Check that the connection ends with a code, at both ends, and after nothing else."""
    runner.run(lambda: peer.saw_close() or peer.is_ended)
    assert [each.payload[:2] for each in peer.frames() if each.opcode == CLOSE] == [
        close_payload(code)
    ]
    peer.stop()
    runner.run(recorder.saw("close"))
    assert recorder.events[-1][1] == code


MISPLACED: dict[str, list[tuple[int, bytes, bool, int]]] = {
    "on a continuation": [(TEXT, HELLO[:3], False, RSV1), (CONTINUATION, HELLO[3:], True, RSV1)],
    "on a continuation of what is not compressed": [
        (TEXT, b"Hel", False, 0),
        (CONTINUATION, b"lo", True, RSV1),
    ],
    "on a ping": [(PING, b"x", True, RSV1)],
    "on a pong": [(PONG, b"x", True, RSV1)],
    "on a close": [(CLOSE, close_payload(1000), True, RSV1)],
    "on a ping between fragments": [(TEXT, HELLO[:3], False, RSV1), (PING, b"x", True, RSV1)],
    "with bit 2": [(TEXT, HELLO, True, RSV1 | 2)],
    "with bit 3": [(TEXT, HELLO, True, RSV1 | 1)],
    "not there but bit 2": [(TEXT, HELLO, True, 2)],
    "on an unknown opcode": [(3, HELLO, True, RSV1)],
}


@by_side
@pytest.mark.parametrize("where", MISPLACED)
def test_the_bit_where_it_does_not_belong_is_1002(runner: Runner, side: str, where: str) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side)
    for opcode, payload, final, reserved in MISPLACED[where]:
        peer.send_frame(opcode, payload, final=final, reserved=reserved)
    ends_with(runner, peer, recorder, 1002)
    assert recorder.names == ["connect", "close"]


@by_side
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_the_bit_without_negotiation_is_1002(
    runner: Runner, side: str, compression: str | None
) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side, compression=compression, extensions="")
    peer.send_frame(TEXT, HELLO, reserved=RSV1)
    ends_with(runner, peer, recorder, 1002)
    assert recorder.names == ["connect", "close"]


CORRUPT = {
    "a block type that there is not": b"\x07",
    "a length that does not match": bytes.fromhex("000500faf048656c6c6f00"),
    "a reference to what never was": HELLO_AGAIN,
    "a bad code": b"\xff" * 20,
    "a block that is cut off": deflated(wordy(3000), 9)[:-20],
    "stored bytes that are cut off": bytes.fromhex("000500faff4865"),
    "a header that is cut off": b"\x05\xe0",
    "no end after a block marked as the last": bytes.fromhex("f348cdc9c90700"),
}


@by_side
@pytest.mark.parametrize("what", CORRUPT)
def test_what_cannot_be_decompressed_is_1007(runner: Runner, side: str, what: str) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side)
    peer.send_frame(BINARY, CORRUPT[what], reserved=RSV1)
    ends_with(runner, peer, recorder, 1007)
    assert recorder.events[1:] == [("close", 1007, "")]


@by_side
def test_a_bad_message_does_not_take_the_good_ones_back(runner: Runner, side: str) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side)
    good, bad = HELLO, b"\x07"
    peer.send(
        peer.frame(TEXT, good, reserved=RSV1)
        + peer.frame(TEXT, bad, reserved=RSV1)
        + peer.frame(TEXT, good, reserved=RSV1)
    )
    ends_with(runner, peer, recorder, 1007)
    assert recorder.names == ["connect", "message", "close"]


@by_side
def test_random_bytes_do_no_harm(runner: Runner, side: str) -> None:
    dice = random.Random(7)
    good = deflated(wordy(2000))
    for _ in range(40):
        _, peer, recorder = against_a_raw_peer(runner, side, max_message_size=MIB)
        bad = bytearray(good)
        for _ in range(3):
            bad[dice.randrange(len(bad))] ^= 1 << dice.randrange(8)
        peer.send_frame(BINARY, bytes(bad), reserved=RSV1)
        peer.finish()  # or a refusal waits for it to read that
        runner.run(lambda recorder=recorder: len(recorder.events) > 1)
        peer.stop()


INVALID = [b"\xff", b"abc\xc3(", b"\xed\xa0\x80", b"x" * 20_000 + b"\xc3"]


@by_side
@pytest.mark.parametrize("data", INVALID, ids=range(len(INVALID)))
def test_invalid_utf8_under_the_compression_is_1007(runner: Runner, side: str, data: bytes) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side)
    peer.send_frame(TEXT, deflated(data), reserved=RSV1)
    ends_with(runner, peer, recorder, 1007)
    assert recorder.events[1:] == [("close", 1007, "")]


@by_side
def test_invalid_utf8_in_a_binary_message_is_fine(runner: Runner, side: str) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side)
    peer.send_frame(BINARY, deflated(b"\xff" * 100), reserved=RSV1)
    runner.run(recorder.saw("message"))
    assert recorder.messages == [b"\xff" * 100]


@by_side
def test_utf8_is_looked_at_where_pieces_meet(runner: Runner, side: str) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side)
    deflater = Deflater()
    peer.send_frame(TEXT, deflater.fragment(b"\xf0\x9f"), final=False, reserved=RSV1)
    peer.send_frame(CONTINUATION, deflater.fragment(b"\x98"), final=False)
    peer.send_frame(CONTINUATION, deflater.message(b"\x80"))
    runner.run(recorder.saw("message"))
    assert recorder.messages == ["😀"]


# --- The limit ------------------------------------------------------------------------------------

LIMITS = (1, 100, 4095, 4096, 4097, 16_384, 100_000, 3 * MIB)


@by_side
@pytest.mark.parametrize("limit", LIMITS)
def test_a_message_of_just_the_limit_arrives(runner: Runner, side: str, limit: int) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side, max_message_size=limit)
    deflater = Deflater()
    for _ in range(3):
        peer.send_frame(BINARY, deflater.message(wordy(limit)), reserved=RSV1)
    runner.run(recorder.saw("message", 3))
    assert recorder.messages == [wordy(limit)] * 3


@by_side
@pytest.mark.parametrize("limit", LIMITS)
def test_a_byte_over_the_limit_is_1009(runner: Runner, side: str, limit: int) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side, max_message_size=limit)
    peer.send_frame(BINARY, deflated(wordy(limit + 1)), reserved=RSV1)
    ends_with(runner, peer, recorder, 1009)
    assert recorder.names == ["connect", "error", "close"]
    assert isinstance(recorder.events[1][1], uvws.MessageTooBig)
    assert recorder.events[2] == ("close", 1009, "")


@by_side
def test_the_limit_is_for_all_fragments_together(runner: Runner, side: str) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side, max_message_size=1000)
    deflater = Deflater()
    peer.send_frame(BINARY, deflater.fragment(wordy(600)), final=False, reserved=RSV1)
    peer.send_frame(CONTINUATION, deflater.message(wordy(401)))
    ends_with(runner, peer, recorder, 1009)


@by_side
def test_the_limit_is_for_each_message(runner: Runner, side: str) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side, max_message_size=1000)
    deflater = Deflater()
    for _ in range(10):
        peer.send_frame(BINARY, deflater.message(wordy(600)), reserved=RSV1)
        peer.send_frame(BINARY, wordy(1000))
    runner.run(recorder.saw("message", 20))


@by_side
def test_the_limit_holds_for_what_was_not_compressed(runner: Runner, side: str) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side, max_message_size=1000)
    peer.send_frame(BINARY, wordy(1001))
    ends_with(runner, peer, recorder, 1009)


@by_side
def test_a_message_that_is_larger_on_the_wire_than_the_limit_may_fit(
    runner: Runner, side: str
) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side, max_message_size=1000)
    payload = deflated(binary(1000), level=0)
    assert len(payload) > 1000
    peer.send_frame(BINARY, payload, reserved=RSV1)
    runner.run(recorder.saw("message"))
    assert recorder.messages == [binary(1000)]


@measures_memory
def test_a_bomb_does_not_go_off(runner: Runner) -> None:
    """A gigabyte of zeros is a megabyte on the wire."""
    context = runner.context()
    recorder = Recorder()
    listener = context.listen(
        host="127.0.0.1", max_message_size=16 * MIB, **DEFLATE, **recorder.callbacks
    )
    other_end = Recorder(on_message=lambda connection, data: connection.send(data))
    neighbour = Pair(runner, context=context, listen={"name": "other"}, server=other_end)
    bomb = deflated_zeros(1024)
    assert len(bomb) < 1.1 * MIB

    def attack() -> None:
        peers = []
        for number in range(5):
            peer = dial_websocket_deflating(runner, listener)
            data = peer.frame(BINARY, bomb, reserved=RSV1)
            peer.send_in_thread(lambda push, data=data: push(data))
            peers.append(peer)
            neighbour.connection("client").send("still there")
            runner.run(neighbour.client.saw("message", number + 1))
        runner.run(recorder.saw("error", 5))
        for peer in peers:
            peer.stop()
        runner.run(recorder.saw("close", 5))

    peak = peak_of(attack)
    assert recorder.messages == []
    assert peak < 64 * MIB


def dial_websocket_deflating(runner: Runner, listener: Any) -> RawPeer:
    """Connect a plain socket that offers permessage-deflate."""
    peer = dial(runner, listener)
    peer.send(upgrade_request(headers="Sec-WebSocket-Extensions: permessage-deflate\r\n"))
    runner.run(peer.has_head)
    peer.take_head()
    return peer


@measures_memory
@by_side
def test_blocks_that_hold_nothing_take_no_memory(runner: Runner, side: str) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side, max_message_size=10)
    data = peer.frame(BINARY, b"\x00\x00\x00\xff\xff" * (MIB * 8 // 5) + b"\x00", reserved=RSV1)

    def send() -> None:
        peer.send_in_thread(lambda push: push(data))
        runner.run(recorder.saw("message"), timeout=20)

    peak = peak_of(send)
    assert recorder.messages == [b""]
    assert peak < 4 * MIB


@by_side
def test_without_a_limit_tens_of_mebibytes_arrive(runner: Runner, side: str) -> None:
    _, peer, recorder = against_a_raw_peer(runner, side, max_message_size=0)
    peer.send_frame(BINARY, deflated_zeros(80), reserved=RSV1)
    runner.run(recorder.saw("message"), timeout=20)
    (message,) = recorder.messages
    assert len(message) == 80 * MIB
    assert not message.strip(b"\x00")


# --- Queues ---------------------------------------------------------------------------------------


class Watched(bytes):
    """A payload that says when it is gone."""

    gone = 0

    def __del__(self) -> None:
        Watched.gone += 1


@by_sender
@pytest.mark.parametrize("size", [(1 << 16) - 1, 1 << 16, MIB])
def test_a_large_payload_is_let_go_at_once(runner: Runner, sender: str, size: int) -> None:
    connection, peer, _ = against_a_raw_peer(runner, sender)
    before = Watched.gone
    connection.send(Watched(wordy(size)))
    (payload,) = payloads(runner, peer, 1)
    assert inflated(payload) == wordy(size)
    assert Watched.gone - before == 1


@by_sender
def test_the_queue_counts_what_is_left_after_compression(runner: Runner, sender: str) -> None:
    connection, peer, _ = against_a_raw_peer(runner, sender)
    for size in (1000, 100_000):
        connection.send(wordy(size))
    queued = connection.send_queue_size
    assert queued == sum(len(each) for each in payloads(runner, peer, 2))
    assert connection.send_queue_size == 0


def a_slow_peer(runner: Runner, sender: str, **hooks: Any) -> tuple[Any, RawPeer, Recorder]:
    """Connect with a plain socket that does not read."""
    recorder = Recorder(**hooks)
    connection, peer, _ = against_a_raw_peer(runner, sender, recorder=recorder)
    peer.pause()
    return connection, peer, recorder


@by_sender
def test_on_drain_comes_once_all_is_gone(runner: Runner, sender: str) -> None:
    left: list[int] = []
    connection, peer, recorder = a_slow_peer(
        runner, sender, on_drain=lambda connection: left.append(connection.send_queue_size)
    )
    for _ in range(20):
        connection.send(os.urandom(MIB))
    runner.run_for(0.05)
    assert recorder.names == ["connect"]
    peer.resume()
    runner.run(recorder.saw("drain"), timeout=20)
    runner.run_for(0.02)
    assert recorder.names == ["connect", "drain"]
    assert left == [0]


@by_sender
def test_close_sends_what_is_queued(runner: Runner, sender: str) -> None:
    connection, peer, _ = a_slow_peer(runner, sender)
    messages = [make(size) for size in (10, 300_000, 2 * MIB, 10) for make in (wordy, binary)]
    for message in messages:
        connection.send(message)
    connection.close(4000)
    assert connection.send_queue_size > 2 * MIB
    peer.resume()
    runner.run(peer.saw_close, timeout=20)
    *frames, close = peer.frames()
    assert close.payload == close_payload(4000)
    stream = zlib.decompressobj(-15)
    assert [stream.decompress(each.payload + b"\x00\x00\xff\xff") for each in frames] == messages


@by_side
def test_a_pause_in_a_burst_holds_the_rest(runner: Runner, side: str) -> None:
    pausing = Recorder(
        on_message=lambda connection, data: data == "message 9" and connection.pause_recv()
    )
    connection, peer, recorder = against_a_raw_peer(runner, side, recorder=pausing)
    deflater = Deflater()
    texts = [f"message {number}" for number in range(500)]
    for text in texts:
        peer.send_frame(TEXT, deflater.message(text.encode()), reserved=RSV1)
    runner.run(recorder.saw("message", 10))
    runner.run_for(0.02)
    assert recorder.messages == texts[:10]
    connection.resume_recv()
    runner.run(recorder.saw("message", 500))
    assert recorder.messages == texts


@by_side
def test_a_pause_in_the_middle_of_a_message_holds_its_rest(runner: Runner, side: str) -> None:
    connection, peer, recorder = against_a_raw_peer(runner, side)
    peer.send_frame(TEXT, HELLO[:3], final=False, reserved=RSV1)
    runner.run_for(0.01)
    connection.pause_recv()
    peer.send_frame(CONTINUATION, HELLO[3:])
    peer.send_frame(TEXT, HELLO_AGAIN, reserved=RSV1)
    runner.run_for(0.02)
    assert recorder.messages == []
    connection.resume_recv()
    runner.run(recorder.saw("message", 2))
    assert recorder.messages == ["Hello"] * 2


def test_both_ends_at_full_speed_at_once(runner: Runner) -> None:
    pair = pair_of(runner)
    messages = [make(200_000 + number) for number in range(20) for make in (wordy, binary)]
    for message in messages:
        pair.connection("client").send(message)
        pair.connection("server").send(message)
    runner.run(
        lambda: pair.server.count("message") == pair.client.count("message") == 40, timeout=20
    )
    assert pair.server.messages == pair.client.messages == messages


# --- Memory ---------------------------------------------------------------------------------------


def used_by_connections(
    runner: Runner, compression: Any, *, message: bytes | None
) -> tuple[float, float]:
    """Return the memory of a connection, both its ends, while it is there and when it is gone.

    Args:
        message: what went to and fro by then, or None.
    """
    context = runner.context()
    server = Recorder(on_message=lambda connection, data: connection.send(data))
    client = Recorder()
    listener = context.listen(host="127.0.0.1", compression=compression, **server.callbacks)
    count = 30

    def live() -> tuple[int, int]:
        server.events.clear()
        client.events.clear()
        connections = [
            context.connect(url_of(listener), compression=compression, **client.callbacks)
            for _ in range(count)
        ]
        runner.run(lambda: client.count("connect") == server.count("connect") == count)
        if message is not None:
            for connection in connections:
                connection.send(message)
            runner.run(client.saw("message", count))
        at_work = allocated()
        for connection in connections:
            connection.close()
        runner.run(lambda: client.count("close") == server.count("close") == count)
        runner.turns(3)
        return at_work, allocated()

    live()  # some memory is kept for good
    before = allocated()
    at_work, over = live()
    return (at_work - before) / count, (over - before) / count


@measures_memory
def test_with_takeover_a_connection_keeps_its_windows_until_it_ends(runner: Runner) -> None:
    plain, _ = used_by_connections(runner, None, message=wordy(1000))
    at_work, over = used_by_connections(runner, "deflate", message=wordy(1000))
    assert 500 * KIB < at_work - plain < 700 * KIB
    assert over < 10 * KIB


@measures_memory
def test_smaller_windows_take_less(runner: Runner) -> None:
    plain, _ = used_by_connections(runner, None, message=wordy(1000))
    compression = uvws.Deflate(server_max_window_bits=9, client_max_window_bits=9, memory_level=1)
    at_work, _ = used_by_connections(runner, compression, message=wordy(1000))
    assert at_work - plain < 40 * KIB


@measures_memory
def test_without_takeover_a_connection_that_rests_takes_no_more_than_others(
    runner: Runner,
) -> None:
    plain, _ = used_by_connections(runner, None, message=wordy(1000))
    compression = uvws.Deflate(server_no_context_takeover=True, client_no_context_takeover=True)
    at_work, over = used_by_connections(runner, compression, message=wordy(1000))
    assert at_work - plain < 4 * KIB
    assert over < 10 * KIB


@measures_memory
def test_a_connection_without_a_message_takes_no_more_than_others(runner: Runner) -> None:
    plain, _ = used_by_connections(runner, None, message=None)
    at_work, _ = used_by_connections(runner, "deflate", message=None)
    assert at_work - plain < 4 * KIB


@measures_memory
@by_sender
def test_a_large_message_leaves_no_memory_behind(runner: Runner, sender: str) -> None:
    connection, peer, _ = against_a_raw_peer(runner, sender)
    peer.on_received = lambda got: None  # type: ignore[method-assign]
    connection.send(binary(1000))
    runner.run(lambda: connection.send_queue_size == 0)
    message = random.Random(0).randbytes(16 * MIB)
    before = allocated()
    connection.send(message)
    runner.run(lambda: connection.send_queue_size == 0, timeout=20)
    runner.turns(3)
    assert allocated() - before < 4 * MIB


@measures_memory
def test_a_message_for_which_there_is_no_memory_is_not_referred_to() -> None:
    run_program(
        """
        import resource
        from pathlib import Path
        from support.deflating import Inflater, against_a_raw_peer
        from support.payloads import binary
        from support.runners import make_runner

        MIB = 1 << 20
        runner = make_runner("asyncio")
        connection, peer, _ = against_a_raw_peer(runner, "server")
        message = binary(48 * MIB)
        connection.send("begin")
        used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
        resource.setrlimit(resource.RLIMIT_AS, (used + 40 * MIB, resource.RLIM_INFINITY))
        try:
            connection.send(message)
            raise SystemExit("there was memory")
        except MemoryError:
            pass
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        wanted = [b"begin"]
        for at in range(0, len(message), 4 * MIB):
            wanted.append(message[at : at + 2000])
            connection.send(wanted[-1])
        for at in range(len(message) - 32_000, len(message), 2000):
            wanted.append(message[at : at + 2000])
            connection.send(wanted[-1])
        runner.run(peer.saw_frames(len(wanted)))
        inflater = Inflater()
        assert [inflater.message(each.payload) for each in peer.frames()] == wanted
        runner.finish()
        """
    )


# --- Adopted connections --------------------------------------------------------------------------


@pytest.mark.parametrize("read_before", [0, 20, 1 << 16])
def test_an_adopted_connection_compresses(runner: Runner, read_before: int) -> None:
    recorder = Recorder(on_message=lambda connection, data: connection.send(data))
    ours, theirs = socket.socketpair()
    peer = RawPeer(runner, theirs, masks=True)
    runner.add_peer(peer)
    header = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n"
    request = upgrade_request(headers=header) + peer.frame(TEXT, HELLO, reserved=RSV1)
    peer.send(request)
    ours.setblocking(True)
    initial = ours.recv(read_before) if read_before else b""
    runner.context().adopt(ours, initial_data=initial, **DEFLATE, **recorder.callbacks)
    runner.run(peer.has_head)
    answer = b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n"
    assert answer in peer.take_head()
    peer.send_frame(TEXT, HELLO_AGAIN, reserved=RSV1)
    assert payloads(runner, peer, 2) == [HELLO] * 2
    assert recorder.messages == ["Hello"] * 2


@loop_kinds("asyncio")
def test_an_adopted_connection_does_not_compress_unless_told(runner: Runner) -> None:
    ours, theirs = socket.socketpair()
    peer = RawPeer(runner, theirs, masks=True)
    runner.add_peer(peer)
    peer.send(upgrade_request(headers="Sec-WebSocket-Extensions: permessage-deflate\r\n"))
    recorder = Recorder()
    runner.context().adopt(ours, **recorder.callbacks)
    runner.run(peer.has_head)
    assert b"Extensions" not in peer.take_head()
    peer.send_frame(TEXT, HELLO, reserved=RSV1)
    ends_with(runner, peer, recorder, 1002)


@by_side
def test_an_uncompressed_connection_beside_compressed_ones_is_as_ever(
    runner: Runner, side: str
) -> None:
    context = runner.context()
    Pair(runner, context=context, listen=DEFLATE, connect=DEFLATE).connection(side).send("x")
    recorder = Recorder()
    listener = context.listen(host="127.0.0.1", name="plain", **recorder.callbacks)
    peer = dial_websocket(runner, listener)
    runner.run(recorder.saw("connect"))
    recorder.connection.send(wordy(1000))
    runner.run(peer.saw_frames(1))
    assert [(each.reserved, each.payload) for each in peer.frames()] == [(0, wordy(1000))]
