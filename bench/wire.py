"""WebSocket on the wire, for the checks: standard library only, and nothing checked twice."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CLOSE = 8
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def frame(opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0, mask: int = 0) -> bytes:
    """A frame as a server sends it."""
    size = len(payload)
    head = bytes([fin << 7 | rsv << 4 | opcode])
    if size < 126:
        return head + bytes([mask | size]) + payload
    if size < 1 << 16:
        return head + bytes([mask | 126]) + struct.pack(">H", size) + payload
    return head + bytes([mask | 127]) + struct.pack(">Q", size) + payload


def unmask(data: bytes, key: bytes) -> bytes:
    """Undo the masking."""
    size = len(data)
    stream = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")


async def read_frame(reader: asyncio.StreamReader, *, masked: bool = True) -> tuple[int, bytes]:
    """Read one frame: its first byte less FIN, which must be set, and its payload."""
    first, second = await reader.readexactly(2)
    assert first & 0x80
    assert bool(second & 0x80) == masked
    size = second & 0x7F
    if size == 126:
        (size,) = struct.unpack(">H", await reader.readexactly(2))
        assert size > 125
    elif size == 127:
        (size,) = struct.unpack(">Q", await reader.readexactly(8))
        assert size > 0xFFFF
    key = await reader.readexactly(4) if masked else bytes(4)
    return first & 0x7F, unmask(await reader.readexactly(size), key)


async def shake_hands(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    status: bytes = b"101 Switching Protocols",
    accept: bytes = b"",
    extra: bytes = b"",
) -> bytes:
    """Answer a request, in an unusual but right way unless told otherwise; returns the request."""
    request = await reader.readuntil(b"\r\n\r\n")
    key = request.lower().split(b"sec-websocket-key:")[1].split(b"\r\n")[0].strip()
    key = request[request.lower().index(key) :][: len(key)]
    accept = accept or base64.b64encode(hashlib.sha1(key + GUID).digest())
    writer.write(
        b"HTTP/1.1 " + status + b"\r\nconnection: upgrade\r\nUPGRADE:WebSocket \r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n" + extra + b"\r\n"
    )
    return request


def answer_close(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Answer a Close frame, which has the code 1000."""
    assert data == struct.pack(">H", 1000)
    writer.write(frame(CLOSE, data))
    writer.close()


async def attempt(
    binary: Path, handler: Handler, *options: str, tls: ssl.SSLContext | None = None
) -> tuple[int, str]:
    """Run the load generator against a server; its status and what it said."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=1 << 24, ssl=tls)
    async with server:
        port = server.sockets[0].getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            str(binary),
            f"--port={port}",
            *("--seconds=0.2", "--warmup=0.05"),
            *options,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, complaint = await process.communicate()
    assert process.returncode is not None
    return process.returncode, complaint.decode().strip()


def verdict(what: str, expected: str, got: tuple[int, str]) -> list[str]:
    """Compare; `expected` is part of a complaint, or several with | between, or empty for none.

    Returns:
        What is to be reported: nothing, or one line.
    """
    status, said = got
    right = status == 1 and any(words in said for words in expected.split("|"))
    if not expected:
        right = status == 0 and not said
    return [] if right else [f"{what}: expected {expected!r}, got {status}, {said}"]
