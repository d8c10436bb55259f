"""Peers made by hand: plain sockets that speak as much WebSocket as a test wants of them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from .deadlines import time_limit
from .runners import Runner

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{{headers}}\r\n"
)
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_READ_SIZE = 1 << 18


class Frame(NamedTuple):
    """A frame as it was on the wire, unmasked."""

    opcode: int
    payload: bytes
    final: bool = True
    masked: bool = False
    reserved: int = 0


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    mask: bytes | None = None,
    reserved: int = 0,
) -> bytes:
    """Lay a frame out (RFC 6455, section 5.2).

    Args:
        mask: the masking key; None leaves the frame unmasked.
        reserved: the three reserved bits.
    """
    first = (0x80 if final else 0) | reserved << 4 | opcode
    masked = 0x80 if mask is not None else 0
    size = len(payload)
    if size < 126:
        header = struct.pack("!BB", first, masked | size)
    elif size < 65536:
        header = struct.pack("!BBH", first, masked | 126, size)
    else:
        header = struct.pack("!BBQ", first, masked | 127, size)
    return header + (mask + masked_with(mask, payload) if mask is not None else payload)


def masked_with(key: bytes, payload: bytes) -> bytes:
    """Mask or unmask."""
    size = len(payload)
    whole = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")).to_bytes(size, "big")


def close_payload(code: int, reason: str = "") -> bytes:
    """Return the body of a Close frame."""
    return struct.pack("!H", code) + reason.encode()


def accept_key(key: str) -> str:
    """Return the Sec-WebSocket-Accept for a Sec-WebSocket-Key."""
    return base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()


def upgrade_request(path: str = "/", host: str = "localhost", headers: str = "") -> bytes:
    """Return an opening handshake."""
    return UPGRADE.format(path=path, host=host, headers=headers).encode("latin-1")


def upgrade_response(request: bytes, headers: str = "") -> bytes:
    """Return the answer to an opening handshake."""
    found = re.search(rb"(?i)sec-websocket-key: *(\S+)", request)
    assert found, request
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(found[1].decode())}\r\n{headers}\r\n"
    ).encode("latin-1")


def parse_frames(data: bytes) -> tuple[list[Frame], bytes]:
    """Return the whole frames at the beginning of `data`, and what follows them."""
    frames = []
    at = 0
    while len(data) >= at + 2:
        size, start = data[at + 1] & 0x7F, at + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, start = int.from_bytes(data[start : start + width], "big"), start + width
        masked = bool(data[at + 1] & 0x80)
        key, start = (data[start : start + 4], start + 4) if masked else (b"", start)
        if len(data) < start + size:
            break
        payload = bytes(data[start : start + size])
        payload = masked_with(key, payload) if masked else payload
        first = data[at]
        frames.append(Frame(first & 0x0F, payload, bool(first & 0x80), masked, first >> 4 & 7))
        at = start + size
    return frames, data[at:]


class RawPeer:
    """One end of a connection, as a plain socket whose bytes are read in a thread.

    Attributes:
        sock: the socket; `send` and the like may be used from the test's thread.
        data: what was received and not yet taken.
        is_ended: the other side has closed or reset the connection.
        was_reset: it was a reset.
        masks: whether `send_frame` masks, as a client must.
    """

    def __init__(self, runner: Runner, sock: socket.socket, *, masks: bool) -> None:
        self.sock = sock
        self.masks = masks
        self.data = b""
        self.is_ended = False
        self.was_reset = False
        self._wake = runner.wake
        self._lock = threading.Lock()
        self._parts: list[bytes] = []
        self._may_read = threading.Event()
        self._may_read.set()
        self._stopped = False
        self._senders: list[threading.Thread] = []
        sock.settimeout(1)
        self._reader = threading.Thread(target=self._read, name="raw peer", daemon=True)
        self._reader.start()

    # Reading

    def pause(self) -> None:
        """Read no more."""
        self._may_read.clear()

    def resume(self) -> None:
        """Read on."""
        self._may_read.set()

    def take(self) -> bytes:
        """Return all that was received since the last time, and forget it."""
        self._collect()
        data, self.data = self.data, b""
        return data

    def has_head(self) -> bool:
        """Tell whether an HTTP head has been received whole."""
        self._collect()
        return b"\r\n\r\n" in self.data

    def take_head(self) -> bytes:
        """Return the HTTP head; what is behind it stays."""
        self._collect()
        head, separator, self.data = self.data.partition(b"\r\n\r\n")
        return head + separator

    def frames(self) -> list[Frame]:
        """Return the frames received so far."""
        self._collect()
        return parse_frames(self.data)[0]

    def saw_frames(self, count: int = 1) -> Callable[[], bool]:
        """Return a predicate for Runner.run."""

        def seen() -> bool:
            return len(self.frames()) >= count

        seen.__qualname__ = f"the peer received {count} frames"
        return seen

    def saw_close(self) -> bool:
        """Tell whether a Close frame has come."""
        return any(each.opcode == CLOSE for each in self.frames())

    def ended(self) -> bool:
        """Tell whether the other side has ended the connection."""
        return self.is_ended

    def _collect(self) -> None:
        with self._lock:
            parts, self._parts = self._parts, []
        if parts:
            self.data += b"".join(parts)

    def _read(self) -> None:
        while not self._stopped:
            if not self._may_read.wait(1):
                continue
            try:
                got = self.sock.recv(_READ_SIZE)
            except TimeoutError:
                continue
            except OSError as error:
                self.was_reset = isinstance(error, ConnectionResetError)
                got = b""
            self.on_received(got)
            if not got:
                self.is_ended = True
            self._wake()
            if not got:
                return

    def on_received(self, got: bytes) -> None:
        """Keep what came; a test that receives a lot may do something else with it."""
        with self._lock:
            self._parts.append(got)

    # Writing

    def send(self, data: bytes) -> None:
        """Send bytes that fit into the socket's buffers."""
        self.sock.sendall(data)

    def send_frame(
        self, opcode: int, payload: bytes = b"", *, final: bool = True, reserved: int = 0
    ) -> None:
        """Send a frame, masked if this is the client."""
        self.send(self.frame(opcode, payload, final=final, reserved=reserved))

    def frame(
        self, opcode: int, payload: bytes = b"", *, final: bool = True, reserved: int = 0
    ) -> bytes:
        """Lay a frame out the way this end has to."""
        mask = os.urandom(4) if self.masks else None
        return frame(opcode, payload, final=final, mask=mask, reserved=reserved)

    def send_in_thread(self, send: Callable[[Callable[[bytes], None]], None]) -> None:
        """Call a function in a thread with one that sends: for more than the buffers hold."""

        def push(data: bytes) -> None:
            view = memoryview(data)
            while len(view) and not self._stopped:
                with contextlib.suppress(TimeoutError):
                    view = view[self.sock.send(view) :]

        def work() -> None:
            with contextlib.suppress(OSError):
                send(push)

        thread = threading.Thread(target=work, name="raw sender", daemon=True)
        self._senders.append(thread)
        thread.start()

    # Ending

    def finish(self) -> None:
        """Close the connection in good order (FIN); what comes is read on."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End the connection with a RST."""
        self._stop_threads(socket.SHUT_RD)  # which tells the other side nothing
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def stop(self) -> None:
        """Close the socket."""
        self._stop_threads(socket.SHUT_RDWR)
        self.sock.close()

    def _stop_threads(self, how: int) -> None:
        self._stopped = True
        self._may_read.set()
        with contextlib.suppress(OSError):  # it may be closed
            self.sock.shutdown(how)  # ends recv() in the thread
        for thread in (self._reader, *self._senders):
            thread.join(time_limit(5))
            assert not thread.is_alive(), "a thread of a raw peer does not end"


def dial(runner: Runner, listener: Any, *, receive_buffer: int = 0, host: str = "") -> RawPeer:
    """Connect a plain socket to a listener; nothing is sent yet.

    Args:
        receive_buffer: SO_RCVBUF, 0 for the system's.
        host: address to connect to; a path is a Unix socket.
    """
    host = host or "127.0.0.1"
    family = socket.AF_UNIX if host.startswith("/") else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect(host if family == socket.AF_UNIX else (host, listener.port))
    except BaseException:
        sock.close()
        raise
    peer = RawPeer(runner, sock, masks=True)
    runner.add_peer(peer)
    return peer


def dial_websocket(runner: Runner, listener: Any, *, headers: str = "", **options: Any) -> RawPeer:
    """Connect a plain socket to a listener and do the opening handshake."""
    peer = dial(runner, listener, **options)
    peer.send(upgrade_request(headers=headers))
    runner.run(peer.has_head)
    head = peer.take_head()
    assert head.startswith(b"HTTP/1.1 101 "), head
    return peer


class RawServer:
    """A listening socket whose connections are plain sockets.

    Attributes:
        port: where it listens.
        peers: the connections, in order.
    """

    def __init__(
        self, runner: Runner, *, receive_buffer: int = 0, address: tuple[str, int] | str = ""
    ) -> None:
        where = address or ("127.0.0.1", 0)
        family = socket.AF_UNIX if isinstance(where, str) else socket.AF_INET
        family = socket.AF_INET6 if not isinstance(where, str) and ":" in where[0] else family
        self._runner = runner
        self._sock = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._sock.bind(where)
        self._sock.listen(16)
        self._sock.settimeout(0.1)
        self.port = 0 if family == socket.AF_UNIX else self._sock.getsockname()[1]
        self.peers: list[RawPeer] = []
        self._stopped = False
        self._thread = threading.Thread(target=self._accept, name="raw server", daemon=True)
        self._thread.start()
        runner.add_peer(self)

    @property
    def url(self) -> str:
        """Where to connect to."""
        return f"ws://127.0.0.1:{self.port}/"

    def accepted(self) -> bool:
        """Tell whether there is a connection."""
        return bool(self.peers)

    def accept(self) -> RawPeer:
        """Run the loop until there is a connection whose request is whole; nothing is answered."""
        self._runner.run(self.accepted)
        peer = self.peers[-1]
        self._runner.run(peer.has_head)
        return peer

    def accept_websocket(self, headers: str = "", behind: bytes = b"") -> RawPeer:
        """Accept a connection and answer the handshake, with more bytes in the same segment."""
        peer = self.accept()
        peer.send(upgrade_response(peer.take_head(), headers) + behind)
        return peer

    def stop(self) -> None:
        """Listen no more, and close the connections."""
        self._stopped = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)  # ends accept()
        self._thread.join(time_limit(5))
        self._sock.close()
        for peer in self.peers:
            peer.stop()

    def _accept(self) -> None:
        while not self._stopped:
            try:
                sock, _ = self._sock.accept()
            except TimeoutError:
                continue
            except OSError:
                return  # stopped
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.peers.append(RawPeer(self._runner, sock, masks=False))
            self._runner.wake()


def shrink_send_buffer(peer: RawPeer, size: int) -> None:
    """Set SO_SNDBUF of the socket in this process that `peer` is connected to."""
    wanted = peer.sock.getsockname(), peer.sock.getpeername()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            copy = os.dup(int(entry.name))
            try:
                sock = socket.socket(fileno=copy)
            except OSError:  # it is something else
                os.close(copy)
                continue
            with sock:
                if (sock.getpeername(), sock.getsockname()) == wanted:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
                    return
    raise AssertionError("no socket of this process is connected to the peer")
