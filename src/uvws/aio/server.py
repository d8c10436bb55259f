"""Servers: a coroutine for each connection."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
from collections.abc import Awaitable, Callable, Generator, Sequence
from types import TracebackType
from typing import Any

from .. import options
from ..compression import Deflate
from ..core import Core
from ..listener import Listener, ListenOptions
from ..sockets import open_socket
from .accepting import AcceptingListener, Handshakes, process_hook
from .connection import Connection
from .contexts import shared_core
from .frames import CloseCode
from .http import SERVER, Request, Response
from .settings import Logger, Marks, Settings, checked_settings, subprotocol_list
from .tls import TLS, server_tls

Handler = Callable[["ServerConnection"], Awaitable[object]]
ProcessRequest = Callable[["ServerConnection", Request], Any]
ProcessResponse = Callable[["ServerConnection", Request, Response], Any]
SelectSubprotocol = Callable[["ServerConnection", Sequence[str]], "str | None"]


class ServerConnection(Connection):
    """A connection of a server, given to the handler.

    Attributes:
        server: the server.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: Settings, server: Server) -> None:
        super().__init__(loop, settings)
        self.server = server

    def respond(self, status: int, text: str) -> Response:
        """Return a response with a text, for `process_request` and `process_response`."""
        return Response.text(status, text)


class Server:
    """What `serve` returns: a context manager, or awaited.

    Attributes:
        logger: where it says what went wrong.
    """

    def __init__(self, handler: Handler, places: Places, plan: Plan) -> None:
        self._handler = handler
        self._places = places
        self._plan = plan
        self.logger = plan.settings.logger
        self._listeners: list[Listener] = []
        self._sockets: tuple[BoundSocket, ...] = ()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open: set[ServerConnection] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._closing: asyncio.Task[None] | None = None
        self._closed: asyncio.Future[None] | None = None

    def __await__(self) -> Generator[Any, None, Server]:
        return self._start().__await__()

    async def __aenter__(self) -> Server:
        return await self._start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        await self.wait_closed()

    async def _start(self) -> Server:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._closed = self._loop.create_future()
            await self._listen(self._loop)
        return self

    async def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        _, core = shared_core()
        sockets = await self._places.open(loop)
        try:
            while sockets:
                name = sockets[0].getsockname()
                bound = BoundSocket(sockets[0].family, name)
                self._listeners.append(self._listener(core, sockets[0]))
                sockets.pop(0)
                self._sockets += (bound,)
                self.logger.info("server listening on %s", _place(name))
        except BaseException:
            self._stop_listening()
            raise
        finally:
            for sock in sockets:
                sock.close()

    def _listener(self, core: Core, sock: socket.socket) -> Listener:
        name = f"uvws.aio server {id(self):#x} {len(self._listeners)}"
        return AcceptingListener(core, name, sock, self._plan.listen_options(self), self.accepted)

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._sockets = ()

    def new_connection(self) -> ServerConnection:
        """Return a connection that is in its handshake."""
        assert self._loop is not None
        return self._plan.create_connection(self._loop, self._plan.settings, self)

    def accepted(self, connection: ServerConnection) -> None:
        """The handshake is done: start the handler."""
        assert self._loop is not None
        self._open.add(connection)
        task = self._loop.create_task(self._run(connection))
        self._handlers.add(task)
        task.add_done_callback(self._handlers.discard)

    async def _run(self, connection: ServerConnection) -> None:
        try:
            async with connection:
                await self._handler(connection)
        except Exception:
            connection.logger.error("connection handler failed", exc_info=True)
        finally:
            self._open.discard(connection)

    @property
    def connections(self) -> set[ServerConnection]:
        """The connections that are open."""
        return {each for each in self._open if each.is_open}

    @property
    def sockets(self) -> tuple[BoundSocket, ...]:
        """What it listens on; none once it is closed."""
        return self._sockets

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop it runs on."""
        assert self._loop is not None, "the server was not started"
        return self._loop

    @property
    def is_secure(self) -> bool:
        """Whether it speaks TLS."""
        return self._plan.is_secure

    def is_serving(self) -> bool:
        """Tell whether it accepts connections."""
        return self._closing is None and any(each.is_open for each in self._listeners)

    async def start_serving(self) -> None:
        """Start, if it was not yet."""
        await self._start()

    async def serve_forever(self) -> None:
        """Wait until the server is closed; close it when cancelled."""
        await self._start()
        try:
            await self.wait_closed()
        except asyncio.CancelledError:
            self.close()
            await self.wait_closed()
            raise

    def close(
        self,
        close_connections: bool = True,
        code: int = CloseCode.GOING_AWAY,
        reason: str = "",
    ) -> None:
        """Stop accepting, close the connections, and wait for the handlers to return.

        Does nothing the second time. Handshakes that are under way are answered with 503.

        Args:
            close_connections: whether to close those that are open, or wait for them to end.
            code: the close code for them.
            reason: the reason.
        """
        if self._closing is None and self._loop is not None:
            self._closing = self._loop.create_task(self._close(close_connections, code, reason))

    async def _close(self, close_connections: bool, code: int, reason: str) -> None:
        assert self._closed is not None
        self.logger.info("server closing")
        self._stop_listening()
        try:
            if close_connections:
                for connection in self.connections:
                    connection.begin_close(code, reason)
            while self._handlers:
                await asyncio.wait(self._handlers)
            self.logger.info("server closed")
        finally:
            self._closed.set_result(None)

    async def wait_closed(self) -> None:
        """Wait until the server is closed and all handlers have returned."""
        if self._closed is not None:
            await asyncio.shield(self._closed)


class BoundSocket:
    """What a server listens on, to ask for its address; the socket itself is C's.

    Attributes:
        family: such as `socket.AF_INET`.
    """

    __slots__ = ("_name", "family")

    def __init__(self, family: int, name: Any) -> None:
        self.family = family
        self._name = name

    def __repr__(self) -> str:
        return f"<uvws.aio.BoundSocket {_place(self._name)}>"

    def getsockname(self) -> Any:
        """Return its address."""
        return self._name


class Places:
    """Where a server listens: addresses of hosts, a path, or a socket that is there."""

    def __init__(
        self,
        host: str | Sequence[str] | None,
        port: int | None,
        path: str | os.PathLike[str] | None = None,
        sock: socket.socket | None = None,
    ) -> None:
        if sock is not None and path is not None:
            raise ValueError("path and sock can not be specified at the same time")
        if sock is not None and (host is not None or port is not None):
            raise ValueError("host/port and sock can not be specified at the same time")
        self._hosts = [host] if host is None or isinstance(host, str) else list(host)
        self._port = options.listen_port(port or 0)
        self._path = None if path is None else os.fspath(path)
        self._sock = sock

    async def open(self, loop: asyncio.AbstractEventLoop) -> list[socket.socket]:
        """Bind and listen.

        Raises:
            OSError: the system refuses; errno says why.
        """
        if self._sock is not None:
            return [_listening(self._sock)]
        if self._path is not None:
            return [open_socket(f"unix:{self._path}", 0)]
        sockets: list[socket.socket] = []
        try:
            for host in self._hosts:
                for address in await self._addresses(loop, host):
                    sockets.append(open_socket(address, self._port))  # noqa: PERF401
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        return sockets

    async def _addresses(
        self, loop: asyncio.AbstractEventLoop, host: str | None
    ) -> list[str | None]:
        if host is None or host == "":
            return [None]
        found = await loop.getaddrinfo(
            host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _listening(sock: socket.socket) -> socket.socket:
    """Make a socket of the user's listen; it is ours from then on."""
    if not isinstance(sock, socket.socket):
        raise TypeError(f"sock must be a socket, not {type(sock).__name__}")
    if sock.type != socket.SOCK_STREAM:
        raise ValueError("sock must be a stream socket")
    sock.setblocking(False)
    sock.listen(socket.SOMAXCONN)
    return sock


def _place(name: Any) -> str:
    if not isinstance(name, tuple):
        return str(name)
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


class Plan:
    """What a server does with what it accepts: the arguments of `serve`, checked."""

    def __init__(
        self,
        settings: Settings,
        tls: TLS,
        handshakes: Handshakes,
        create_connection: Callable[
            [asyncio.AbstractEventLoop, Settings, Server], ServerConnection
        ],
    ) -> None:
        self.settings = settings
        self.create_connection = create_connection
        self._tls = tls.files()
        self._handshakes = handshakes

    @property
    def is_secure(self) -> bool:
        """Whether there is a certificate."""
        return self._tls.cert is not None

    def listen_options(self, server: Server) -> ListenOptions:
        """Return what a listener needs to know."""
        upgrades = self._handshakes.of(server)
        return ListenOptions(
            callbacks=upgrades.nobody,
            tls=self._tls,
            limits=self.settings.limits,
            max_connections=0,
            upgrades=upgrades,
            on_request=upgrades.plain_request,
        )


def serve(
    handler: Handler,
    host: str | Sequence[str] | None = None,
    port: int | None = None,
    *,
    origins: Sequence[str | re.Pattern[str] | None] | None = None,
    subprotocols: Sequence[str] | None = None,
    select_subprotocol: SelectSubprotocol | None = None,
    compression: str | Deflate | None = "deflate",
    process_request: ProcessRequest | None = None,
    process_response: ProcessResponse | None = None,
    server_header: str | None = SERVER,
    open_timeout: float | None = 10,
    ping_interval: float | None = 20,
    ping_timeout: float | None = 20,
    close_timeout: float | None = 10,
    max_size: int | tuple[int | None, int | None] | None = 2**20,
    max_queue: Marks = 16,
    write_limit: Marks = 2**15,
    logger: Logger | None = None,
    create_connection: type[ServerConnection] | None = None,
    ssl: TLS | None = None,
    sock: socket.socket | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Server:
    """Serve WebSockets: await what is returned, or use it as a context manager.

    The handler is a coroutine function, called with each connection once its handshake is done;
    the connection is closed when it returns, with 1011 where it raises.

    Args:
        handler: called with a `ServerConnection`.
        host: address or name to bind, or several; None for every address.
        port: TCP port; None or 0 lets the system choose.
        origins: what the Origin header may be: str, compiled patterns, and None for no header.
            Other requests are refused with 403.
        subprotocols: in order of preference. A client that offers none of them is refused with 400.
        select_subprotocol: called with the connection and what the client offers, to choose one of
            them or none (None), or to raise `NegotiationError`.
        compression: "deflate", a `uvws.Deflate`, or None.
        process_request: called with the connection and the request before it is answered; a
            `Response` that it returns is sent instead. It may be a coroutine function, as long as
            it does not wait for anything.
        process_response: likewise, with the response, which it may change or replace.
        server_header: the Server header; None for none.
        open_timeout: seconds for TLS and the opening handshake; None for no limit.
        ping_interval: seconds without a byte from the peer after which it is sent a Ping; None for
            no pings.
        ping_timeout: seconds after that without a byte after which the connection is ended.
        close_timeout: seconds for the closing handshake; at most five without progress.
        max_size: largest message to receive, in bytes; None for no limit.
        max_queue: messages received that wait for `recv` before reading stops, or that and the
            number at which it goes on (a quarter by default); None for no limit.
        write_limit: bytes queued from which on `send` waits.
        logger: `logging.getLogger("uvws.aio.server")` by default.
        create_connection: a subclass of `ServerConnection`.
        ssl: certificate and key, to serve TLS.
        sock: a bound socket, instead of host and port; it is taken over.
        path: see `unix_serve`.

    Raises:
        TypeError, ValueError: an argument is wrong; the message names it.
        OSError: a file of `ssl` cannot be read; when awaited, that the system refuses the address.
    """
    settings = checked_settings(
        compression=compression,
        open_timeout=open_timeout,
        ping_interval=ping_interval,
        ping_timeout=ping_timeout,
        close_timeout=close_timeout,
        max_size=max_size,
        max_queue=max_queue,
        write_limit=write_limit,
        logger=logger or logging.getLogger("uvws.aio.server"),
    )
    handshakes = Handshakes(
        origins=origins,
        subprotocols=subprotocol_list(subprotocols),
        select_subprotocol=options.callback("select_subprotocol", select_subprotocol),
        process_request=process_hook("process_request", process_request),
        process_response=process_hook("process_response", process_response),
        server_header=server_header,
        compression=settings.compression,
    )
    plan = Plan(settings, server_tls(ssl), handshakes, create_connection or ServerConnection)
    return Server(handler, Places(host, port, path, sock), plan)


def unix_serve(
    handler: Handler, path: str | os.PathLike[str] | None = None, **kwargs: Any
) -> Server:
    """Serve WebSockets on a Unix socket, as `serve` does otherwise.

    Args:
        handler: called with a `ServerConnection`.
        path: where the socket is made, unless there is a `sock`.
        kwargs: the other arguments of `serve`.

    Raises:
        ValueError: there is neither a path nor a socket.
    """
    if path is None and kwargs.get("sock") is None:
        raise ValueError("path was not specified, and no sock specified")
    return serve(handler, path=path, **kwargs)
