"""Are the flood server and the ping-pong right? Part of `check_loadgen.py`."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import struct
from typing import Any

from programs import build, make_certificate
from wire import CLOSE, frame, read_frame

REQUEST = (
    f"GET /{os.getpid()} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
ACCEPT = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"


async def receive(reader: asyncio.StreamReader, size: int) -> int:
    """Count messages until the Close frame; all must be text of that size."""
    count = 0
    while True:
        opcode, data = await read_frame(reader, masked=False)
        if opcode == CLOSE:
            assert data == struct.pack(">H", 1000)
            return count
        assert opcode == 1
        assert len(data) == size
        assert data.isascii()
        count += 1


async def flood(size: int, *, tls: bool) -> list[str]:
    """Be its client."""
    made = make_certificate()
    options = [f"--tls={made.certificate}", f"--key={made.key}"] if tls else []
    context = ssl.create_default_context(cafile=made.certificate) if tls else None
    process = await asyncio.create_subprocess_exec(
        str(build("floodserver")),
        *(f"--size={size}", "--seconds=0.2", "--warmup=0.05", *options),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    port = int((await process.stdout.readline()).split()[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(REQUEST.encode())
    response = await reader.readuntil(b"\r\n\r\n")
    assert ACCEPT in response, response
    count = await receive(reader, size)
    writer.write(frame(CLOSE, struct.pack(">H", 1000), mask=0x80))
    got: dict[str, Any] = json.loads(await process.stdout.readline())
    status = await process.wait()
    writer.close()
    right = status == 0 and got["sent"] == count and 0 < got["messages"] <= count
    right = right and got["client_cpu_seconds"] > 0
    return [] if right else [f"flood of {size}, TLS {tls}: counted {count}, {got}, {status}"]


async def ping_pong(size: int) -> list[str]:
    """It plays, and its times fit its count."""
    process = await asyncio.create_subprocess_exec(
        str(build("pingpong")),
        *(f"--size={size}", "--seconds=0.2", "--warmup=0.05"),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    got = json.loads(output)
    mean = got["seconds"] / got["messages"] * 1e6
    right = (
        process.returncode == 0 and 1 < got["p50_us"] < 3 * mean and got["p50_us"] <= got["p99_us"]
    )
    return [] if right else [f"ping-pong of {size}: {got}"]


async def check_programs() -> list[str]:
    """Both, with every form of header."""
    failures = []
    for size in (1, 64, 125, 126, 65535, 65536, 1 << 20):
        failures += await flood(size, tls=False)
    for size in (64, 1 << 20):
        failures += await flood(size, tls=True)
    for size in (64, 200, 65535):
        failures += await ping_pong(size)
    return failures
