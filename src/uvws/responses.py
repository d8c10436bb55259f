"""Plain HTTP: requests that a listener hands to `on_request`, and answers other than 101."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

from .exact import exact_bytes
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
    """A status, headers and a body, checked; immutable, so that they stay so."""

    __slots__ = ("_body", "_headers", "_status")

    _lowest: int

    def __init__(
        self, status: int, headers: HeaderPairs | None = None, body: str | bytes = b""
    ) -> None:
        self._status = _status(status, self._lowest)
        self._headers = tuple(
            encode_headers(() if headers is None else headers, "headers", handshake=False)
        )
        self._body = _body(body)
        if isinstance(body, str) and not self._has("content-type"):
            self._headers += (("Content-Type", "text/plain; charset=utf-8"),)

    @property
    def status(self) -> int:
        """The status code."""
        return self._status

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Names and values, in order."""
        return self._headers

    @property
    def body(self) -> bytes:
        """The body as it is sent."""
        return self._body

    def __repr__(self) -> str:
        headers = list(self._headers)
        return f"uvws.{type(self).__name__}({self._status}, {headers!r}, {self._body!r})"

    def _has(self, name: str) -> bool:
        return any(each.lower() == name for each, _ in self._headers)

    def encode(self, *, with_body: bool = True) -> bytes:
        """Return the whole response; the connection ends with it (RFC 9112, section 9.6)."""
        head = [f"HTTP/1.1 {self._status} {_phrase(self._status)}"]
        head += [f"{name}: {value}" for name, value in self._headers]
        if not self._has("date"):
            head.append(f"Date: {formatdate(usegmt=True)}")
        if self._status not in _NO_BODY:
            head.append(f"Content-Length: {len(self._body)}")
        head += ["Connection: close", "", ""]
        has_body = with_body and self._status not in _NO_BODY
        return "\r\n".join(head).encode("latin-1") + (self._body if has_body else b"")


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
    with_body = request.method != "HEAD"
    try:
        response = on_request(request)
        if not isinstance(response, Response):
            raise TypeError(
                f"on_request must return a uvws.Response, not {type(response).__name__}"
            )
        # Of a subclass, this may be anything.
        return exact_bytes(response.encode(with_body=with_body))
    except BaseException as error:
        report("Exception in on_request", error)
        return Response(500).encode(with_body=with_body)


def _status(status: object, lowest: int) -> int:
    if isinstance(status, bool) or not isinstance(status, int):
        raise TypeError(f"status must be an int, not {type(status).__name__}")
    number = int.__index__(status)
    if not lowest <= number <= 599:
        raise ValueError(f"status must be {lowest} to 599, not {number}")
    return number


def _body(body: object) -> bytes:
    if isinstance(body, str):
        return str.encode(body)
    if isinstance(body, (bytes, bytearray, memoryview)):
        return exact_bytes(body)
    raise TypeError(f"body must be str or bytes, not {type(body).__name__}")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Status"
