"""permessage-deflate by hand (RFC 7692, section 7.2), with Python's own zlib."""

from __future__ import annotations

import zlib
from typing import Any

from .recorder import Recorder
from .runners import Runner
from .wire import RawPeer, RawServer, dial, upgrade_request

RSV1 = 4
TAIL = b"\x00\x00\xff\xff"

ZEROS_SIZE = 1 << 20


class Deflater:
    """The end that compresses, with context takeover."""

    def __init__(self, bits: int = 15, level: int = 6) -> None:
        self._stream = zlib.compressobj(level, zlib.DEFLATED, -bits)

    def message(self, data: bytes) -> bytes:
        """Return the payload of a message."""
        return self.fragment(data)[: -len(TAIL)]

    def fragment(self, data: bytes) -> bytes:
        """Return the payload of a fragment that is not the last one."""
        return self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH)


class Inflater:
    """The end that decompresses, with context takeover; it is strict about the window."""

    def __init__(self, bits: int = 15) -> None:
        self._stream = zlib.decompressobj(-bits)

    def message(self, payload: bytes) -> bytes:
        """Return what a payload holds."""
        # A byte at a time: what zlib returns at once it lets any distance refer to.
        given = payload + TAIL
        return b"".join(self._stream.decompress(given[at : at + 1]) for at in range(len(given)))


def deflated(data: bytes, level: int = 6) -> bytes:
    """Return the payload of a message that is compressed by itself."""
    return Deflater(level=level).message(data)


def inflated(payload: bytes) -> bytes:
    """Return what the payload of a message that was compressed by itself holds."""
    stream = zlib.decompressobj(-15)
    return stream.decompress(payload + TAIL) + stream.flush()


def deflated_zeros(mebibytes: int) -> bytes:
    """Return the payload of a message of zeros, about a thousandth of its size."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = stream.compress(bytes(ZEROS_SIZE)) + stream.flush(zlib.Z_FULL_FLUSH)
    return (block * mebibytes)[: -len(TAIL)]


def against_a_raw_peer(
    runner: Runner,
    side: str,
    *,
    extensions: str = "permessage-deflate",
    compression: Any = "deflate",
    recorder: Recorder | None = None,
    behind: bytes = b"",
    **options: Any,
) -> tuple[Any, RawPeer, Recorder]:
    """Connect uvws with a plain socket, and agree on permessage-deflate.

    Args:
        side: what uvws is, "server" or "client".
        extensions: what the plain socket offers or answers; "" for no such header.
        compression: as for listen() and connect().
        recorder: records the callbacks of uvws.
        behind: what the plain socket sends in the same segment.
        options: more for listen() or connect().

    Returns:
        The connection of uvws, the plain socket, and what uvws was told.
    """
    recorder = recorder or Recorder()
    line = f"Sec-WebSocket-Extensions: {extensions}\r\n" if extensions else ""
    options = {"compression": compression, **options, **recorder.callbacks}
    if side == "server":
        peer = dial(runner, runner.context().listen(host="127.0.0.1", **options))
        peer.send(upgrade_request(headers=line) + behind)
        runner.run(peer.has_head)
        head = peer.take_head()
        agreed = bool(extensions) and compression is not None
        assert (b"Sec-WebSocket-Extensions: permessage-deflate" in head) == agreed, head
    else:
        server = RawServer(runner)
        runner.context().connect(server.url, **options)
        peer = server.accept_websocket(line, behind)
    runner.run(recorder.saw("connect"))
    return recorder.connections[0], peer, recorder
