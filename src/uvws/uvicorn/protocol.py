"""The protocol that uvicorn makes for each upgrade request.

The application is asked first. Once it has accepted, uvws adopts a duplicate of the socket, does
the handshake and carries the messages; the transport is paused until the end. What the application
refuses is answered on the transport.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Coroutine
from enum import Enum, auto
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.logging import TRACE_LOG_LEVEL
from uvicorn.protocols.utils import (
    ClientDisconnected,
    get_client_addr,
    get_local_addr,
    get_path_with_query_string,
    get_remote_addr,
    is_ssl,
)
from uvicorn.server import ServerState

from ..aio.contexts import shared_core
from ..compression import Deflate
from ..connection import Connection
from ..errors import ConnectionClosed, MessageTooBig, PingTimeout
from .inbox import Event, Inbox
from .relay import Relay
from .request import BadRequestError, ByteHeaders, UpgradeRequest
from .response import Response, phrase, plain
from .unread import unread

_HIGH_WATER = 65536  # bytes or characters, as that of asyncio's transports
_EARLY_MAX = 65536  # bytes that are read while the application thinks
_QUEUE_MAX = 32  # messages, where uvicorn has no setting for it
# What uvicorn's own implementation on `websockets` asks for: less memory for each connection.
_DEFLATE = Deflate(server_max_window_bits=12, client_max_window_bits=12, memory_level=5)
_PROTOCOL = b"sec-websocket-protocol"


class _Phase(Enum):
    CONNECTING = auto()  # the application has not answered
    ACCEPTING = auto()  # it has accepted, the handshake is under way
    RESPONDING = auto()  # it has begun an HTTP response
    OPEN = auto()
    CLOSING = auto()  # on our side: nothing is sent any more
    CLOSED = auto()


class WebSocketProtocol(asyncio.Protocol):
    """One WebSocket of an ASGI application; for uvicorn's `--ws`."""

    close_timeout = 10.0
    """Seconds for which what is queued may take when the application has just returned."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Create it; uvicorn does.

        Args:
            config: uvicorn's settings.
            server_state: what all connections of the server share.
            app_state: what the application has left there when it started.
        """
        if not config.loaded:
            config.load()
        self.config = config
        self.loop = _loop or asyncio.get_event_loop()
        self.logger = logging.getLogger("uvicorn.error")
        self.server_state = server_state
        self.app_state = app_state
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.scope: Event = {}
        self._client: tuple[str, int] | None = None
        self._phase = _Phase.CONNECTING
        self._request: UpgradeRequest | None = None
        self._early = bytearray()  # what came behind the request before the socket was taken over
        self._response: Response | None = None
        self._relay: Relay | None = None
        self._is_lost = False
        self._is_paused = False
        self._is_shut_down = False
        self._inbox = Inbox(self.loop, getattr(config, "ws_max_queue", None) or _QUEUE_MAX)
        self._adopted: Connection | None = None
        self._open: Connection | None = None  # the same while the application may send
        self._opened: asyncio.Future[None] | None = None
        self._unsent = 0  # since the queue was looked at: bytes or characters
        self._draining: list[asyncio.Future[None]] = []

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; the request comes next."""
        self.transport = cast(asyncio.Transport, transport)
        self._client = get_remote_addr(self.transport)
        self.server_state.connections.add(self)  # type: ignore[arg-type]
        self._trace("WebSocket connection made")

    def data_received(self, data: bytes) -> None:
        """Take the request, then what comes behind it for as long as the transport is read."""
        if self._request is None and self._phase is _Phase.CONNECTING:
            self._begin(data)
        elif self._relay is not None:
            self._relay.feed(data)
        elif self._phase in (_Phase.CONNECTING, _Phase.ACCEPTING):
            self._early += data
            if len(self._early) > _EARLY_MAX:
                self._pause_reading()

    def eof_received(self) -> None:
        """Let the transport be closed."""

    def pause_writing(self) -> None:
        """The transport has enough to write for now."""
        if self._relay is not None:
            self._relay.hold()

    def resume_writing(self) -> None:
        """The transport has room again."""
        if self._relay is not None:
            self._relay.go_on()

    def connection_lost(self, _exc: Exception | None) -> None:
        """The transport is closed."""
        self.server_state.connections.discard(self)
        self._trace("WebSocket connection lost")
        self._is_lost = True
        if self._relay is not None:
            self._relay.close()
        elif self._adopted is not None and self._phase is not _Phase.CLOSED:
            self._adopted.give_up()  # somebody has closed the transport
            if self._phase is _Phase.ACCEPTING:
                self._disconnected(1006, "")
                self._ended()
        if self._adopted is None:
            self._phase = _Phase.CLOSED
            self._inbox.end({"type": "websocket.disconnect", "code": 1006})

    # What the server calls

    def shutdown(self) -> None:
        """The server ends: close with 1012, or refuse with 500."""
        self._is_shut_down = True
        if self._phase is _Phase.OPEN:
            assert self._open is not None
            self._inbox.end({"type": "websocket.disconnect", "code": 1012})
            self._close(self._open, 1012, "")
        elif self._phase is _Phase.CONNECTING:
            self._refuse(500, "Internal Server Error")
        elif self._phase is _Phase.RESPONDING:
            self.transport.close()

    # The application

    def _begin(self, head: bytes) -> None:
        self._early += unread(self.transport)
        try:
            self._request = request = UpgradeRequest.parse(head)
        except BadRequestError as error:
            self._refuse(error.status, str(error), error.headers)
            return
        root_path = self.config.root_path
        self.scope = {
            "type": "websocket",
            "asgi": {"version": self.config.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if is_ssl(self.transport) else "ws",
            "server": get_local_addr(self.transport),
            "client": self._client,
            "root_path": root_path,
            "path": root_path + request.path,
            "raw_path": root_path.encode("ascii") + request.raw_path,
            "query_string": request.query,
            "headers": request.headers,
            "subprotocols": request.subprotocols,
            "state": self.app_state.copy(),
            "extensions": {"websocket.http.response": {}},
        }
        self._inbox.event({"type": "websocket.connect"})
        task = self.loop.create_task(self._run())
        self.server_state.tasks.add(task)
        task.add_done_callback(self.server_state.tasks.discard)

    async def _run(self) -> None:
        try:
            app: Any = self.config.loaded_app
            result = await app(self.scope, self._inbox.receive, self.send)
        except ClientDisconnected:
            pass
        except BaseException:
            self.logger.exception("Exception in ASGI application\n")
        else:
            if self._phase is _Phase.CONNECTING:
                self.logger.error("ASGI callable returned without completing handshake.")
            elif result is not None:
                self.logger.error("ASGI callable should return None, but returned '%s'.", result)
        await self._app_ended()

    async def _app_ended(self) -> None:
        """End what the application has not ended; an open WebSocket without a Close frame."""
        if self._phase is _Phase.CONNECTING:
            self._refuse(500, "Internal Server Error")
        elif self._phase is _Phase.RESPONDING:
            assert self._response is not None
            if not self._response.is_sent:
                self.transport.write(self._response.begin(b"", more_body=False))
            self.transport.close()
        elif self._phase in (_Phase.OPEN, _Phase.ACCEPTING):
            await self._abort()

    async def _abort(self) -> None:
        connection, self._open = self._adopted, None
        was_open = self._phase is _Phase.OPEN
        self._phase = _Phase.CLOSING
        if connection is None:
            self.transport.close()
            return
        if was_open:
            connection.pause_recv()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._drain(connection, 0), self.close_timeout)
        connection.give_up()
        if not was_open:
            self._ended()

    async def send(self, message: Event) -> None:
        """Take an event of the application; this is ASGI's `send`."""
        connection = self._open
        if connection is None or message["type"] != "websocket.send":
            await self._send_other(message)
            return
        if self._unsent > _HIGH_WATER:
            await self._drain(connection, _HIGH_WATER)
        data: Any = message.get("bytes")
        if data is None:
            data = message.get("text")
        try:
            connection.send(data)
        except ConnectionClosed:
            raise ClientDisconnected from None
        self._unsent += len(data)

    def _send_other(self, message: Event) -> Coroutine[Any, Any, None]:
        if self._is_lost or (self._phase is _Phase.CLOSED):
            raise ClientDisconnected
        if self._phase is _Phase.CONNECTING:
            return self._answer(message)
        if self._phase is _Phase.RESPONDING:
            return self._respond(message)
        return self._control(message)

    async def _answer(self, message: Event) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            await self._accept(message)
        elif kind == "websocket.close":
            self._log_answer("403")
            self._refuse(403, "")
        elif kind == "websocket.http.response.start":
            headers = list(message.get("headers", []))
            self._response = Response(message["status"], headers, self.server_state.default_headers)
            self._phase = _Phase.RESPONDING
            self._log_answer(str(message["status"]))
        else:
            raise RuntimeError(
                "Expected ASGI message 'websocket.accept', 'websocket.close' or "
                f"'websocket.http.response.start' but got '{kind}'."
            )

    async def _respond(self, message: Event) -> None:
        kind = message["type"]
        if kind != "websocket.http.response.body":
            raise RuntimeError(
                f"Expected ASGI message 'websocket.http.response.body' but got '{kind}'."
            )
        assert self._response is not None
        body, more_body = message.get("body", b""), message.get("more_body", False)
        if self._response.is_sent:
            self.transport.write(body)
        else:
            self.transport.write(self._response.begin(body, more_body=more_body))
        if not more_body:
            self._end_refused(self._response.status)

    async def _control(self, message: Event) -> None:
        kind = message["type"]
        if self._open is None:
            if self._is_shut_down:
                raise ClientDisconnected
            raise RuntimeError(
                f"Unexpected ASGI message '{kind}', after sending 'websocket.close'."
            )
        if kind != "websocket.close":
            raise RuntimeError(
                f"Expected ASGI message 'websocket.send' or 'websocket.close', but got '{kind}'."
            )
        code, reason = message.get("code", 1000), message.get("reason") or ""
        self._close(self._open, code, reason)
        self._disconnected(code, reason)

    # Refusing

    def _refuse(self, status: int, text: str, headers: ByteHeaders | None = None) -> None:
        if not self.transport.is_closing():
            defaults = self.server_state.default_headers
            self.transport.write(plain(status, text, headers or [], defaults))
        self._end_refused(status)

    def _end_refused(self, status: int) -> None:
        self.logger.info("connection rejected (%d %s)", status, phrase(status))
        self._phase = _Phase.CLOSING
        self._inbox.end({"type": "websocket.disconnect", "code": 1006})
        self.transport.close()

    # Accepting

    async def _accept(self, message: Event) -> None:
        self._log_answer("[accepted]")
        protocol, headers = self._answer_headers(message)
        self._phase = _Phase.ACCEPTING
        self._opened = self.loop.create_future()
        try:
            sock = await self._take_over()
            self._adopt(sock, protocol, headers)
        except BaseException:
            if self._phase is _Phase.ACCEPTING:
                self._phase = _Phase.CONNECTING  # it can still be refused
                self._forget_relay()
            raise
        await self._opened

    def _forget_relay(self) -> None:
        if self._relay is not None:
            relay, self._relay = self._relay, None
            relay.discard()

    def _answer_headers(self, message: Event) -> tuple[str | None, list[tuple[str, str]]]:
        protocol = message.get("subprotocol")
        headers = []
        for name, value in [*self.server_state.default_headers, *message.get("headers", [])]:
            if name.lower() == _PROTOCOL:
                protocol = protocol or value.decode("latin-1")
            else:
                headers.append((name.decode("latin-1"), value.decode("latin-1")))
        return protocol, headers

    async def _take_over(self) -> Any:
        """Return what uvws can adopt."""
        sock = None if is_ssl(self.transport) else self.transport.get_extra_info("socket")
        if sock is not None and not self.transport.get_write_buffer_size():
            self._pause_reading()
            return sock
        relay = Relay(self.transport)
        sock = await relay.open(self.loop)
        if self.transport.is_closing():
            sock.close()
            relay.close()
            raise ClientDisconnected
        self._relay = relay
        return sock

    def _adopt(self, sock: Any, protocol: str | None, headers: list[tuple[str, str]]) -> None:
        assert self._request is not None
        config = self.config
        try:
            context, _ = shared_core()
            self._adopted = context.adopt(
                sock,
                initial_data=self._request.for_adopting() + self._early,
                protocol=protocol,
                headers=headers,
                compression=_DEFLATE if config.ws_per_message_deflate else None,
                max_message_size=config.ws_max_size or 0,
                max_send_queue=0,  # what is queued is bounded by `send`
                ping_interval=config.ws_ping_interval or None,
                ping_timeout=config.ws_ping_timeout or None,
                on_connect=self._connected,
                on_message=self._inbox.message,
                on_close=self._closed,
                on_error=self._failed,
                on_drain=self._drained,
            )
            self._adopted.want_drain(False)
        except BaseException:
            if isinstance(sock, socket.socket):
                sock.close()
            raise
        self._early.clear()
        if self._relay is not None:
            self._resume_reading()

    # What uvws calls

    def _connected(self, connection: Connection, _headers: None) -> None:
        self.logger.info("connection open")
        self._phase = _Phase.OPEN
        self._open = connection
        if self._opened is not None and not self._opened.done():
            self._opened.set_result(None)
        if self._is_shut_down:
            self.shutdown()

    def _failed(self, _connection: Connection, error: Exception) -> None:
        if self._phase is _Phase.ACCEPTING:
            self.logger.warning("WebSocket handshake failed: %s", error)
            self._inbox.end({"type": "websocket.disconnect", "code": 1006})
            self._ended()
        elif isinstance(error, PingTimeout):
            self._trace("WebSocket keepalive ping timeout")
            self._disconnected(1011, "keepalive ping timeout")
        elif isinstance(error, MessageTooBig):  # before the peer has been told, which takes time
            self._disconnected(1009, "")

    def _closed(self, _connection: Connection, code: int, reason: str) -> None:
        self.logger.info("connection closed")
        self._disconnected(code, reason)
        self._ended()

    def _disconnected(self, code: int, reason: str) -> None:
        self._inbox.end({"type": "websocket.disconnect", "code": code, "reason": reason})

    def _drained(self, _connection: Connection) -> None:
        self._unsent = 0
        self._wake_senders()

    def _ended(self) -> None:
        """Uvws has let go of the socket."""
        self._phase = _Phase.CLOSED
        self._open = None
        self._wake_senders()
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(ClientDisconnected())
        # Where there is a relay, it closes the transport behind what is under way.
        if self._relay is None and not self.loop.is_closed():
            self.transport.close()

    # Sending and closing

    async def _drain(self, connection: Connection, limit: int) -> None:
        """Wait until no more than that is queued."""
        while True:
            self._unsent = connection.send_queue_size
            if self._unsent <= limit or self._phase is _Phase.CLOSED:
                return
            waiter = self.loop.create_future()
            self._draining.append(waiter)
            connection.want_drain(True)
            try:
                await waiter
            finally:
                self._draining.remove(waiter)
                if not self._draining:
                    connection.want_drain(False)

    def _wake_senders(self) -> None:
        for waiter in self._draining:
            if not waiter.done():
                waiter.set_result(None)

    def _close(self, connection: Connection, code: int, reason: str) -> None:
        connection.close(code, reason)
        self._open = None
        self._phase = _Phase.CLOSING

    # Small things

    def _pause_reading(self) -> None:
        if not self._is_paused and not self.transport.is_closing():
            self._is_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._is_paused and not self.transport.is_closing():
            self._is_paused = False
            self.transport.resume_reading()

    def _log_answer(self, answer: str) -> None:
        path = get_path_with_query_string(cast(Any, self.scope))
        address = get_client_addr(cast(Any, self.scope))
        self.logger.info('%s - "WebSocket %s" %s', address, path, answer)

    def _trace(self, text: str) -> None:
        if self.logger.isEnabledFor(TRACE_LOG_LEVEL):
            prefix = "{}:{} - ".format(*self._client) if self._client else ""
            self.logger.log(TRACE_LOG_LEVEL, "%s%s", prefix, text)
