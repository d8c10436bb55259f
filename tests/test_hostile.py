"""Peers that mean harm: what they get, what they cost, and how a well-behaved client fares.

`make hostile` takes longer, with the counts of a real attack, and prints what docs/hostile.md
records.
"""

from __future__ import annotations

import os
import socket
import threading
from typing import Any

import pytest

from support import Recorder, Runner, time_limit
from support.certificates import certificate, client_context
from support.deflating import RSV1, against_a_raw_peer, deflated_zeros
from support.memory import peak_of
from support.patches import compresses
from support.siege import Siege
from support.wire import BINARY, CONTINUATION, TEXT, dial_websocket, frame, upgrade_request

pytestmark = pytest.mark.timeout(time_limit(400 if os.environ.get("UVWS_HOSTILE") else 60))

MIB = 1 << 20
FULL = bool(os.environ.get("UVWS_HOSTILE"))
SECONDS = 5.0 if FULL else 0.3
# A message is at most so large, on the servers under attack.
MESSAGE = MIB
# What an attack may add to the memory of the server: a message on each of a few connections, the
# largest that OpenSSL, zlib and the allocator keep for the next one, and what Python needs.
MEMORY = 16 * MIB
# What the median of a good client's round trips may be multiplied by. In peace it is some 20 us, in
# which nothing else happens; one turn of the attacker's is 512 frames, which takes as long as
# several of them. Below FLOOR it is how busy the machine is that is measured.
FACTOR = 50
FLOOR = 0.02
# Of fewer round trips the median says nothing; the turns are counted further down.
ENOUGH = 10


def besieged(
    runner: Runner, attack: str, *, listen: dict[str, Any] | None = None, **options: Any
) -> Siege:
    """Attack a server that sends messages back; its memory and its other client are looked at.

    Args:
        attack: what to do, a function of support.attackers.
        listen: more options for the server.
        options: for the attack.
    """
    listener = runner.context().listen(
        host="127.0.0.1",
        max_message_size=MESSAGE,
        on_message=lambda connection, data: connection.send(data),
        **(listen or {}),
    )
    siege = Siege(runner, listener, attack, **options)
    peak = peak_of(lambda: runner.run(siege.done, 300 if FULL else 20))
    if FULL:
        print(
            f"\n{runner.kind:8} {attack} {options}: {siege.outcome}; memory +{peak / MIB:.1f} MiB; "
            f"median {siege.peace * 1e6:.0f} us in peace, {siege.attacked * 1e6:.0f} us under "
            f"attack ({siege.attacked / siege.peace:.1f} times), {siege.echoes} echoes, "
            f"the slowest {siege.slowest * 1e3:.0f} ms"
        )
    assert peak < MEMORY or time_limit(1) > 4  # instruments keep freed memory
    if siege.echoes >= ENOUGH:
        assert siege.attacked < max(FACTOR * siege.peace, time_limit(FLOOR))
    return siege


FLOODED = ("full pings", "pongs", "empty messages", "empty fragments")


@pytest.mark.parametrize("kind", FLOODED)
def test_a_flood_of_small_frames_starves_nobody(runner: Runner, kind: str) -> None:
    siege = besieged(runner, "flood", of=kind, seconds=SECONDS)
    assert siege.outcome["ended"] == 0


def test_a_message_of_one_byte_fragments_is_held_to_the_limit(runner: Runner) -> None:
    siege = besieged(runner, "flood", of="one-byte fragments", seconds=20, connections=2)
    assert siege.outcome["ended"] == 2


def test_pongs_do_not_pile_up_for_a_peer_that_never_reads(runner: Runner) -> None:
    siege = besieged(runner, "flood", of="full pings", seconds=SECONDS, reads=False)
    assert siege.outcome["ended"] == 0


@pytest.mark.parametrize(
    ("by", "answer"),
    [
        ("a giant header", "431"),
        ("a million headers", "431"),
        ("a frame of 2^62 bytes", "1009"),
        pytest.param("a deflate bomb", "1009", marks=compresses),
        ("invalid UTF-8", "1007"),
    ],
)
def test_whoever_breaks_the_rules_is_told_which_and_disconnected(
    runner: Runner, by: str, answer: str
) -> None:
    listen = {"compression": "deflate"} if "deflate" in by else {}
    siege = besieged(runner, "affront", by=by, seconds=SECONDS, listen=listen)
    assert set(siege.outcome["answers"]) == {answer}


def test_a_reset_at_any_point_of_a_connection_leaves_nothing_behind(runner: Runner) -> None:
    siege = besieged(runner, "resets", step=1 if FULL else 16, rounds=10 if FULL else 1)
    assert siege.outcome["connections"]


def test_connections_that_are_dropped_at_once_leave_nothing_behind(runner: Runner) -> None:
    count = 100_000 if FULL else 500
    siege = besieged(runner, "connect_and_drop", count=count)
    assert siege.outcome["connections"] == count


def test_half_open_connections_are_closed(runner: Runner) -> None:
    rounds = 500 if FULL else 10
    siege = besieged(runner, "half_open", rounds=rounds)
    assert siege.outcome["ended"] == 10 * rounds


def test_a_peer_that_has_messages_sent_back_and_never_reads_is_cut_off(runner: Runner) -> None:
    listen = {"max_send_queue": MESSAGE}
    siege = besieged(runner, "flood", of="messages", seconds=20, reads=False, listen=listen)
    assert siege.outcome["ended"] == 1


def test_a_handshake_of_one_byte_a_second_is_ended(runner: Runner) -> None:
    limit = 10.0 if FULL else 0.5
    count = 1000 if FULL else 100
    listen = {"handshake_timeout": limit}
    siege = besieged(runner, "slow_handshakes", connections=count, seconds=30, listen=listen)
    assert siege.outcome["left"] == 0
    assert siege.outcome["ended"] == count


def test_what_is_not_utf_8_is_refused_wherever_it_stands(runner: Runner) -> None:
    siege = besieged(runner, "invalid_texts")
    assert set(siege.outcome["answers"]) == {"1007"}


# What one connection gets in one turn of the loop: no clock is needed to see that it is little.

FRAMES = 100_000
# As much as is read before anything is known of a connection, of frames of six bytes.
MOST_IN_A_TURN = 16384 // 6 + 1


class Turns:
    """A condition that holds after so many messages, and sees how many each turn brings."""

    def __init__(self, wanted: int) -> None:
        self.most = 0
        self._wanted = wanted
        self._received = self._before = 0

    def count(self, _connection: Any, _data: object) -> None:
        """Stand in for on_message."""
        self._received += 1

    def __call__(self) -> bool:
        self.most = max(self.most, self._received - self._before)
        self._before = self._received
        return self._received == self._wanted


EMPTY = frame(TEXT, mask=bytes(4))


def test_one_connection_gets_few_frames_in_a_turn(runner: Runner) -> None:
    turns = Turns(FRAMES)
    listener = runner.context().listen(host="127.0.0.1", on_message=turns.count)
    peer = dial_websocket(runner, listener)
    peer.send_in_thread(lambda push: push(EMPTY * FRAMES))
    runner.run(turns, timeout=20)
    assert turns.most <= MOST_IN_A_TURN


def test_fragments_without_a_byte_count_as_well(runner: Runner) -> None:
    message = frame(TEXT, final=False, mask=bytes(4)) + frame(CONTINUATION, mask=bytes(4))
    turns = Turns(FRAMES // 2)
    listener = runner.context().listen(host="127.0.0.1", on_message=turns.count)
    peer = dial_websocket(runner, listener)
    peer.send_in_thread(lambda push: push(message * (FRAMES // 2)))
    runner.run(turns, timeout=20)
    assert turns.most <= MOST_IN_A_TURN / 2 + 1


def test_what_tls_has_decrypted_waits_for_its_turn_too(runner: Runner) -> None:
    turns = Turns(FRAMES)
    over = threading.Event()
    listener = runner.context().listen(
        host="127.0.0.1", on_message=turns.count, **certificate().server_options
    )

    def push() -> None:
        with (
            socket.create_connection(("127.0.0.1", listener.port)) as plain,
            client_context().wrap_socket(plain, server_hostname="localhost") as sock,
        ):
            sock.sendall(upgrade_request())
            assert sock.recv(4096).startswith(b"HTTP/1.1 101 ")
            sock.sendall(EMPTY * FRAMES)
            over.wait(time_limit(20))

    thread = threading.Thread(target=push)
    thread.start()
    runner.run(turns, timeout=20)
    over.set()
    thread.join()
    # The descriptor is ready, and there is a flush before and after the loop waits for that.
    assert turns.most <= 2 * MOST_IN_A_TURN


@compresses
def test_a_read_of_compressed_bytes_makes_a_few_mebibytes_at_most(runner: Runner) -> None:
    turns = Turns(256)
    recorder = Recorder(on_message=turns.count)
    _, peer, _ = against_a_raw_peer(runner, "server", recorder=recorder)
    message = peer.frame(BINARY, deflated_zeros(1), reserved=RSV1)
    peer.send_in_thread(lambda push: push(message * 256))
    runner.run(turns, timeout=20)
    assert turns.most <= 8192 // len(message) + 1
