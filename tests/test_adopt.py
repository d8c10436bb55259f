"""Adopting: sockets that other code has accepted, and perhaps read from."""

from __future__ import annotations

import asyncio.trsock
import contextlib
import gc
import os
import socket
import ssl
import threading
import warnings
import weakref
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets

import uvws
from support import Recorder, Runner, loop_kinds, no_callbacks, run_program
from support.certificates import server_context
from support.payloads import binary, text
from support.wire import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    RawPeer,
    close_payload,
    dial,
    frame,
    upgrade_request,
)

HOST = "127.0.0.1"
KINDS = ("tcp", "tcp6", "unix", "socketpair")
MASK = b"\x11\x22\x33\x44"

Connected = tuple[socket.socket, RawPeer]
Connect = Callable[..., Connected]


class Wrapper:
    """What frameworks hand out: no socket, but it has a descriptor."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def fileno(self) -> int:
        return self.sock.fileno()


class Answering:
    """Something whose fileno() returns whatever it was given, or raises it."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def fileno(self) -> object:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


class Adopted:
    """A connection made of a socket, and what it was told."""

    def __init__(
        self, context: Any, sock: Any, recorder: Recorder | None = None, **options: Any
    ) -> None:
        self.recorder = recorder or Recorder()
        self.connection = context.adopt(sock, **options, **self.recorder.callbacks)

    @property
    def error(self) -> Any:
        """The exception that on_error was called with, which is all that was heard."""
        assert self.recorder.names == ["error"], self.recorder.events
        return self.recorder.events[0][1]


def masked(opcode: int, payload: bytes = b"", *, reserved: int = 0) -> bytes:
    """Lay out a frame of a client."""
    return frame(opcode, payload, mask=MASK, reserved=reserved)


def open_pair(kind: str, directory: Path) -> tuple[socket.socket, socket.socket]:
    """Return the accepted end of a connection and the one that connected."""
    if kind == "socketpair":
        return socket.socketpair()
    families = {"tcp": socket.AF_INET, "tcp6": socket.AF_INET6, "unix": socket.AF_UNIX}
    address: Any = {"tcp": (HOST, 0), "tcp6": ("::1", 0), "unix": str(directory / "server")}[kind]
    with socket.socket(families[kind]) as listening:
        listening.bind(address)
        listening.listen()
        client = socket.socket(families[kind])
        client.connect(listening.getsockname())
        server, _ = listening.accept()
    if kind == "unix":
        Path(address).unlink()
    else:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return server, client


@pytest.fixture
def connected(runner: Runner, tmp_path: Path) -> Iterator[Connect]:
    """Make a connection: connected(kind="tcp") -> (accepted socket, peer)."""
    sockets = []

    def connect(kind: str = "tcp") -> Connected:
        server, client = open_pair(kind, tmp_path)
        sockets.append(server)
        peer = RawPeer(runner, client, masks=True)
        runner.add_peer(peer)
        return server, peer

    yield connect
    for sock in sockets:
        sock.close()


def socket_name(sock: Any) -> str:
    """Return the name under which /proc lists the descriptors of a socket."""
    return f"socket:[{os.fstat(sock.fileno()).st_ino}]"


def descriptors_of(name: str) -> int:
    """Tell how many descriptors of this process are of a socket."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += str(entry.readlink()) == name
    return found


def open_adopted(runner: Runner, connected: Connect, kind: str = "tcp", **options: Any) -> Any:
    """Adopt a socket and do the handshake; returns (adopted, peer)."""
    sock, peer = connected(kind)
    adopted = Adopted(runner.context(), sock, **options)
    peer.send(upgrade_request())
    runner.run(adopted.recorder.saw("connect"))
    runner.run(peer.has_head)
    assert peer.take_head().startswith(b"HTTP/1.1 101 ")
    return adopted, peer


# What is adopted


@pytest.mark.parametrize("kind", KINDS)
def test_a_socket_becomes_a_connection(runner: Runner, connected: Connect, kind: str) -> None:
    adopted, peer = open_adopted(runner, connected, kind)
    peer.send_frame(TEXT, b"there")
    runner.run(adopted.recorder.saw("message"))
    adopted.connection.send("back")
    runner.run(peer.saw_frames())
    assert adopted.recorder.messages == ["there"]
    assert [(each.opcode, each.payload) for each in peer.frames()] == [(TEXT, b"back")]


@pytest.mark.parametrize("wrap", [Wrapper, asyncio.trsock.TransportSocket])
def test_anything_with_fileno_becomes_a_connection(
    runner: Runner, connected: Connect, wrap: Any
) -> None:
    sock, peer = connected()
    adopted = Adopted(runner.context(), wrap(sock))
    peer.send(upgrade_request() + masked(TEXT, b"hello"))
    runner.run(adopted.recorder.saw("message"))
    assert adopted.recorder.events == [("connect", None), ("message", "hello")]


@pytest.mark.parametrize("mode", ["blocking", "with a time limit", "non-blocking"])
def test_the_mode_that_the_socket_is_in_does_not_matter(
    runner: Runner, connected: Connect, mode: str
) -> None:
    sock, peer = connected()
    sock.settimeout({"blocking": None, "with a time limit": 5.0, "non-blocking": 0.0}[mode])
    adopted = Adopted(runner.context(), sock)
    peer.send(upgrade_request())
    runner.run(adopted.recorder.saw("connect"))


def test_a_client_of_another_package_gets_through(runner: Runner, websockets_client: Any) -> None:
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        listening.listen()
        port = listening.getsockname()[1]

        async def talk() -> list[Any]:
            async with websockets.connect(f"ws://{HOST}:{port}/path", proxy=None) as client:
                await client.send("text")
                await client.send(b"bytes")
                await client.send(binary(300_000))
                got = [await client.recv() for _ in range(3)]
                await (await client.ping(b"are you there"))
            return [*got, client.close_code]

        client = websockets_client(talk)
        sock, _ = listening.accept()
    recorder = Recorder(on_message=lambda connection, data: connection.send(data))
    Adopted(runner.context(), sock, recorder)
    runner.run(lambda: client.done() and "close" in recorder.names)
    assert client.result() == ["text", b"bytes", binary(300_000), 1000]
    assert recorder.messages == ["text", b"bytes", binary(300_000)]
    assert recorder.events[-1] == ("close", 1000, "")


# What was read already

FRAMES = masked(TEXT, b"first") + masked(BINARY, b"second") + masked(TEXT, "dritté".encode())
STREAM = upgrade_request() + FRAMES
HEAD = len(upgrade_request())


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize(
    "read",
    [
        pytest.param(0, id="nothing"),
        pytest.param(1, id="a-byte"),
        pytest.param(40, id="the-beginning"),
        pytest.param(HEAD - 1, id="all-but-the-last-byte-of-the-request"),
        pytest.param(HEAD, id="the-request"),
        pytest.param(HEAD + 1, id="a-byte-behind-it"),
        pytest.param(HEAD + 8, id="half-a-frame-behind-it"),
        pytest.param(HEAD + 11, id="a-frame-behind-it"),
        pytest.param(HEAD + 15, id="a-frame-and-a-half-behind-it"),
        pytest.param(len(STREAM), id="all"),
    ],
)
def test_what_was_read_comes_before_what_is_on_the_socket(
    runner: Runner, connected: Connect, read: int, kind: str
) -> None:
    sock, peer = connected(kind)
    peer.send(STREAM[read:])
    adopted = Adopted(runner.context(), sock, initial_data=STREAM[:read])
    runner.run(adopted.recorder.saw("message", 3))
    runner.run(peer.has_head)
    assert adopted.recorder.events == [
        ("connect", None),
        ("message", "first"),
        ("message", b"second"),
        ("message", "dritté"),
    ]
    assert peer.take_head().startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize("read", [0, 1, 40, HEAD, HEAD + 8])
def test_the_rest_may_come_byte_by_byte(runner: Runner, connected: Connect, read: int) -> None:
    sock, peer = connected()
    adopted = Adopted(runner.context(), sock, initial_data=STREAM[:read])
    for at in range(read, len(STREAM)):
        peer.send(STREAM[at : at + 1])
        runner.turns(1)
    runner.run(adopted.recorder.saw("message", 3))
    assert adopted.recorder.messages == ["first", b"second", "dritté"]


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_what_was_read_may_be_of_any_bytes_like_type(
    runner: Runner, connected: Connect, make: Any
) -> None:
    sock, _ = connected()
    adopted = Adopted(runner.context(), sock, initial_data=make(STREAM))
    runner.run(adopted.recorder.saw("message", 3))
    assert adopted.recorder.messages == ["first", b"second", "dritté"]


def test_what_was_read_may_change_afterwards(runner: Runner, connected: Connect) -> None:
    sock, _ = connected()
    read = bytearray(STREAM)
    adopted = Adopted(runner.context(), sock, initial_data=read)
    read[:] = bytes(len(read))
    runner.run(adopted.recorder.saw("message", 3))
    assert adopted.recorder.messages == ["first", b"second", "dritté"]


def test_empty_data_is_none(runner: Runner, connected: Connect) -> None:
    sock, peer = connected()
    adopted = Adopted(runner.context(), sock, initial_data=b"")
    peer.send(STREAM)
    runner.run(adopted.recorder.saw("message", 3))


@pytest.mark.parametrize("on_the_socket", [False, True], ids=["read", "waiting"])
def test_many_frames_behind_the_request(
    runner: Runner, connected: Connect, on_the_socket: bool
) -> None:
    sock, peer = connected()
    messages = [f"message {n}" for n in range(3000)]
    stream = b"".join(masked(TEXT, each.encode()) for each in messages)
    read = upgrade_request() + (b"" if on_the_socket else stream)
    adopted = Adopted(runner.context(), sock, initial_data=read)
    if on_the_socket:
        peer.send_in_thread(lambda send: send(stream))
    runner.run(adopted.recorder.saw("message", len(messages)))
    assert adopted.recorder.messages == messages


@pytest.mark.parametrize("size", [60_000, 200_000, 9_000_000])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_frame_that_no_buffer_holds_behind_the_request(
    runner: Runner, connected: Connect, size: int, share: float
) -> None:
    sock, peer = connected()
    stream = upgrade_request() + masked(BINARY, binary(size)) + masked(TEXT, b"and on")
    read = HEAD + int((len(stream) - HEAD) * share)
    adopted = Adopted(runner.context(), sock, initial_data=stream[:read])
    peer.send_in_thread(lambda send: send(stream[read:]))
    runner.run(adopted.recorder.saw("message", 2), timeout=10)
    assert adopted.recorder.messages == [binary(size), "and on"]


def test_a_message_in_fragments_behind_the_request(runner: Runner, connected: Connect) -> None:
    sock, peer = connected()
    read = upgrade_request() + frame(TEXT, "ä".encode()[:1], final=False, mask=MASK)
    adopted = Adopted(runner.context(), sock, initial_data=read + masked(PING, b"between"))
    peer.send_frame(0, "ä".encode()[1:])
    runner.run(adopted.recorder.saw("message"))
    runner.run(peer.has_head)
    peer.take_head()
    runner.run(peer.saw_frames())
    assert adopted.recorder.messages == ["ä"]
    assert [(each.opcode, each.payload) for each in peer.frames()] == [(PONG, b"between")]


def test_an_end_that_was_read_with_the_messages_follows_them(
    runner: Runner, connected: Connect
) -> None:
    sock, peer = connected()
    read = STREAM + masked(CLOSE, close_payload(1000, "bye"))
    adopted = Adopted(runner.context(), sock, initial_data=read)
    runner.run(adopted.recorder.saw("close"))
    assert adopted.recorder.names == ["connect", *["message"] * 3, "close"]
    assert adopted.recorder.events[-1] == ("close", 1000, "bye")
    runner.run(peer.ended)


def test_a_peer_that_is_gone_already_is_still_heard(runner: Runner, connected: Connect) -> None:
    sock, peer = connected()
    peer.finish()
    adopted = Adopted(runner.context(), sock, initial_data=STREAM)
    runner.run(adopted.recorder.saw("close"))
    assert adopted.recorder.messages == ["first", b"second", "dritté"]
    assert adopted.recorder.events[-1] == ("close", 1006, "")


def test_a_violation_behind_the_request_ends_it_with_1002(
    runner: Runner, connected: Connect
) -> None:
    sock, peer = connected()
    adopted = Adopted(runner.context(), sock, initial_data=STREAM + frame(TEXT, b"not masked"))
    runner.run(adopted.recorder.saw("close"))
    runner.run(peer.ended)
    assert adopted.recorder.events[-1][:2] == ("close", 1002)


def test_pausing_in_on_connect_holds_what_was_read(runner: Runner, connected: Connect) -> None:
    sock, peer = connected()
    recorder = Recorder(on_connect=lambda connection, _: connection.pause_recv())
    adopted = Adopted(runner.context(), sock, recorder, initial_data=STREAM)
    peer.send_frame(TEXT, b"later")
    runner.run(recorder.saw("connect"))
    runner.turns(5)
    assert recorder.messages == []
    adopted.connection.resume_recv()
    runner.run(recorder.saw("message", 4))
    assert recorder.messages == ["first", b"second", "dritté", "later"]


# The connection


def test_it_is_connecting_until_on_connect(runner: Runner, connected: Connect) -> None:
    sock, _ = connected()
    context = runner.context()
    seen = []

    def look(connection: Any, _headers: None) -> None:
        seen.append((connection.state, context.connections))

    recorder = Recorder(on_connect=look)
    adopted = Adopted(context, sock, recorder, initial_data=STREAM)
    assert adopted.connection.state == "connecting"
    assert adopted.connection.is_connecting
    assert context.connections == []
    with pytest.raises(uvws.ConnectionClosed, match="not open"):
        adopted.connection.send("too early")
    runner.run(recorder.saw("connect"))
    assert seen == [("connected", [adopted.connection])]


def test_no_callback_comes_before_adopt_has_returned(runner: Runner, connected: Connect) -> None:
    sock, _ = connected()
    adopted = Adopted(runner.context(), sock, initial_data=STREAM)
    assert adopted.recorder.events == []
    runner.run(adopted.recorder.saw("message", 3))


def test_callbacks_get_the_connection_that_adopt_returned(
    runner: Runner, connected: Connect
) -> None:
    sock, _ = connected()
    adopted = Adopted(runner.context(), sock, initial_data=STREAM)
    runner.run(adopted.recorder.saw("message", 3))
    assert set(adopted.recorder.connections) == {adopted.connection}


def test_on_connect_is_called_with_none(runner: Runner, connected: Connect) -> None:
    adopted, _ = open_adopted(runner, connected)
    assert adopted.recorder.events == [("connect", None)]


def test_no_callback_is_needed(runner: Runner, connected: Connect) -> None:
    sock, peer = connected()
    runner.context().adopt(sock, initial_data=STREAM)
    peer.send_frame(CLOSE, close_payload(1000))
    runner.run(peer.ended)


def test_peer_address_of_tcp(runner: Runner, connected: Connect) -> None:
    for kind, address in (("tcp", "127.0.0.1"), ("tcp6", "::1")):
        adopted, _ = open_adopted(runner, connected, kind)
        assert adopted.connection.peer_address == address


@pytest.mark.parametrize("kind", ["unix", "socketpair"])
def test_a_unix_socket_has_no_peer_address(runner: Runner, connected: Connect, kind: str) -> None:
    adopted, _ = open_adopted(runner, connected, kind)
    assert adopted.connection.peer_address is None


def test_headers_and_the_subprotocol_are_given_with_the_socket(
    runner: Runner, connected: Connect
) -> None:
    sock, peer = connected()
    request = upgrade_request(headers="Sec-WebSocket-Protocol: chat, superchat\r\n")
    adopted = Adopted(
        runner.context(),
        sock,
        initial_data=request,
        protocol=["other", "superchat"],
        headers=[("X-More", "1"), ("X-More", "2")],
    )
    runner.run(adopted.recorder.saw("connect"))
    runner.run(peer.has_head)
    assert adopted.connection.protocol == "superchat"
    lines = peer.take_head().split(b"\r\n")
    assert [line for line in lines if line.startswith(b"X-More")] == [b"X-More: 1", b"X-More: 2"]
    assert b"Sec-WebSocket-Protocol: superchat" in lines


@pytest.mark.parametrize(
    "wrong", [{"protocol": "a b"}, {"headers": {"Upgrade": "x"}}, {"headers": {"x": "\r\n"}}]
)
def test_wrong_headers_leave_the_socket_alone(
    runner: Runner, connected: Connect, wrong: dict[str, Any]
) -> None:
    sock, _ = connected()
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Adopted(runner.context(), sock, **wrong)
    assert sock.fileno() >= 0


def test_there_is_no_subprotocol(runner: Runner, connected: Connect) -> None:
    sock, peer = connected()
    request = upgrade_request(headers="Sec-WebSocket-Protocol: chat, superchat\r\n")
    adopted = Adopted(runner.context(), sock, initial_data=request)
    runner.run(adopted.recorder.saw("connect"))
    runner.run(peer.has_head)
    assert adopted.connection.protocol is None
    assert b"sec-websocket-protocol" not in peer.take_head().lower()


def test_the_stash_is_there_from_the_beginning_to_the_end(
    runner: Runner, connected: Connect
) -> None:
    sock, peer = connected()
    adopted = Adopted(runner.context(), sock)
    adopted.connection.stash["name"] = "value"
    peer.send(upgrade_request())
    runner.run(adopted.recorder.saw("connect"))
    peer.finish()
    runner.run(adopted.recorder.saw("close"))
    assert adopted.connection.stash == {"name": "value"}


def test_it_is_among_the_connections_while_it_is_open(runner: Runner, connected: Connect) -> None:
    context = runner.context()
    sock, peer = connected()
    adopted = Adopted(context, sock)
    assert context.connections == []
    peer.send(upgrade_request())
    runner.run(adopted.recorder.saw("connect"))
    assert context.connections == [adopted.connection]
    peer.reset()
    runner.run(adopted.recorder.saw("close"))
    assert context.connections == []


def test_messages_of_every_size_go_both_ways(runner: Runner, connected: Connect) -> None:
    sock, peer = connected()
    recorder = Recorder(on_message=lambda connection, data: connection.send(data))
    Adopted(runner.context(), sock, recorder, initial_data=upgrade_request())
    sent: list[str | bytes] = [text(size) for size in (0, 1, 126, 65536, 200_000)]
    sent += [binary(size) for size in (0, 1, 126, 65536, 200_000)]
    for data in sent:
        kind, payload = (TEXT, data.encode()) if isinstance(data, str) else (BINARY, data)
        wire = peer.frame(kind, payload)
        peer.send_in_thread(lambda send, wire=wire: send(wire))  # type: ignore[misc]
        runner.run(recorder.saw("message", recorder.count("message") + 1))
    runner.run(peer.has_head)
    peer.take_head()
    runner.run(peer.saw_frames(len(sent)))
    assert recorder.messages == sent
    assert [each.payload for each in peer.frames()] == [
        each.encode() if isinstance(each, str) else each for each in sent
    ]
    assert not any(each.masked for each in peer.frames())


def test_pings_go_both_ways(runner: Runner, connected: Connect) -> None:
    adopted, peer = open_adopted(runner, connected)
    adopted.connection.send_ping(b"ours")
    peer.send_frame(PING, b"theirs")
    runner.run(peer.saw_frames(2))
    peer.send_frame(PONG, b"ours")
    runner.run(adopted.recorder.saw("pong"))
    assert {(each.opcode, each.payload) for each in peer.frames()} == {
        (PING, b"ours"),
        (PONG, b"theirs"),
    }
    assert adopted.recorder.events[-1] == ("pong", b"ours")


def test_a_close_of_ours(runner: Runner, connected: Connect) -> None:
    adopted, peer = open_adopted(runner, connected)
    adopted.connection.close(4000, "enough")
    runner.run(peer.saw_close)
    assert peer.frames()[-1].payload == close_payload(4000, "enough")
    peer.send_frame(CLOSE, close_payload(4000, "enough"))
    runner.run(adopted.recorder.saw("close"))
    runner.run(peer.ended)
    assert adopted.recorder.events[-1] == ("close", 4000, "enough")
    assert adopted.connection.state == "closed"


def test_a_close_of_the_peers(runner: Runner, connected: Connect) -> None:
    adopted, peer = open_adopted(runner, connected)
    peer.send_frame(CLOSE, close_payload(4001, "enough"))
    runner.run(adopted.recorder.saw("close"))
    runner.run(peer.ended)
    assert peer.frames()[-1].payload[:2] == close_payload(4001)
    assert adopted.recorder.events[-1] == ("close", 4001, "enough")


def test_an_end_without_a_close_is_1006(runner: Runner, connected: Connect) -> None:
    adopted, peer = open_adopted(runner, connected)
    peer.finish()
    runner.run(adopted.recorder.saw("close"))
    assert adopted.recorder.events[-1] == ("close", 1006, "")


@pytest.mark.parametrize("read", [True, False], ids=["read", "waiting"])
def test_a_message_over_the_limit_ends_the_connection_with_1009(
    runner: Runner, connected: Connect, read: bool
) -> None:
    sock, peer = connected()
    stream = upgrade_request() + masked(TEXT, b"x" * 100) + masked(TEXT, b"x" * 101)
    if not read:
        peer.send(stream)
    adopted = Adopted(
        runner.context(), sock, initial_data=stream if read else None, max_message_size=100
    )
    runner.run(adopted.recorder.saw("close"))
    assert adopted.recorder.names == ["connect", "message", "error", "close"]
    assert isinstance(adopted.recorder.events[2][1], uvws.MessageTooBig)
    assert adopted.recorder.events[3][1] == 1009


def test_on_drain_comes_when_all_is_sent(runner: Runner, connected: Connect) -> None:
    adopted, peer = open_adopted(runner, connected)
    adopted.connection.send(binary(3_000_000))
    assert adopted.connection.send_queue_size == 3_000_000
    runner.run(adopted.recorder.saw("drain"))
    assert adopted.connection.send_queue_size == 0
    runner.run(peer.saw_frames())


def deflated(payload: bytes) -> bytes:
    """Compress one message (RFC 7692, section 7.2.1)."""
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def test_a_compressed_message_behind_the_request(runner: Runner, connected: Connect) -> None:
    sock, peer = connected()
    request = upgrade_request(headers="Sec-WebSocket-Extensions: permessage-deflate\r\n")
    read = request + masked(TEXT, deflated(b"squeeze " * 500), reserved=4)
    adopted = Adopted(runner.context(), sock, initial_data=read, compression="deflate")
    runner.run(adopted.recorder.saw("message"))
    runner.run(peer.has_head)
    assert b"permessage-deflate" in peer.take_head()
    assert adopted.recorder.messages == ["squeeze " * 500]
    adopted.connection.send("squeeze " * 500)
    runner.run(peer.saw_frames())
    assert len(peer.frames()[0].payload) < 100


def test_a_compressing_client_of_another_package(runner: Runner, websockets_client: Any) -> None:
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        listening.listen()
        port = listening.getsockname()[1]

        async def talk() -> list[Any]:
            async with websockets.connect(f"ws://{HOST}:{port}/", proxy=None) as client:
                names = [each.name for each in client.protocol.extensions]
                await client.send("squeeze " * 5000)
                return [*names, await client.recv()]

        client = websockets_client(talk)
        sock, _ = listening.accept()
    recorder = Recorder(on_message=lambda connection, data: connection.send(data))
    Adopted(runner.context(), sock, recorder, compression="deflate")
    runner.run(lambda: client.done() and "close" in recorder.names)
    assert client.result() == ["permessage-deflate", "squeeze " * 5000]


def test_compression_is_not_offered_by_itself(runner: Runner, connected: Connect) -> None:
    sock, peer = connected()
    request = upgrade_request(headers="Sec-WebSocket-Extensions: permessage-deflate\r\n")
    adopted = Adopted(runner.context(), sock, initial_data=request)
    runner.run(adopted.recorder.saw("connect"))
    runner.run(peer.has_head)
    assert b"permessage-deflate" not in peer.take_head()


def test_several_are_adopted_at_once(runner: Runner, connected: Connect) -> None:
    context = runner.context()
    pairs = [connected("tcp" if n % 2 else "socketpair") for n in range(60)]
    all_adopted = []
    for n, (sock, _) in enumerate(pairs):
        read = upgrade_request() + masked(TEXT, f"number {n}".encode())
        all_adopted.append(Adopted(context, sock, initial_data=read[: n * 4]))
    for n, (_, peer) in reversed(list(enumerate(pairs))):
        peer.send((upgrade_request() + masked(TEXT, f"number {n}".encode()))[n * 4 :])
    runner.run(lambda: all(each.recorder.messages for each in all_adopted))
    for n, adopted in enumerate(all_adopted):
        assert adopted.recorder.events == [("connect", None), ("message", f"number {n}")]
    assert len(context.connections) == len(pairs)


def test_adopted_ones_and_a_listeners_live_side_by_side(runner: Runner, connected: Connect) -> None:
    listened = Recorder()
    context = runner.context()
    listener = context.listen(host=HOST, **listened.callbacks)
    sock, _ = connected()
    adopted = Adopted(context, sock, initial_data=STREAM)
    peer = dial(runner, listener)
    peer.send(STREAM)
    runner.run(listened.saw("message", 3))
    runner.run(adopted.recorder.saw("message", 3))
    assert listened.messages == adopted.recorder.messages
    assert len(context.connections) == 2


def test_closing_a_listener_leaves_them_alone(runner: Runner, connected: Connect) -> None:
    context = runner.context()
    listener = context.listen(host=HOST)
    sock, peer = connected()
    adopted = Adopted(context, sock)
    listener.close()
    runner.turns(3)
    peer.send(STREAM)
    runner.run(adopted.recorder.saw("message", 3))


@loop_kinds("pyuv")
def test_it_keeps_the_loop_running_until_it_ends(runner: Runner, connected: Connect) -> None:
    sock, peer = connected()
    recorder = Recorder(on_message=lambda connection, _: connection.close())
    Adopted(runner.context(), sock, recorder, initial_data=upgrade_request())
    peer.send_frame(TEXT, b"end it")
    peer.send_frame(CLOSE, close_payload(1000))
    runner.run_to_end()
    assert recorder.names[-1] == "close"


@loop_kinds("pyuv")
def test_a_failed_one_keeps_no_loop_running(runner: Runner, connected: Connect) -> None:
    sock, _ = connected()
    adopted = Adopted(runner.context(), sock, initial_data=without("sec-websocket-key"))
    runner.run_to_end()
    assert adopted.error.status == 400


# Who owns the descriptor


def test_a_socket_is_detached(runner: Runner, connected: Connect) -> None:
    sock, _ = connected()
    name = socket_name(sock)
    Adopted(runner.context(), sock)
    assert sock.fileno() == -1
    assert descriptors_of(name) == 1


def test_a_detached_socket_is_collected_in_silence(runner: Runner, tmp_path: Path) -> None:
    context = runner.context()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sock, client = open_pair("tcp", tmp_path)
        adopted = Adopted(context, sock, initial_data=STREAM)
        del sock
        gc.collect()
        runner.run(adopted.recorder.saw("message", 3))
        client.close()
        runner.run(adopted.recorder.saw("close"))
    assert caught == []


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_connection_closes_its_descriptor(
    runner: Runner, connected: Connect, wrapped: bool
) -> None:
    sock, peer = connected()
    name = socket_name(sock)
    adopted = Adopted(runner.context(), Wrapper(sock) if wrapped else sock)
    peer.send(STREAM)
    runner.run(adopted.recorder.saw("message", 3))
    assert descriptors_of(name) == 1 + wrapped
    peer.send_frame(CLOSE, close_payload(1000))
    runner.run(adopted.recorder.saw("close"))
    assert descriptors_of(name) == wrapped


END_OF: dict[str, Callable[[Runner, Any, RawPeer, Adopted], None]] = {
    "close": lambda runner, context, peer, adopted: peer.send(
        upgrade_request() + masked(CLOSE, close_payload(1000))
    ),
    "refusal": lambda runner, context, peer, adopted: peer.send(b"GET / HTTP/1.1\r\n\r\n"),
    "peer gone": lambda runner, context, peer, adopted: peer.finish(),
    "peer reset": lambda runner, context, peer, adopted: peer.reset(),
    "context closed": lambda runner, context, peer, adopted: context.close(),
}


@pytest.mark.parametrize("end", END_OF)
def test_another_object_is_kept_until_the_end_and_left_open(
    runner: Runner, connected: Connect, end: str
) -> None:
    context = runner.context()
    sock, peer = connected()
    wrapper = Wrapper(sock)
    reference = weakref.ref(wrapper)
    adopted = Adopted(context, wrapper)
    del wrapper
    gc.collect()
    runner.turns(2)
    assert reference() is not None
    END_OF[end](runner, context, peer, adopted)
    runner.run(lambda: {"close", "error"} & set(adopted.recorder.names))
    gc.collect()
    assert reference() is None
    assert sock.fileno() != -1
    os.fstat(sock.fileno())
    runner.run(lambda: descriptors_of(socket_name(sock)) == 1)


def test_another_object_may_be_closed_by_its_owner_meanwhile(
    runner: Runner, connected: Connect
) -> None:
    sock, peer = connected()
    adopted = Adopted(runner.context(), Wrapper(sock))
    sock.close()
    peer.send(STREAM)
    runner.run(adopted.recorder.saw("message", 3))
    adopted.connection.send("still there")
    runner.run(peer.has_head)
    peer.take_head()
    runner.run(peer.saw_frames())


def test_the_peer_hears_of_the_end_although_the_object_is_open(
    runner: Runner, connected: Connect
) -> None:
    sock, peer = connected()
    adopted = Adopted(runner.context(), Wrapper(sock), initial_data=upgrade_request())
    peer.send_frame(CLOSE, close_payload(1000))
    runner.run(adopted.recorder.saw("close"))
    runner.run(peer.ended)
    assert sock.fileno() != -1


# Failure


def bad_options() -> dict[str, Any]:
    """Return arguments that adopt() refuses, by a name for each."""
    return {
        "max_message_size": -1,
        "initial_data": "text",
        "compression": "zip",
        "on_message": 5,
    }


@pytest.mark.parametrize("mode", [None, 5.0, 0.0])
@pytest.mark.parametrize("argument", bad_options())
def test_after_a_failure_a_socket_is_as_it_was(
    runner: Runner, connected: Connect, argument: str, mode: float | None
) -> None:
    context = runner.context()
    sock, peer = connected()
    sock.settimeout(mode)
    name, fd, blocking = socket_name(sock), sock.fileno(), os.get_blocking(sock.fileno())
    with pytest.raises((TypeError, ValueError), match=argument):
        context.adopt(sock, **{argument: bad_options()[argument]})
    assert (sock.fileno(), sock.gettimeout(), os.get_blocking(fd)) == (fd, mode, blocking)
    assert descriptors_of(name) == 1
    adopted = Adopted(context, sock)
    peer.send(STREAM)
    runner.run(adopted.recorder.saw("message", 3))


def test_after_a_failure_nothing_is_kept(runner: Runner, connected: Connect) -> None:
    context = runner.context()
    sock, _ = connected()
    wrapper = Wrapper(sock)
    reference = weakref.ref(wrapper)
    with pytest.raises(ValueError, match="max_message_size"):
        context.adopt(wrapper, max_message_size=-1)
    del wrapper
    gc.collect()
    assert reference() is None
    assert context.connections == []


def test_the_default_time_limit_of_sockets_is_not_put_on_one(
    runner: Runner, connected: Connect
) -> None:
    context = runner.context()
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        listening.listen()
        socket.setdefaulttimeout(5)
        try:
            with pytest.raises(ValueError, match="listening"):
                context.adopt(listening)
        finally:
            socket.setdefaulttimeout(None)
        assert os.get_blocking(listening.fileno())


@pytest.mark.parametrize("value", [None, 5, "socket", object(), b"", ["socket"]])
def test_what_has_no_fileno_is_a_type_error(runner: Runner, value: Any) -> None:
    with pytest.raises(TypeError, match="sock must be a socket"):
        runner.context().adopt(value, **no_callbacks())


@pytest.mark.parametrize("value", [None, "5", 5.0, True, b"5"])
def test_fileno_that_returns_no_int_is_a_type_error(runner: Runner, value: Any) -> None:
    with pytest.raises(TypeError, match=r"fileno\(\) must return an int"):
        runner.context().adopt(Answering(value), **no_callbacks())


@pytest.mark.parametrize("value", [-1, -5, 1 << 20, 1 << 40, -(1 << 40), 1 << 80])
def test_fileno_that_returns_no_descriptor_is_a_value_error(runner: Runner, value: int) -> None:
    with pytest.raises(ValueError, match="sock is closed"):
        runner.context().adopt(Answering(value), **no_callbacks())


def test_what_fileno_raises_is_passed_on(runner: Runner) -> None:
    with pytest.raises(LookupError, match="no descriptor today"):
        runner.context().adopt(Answering(LookupError("no descriptor today")), **no_callbacks())


def test_a_closed_socket_is_refused(runner: Runner, connected: Connect) -> None:
    sock, _ = connected()
    sock.close()
    with pytest.raises(ValueError, match="sock is closed"):
        runner.context().adopt(sock, **no_callbacks())


def test_what_is_no_socket_is_refused(runner: Runner) -> None:
    context = runner.context()
    with Path(os.devnull).open("rb") as file, pytest.raises(ValueError, match="not a socket"):
        context.adopt(file, **no_callbacks())
    reading, writing = os.pipe()
    try:
        with pytest.raises(ValueError, match="not a socket"):
            context.adopt(Answering(reading), **no_callbacks())
    finally:
        os.close(reading)
        os.close(writing)


def test_a_listening_socket_is_refused(runner: Runner) -> None:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        sock.listen()
        with pytest.raises(ValueError, match=r"listening; adopt what accept\(\) returns"):
            runner.context().adopt(sock, **no_callbacks())
        assert sock.fileno() != -1


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_a_socket_that_is_not_connected_is_refused(runner: Runner, family: int) -> None:
    with socket.socket(family) as sock:
        with pytest.raises(ValueError, match="not connected"):
            runner.context().adopt(sock, **no_callbacks())
        assert sock.fileno() != -1


def test_a_connection_that_was_reset_is_refused(runner: Runner, connected: Connect) -> None:
    sock, peer = connected()
    peer.reset()
    with pytest.raises(ValueError, match="not connected"):
        runner.context().adopt(sock, **no_callbacks())


def test_datagrams_are_refused(runner: Runner) -> None:
    context = runner.context()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((HOST, 9))
        with pytest.raises(ValueError, match="TCP or Unix stream socket"):
            context.adopt(sock, **no_callbacks())
    for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        first, second = socket.socketpair(socket.AF_UNIX, kind)
        with first, second, pytest.raises(ValueError, match="TCP or Unix stream socket"):
            context.adopt(first, **no_callbacks())


def test_a_socket_with_tls_is_refused(runner: Runner, connected: Connect) -> None:
    sock, _ = connected()
    with server_context().wrap_socket(
        sock, server_side=True, do_handshake_on_connect=False
    ) as wrapped:
        assert isinstance(wrapped, ssl.SSLSocket)
        with pytest.raises(TypeError, match="TLS"):
            runner.context().adopt(wrapped, **no_callbacks())
        assert wrapped.fileno() != -1


def test_the_same_socket_is_adopted_once(runner: Runner, connected: Connect) -> None:
    context = runner.context()
    sock, _ = connected()
    adopted = Adopted(context, sock, initial_data=STREAM)
    with pytest.raises(ValueError, match="closed"):  # which it is for whoever had it
        context.adopt(sock, **no_callbacks())
    runner.run(adopted.recorder.saw("message", 3))


def test_the_same_object_is_adopted_once(runner: Runner, connected: Connect) -> None:
    context = runner.context()
    sock, peer = connected()
    wrapper = Wrapper(sock)
    adopted = Adopted(context, wrapper)
    with pytest.raises(ValueError, match="adopted already"):
        context.adopt(wrapper, **no_callbacks())
    peer.send(STREAM)
    runner.run(adopted.recorder.saw("message", 3))


def test_another_object_of_the_same_socket_is_refused(runner: Runner, connected: Connect) -> None:
    context = runner.context()
    sock, peer = connected()
    with sock.dup() as another:
        adopted = Adopted(context, sock)
        with pytest.raises(ValueError, match="adopted already"):
            context.adopt(another, **no_callbacks())
        assert another.fileno() != -1
        peer.send(STREAM)
        runner.run(adopted.recorder.saw("message", 3))


def test_a_socket_of_another_context_is_refused(runner: Runner, connected: Connect) -> None:
    sock, peer = connected()
    wrapper = Wrapper(sock)
    adopted = Adopted(runner.context(), wrapper)
    with pytest.raises(ValueError, match="adopted already"):
        runner.context().adopt(wrapper, **no_callbacks())
    peer.send(STREAM)
    runner.run(adopted.recorder.saw("message", 3))


def test_a_connected_client_is_no_server_but_may_be_adopted_by_mistake(
    runner: Runner, connected: Connect
) -> None:
    # Nothing tells the two ends of a connection apart. What comes is no request.
    sock, peer = connected()
    adopted = Adopted(runner.context(), sock)
    peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
    runner.run(adopted.recorder.saw("error"))
    assert isinstance(adopted.error, uvws.HandshakeError)


@pytest.mark.parametrize("value", ["text", 5, ["GET"], object()])
def test_initial_data_of_a_wrong_type_is_refused(
    runner: Runner, connected: Connect, value: Any
) -> None:
    sock, _ = connected()
    with pytest.raises(TypeError, match="initial_data must be bytes-like or None"):
        runner.context().adopt(sock, initial_data=value, **no_callbacks())
    assert sock.fileno() != -1


def test_another_thread_may_not_adopt(runner: Runner, connected: Connect) -> None:
    context = runner.context()
    sock, _ = connected()
    raised: list[BaseException] = []

    def adopt() -> None:
        try:
            context.adopt(sock, **no_callbacks())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=adopt)
    thread.start()
    thread.join()
    assert [type(each) for each in raised] == [uvws.WrongThread]
    assert sock.fileno() != -1
    assert os.get_blocking(sock.fileno())


def test_a_closed_context_may_not_adopt(runner: Runner, connected: Connect) -> None:
    context = runner.context()
    context.close()
    sock, _ = connected()
    with pytest.raises(uvws.InvalidState, match="closed"):
        context.adopt(sock, **no_callbacks())
    assert sock.fileno() != -1


_LIMITED = """
    import asyncio, errno, os, resource, socket, sys
    import uvws
    from support.wire import upgrade_request

    class Wrapper:
        def __init__(self, sock):
            self.sock = sock

        def fileno(self):
            return self.sock.fileno()

    def limit(number):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))

    async def connects(context, sock):
        done = asyncio.get_running_loop().create_future()
        context.adopt(
            sock,
            initial_data=upgrade_request(),
            on_connect=lambda *_: done.set_result(None),
            on_error=lambda _, error: done.set_exception(error),
        )
        await done
"""


@pytest.mark.parametrize("wrap", ["Wrapper", "(lambda sock: sock)"])
def test_without_a_descriptor_left_adopting_fails_and_changes_nothing(wrap: str) -> None:
    run_program(
        _LIMITED
        + f"""
    async def main():
        with uvws.Context() as context:
            sock, peer = socket.socketpair()
            adoptee = {wrap}(sock)
            fd = sock.fileno()
            limit(64)
            taken = []
            try:
                while True:
                    taken.append(os.dup(0))
            except OSError:
                pass
            try:
                context.adopt(adoptee)
            except OSError as error:
                assert error.errno == errno.EMFILE, error
            else:
                raise AssertionError("adopted")
            assert sock.fileno() == fd and os.get_blocking(fd)
            for each in taken:
                os.close(each)
            await connects(context, adoptee)
            peer.close()
        sock.close()

    asyncio.run(main())
        """
    )


@pytest.mark.parametrize("wrap", ["Wrapper", "(lambda sock: sock)"])
def test_a_limit_that_was_raised_later_fails_cleanly(wrap: str) -> None:
    # libwebsockets makes its tables as long as the limit is when the context is made.
    run_program(
        _LIMITED
        + f"""
    async def main():
        limit(64)
        with uvws.Context() as context:
            limit(256)
            sock, peer = socket.socketpair()
            adoptee = {wrap}(sock)
            fd = sock.fileno()
            taken = [os.dup(0) for _ in range(100)]
            before = os.listdir("/proc/self/fd")
            try:
                context.adopt(adoptee)
            except OSError as error:
                assert error.errno == errno.EMFILE, error
            else:
                raise AssertionError("adopted")
            assert sock.fileno() == fd and os.get_blocking(fd)
            assert len(os.listdir("/proc/self/fd")) == len(before)
            assert context.connections == []
            for each in taken:
                os.close(each)
            await connects(context, adoptee)
            peer.close()
        sock.close()

    asyncio.run(main())
        """
    )


# Handshakes that come to nothing


def without(line: str) -> bytes:
    """Return a request that lacks a header."""
    lines = upgrade_request().split(b"\r\n")
    return b"\r\n".join(each for each in lines if not each.lower().startswith(line.encode()))


REFUSED = {
    "plain HTTP": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 426),
    "HTTP/1.0": (b"GET / HTTP/1.0\r\n\r\n", 426),
    "with a body": (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody", 426),
    "no version": (without("sec-websocket-version"), 426),
    "old version": (upgrade_request().replace(b"Version: 13", b"Version: 8"), 426),
    "no key": (without("sec-websocket-key"), 400),
    "bad key": (upgrade_request().replace(b"dGhl", b"!!!!"), 400),
    "another upgrade": (upgrade_request().replace(b"Upgrade: websocket", b"Upgrade: h2c"), 426),
}


@pytest.mark.parametrize("read", [True, False], ids=["read", "waiting"])
@pytest.mark.parametrize("what", REFUSED)
def test_a_refused_request_is_an_error_with_the_status(
    runner: Runner, connected: Connect, what: str, read: bool
) -> None:
    request, status = REFUSED[what]
    sock, peer = connected()
    adopted = Adopted(runner.context(), sock, initial_data=request if read else None)
    if not read:
        peer.send(request)
    runner.run(adopted.recorder.saw("error"))
    runner.run(peer.ended)
    assert isinstance(adopted.error, uvws.HandshakeError)
    assert adopted.error.status == status
    assert peer.take()[len("HTTP/1.x ") :].startswith(b"%d " % status)
    assert adopted.connection.state == "closed"


def test_a_plain_request_is_told_what_is_wanted(runner: Runner, connected: Connect) -> None:
    sock, peer = connected()
    Adopted(runner.context(), sock, initial_data=b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    runner.run(peer.ended)
    head = peer.take_head().lower()
    assert b" 426 " in head.splitlines()[0]
    assert b"\r\nupgrade: websocket\r\n" in head


@pytest.mark.parametrize("behind", [b"", b"bo"], ids=["none", "some"])
def test_a_refused_request_ends_behind_its_body(
    runner: Runner, connected: Connect, behind: bytes
) -> None:
    sock, peer = connected()
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n"
    adopted = Adopted(runner.context(), sock, initial_data=head + behind)
    runner.run(peer.has_head)
    runner.turns(3)
    assert adopted.recorder.events == []
    peer.send(b"body"[len(behind) :])
    runner.run(adopted.recorder.saw("error"))
    runner.run(peer.ended)


GARBAGE = {
    "zeros": bytes(500),
    "ones": b"\xff" * 500,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + binary(400),
    "a line": b"hello\r\n\r\n",
    "a frame": masked(TEXT, b"hello"),
    "random": binary(5000),
    "an endless line": b"GET /" + b"a" * 100_000,
    "endless headers": b"GET / HTTP/1.1\r\n" + b"X-Header: of some length\r\n" * 5000,
}


@pytest.mark.parametrize("read", [True, False], ids=["read", "waiting"])
@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_ends_with_one_error(
    runner: Runner, connected: Connect, what: str, read: bool
) -> None:
    sock, peer = connected()
    adopted = Adopted(runner.context(), sock, initial_data=GARBAGE[what] if read else None)
    if not read:
        peer.send_in_thread(lambda send: send(GARBAGE[what]))
    else:
        peer.finish()
    runner.run(adopted.recorder.saw("error"))
    runner.run(peer.ended)
    runner.turns(3)
    assert isinstance(adopted.error, uvws.HandshakeError)
    # libwebsockets answers some of it with a status of its own, which it does not tell us.
    assert adopted.error.status in (None, int((peer.take().split() or [b"", b"0"])[1]))
    assert adopted.connection.state == "closed"


@pytest.mark.parametrize("how", ["finish", "reset"])
@pytest.mark.parametrize("read", [0, 40, HEAD - 1])
def test_a_peer_that_goes_away_before_its_request_is_whole(
    runner: Runner, connected: Connect, read: int, how: str
) -> None:
    sock, peer = connected()
    adopted = Adopted(runner.context(), sock, initial_data=STREAM[:read])
    runner.turns(2)
    getattr(peer, how)()
    runner.run(adopted.recorder.saw("error"))
    runner.turns(3)
    assert isinstance(adopted.error, uvws.HandshakeError)
    assert adopted.error.status is None
    assert adopted.connection.state == "closed"


def test_a_peer_that_was_gone_before_is_an_error(runner: Runner, connected: Connect) -> None:
    sock, peer = connected()
    peer.finish()
    adopted = Adopted(runner.context(), sock)
    runner.run(adopted.recorder.saw("error"))
    assert adopted.error.status is None


@loop_kinds("asyncio")
def test_a_peer_that_never_asks_is_given_up(runner: Runner, connected: Connect) -> None:
    # libwebsockets waits for 15 s, and no option of ours changes that: hence one kind of loop.
    context = runner.context()
    pairs = [connected() for _ in range(2)]
    silent, halting = (
        Adopted(context, sock, initial_data=read)
        for (sock, _), read in zip(pairs, (None, STREAM[:40]), strict=True)
    )
    runner.run(lambda: silent.recorder.names and halting.recorder.names, timeout=25)
    for adopted, (_, peer) in zip((silent, halting), pairs, strict=True):
        assert isinstance(adopted.error, uvws.HandshakeError)
        assert adopted.error.status is None
        runner.run(peer.ended)


def test_nothing_works_on_one_that_failed(runner: Runner, connected: Connect) -> None:
    sock, _ = connected()
    adopted = Adopted(runner.context(), sock, initial_data=b"GET / HTTP/1.1\r\n\r\n")
    runner.run(adopted.recorder.saw("error"))
    with pytest.raises(uvws.ConnectionClosed):
        adopted.connection.send("nobody there")
    adopted.connection.close()
    adopted.connection.pause_recv()
    adopted.connection.resume_recv()
    assert adopted.recorder.names == ["error"]


def test_close_while_connecting_does_nothing(runner: Runner, connected: Connect) -> None:
    sock, peer = connected()
    adopted = Adopted(runner.context(), sock)
    adopted.connection.close()
    peer.send(STREAM)
    runner.run(adopted.recorder.saw("message", 3))


# The end of the context


@pytest.mark.parametrize("read", [0, 40, HEAD, len(STREAM)])
@pytest.mark.parametrize("wrapped", [False, True])
def test_closing_the_context_while_connecting(
    runner: Runner, connected: Connect, read: int, wrapped: bool
) -> None:
    context = runner.context()
    sock, peer = connected()
    name = socket_name(sock)
    adopted = Adopted(context, Wrapper(sock) if wrapped else sock, initial_data=STREAM[:read])
    context.close()
    assert isinstance(adopted.error, uvws.ConnectionClosed)
    assert adopted.connection.state == "destroyed"
    runner.run(peer.ended)
    runner.turns(2)
    assert descriptors_of(name) == wrapped
    assert adopted.recorder.names == ["error"]


def test_closing_the_context_while_open(runner: Runner, connected: Connect) -> None:
    context = runner.context()
    sock, peer = connected()
    adopted = Adopted(context, sock, initial_data=STREAM)
    runner.run(adopted.recorder.saw("message", 3))
    context.close()
    assert adopted.recorder.events[-1] == ("close", 1001, "")
    runner.run(peer.ended)
    runner.run(peer.has_head)
    peer.take_head()
    assert peer.frames()[-1].payload == close_payload(1001)


def test_a_context_that_is_dropped_is_kept_by_one_that_is_connecting(
    runner: Runner, connected: Connect
) -> None:
    sock, peer = connected()
    recorder = Recorder()
    uvws.Context(runner.loop).adopt(sock, **recorder.callbacks)
    gc.collect()
    peer.send(upgrade_request() + masked(CLOSE, close_payload(1000)))

    def end() -> None:
        runner.run(recorder.saw("close"))
        gc.collect()
        runner.turns(3)

    with pytest.warns(ResourceWarning, match="unclosed"):
        end()
    assert recorder.names == ["connect", "close"]


# From within callbacks

CALLBACKS = (
    "on_connect",
    "on_message",
    "on_close",
    "on_error",
    "on_pong",
    "on_drain",
    "on_handshake",
    "on_request",
)
READ = {
    "nothing": b"",
    "the beginning": STREAM[:40],
    "all": STREAM,
    "too much": upgrade_request() + masked(TEXT, b"x" * 20_000) * 20,
    "a bad request": without("sec-websocket-key"),
    "garbage": b"\xff" * 500,
}


class Busy:
    """A listener in whose callbacks something is done, once, and a peer that provokes them all."""

    def __init__(self, runner: Runner, callback: str, act: Callable[[], None]) -> None:
        self.runner = runner
        self.context = runner.context()
        self.heard = Recorder()
        self.acted = False
        answers: dict[str, Any] = {
            "on_handshake": lambda: True,
            "on_request": lambda: uvws.Response(200, {}, b"answered"),
            "on_message": lambda: None,
        }

        def hook(name: str) -> Callable[..., Any]:
            record = self.heard.callbacks.get(name)

            def called(*arguments: Any) -> Any:
                if record is not None:
                    record(*arguments)
                if name == callback and not self.acted:
                    self.acted = True
                    act()
                return answers.get(name, lambda: None)()

            return called

        self.listener = self.context.listen(
            host=HOST, max_message_size=1000, **{name: hook(name) for name in CALLBACKS}
        )
        self.callback = callback

    def provoke(self) -> RawPeer:
        """Have the callback called."""
        peer = dial(self.runner, self.listener)
        if self.callback == "on_request":
            peer.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return peer
        peer.send(STREAM + masked(PONG, b"pong"))
        if self.callback == "on_drain":
            self.runner.run(self.heard.saw("connect"))
            self.heard.connection.send("drain")
        elif self.callback == "on_error":
            peer.send_frame(TEXT, b"x" * 1001)
        elif self.callback == "on_close":
            peer.send_frame(CLOSE, close_payload(1000))
        return peer


@pytest.mark.parametrize("read", READ)
@pytest.mark.parametrize("callback", CALLBACKS)
def test_adopting_in_a_callback(
    runner: Runner, connected: Connect, callback: str, read: str
) -> None:
    sock, peer = connected()
    made: list[Adopted] = []
    busy = Busy(
        runner,
        callback,
        lambda: made.append(Adopted(busy.context, sock, initial_data=READ[read])),
    )
    provoking = busy.provoke()
    runner.run(lambda: made)
    recorder = made[0].recorder
    if read in ("nothing", "the beginning"):
        peer.send(STREAM[len(READ[read]) :])
    if read in ("a bad request", "garbage"):
        runner.run(recorder.saw("error"))
        assert isinstance(made[0].error, uvws.HandshakeError)
    else:
        count = 20 if read == "too much" else 3
        runner.run(recorder.saw("message", count))
        assert recorder.names == ["connect", *["message"] * count]
    if callback == "on_request":
        runner.run(provoking.ended)
        assert provoking.take().endswith(b"answered")
    else:
        runner.run(busy.heard.saw("message", 3))
        assert busy.heard.messages[:3] == ["first", b"second", "dritté"]


@pytest.mark.parametrize("read", READ)
@pytest.mark.parametrize("callback", CALLBACKS)
def test_adopting_in_a_callback_and_closing_the_context(
    runner: Runner, connected: Connect, callback: str, read: str
) -> None:
    sock, peer = connected()
    made: list[Adopted] = []

    def act() -> None:
        made.append(Adopted(busy.context, sock, initial_data=READ[read]))
        busy.context.close()

    busy = Busy(runner, callback, act)
    provoking = busy.provoke()
    runner.run(lambda: made)
    runner.run(lambda: peer.ended() and provoking.ended())
    assert isinstance(made[0].error, uvws.ConnectionClosed)
    assert made[0].connection.state == "destroyed"
    assert sock.fileno() == -1


def test_adopting_in_the_callbacks_of_an_adopted_one(runner: Runner, connected: Connect) -> None:
    context = runner.context()
    made: list[Adopted] = []

    def adopt_next(*_: Any) -> None:
        if len(made) < 20:
            sock, _ = connected()
            recorder = Recorder(on_connect=adopt_next)
            made.append(Adopted(context, sock, recorder, initial_data=STREAM))

    adopt_next()
    runner.run(lambda: len(made) == 20 and made[-1].recorder.count("message") == 3)
    assert all(each.recorder.names == ["connect", *["message"] * 3] for each in made)


def test_adopting_before_the_loop_has_ever_run(runner: Runner, connected: Connect) -> None:
    sock, peer = connected()
    peer.send(STREAM[HEAD:])
    adopted = Adopted(runner.context(), sock, initial_data=STREAM[:HEAD])
    runner.run(adopted.recorder.saw("message", 3))


def test_an_exception_in_on_error_is_reported(runner: Runner, connected: Connect) -> None:
    sock, _ = connected()

    def fail(*_: Any) -> None:
        raise LookupError("from on_error")

    recorder = Recorder(on_error=fail)
    Adopted(runner.context(), sock, recorder, initial_data=b"GET / HTTP/1.1\r\n\r\n")
    runner.run(recorder.saw("error"))
    runner.turns(2)
    assert [str(each) for each in runner.reported] == ["from on_error"]
    runner.reported.clear()
