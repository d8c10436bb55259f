"""The exceptions of `uvws.aio`, by the names that the `websockets` package has for them.

Each is a `uvws.Error` as well, and where uvws has a name for that kind of trouble, that too:
`except uvws.ConnectionClosed` catches both kinds of it.
"""
# ruff: noqa: N818  (the names are those of the `websockets` package)

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import errors
from .frames import Close, CloseCode

if TYPE_CHECKING:
    from .http import Response


class WebSocketException(errors.Error):
    """Base class of every exception of `uvws.aio`."""


class ConnectionClosed(WebSocketException, errors.ConnectionClosed):
    """The connection is closed, or is about to be.

    Attributes:
        rcvd: code and reason of the Close frame that came; None where none did.
        sent: code and reason of the one that was sent; None where none was.
        rcvd_then_sent: which was first; None where there were not both.
    """

    def __init__(
        self, rcvd: Close | None, sent: Close | None, rcvd_then_sent: bool | None = None
    ) -> None:
        super().__init__(rcvd, sent, rcvd_then_sent)
        self.rcvd = rcvd
        self.sent = sent
        self.rcvd_then_sent = rcvd_then_sent

    def __str__(self) -> str:
        """Tell who said what, in that order."""
        if self.rcvd is None:
            if self.sent is None:
                return "no close frame received or sent"
            return f"sent {self.sent}; no close frame received"
        if self.sent is None:
            return f"received {self.rcvd}; no close frame sent"
        if self.rcvd_then_sent:
            return f"received {self.rcvd}; then sent {self.sent}"
        return f"sent {self.sent}; then received {self.rcvd}"

    @property
    def code(self) -> int:
        """The code that came; 1006 where none did."""
        return CloseCode.ABNORMAL_CLOSURE if self.rcvd is None else self.rcvd.code

    @property
    def reason(self) -> str:
        """The reason that came."""
        return "" if self.rcvd is None else self.rcvd.reason


class ConnectionClosedOK(ConnectionClosed):
    """Closed as it should be: both sides said 1000, 1001 or no code."""


class ConnectionClosedError(ConnectionClosed):
    """Closed with another code, or without a Close frame from each side."""


class InvalidURI(WebSocketException, errors.InvalidURL):
    """The URI is not one that a WebSocket can be opened to."""

    def __init__(self, uri: str, msg: str) -> None:
        super().__init__(uri, msg)
        self.uri = uri
        self.msg = msg

    def __str__(self) -> str:
        """Tell what is wrong."""
        return f"{self.uri} isn't a valid URI: {self.msg}"


class InvalidProxy(WebSocketException, ValueError):
    """The proxy is not one that can be used. The message never quotes it."""

    def __init__(self, proxy: str, msg: str) -> None:
        super().__init__(proxy, msg)
        self.proxy = proxy
        self.msg = msg

    def __str__(self) -> str:
        """Tell what is wrong; there may be a password in the rest."""
        return f"invalid proxy: {self.msg}"


class InvalidHandshake(WebSocketException, errors.HandshakeError):
    """The opening handshake failed."""

    def __init__(self, message: str = "", *, status: int | None = None) -> None:
        errors.HandshakeError.__init__(self, message, status=status)


class SecurityError(InvalidHandshake):
    """A redirect leads where it must not, or there are too many."""


class ProxyError(InvalidHandshake):
    """The proxy did not let the connection through."""


class InvalidMessage(InvalidHandshake):
    """The other side does not speak HTTP, or said nothing."""


class InvalidStatus(InvalidHandshake):
    """The server answered with another status than 101.

    Attributes:
        response: what it answered; without its body.
    """

    def __init__(self, response: Response) -> None:
        super().__init__(
            f"server rejected WebSocket connection: HTTP {response.status_code:d}",
            status=response.status_code,
        )
        self.response = response


class InvalidHeader(InvalidHandshake):
    """A header of the handshake is missing or wrong."""

    def __init__(self, name: str, value: str | None = None) -> None:
        super().__init__(_header_message(name, value))
        self.name = name
        self.value = value


class InvalidOrigin(InvalidHeader):
    """The Origin of a request is not one of those allowed."""

    def __init__(self, origin: str | None) -> None:
        super().__init__("Origin", origin)


class InvalidUpgrade(InvalidHeader):
    """Upgrade or Connection is not what it has to be."""


class NegotiationError(InvalidHandshake):
    """Both sides have no subprotocol or extension in common."""


class ProtocolError(WebSocketException):
    """The other side broke the rules of RFC 6455."""


class PayloadTooBig(WebSocketException, errors.MessageTooBig):
    """A message exceeded `max_size`."""


class ConcurrencyError(WebSocketException, RuntimeError):
    """Two coroutines receive from one connection, or wait for a Pong with the same payload."""


class TLSError(WebSocketException, errors.TLSError, OSError):
    """TLS could not be set up: a certificate, a key, or the other side's refusal.

    An OSError as `ssl.SSLError` is one, which the `websockets` package lets through.
    """


def _header_message(name: str, value: str | None) -> str:
    if value is None:
        return f"missing {name} header"
    return f"invalid {name} header: {value}" if value else f"empty {name} header"
