"""WebSockets with async/await: the API of the `websockets` package, on uvws.

Works on uvloop and on any asyncio loop. `docs/aio.md` lists what is the same, and what is not.
"""

from .auth import basic_auth
from .broadcasting import broadcast
from .client import backoff, connect, process_exception, unix_connect
from .connection import Connection, State
from .exceptions import (
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidHandshake,
    InvalidHeader,
    InvalidMessage,
    InvalidOrigin,
    InvalidProxy,
    InvalidStatus,
    InvalidUpgrade,
    InvalidURI,
    NegotiationError,
    PayloadTooBig,
    ProtocolError,
    ProxyError,
    SecurityError,
    TLSError,
    WebSocketException,
)
from .frames import Close, CloseCode
from .headers import Headers, MultipleValuesError
from .http import Request, Response
from .opening import ClientConnection
from .server import Server, ServerConnection, serve, unix_serve
from .tls import TLS

__all__ = [
    "TLS",
    "ClientConnection",
    "Close",
    "CloseCode",
    "ConcurrencyError",
    "Connection",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "Headers",
    "InvalidHandshake",
    "InvalidHeader",
    "InvalidMessage",
    "InvalidOrigin",
    "InvalidProxy",
    "InvalidStatus",
    "InvalidURI",
    "InvalidUpgrade",
    "MultipleValuesError",
    "NegotiationError",
    "PayloadTooBig",
    "ProtocolError",
    "ProxyError",
    "Request",
    "Response",
    "SecurityError",
    "Server",
    "ServerConnection",
    "State",
    "TLSError",
    "WebSocketException",
    "backoff",
    "basic_auth",
    "broadcast",
    "connect",
    "process_exception",
    "serve",
    "unix_connect",
    "unix_serve",
]
