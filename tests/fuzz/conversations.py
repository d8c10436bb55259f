"""What the two ends of a connection say, and what becomes of it when it is spoilt.

All of it hangs on the random generator that is passed in: the same seed says the same.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from support.wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    close_payload,
    frame,
    upgrade_request,
    upgrade_response,
)

_DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate{}\r\n"
_SIZES = (0, 1, 2, 7, 125, 126, 127, 1000, 4096, 65535, 65536, 200_000)
# Where the sizes of frames, the ends of lines and the like change their meaning.
_EDGES = (0x00, 0x01, 0x0A, 0x0D, 0x20, 0x3A, 0x7D, 0x7E, 0x7F, 0x80, 0x81, 0x88, 0x89, 0xC1, 0xFF)
_RSV1 = 4


@dataclass
class Script:
    """What one end does.

    Attributes:
        pieces: what it sends, one write each.
        waits: the pieces behind which it reads what there is.
        ending: "close", "reset" or "finish", which says FIN and reads to the end.
    """

    pieces: list[bytes]
    waits: set[int]
    ending: str


# --- In good order ------------------------------------------------------------------------------


def request(rng: Random) -> bytes:
    """Return what a client may say first: an opening handshake, mostly."""
    path = rng.choice(("/", "/", "/a/b?c=d", "/" + "x" * 500, "/%00%ff"))
    headers = rng.choice(("", "", _DEFLATE.format(""), _DEFLATE.format("; client_no_context")))
    headers += rng.choice(("", "", "Sec-WebSocket-Protocol: a, b\r\n", "X: y\r\n" * 30))
    whole = upgrade_request(path, headers=headers)
    kind = rng.randrange(10)
    if kind == 0:
        return whole.replace(b"Upgrade: websocket\r\n", b"")
    if kind == 1:
        return whole.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 9\r\n\r\n")
    return whole


def response(rng: Random, asked: bytes) -> bytes:
    """Return what a server may answer to an opening handshake: that it agrees, mostly."""
    kind = rng.randrange(10)
    if kind == 0:
        return b"HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\nnever"
    if kind == 1:
        return b"HTTP/1.1 302 There\r\nLocation: ws://127.0.0.1:1/\r\n\r\n"
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" if kind == 2 else b""
    headers = rng.choice(("", "", _DEFLATE.format("")))
    return interim + upgrade_response(asked, headers + rng.choice(("", "X: y\r\n" * 30)))


def frames(rng: Random, *, masks: bool) -> bytes:
    """Return messages, pings and the like, and maybe a Close frame."""

    def lay_out(
        opcode: int, payload: bytes = b"", *, final: bool = True, reserved: int = 0
    ) -> bytes:
        mask = rng.randbytes(4) if masks else None
        return frame(opcode, payload, final=final, mask=mask, reserved=reserved)

    def payload(opcode: int) -> bytes:
        size = rng.choice(_SIZES[: rng.randrange(1, len(_SIZES) + 1)])
        return ("é" * size).encode()[: size & ~1] if opcode == TEXT else rng.randbytes(size)

    def message() -> bytes:
        opcode = rng.choice((TEXT, BINARY))
        return lay_out(opcode, payload(opcode))

    def fragments() -> bytes:
        parts = [lay_out(rng.choice((TEXT, BINARY)), b"begin", final=False)]
        parts += [lay_out(CONTINUATION, b"x" * n, final=False) for n in range(rng.randrange(4))]
        parts.append(rng.choice((b"", lay_out(PING, b"between"))))
        return b"".join((*parts, lay_out(CONTINUATION, b"end")))

    def compressed() -> bytes:
        stream = zlib.compressobj(wbits=-15)
        packed = stream.compress(payload(BINARY)) + stream.flush(zlib.Z_SYNC_FLUSH)
        return lay_out(BINARY, packed[:-4], reserved=_RSV1)

    def control() -> bytes:
        return lay_out(rng.choice((PING, PONG)), rng.randbytes(rng.choice((0, 1, 125))))

    makers = (message, message, fragments, compressed, control)
    said = b"".join(rng.choice(makers)() for _ in range(rng.randrange(8)))
    if rng.random() < 0.5:
        said += lay_out(CLOSE, rng.choice((b"", close_payload(rng.choice((1000, 3000)), "over"))))
    return said


# --- Spoilt -------------------------------------------------------------------------------------


def _flip(rng: Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _replace(rng: Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([rng.choice(_EDGES)]) + data[at + 1 :]


def _insert(rng: Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + noise(rng) + data[at:]


def _drop(rng: Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.choice((1, 2, 4, 16, 1000)) :]


def _repeat(rng: Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    end = at + rng.choice((1, 2, 14, 200))
    return data[:end] + data[at:end] * rng.choice((1, 2, 50)) + data[end:]


def _cut_off(rng: Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def _swap(rng: Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[at:] + data[:at]


def _other_lines(rng: Random, data: bytes) -> bytes:
    return data.replace(b"\r\n", rng.choice((b"\n", b"\r", b"\r\n ", b"\0\r\n")), rng.randrange(9))


_WAYS: tuple[Callable[[Random, bytes], bytes], ...] = (
    _flip,
    _flip,
    _replace,
    _replace,
    _insert,
    _drop,
    _repeat,
    _cut_off,
    _swap,
    _other_lines,
)


def noise(rng: Random) -> bytes:
    """Return bytes that mean nothing, or something only by chance."""
    size = rng.choice((1, 2, 3, 16, 300))
    edges = bytes(rng.choice(_EDGES) for _ in range(size))
    return rng.choice((rng.randbytes(size), edges, b"\0" * size, b"\r\n" * size))


def spoil(rng: Random, data: bytes) -> bytes:
    """Change a few things."""
    # What matters is mostly in front.
    front = rng.choice((len(data), 64, 1000))
    head, rest = data[:front], data[front:]
    for _ in range(rng.choice((1, 1, 2, 5))):
        if head:
            head = rng.choice(_WAYS)(rng, head)
    return head + rest


def _conversation(rng: Random, head: bytes, said: bytes) -> bytes:
    """Spoil it before, in or behind the handshake, or inside frames, or nowhere."""
    where = rng.choice(("before", "head", "behind", "frames", "frames", "frames", "all", ""))
    if where == "before":
        return noise(rng) + head + said
    if where == "head":
        return spoil(rng, head) + said
    if where == "behind":
        return head + noise(rng) + said
    if where == "frames":
        return head + spoil(rng, said)
    return spoil(rng, head + said) if where == "all" else head + said


def _script(rng: Random, data: bytes) -> Script:
    way = rng.randrange(4)
    if way == 0:
        cuts = list(range(1, min(len(data), 60)))
    else:
        cuts = sorted(rng.randrange(len(data) + 1) for _ in range(way - 1))
    edges = [0, *cuts, len(data)]
    pieces = [data[begin:end] for begin, end in itertools.pairwise(edges)]
    waits = {n for n in range(len(pieces)) if rng.random() < 0.5 / len(pieces)}
    if rng.random() < 0.5:
        waits.add(len(pieces) - 1)
    return Script(pieces, waits, rng.choice(("close", "reset", "finish")))


def client_script(rng: Random) -> Script:
    """Return what a hostile client does."""
    return _script(rng, _conversation(rng, request(rng), frames(rng, masks=True)))


def server_script(rng: Random, asked: bytes) -> Script:
    """Return what a hostile server does once it was asked for a WebSocket."""
    return _script(rng, _conversation(rng, response(rng, asked), frames(rng, masks=False)))


def noise_script(rng: Random, record: bytes) -> Script:
    """Return what somebody does who does not even speak TLS: a record of it, spoilt, and noise."""
    return _script(rng, spoil(rng, record) + noise(rng))
