"""HTTP responses of an application that does not accept a WebSocket."""

from __future__ import annotations

import re
from http import HTTPStatus

from .request import ByteHeaders

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NOT_IN_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

# The response ends with the connection, and its body is sent as it is.
_OURS = (b"connection", b"transfer-encoding")


def phrase(status: int) -> str:
    """Return the reason phrase of a status; "" for one without."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


class Response:
    """A status and headers that the application has given, and whether they were sent."""

    def __init__(self, status: int, headers: ByteHeaders, defaults: ByteHeaders) -> None:
        """Create it.

        Args:
            status: 100 to 599.
            headers: the application's.
            defaults: those of the server, for what the application does not say.

        Raises:
            RuntimeError: one of them is wrong; the message says which.
        """
        if not 100 <= status < 600:
            raise RuntimeError(f"Invalid HTTP status code '{status}' in response.")
        given = {name.lower() for name, _ in headers}
        self.status = status
        self._headers = [pair for pair in defaults if pair[0].lower() not in given]
        self._headers += [(name, value) for name, value in headers if name.lower() not in _OURS]
        for name, value in self._headers:
            if not _NAME.fullmatch(name) or _NOT_IN_VALUE.search(value):
                raise RuntimeError(f"Invalid HTTP header {name!r} in response.")
        self._has_length = b"content-length" in given
        self.is_sent = False

    def begin(self, body: bytes, *, more_body: bool) -> bytes:
        """Return the head and what there is of the body."""
        self.is_sent = True
        lines = [b"HTTP/1.1 %d %s" % (self.status, phrase(self.status).encode())]
        lines += [name + b": " + value for name, value in self._headers]
        has_body = self.status >= 200 and self.status not in (204, 304)  # RFC 9110, section 6.4.1
        if has_body and not more_body and not self._has_length:
            lines.append(b"content-length: %d" % len(body))
        lines += [b"connection: close", b"", b""]
        return b"\r\n".join(lines) + (body if has_body else b"")


def plain(status: int, text: str, headers: ByteHeaders, defaults: ByteHeaders) -> bytes:
    """Return a whole response with a text."""
    content_type = (b"content-type", b"text/plain; charset=utf-8")
    response = Response(status, [content_type, *headers], defaults)
    return response.begin(text.encode(), more_body=False)
