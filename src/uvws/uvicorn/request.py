"""A request for an upgrade, as uvicorn's HTTP protocols write it out again for whoever takes over.

They have parsed and checked it before, so that taking it apart is all that is left to do.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

_KEY = b"sec-websocket-key"
_VERSION = b"sec-websocket-version"
_PROTOCOL = b"sec-websocket-protocol"
_EXTENSIONS = b"sec-websocket-extensions"
_KEY_SIZE = 16  # RFC 6455, section 4.1

ByteHeaders = list[tuple[bytes, bytes]]


class BadRequestError(Exception):
    """The request is answered with an error, and the application is not asked."""

    def __init__(self, status: int, reason: str, *headers: tuple[bytes, bytes]) -> None:
        """Create it.

        Args:
            status: of the response.
            reason: its body.
            headers: what it has besides.
        """
        super().__init__(reason)
        self.status = status
        self.headers = list(headers)


@dataclass(frozen=True, slots=True)
class UpgradeRequest:
    """What a client asks.

    Attributes:
        raw_path: the path as it was sent.
        query: what follows the "?".
        headers: the header fields; names are in lower case.
    """

    raw_path: bytes
    query: bytes
    headers: ByteHeaders

    @classmethod
    def parse(cls, head: bytes) -> UpgradeRequest:
        """Take a head apart.

        Raises:
            BadRequestError: it does not ask for a WebSocket in the way that RFC 6455 wants it.
        """
        first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        fields = [line.partition(b": ") for line in lines]
        method, _, rest = first.partition(b" ")
        target, _, version = rest.rpartition(b" ")
        if method != b"GET" or version != b"HTTP/1.1" or not target.isascii():
            raise BadRequestError(400, "The request must be a GET of HTTP/1.1.")
        if any(not colon or name[:1] in b" \t" for name, colon, _ in fields):
            raise BadRequestError(400, "Malformed header.")
        raw_path, _, query = target.partition(b"?")
        request = cls(raw_path, query, [(name.lower(), value) for name, _, value in fields])
        request._check()
        return request

    @property
    def path(self) -> str:
        """The path, decoded."""
        return unquote(self.raw_path.decode("ascii"))

    @property
    def subprotocols(self) -> list[str]:
        """What the client offers, in its order."""
        values = (value.decode("latin-1") for value in self._all(_PROTOCOL))
        return [name.strip() for value in values for name in value.split(",")]

    def for_adopting(self) -> bytes:
        """Return a request that says no more than the handshake depends on.

        The application has seen the rest, which may be more than uvws accepts of heads.
        """
        lines = [
            b"GET / HTTP/1.1",
            b"Host: localhost",
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Version: 13",
        ]
        for name in (_KEY, _PROTOCOL, _EXTENSIONS):
            lines += [name + b": " + value for value in self._all(name)]
        return b"\r\n".join([*lines, b"", b""])

    def _all(self, name: bytes) -> Iterator[bytes]:
        return (value for each, value in self.headers if each == name)

    def _check(self) -> None:
        versions = list(self._all(_VERSION))
        if not versions:
            raise BadRequestError(400, "Missing Sec-WebSocket-Version header.")
        if versions != [b"13"]:
            raise BadRequestError(
                426,
                "Sec-WebSocket-Version must be 13.",
                (b"upgrade", b"websocket"),
                (b"sec-websocket-version", b"13"),
            )
        keys = list(self._all(_KEY))
        if not keys:
            raise BadRequestError(400, "Missing Sec-WebSocket-Key header.")
        if len(keys) > 1 or not _is_key(keys[0]):
            raise BadRequestError(400, "Invalid Sec-WebSocket-Key header.")


def _is_key(value: bytes) -> bool:
    try:
        return len(base64.b64decode(value.strip(), validate=True)) == _KEY_SIZE
    except binascii.Error:
        return False
