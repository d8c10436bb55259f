"""The client's side of the opening handshake."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from .. import errors
from .._core import ffi, lib
from ..connecting import Connecting, ConnectOptions
from ..connection import Callbacks
from ..connection import Connection as Wire
from ..core import Core
from ..headers import Headers as ReceivedHeaders
from .connection import Connection
from .exceptions import (
    InvalidHandshake,
    InvalidHeader,
    InvalidMessage,
    InvalidStatus,
    InvalidUpgrade,
    NegotiationError,
    ProxyError,
    TLSError,
)
from .headers import Headers
from .http import Request, Response, from_received

_SWITCHING = 101


class ClientConnection(Connection):
    """A connection of a client's."""


_Any = TypeVar("_Any", bound=ClientConnection)


class Opening:
    """An attempt to connect: what is awaited until the connection is open."""

    def __init__(
        self,
        core: Core,
        connect_options: ConnectOptions,
        connection: ClientConnection,
        timeout: float | None,
    ) -> None:
        self._connection = connection
        self._options = connect_options
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._given_up = False
        slot = ffi.new("uint32_t *")
        limits = connection.limits.for_c()
        c = lib.uvws_client_new(core.c, limits, timeout or 0.0, slot)
        if c == ffi.NULL:
            raise MemoryError
        self._wire = Wire(core, c, slot[0], self._callbacks())
        connecting = Connecting(core, self._wire, c, connect_options)
        try:
            self._wire.start_connecting(connecting)
        except BaseException:
            connecting.cancel()
            self._wire.discard()
            raise

    def _callbacks(self) -> Callbacks:
        theirs = self._connection.callbacks()
        return Callbacks(
            on_connect=self._connected,
            on_message=theirs.on_message,
            on_close=theirs.on_close,
            on_error=self._failed,
            on_pong=theirs.on_pong,
            on_drain=theirs.on_drain,
        )

    async def wait(self) -> ClientConnection:
        """Wait until it is open; give up when cancelled.

        Raises:
            OSError, TimeoutError, InvalidHandshake: it will not be.
        """
        try:
            await self._opened
        except BaseException:
            self._given_up = True
            self._wire.give_up()
            raise
        return self._connection

    def _connected(self, wire: Wire, headers: ReceivedHeaders | None) -> None:
        connection = self._connection
        if self._given_up:
            wire.give_up()
            return
        connection.request = _request(self._options)
        connection.response = Response(_SWITCHING, "Switching Protocols", from_received(headers))
        connection.attach(wire)
        wire.replace_callbacks(connection.callbacks())
        if not self._opened.done():
            self._opened.set_result(None)

    def _failed(self, _wire: Wire, error: Exception) -> None:
        if not self._opened.done():
            self._opened.set_exception(_translated(error))


def _translated(error: Exception) -> Exception:
    """Return an exception of ours for one of uvws's."""
    answer: Exception
    if isinstance(error, errors.ConnectTimeout):
        answer = TimeoutError("timed out during opening handshake")
    elif isinstance(error, errors.TLSError):
        answer = TLSError(str(error))
    elif isinstance(error, errors.HandshakeError):
        answer = _handshake_error(error)
    else:
        return error
    if answer.__cause__ is None:
        answer.__cause__ = error
    return answer


def _handshake_error(error: errors.HandshakeError) -> Exception:
    message = str(error)
    if "proxy" in message:
        return ProxyError(message, status=error.status)
    if error.status is None:
        return _no_response(message)
    if error.status != _SWITCHING:
        return InvalidStatus(Response(error.status, "", from_received(error.headers)))
    if "subprotocol" in message or "extension" in message or "permessage-deflate" in message:
        return NegotiationError(message, status=error.status)
    return _bad_header(message, error)


def _no_response(message: str) -> Exception:
    answer = InvalidMessage("did not receive a valid HTTP response")
    # Which of them it was decides whether another attempt is worth it.
    ended = message.startswith("server closed the connection")
    answer.__cause__ = EOFError(message) if ended else ValueError(message)
    return answer


def _bad_header(message: str, error: errors.HandshakeError) -> Exception:
    """Return what is wrong with a response of status 101."""
    for name in ("Sec-WebSocket-Accept", "Upgrade", "Connection"):
        if message == f"response has no {name}" or message.startswith(f"{name} is "):
            value = None if error.headers is None else error.headers.get(name)
            kind = InvalidHeader if name == "Sec-WebSocket-Accept" else InvalidUpgrade
            return kind(name, value)
    return InvalidHandshake(message, status=error.status)


def _request(connect_options: ConnectOptions) -> Request:
    """Return what was asked for; the key of the handshake is libwebsockets' own."""
    headers = Headers(connect_options.headers)
    if "Host" not in headers:
        headers = Headers([("Host", connect_options.url.host_header), *connect_options.headers])
    if connect_options.protocols:
        headers["Sec-WebSocket-Protocol"] = ", ".join(connect_options.protocols)
    return Request(connect_options.url.path, headers)
