"""Is the load generator's permessage-deflate right? Part of `check_loadgen.py`."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Callable
from pathlib import Path

from wire import CLOSE, Handler, answer_close, attempt, frame, read_frame, shake_hands, verdict

TAIL = b"\x00\x00\xff\xff"
RSV1 = 4
EXTENSION = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
# Beyond the first round of texts, so that what is sent from then on is decompressed as well.
SIZES = (512, 1024, 65536, 300001)
# What is echoed in place of the third message, or its frame.
Fault = Callable[[bytes], bytes]


def compressing(
    *,
    extension: bytes = EXTENSION,
    text_fault: Fault = bytes,
    frame_fault: Fault | None = None,
    pieces: int = 1,
) -> Handler:
    """A server that decompresses, looks at what it gets, and compresses it again."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await shake_hands(reader, writer, extra=extension)
        assert b"permessage-deflate\r\n" in request
        inflater = zlib.decompressobj(-15)
        deflater = zlib.compressobj(1, zlib.DEFLATED, -15)
        before = b""
        number = 0
        while True:
            first, data = await read_frame(reader)
            if first == CLOSE:
                answer_close(writer, data)
                return
            assert first == RSV1 << 4 | 1
            text = inflater.decompress(data + TAIL)
            assert isinstance(json.loads(text), list)
            assert text != before
            before = text
            number += 1
            if number == 3 and frame_fault is not None:
                writer.write(frame_fault(text))
                continue
            text = text_fault(text) if number == 3 else text
            out = (deflater.compress(text) + deflater.flush(zlib.Z_SYNC_FLUSH))[: -len(TAIL)]
            writer.write(cut_up(out, pieces))
            await writer.drain()

    return serve


def cut_up(data: bytes, pieces: int) -> bytes:
    """A message in so many frames; only the first has RSV1."""
    step = -(-len(data) // pieces) or 1
    parts = [data[at : at + step] for at in range(0, len(data), step)] or [b""]
    return b"".join(
        frame(0 if i else 1, part, fin=i == len(parts) - 1, rsv=0 if i else RSV1)
        for i, part in enumerate(parts)
    )


FAULTS = {
    "wrong content": compressing(text_fault=lambda text: text[:-1] + b"?"),
    "the echo is too short": compressing(text_fault=lambda text: text[:-1]),
    "the echo is too long": compressing(text_fault=lambda text: text + b" "),
    "the echo is not compressed": compressing(frame_fault=lambda text: frame(1, text)),
    "cannot decompress": compressing(frame_fault=lambda text: frame(1, b"\xff" + text, rsv=RSV1)),
    "a reserved bit is set": compressing(frame_fault=lambda text: frame(1, text, rsv=2)),
    "does not compress": compressing(extension=b""),
    "compresses differently": compressing(
        extension=EXTENSION.replace(b"\r", b"; server_no_context_takeover\r")
    ),
}


async def check_compression(binary: Path) -> list[str]:
    """Right answers are accepted in every shape, and others are not."""
    failures = []
    for size in SIZES:
        for pieces in (1, 3):
            options = ("--deflate", f"--size={size}", "--in-flight=4", "--connections=2")
            got = await attempt(binary, compressing(pieces=pieces), *options)
            failures += verdict(f"{pieces} pieces, {options}", "", got)
    for expected, handler in FAULTS.items():
        got = await attempt(binary, handler, "--deflate", "--size=1024", "--in-flight=4")
        failures += verdict("compression", expected, got)
    return failures
