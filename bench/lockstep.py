"""A WebSocket peer that waits for each answer: what it makes the other side do is always the same.

Standard library only. It is never what is measured, so it need not be fast.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

from harness import BenchError
from wire import CLOSE, GUID, frame, unmask

PATIENCE_SECONDS = 120.0
PING, PONG = 9, 10
COMPRESSED = 4
MASKED = 0x80
KEY = b"\x12\x34\x56\x78"
EMPTY_BLOCK = b"\x00\x00\xff\xff"
REQUEST = (
    "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
EXTENSION = "Sec-WebSocket-Extensions: permessage-deflate\r\n"


class Lockstep:
    """One connection, after its handshake."""

    def __init__(self, stream: socket.socket, *, client: bool, deflate: bool = False) -> None:
        stream.settimeout(PATIENCE_SECONDS)
        self._stream = stream
        self._client = client
        self._pending = bytearray()
        self._deflate = zlib.compressobj(1, zlib.DEFLATED, -15) if deflate else None
        self._inflate = zlib.decompressobj(-15)

    @classmethod
    def to(cls, port: int, *, certificate: Path | None = None, deflate: bool = False) -> Lockstep:
        """Be a client, over TLS if a certificate is to be trusted."""
        stream = socket.create_connection(("127.0.0.1", port))
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if certificate is not None:
            tls = ssl.create_default_context(cafile=certificate)
            stream = tls.wrap_socket(stream, server_hostname="localhost")
        made = cls(stream, client=True, deflate=deflate)
        stream.sendall((REQUEST + (EXTENSION if deflate else "") + "\r\n").encode())
        answer = made._head()
        if b" 101 " not in answer or deflate != (b"permessage-deflate" in answer):
            raise BenchError(f"the server answered {answer!r}")
        return made

    @classmethod
    def accepted(cls, stream: socket.socket) -> Lockstep:
        """Be a server."""
        made = cls(stream, client=False)
        head = made._head().decode()
        key = head.lower().index("sec-websocket-key:") + len("sec-websocket-key:")
        digest = hashlib.sha1(head[key:].split("\r\n")[0].strip().encode() + GUID).digest()
        stream.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
        )
        return made

    def send(self, opcode: int, messages: Sequence[bytes], *, ping: bytes | None = None) -> None:
        """Send messages, and a Ping behind them, all at once."""
        frames = [self._framed(opcode, each) for each in messages]
        if ping is not None:
            frames.append(self._framed(PING, ping))
        self._stream.sendall(b"".join(frames))

    def expect(self, opcode: int, messages: Sequence[bytes]) -> None:
        """Wait for messages, which must be these."""
        for wanted in messages:
            got = self._receive()
            if got != (opcode, wanted):
                raise BenchError(f"opcode {got[0]} and {len(got[1])} bytes came, or wrong ones")

    def close(self) -> None:
        """Close, as RFC 6455 has it."""
        code = struct.pack(">H", 1000)
        self.send(CLOSE, [code])
        self.expect(CLOSE, [code])
        if self._client and self._stream.recv(1) != b"":
            raise BenchError("something came behind the Close frame")
        self._stream.close()

    def _framed(self, opcode: int, data: bytes) -> bytes:
        rsv = 0
        if self._deflate is not None and opcode < CLOSE:
            packed = self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
            data, rsv = packed.removesuffix(EMPTY_BLOCK), COMPRESSED
        if not self._client:
            return frame(opcode, data, rsv=rsv)
        head = frame(opcode, data, rsv=rsv, mask=MASKED)[: -len(data)]
        return head + KEY + unmask(data, KEY)

    def _receive(self) -> tuple[int, bytes]:
        first, second = self._read(2)
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(self._read(2 if size == 126 else 8), "big")
        key = self._read(4) if second & MASKED else None
        data = self._read(size)
        if key is not None:
            data = unmask(data, key)
        if first >> 4 & COMPRESSED:
            data = self._inflate.decompress(data + EMPTY_BLOCK)
        return first & 0xF, data

    def _read(self, size: int) -> bytes:
        while len(self._pending) < size:
            self._more()
        data = bytes(self._pending[:size])
        del self._pending[:size]
        return data

    def _head(self) -> bytes:
        while b"\r\n\r\n" not in self._pending:
            self._more()
        return self._read(self._pending.index(b"\r\n\r\n") + 4)

    def _more(self) -> None:
        got = self._stream.recv(1 << 20)
        if not got:
            raise BenchError("the other side ended the connection")
        self._pending += got
