"""What hostile peers do, with plain sockets; see `siege` for the process that they run in.

Each attack takes the target, something to call once it is under way, and options, and returns what
it has seen of the server, as something that JSON can hold. All of them end by themselves.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from .deadlines import time_limit
from .wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    frame,
    parse_frames,
    upgrade_request,
)

_NO_MASK = bytes(4)
_RESET = struct.pack("ii", 1, 0)
_READ_SIZE = 1 << 18


@dataclass
class Target:
    """The server.

    Attributes:
        port: where it listens, on 127.0.0.1.
    """

    port: int

    def dial(self) -> socket.socket:
        """Connect."""
        sock = socket.create_connection(("127.0.0.1", self.port), time_limit(10))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def websocket(self, headers: str = "") -> socket.socket:
        """Connect, and do the opening handshake."""
        sock = self.dial()
        sock.sendall(upgrade_request(headers=headers))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            got = sock.recv(1)
            assert got, head
            head += got
        assert head.startswith(b"HTTP/1.1 101 "), head
        return sock


def reset(sock: socket.socket) -> None:
    """End a connection with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


def masked(opcode: int, payload: bytes = b"", *, final: bool = True, reserved: int = 0) -> bytes:
    """Lay a client's frame out."""
    return frame(opcode, payload, final=final, mask=_NO_MASK, reserved=reserved)


FLOODS = {
    "pings": masked(PING),
    "full pings": masked(PING, b"p" * 125),
    "pongs": masked(PONG, b"p"),
    "empty messages": masked(TEXT),
    "messages": masked(BINARY, bytes(1024)),
    "empty fragments": masked(CONTINUATION, final=False),
    "one-byte fragments": masked(CONTINUATION, b"x", final=False),
}
# What comes before a flood of fragments.
_OPENERS = {name: masked(TEXT, final=False) for name in FLOODS if "fragments" in name}
_BLOCK = 1 << 18


def flood(
    target: Target,
    begun: Callable[[], None],
    *,
    of: str,
    seconds: float,
    connections: int = 1,
    reads: bool = True,
) -> dict[str, Any]:
    """Send one kind of frame as fast as the server takes it."""
    each = FLOODS[of]
    block = memoryview(each * (_BLOCK // len(each)))
    selector = selectors.DefaultSelector()
    sent = {}
    for _ in range(connections):
        sock = target.websocket()
        sock.sendall(_OPENERS.get(of, b""))
        sock.setblocking(False)
        sent[sock] = 0
        interest = selectors.EVENT_WRITE | (selectors.EVENT_READ if reads else 0)
        selector.register(sock, interest)
    begun()
    until = time.monotonic() + seconds
    while time.monotonic() < until and selector.get_map():
        for key, events in selector.select(0.1):
            sock = cast("socket.socket", key.fileobj)
            try:
                if events & selectors.EVENT_READ and not sock.recv(_READ_SIZE):
                    raise ConnectionResetError
                if events & selectors.EVENT_WRITE:
                    sent[sock] += sock.send(block[sent[sock] % len(each) :])
            except BlockingIOError:
                continue
            except OSError:
                selector.unregister(sock)
    ended = connections - len(selector.get_map())
    selector.close()
    for sock in sent:
        reset(sock)
    return {"frames": sum(sent.values()) // len(each), "ended": ended}


def _bomb() -> bytes:
    """A message of 64 MiB of zeros, compressed."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = bytes(1 << 20)
    packed = b"".join(stream.compress(block) for _ in range(64)) + stream.flush(zlib.Z_SYNC_FLUSH)
    return masked(BINARY, packed[:-4], reserved=4)


_DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
_HEAD = upgrade_request()[:-2]

# What is sent behind which opening; None is instead of it.
AFFRONTS: dict[str, tuple[str | None, Callable[[], bytes]]] = {
    "a giant header": (None, lambda: _HEAD + b"X: " + b"x" * 1_000_000 + b"\r\n\r\n"),
    "a million headers": (None, lambda: _HEAD + b"X: y\r\n" * 1_000_000 + b"\r\n"),
    "a frame of 2^62 bytes": ("", lambda: struct.pack("!BBQ4x", 0x82, 0xFF, 1 << 62) + b"x" * 99),
    "a deflate bomb": (_DEFLATE, _bomb),
    "invalid UTF-8": ("", lambda: masked(TEXT, b"x" * 1000 + b"\xff")),
}


def affront(
    target: Target, begun: Callable[[], None], *, by: str, seconds: float
) -> dict[str, Any]:
    """Do one thing that ends the connection, on one after the other."""
    headers, make = AFFRONTS[by]
    data = make()
    answers: Counter[str] = Counter()
    begun()
    until = time.monotonic() + seconds
    while time.monotonic() < until or not answers:
        sock = target.dial() if headers is None else target.websocket(headers)
        with sock:
            answers[_answer(sock, data)] += 1
    return {"answers": dict(answers)}


def _answer(sock: socket.socket, data: bytes) -> str:
    """Return the HTTP status or the close code that some bytes are answered with."""
    got = b""
    with contextlib.suppress(OSError):
        sock.sendall(data)
    with contextlib.suppress(OSError):
        while piece := sock.recv(_READ_SIZE):
            got += piece
    if got.startswith(b"HTTP/1.1 "):
        return got.split()[1].decode()
    codes = [
        int.from_bytes(each.payload[:2], "big") for each in _frames(got) if each.opcode == CLOSE
    ]
    return str(codes[0]) if codes else "nothing"


def _frames(data: bytes) -> list[Any]:
    return parse_frames(data)[0]


# Where in its life a connection is reset: so many bytes into what its client says.
def _life() -> bytes:
    rest = masked(TEXT, b"hello") + masked(TEXT, b"x" * 300, final=False) + masked(PING, b"p")
    return upgrade_request() + rest + masked(CONTINUATION, b"y") + masked(CLOSE, b"\x03\xe8")


def resets(target: Target, begun: Callable[[], None], *, step: int, rounds: int) -> dict[str, Any]:
    """Reset connections at every point of their life, with and without waiting for the server."""
    life = _life()
    count = 0
    begun()
    for _ in range(rounds):
        for cut in range(0, len(life) + 1, step):
            for waits in (False, True):
                sock = target.dial()
                sock.sendall(life[:cut])
                if waits:
                    time.sleep(0.001)
                reset(sock)
                count += 1
    return {"connections": count}


def connect_and_drop(target: Target, begun: Callable[[], None], *, count: int) -> dict[str, Any]:
    """Connect and go, in good order and not, at once and after half a request."""
    half = upgrade_request()[:60]
    started = time.monotonic()
    begun()
    for number in range(count):
        sock = target.dial()
        if number % 4 > 1:
            sock.sendall(half)
        if number % 2:
            reset(sock)
        else:
            sock.close()
    return {"connections": count, "seconds": time.monotonic() - started}


def _takes(sock: socket.socket, data: bytes) -> bool:
    """Send, and tell whether the connection goes on."""
    try:
        sock.sendall(data)
        while sock.recv(_READ_SIZE, socket.MSG_DONTWAIT):
            pass
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def slow_handshakes(
    target: Target, begun: Callable[[], None], *, connections: int, seconds: float
) -> dict[str, Any]:
    """Send a request at one byte a second on many connections, and wait for the server to act."""
    socks = {target.dial(): time.monotonic() for _ in range(connections)}
    lasted = []
    begun()
    until = time.monotonic() + seconds
    request = iter(upgrade_request())
    while socks and time.monotonic() < until:
        byte = bytes([next(request)])
        ended = [sock for sock in socks if not _takes(sock, byte)]
        for sock in ended:
            lasted.append(time.monotonic() - socks.pop(sock))
            sock.close()
        time.sleep(1)
    for sock in socks:
        sock.close()
    return {"ended": len(lasted), "left": len(socks), "longest": max(lasted, default=0.0)}


def half_open(target: Target, begun: Callable[[], None], *, rounds: int) -> dict[str, Any]:
    """Say that nothing more will come (FIN), on ten connections at a time, and wait for the server
    to end them.
    """
    ended = 0
    begun()
    for _ in range(rounds):
        socks = [target.websocket() for _ in range(10)]
        for sock in socks:
            sock.shutdown(socket.SHUT_WR)
        for sock in socks:
            with sock, contextlib.suppress(OSError):
                while sock.recv(_READ_SIZE):
                    pass
                ended += 1
    return {"ended": ended}


_TEXT = "a\u00e9\u20ac\U0001f600z".encode()
_INVALID = (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82")


def invalid_texts(target: Target, begun: Callable[[], None]) -> dict[str, Any]:
    """Put something that is not UTF-8 at every position of a text: in one frame, in fragments of
    one byte, and in one frame that comes in two reads.
    """
    answers: Counter[str] = Counter()
    begun()
    for invalid in _INVALID:
        for at in range(len(_TEXT) + 1):
            payload = _TEXT[:at] + invalid + _TEXT[at:]
            whole = masked(TEXT, payload)
            parts = masked(TEXT, final=False) + b"".join(
                masked(CONTINUATION, payload[n : n + 1], final=n == len(payload) - 1)
                for n in range(len(payload))
            )
            cut = len(whole) - len(payload) + at + 1
            for first, second in ((whole, b""), (parts, b""), (whole[:cut], whole[cut:])):
                with target.websocket() as sock:
                    sock.sendall(first)
                    if second:
                        time.sleep(0.001)
                    answers[_answer(sock, second)] += 1
    return {"answers": dict(answers)}
