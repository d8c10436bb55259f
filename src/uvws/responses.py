"""Plain HTTP: requests that a listener hands to `on_request`, and answers other than 101."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

from .headers import HeaderPairs, Headers, encode_headers

Report = Callable[[str, BaseException], None]

_NO_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)  # RFC 9110, section 6.4.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An HTTP request that does not ask for a WebSocket.

    Attributes:
        method: such as "GET".
        path: the path as it was sent, without the query.
        query: what follows the "?", as it was sent; "" where there is none.
        headers: the header fields, the path under "Path" and the query under "Query" as well.
        peer_address: the client's IP address; None on a Unix socket.
    """

    method: str
    path: str
    query: str
    headers: Headers
    peer_address: str | None


class _Answer:
    """A status, headers and a body, checked."""

    __slots__ = ("body", "headers", "status")

    _lowest: int

    def __init__(
        self, status: int, headers: HeaderPairs | None = None, body: str | bytes = b""
    ) -> None:
        self.status = _status(status, self._lowest)
        self.headers = encode_headers(
            () if headers is None else headers, "headers", handshake=False
        )
        self.body = _body(body)
        if isinstance(body, str) and not self._has("content-type"):
            self.headers.append(("Content-Type", "text/plain; charset=utf-8"))

    def __repr__(self) -> str:
        return f"uvws.{type(self).__name__}({self.status}, {self.headers!r}, {self.body!r})"

    def _has(self, name: str) -> bool:
        return any(each.lower() == name for each, _ in self.headers)

    def encode(self, *, with_body: bool = True) -> bytes:
        """Return the whole response; the connection ends with it (RFC 9112, section 9.6)."""
        head = [f"HTTP/1.1 {self.status} {_phrase(self.status)}"]
        head += [f"{name}: {value}" for name, value in self.headers]
        if not self._has("date"):
            head.append(f"Date: {formatdate(usegmt=True)}")
        if self.status not in _NO_BODY:
            head.append(f"Content-Length: {len(self.body)}")
        head += ["Connection: close", "", ""]
        has_body = with_body and self.status not in _NO_BODY
        return "\r\n".join(head).encode("latin-1") + (self.body if has_body else b"")


class Response(_Answer):
    """The answer of `on_request` to a plain HTTP request."""

    __slots__ = ()

    _lowest = 200

    def __init__(
        self, status: int = 200, headers: HeaderPairs | None = None, body: str | bytes = b""
    ) -> None:
        """Create it.

        Args:
            status: 200 to 599.
            headers: a mapping or pairs. Content-Length and Connection are added.
            body: bytes, or a str that goes as UTF-8, as text/plain unless a header says otherwise.

        Raises:
            TypeError, ValueError: an argument is wrong; the message names it.
        """
        super().__init__(status, headers, body)


class Reject(_Answer):
    """What `on_handshake` returns to refuse an upgrade in its own words."""

    __slots__ = ()

    _lowest = 300

    def __init__(
        self, status: int = 403, headers: HeaderPairs | None = None, body: str | bytes = b""
    ) -> None:
        """Create it.

        Args:
            status: 300 to 599.
            headers: a mapping or pairs. Content-Length and Connection are added.
            body: bytes, or a str that goes as UTF-8, as text/plain unless a header says otherwise.

        Raises:
            TypeError, ValueError: an argument is wrong; the message names it.
        """
        super().__init__(status, headers, body)


def encode_response(
    request: Request, on_request: Callable[[Request], object], report: Report
) -> bytes:
    """Ask the user for the answer to a request; return it for the wire, 500 if that fails."""
    try:
        response = on_request(request)
        if not isinstance(response, Response):
            raise TypeError(
                f"on_request must return a uvws.Response, not {type(response).__name__}"
            )
    except BaseException as error:
        report("Exception in on_request", error)
        response = Response(500)
    return response.encode(with_body=request.method != "HEAD")


def _status(status: object, lowest: int) -> int:
    if isinstance(status, bool) or not isinstance(status, int):
        raise TypeError(f"status must be an int, not {type(status).__name__}")
    if not lowest <= status <= 599:
        raise ValueError(f"status must be {lowest} to 599, not {status}")
    return int(status)


def _body(body: object) -> bytes:
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    raise TypeError(f"body must be str or bytes, not {type(body).__name__}")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Status"
