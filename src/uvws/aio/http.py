"""Request and response of the opening handshake, as the user sees them."""

from __future__ import annotations

import base64
import email.utils
import hashlib
import platform
from dataclasses import dataclass, field
from http import HTTPStatus

from .. import headers as received
from .._version import __version__
from .headers import Headers

USER_AGENT = f"Python/{platform.python_version()} uvws/{__version__}"
SERVER = USER_AGENT

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_OURS = frozenset({"path", "query"})  # not headers: where uvws.Headers has them
_LINES = frozenset({"upgrade", "connection", "sec-websocket-accept", "content-length"})


@dataclass(slots=True)
class Request:
    """A request for an upgrade, or another one.

    Attributes:
        path: path and query, as they were sent.
        headers: the header fields.
        method: "GET", where it asks for an upgrade.
        protocol: "HTTP/1.1".
    """

    path: str
    headers: Headers
    method: str = "GET"
    protocol: str = "HTTP/1.1"

    @classmethod
    def received(cls, headers: received.Headers, method: str = "GET") -> Request:
        """Make it from what C collected."""
        query = headers.get("Query")
        path = headers.get("Path", "/")
        return cls(
            path=path if query is None else f"{path}?{query}",
            headers=from_received(headers),
            method=method,
        )


@dataclass(slots=True)
class Response:
    """A response.

    Attributes:
        status_code: such as 101.
        reason_phrase: such as "Switching Protocols".
        headers: the header fields; they may be changed before it is sent.
        body: what follows them.
        protocol: "HTTP/1.1".
    """

    status_code: int
    reason_phrase: str
    headers: Headers
    body: bytes = b""
    protocol: str = field(default="HTTP/1.1")

    @classmethod
    def text(cls, status: int, text: str) -> Response:
        """Make one with a text for a body."""
        body = text.encode()
        headers = Headers(
            [
                ("Date", email.utils.formatdate(usegmt=True)),
                ("Connection", "close"),
                ("Content-Length", str(len(body))),
                ("Content-Type", "text/plain; charset=utf-8"),
            ]
        )
        return cls(int(status), HTTPStatus(status).phrase, headers, body)

    @classmethod
    def switching(cls, key: str, more: list[tuple[str, str]]) -> Response:
        """Make the one that accepts an upgrade."""
        headers = Headers(
            [
                ("Upgrade", "websocket"),
                ("Connection", "Upgrade"),
                ("Sec-WebSocket-Accept", _accept_key(key)),
                *more,
            ]
        )
        return cls(101, HTTPStatus.SWITCHING_PROTOCOLS.phrase, headers)

    def own_headers(self) -> list[tuple[str, str]]:
        """Return the headers without those that are always written for it."""
        return [pair for pair in self.headers.raw_items() if pair[0].lower() not in _LINES]


def from_received(headers: received.Headers | None) -> Headers:
    """Make headers that can be changed."""
    pairs = [] if headers is None else headers.items()
    return Headers([pair for pair in pairs if pair[0].lower() not in _OURS])


def _accept_key(key: str) -> str:
    digest = hashlib.sha1((key + _GUID).encode(), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()
