"""The exceptions of uvws.

Each is a `uvws.Error` and, where Python has a name for that kind of trouble, that as well, so that
`except TimeoutError` and `except uvws.ConnectTimeout` both work. Refusals by the operating system
(bind, listen) stay plain `OSError`; arguments of the wrong type or value raise `TypeError` and
`ValueError`.
"""
# ruff: noqa: N818  (names without the suffix Error are part of the public API)

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .headers import Headers


class Error(Exception):
    """Base class of every exception of uvws."""


class ConnectionClosed(Error, ConnectionError):
    """The connection is not open: raised by the sending methods of a connection."""


class ConnectTimeout(Error, TimeoutError):
    """The connection was not established within its `connect_timeout`."""


class InvalidURL(Error, ValueError):
    """A URL is malformed, or not one that a WebSocket can be opened to (RFC 6455, section 3).

    The message names the part that is wrong, and never quotes a password.
    """


class HandshakeError(Error):
    """The peer refused the opening handshake or broke its rules (RFC 6455, sections 4.1 and 4.2).

    Or a proxy on the way did not let the connection through; the message says so then.

    Attributes:
        status: the HTTP status code of the response, or of the proxy's; None where none came.
        headers: the headers of the response; None where they are not known.
    """

    status: int | None
    headers: Headers | None

    def __init__(
        self, message: str = "", *, status: int | None = None, headers: Headers | None = None
    ) -> None:
        """Create the exception.

        Args:
            message: what went wrong.
            status: the HTTP status code of the response, 100 to 599, or None.
            headers: the headers of the response, or None.
        """
        super().__init__(message)
        self.status = status
        self.headers = headers


class MessageTooBig(Error):
    """A message exceeded `max_message_size`; the connection is closed with code 1009."""


class PingTimeout(Error, TimeoutError):
    """Nothing came from the peer within `ping_timeout` of a Ping; the connection is dropped."""


class SendQueueFull(Error):
    """The peer reads too slowly: the send queue holds `max_send_queue` bytes or more.

    Raised by the sending methods where `on_send_overflow` is "raise"; where it is "close" it goes
    to `on_error`, and the connection is closed with code 1013.
    """


class TLSError(Error):
    """TLS could not be set up: a certificate, a key, or the peer's refusal.

    The message says which. Where a handshake failed, these say so too:

    Attributes:
        reason: what OpenSSL calls it, such as "certificate has expired"; None where it was not
            asked, or for a certificate or key of our own.
        verify_code: the number of what is wrong with the peer's certificate, OpenSSL's
            `X509_V_ERR_...`, such as 10 for one that has expired; None where it is not that.
        alert: the TLS alert (RFC 8446, section 6.2) that the peer sent, such as 116 for a client
            that shows no certificate; None where it sent none.
    """

    reason: str | None
    verify_code: int | None
    alert: int | None

    def __init__(
        self,
        message: str = "",
        *,
        reason: str | None = None,
        verify_code: int | None = None,
        alert: int | None = None,
    ) -> None:
        """Create the exception.

        Args:
            message: what went wrong.
            reason: the same in OpenSSL's words, or None.
            verify_code: a number of OpenSSL's, or None.
            alert: a number of RFC 8446, 0 to 255, or None.
        """
        super().__init__(message)
        self.reason = reason
        self.verify_code = verify_code
        self.alert = alert


class WrongThread(Error, RuntimeError):
    """An object was used from another thread than its loop's; the call has done nothing."""


class InvalidState(Error, RuntimeError):
    """The call makes no sense now.

    Raised for the use of a closed context, for a whole message sent inside a fragmented one, and
    for new certificates for a listener that is closed or has no TLS.
    """
