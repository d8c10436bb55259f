"""Puts uvws.aio in the place of one side in the asyncio tests of the `websockets` package.

In the tests of clients the client is ours and the server theirs, in those of servers the other way
round, and in those of connections each side in turn, with their connection at the other end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
from collections.abc import Callable
from typing import Any

from uvws import aio
from uvws.aio import client as aio_client

_WAIT = 5.0
_LOGGER = logging.getLogger("websockets.server")
_KEY = re.compile(rb"(?i)sec-websocket-key: *(\S+)")


class _Protocol:
    """What the tests ask of the part of a connection that does no I/O."""

    def __init__(self, connection: aio.Connection) -> None:
        self._connection = connection

    @property
    def state(self) -> Any:
        return self._connection.state

    @property
    def uri(self) -> Any:
        return self._connection.request

    @property
    def extensions(self) -> list[Any]:
        response = self._connection.response
        assert response is not None
        from websockets.extensions.permessage_deflate import PerMessageDeflate

        agreed = "Sec-WebSocket-Extensions" in response.headers
        return [PerMessageDeflate(True, True, 15, 15)] if agreed else []


class ClientConnection(aio.ClientConnection):
    """Ours, with what the tests look at."""

    @property
    def protocol(self) -> _Protocol:
        return _Protocol(self)


class ServerConnection(aio.ServerConnection):
    """Ours, with what the tests look at."""

    @property
    def protocol(self) -> _Protocol:
        return _Protocol(self)


def _tls(options: dict[str, Any], *, server: bool) -> dict[str, Any]:
    """Say with our options what a context of the tests says."""
    from tests.utils import CERTIFICATE, CLIENT_CONTEXT, SERVER_CONTEXT

    if options.get("ssl") is SERVER_CONTEXT and server:
        options["ssl"] = aio.TLS(cert=CERTIFICATE, key=CERTIFICATE)
    if options.get("ssl") is CLIENT_CONTEXT and not server:
        options["ssl"] = aio.TLS(ca=CERTIFICATE)
    return options


class connect(aio.connect):  # noqa: N801
    """Ours."""

    def __init__(self, uri: str, **options: Any) -> None:
        options.setdefault("create_connection", ClientConnection)
        super().__init__(uri, **_tls(options, server=False))


def unix_connect(path: Any = None, uri: str | None = None, **options: Any) -> Any:
    """Ours."""
    options.setdefault("create_connection", ClientConnection)
    return aio.unix_connect(path, uri, **_tls(options, server=False))


def serve(*arguments: Any, **options: Any) -> aio.Server:
    """Ours."""
    options.setdefault("create_connection", ServerConnection)
    options.setdefault("logger", _LOGGER)
    return aio.serve(*arguments, **_tls(options, server=True))


def unix_serve(*arguments: Any, **options: Any) -> aio.Server:
    """Ours."""
    options.setdefault("create_connection", ServerConnection)
    options.setdefault("logger", _LOGGER)
    return aio.unix_serve(*arguments, **_tls(options, server=True))


_EXCEPTIONS = (
    "ConcurrencyError",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "InvalidHandshake",
    "InvalidMessage",
    "InvalidProxy",
    "InvalidStatus",
    "InvalidURI",
    "ProxyError",
    "SecurityError",
)


def client_tests() -> Any:
    """Return the tests of clients, about ours."""
    from tests.asyncio import test_client as tests

    for name in _EXCEPTIONS:
        if hasattr(tests, name):
            setattr(tests, name, getattr(aio, name))
    tests.connect = connect
    tests.unix_connect = unix_connect
    tests.ClientConnection = ClientConnection
    tests.backoff = aio.backoff
    tests.few_redirects = _few_redirects
    return tests


@contextlib.asynccontextmanager
async def _few_redirects() -> Any:
    most, aio_client.MAX_REDIRECTS = aio_client.MAX_REDIRECTS, 2
    try:
        yield
    finally:
        aio_client.MAX_REDIRECTS = most


def server_tests() -> Any:
    """Return the tests of servers, about ours."""
    from tests.asyncio import server
    from tests.asyncio import test_server as tests

    their_uri = server.get_uri

    def get_uri(served: Any, secure: bool | None = None) -> str:
        return str(their_uri(served, served.is_secure if secure is None else secure))

    for module in (server, tests):
        module.get_uri = get_uri
    tests.serve = serve
    tests.unix_serve = unix_serve
    tests.ServerConnection = ServerConnection
    tests.basic_auth = aio.basic_auth
    tests.NegotiationError = aio.NegotiationError
    tests.Request, tests.Response = aio.Request, aio.Response
    return tests


# --- Connections ----------------------------------------------------------------------------------


async def _read_head(sock: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await loop.sock_recv(sock, 1)
    return head


async def _their_client(handler: Callable[[Any], Any], **options: Any) -> tuple[Any, socket.socket]:
    """Return our server, and a socket on which their client's handshake is done."""
    loop = asyncio.get_running_loop()
    server = await aio.serve(handler, "127.0.0.1", 0, compression=None, **options)
    sock = socket.create_connection(server.sockets[0].getsockname())
    sock.setblocking(False)
    request = (
        "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    await loop.sock_sendall(sock, request.encode())
    await _read_head(sock)
    return server, sock


async def _their_server(**options: Any) -> tuple[Any, socket.socket]:
    """Return our client, and the socket of their server behind its handshake."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        uri = f"ws://127.0.0.1:{listening.getsockname()[1]}/"
        connecting = asyncio.ensure_future(
            aio.connect(
                uri, compression=None, create_connection=ClientConnection, **options
            )._connect()
        )
        sock, _ = await loop.sock_accept(listening)
    sock.setblocking(False)
    found = _KEY.search(await _read_head(sock))
    assert found
    response = aio.Response.switching(found[1].decode(), [])
    await loop.sock_sendall(
        sock, f"HTTP/1.1 101 Switching Protocols\r\n{response.headers}".encode()
    )
    return await connecting, sock


class _Setup:
    """Replaces asyncSetUp and asyncTearDown, and waits where theirs counts turns of the loop."""

    async def asyncSetUp(self) -> None:
        from tests.asyncio.connection import InterceptingConnection
        from tests.protocol import RecordingProtocol
        from tests.utils import MS
        from websockets.protocol import CLIENT

        this: Any = self
        options = {"close_timeout": 2 * MS, "ping_interval": None, "logger": _LOGGER}
        this.served = None
        if this.LOCAL is CLIENT:
            this.connection, sock = await _their_server(**options)
        else:
            accepted: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

            async def handler(connection: Any) -> None:
                accepted.set_result(connection)
                await connection.wait_closed()

            this.served, sock = await _their_client(
                handler, create_connection=ServerConnection, **options
            )
            this.connection = await accepted
        (
            this.remote_transport,
            this.remote_connection,
        ) = await asyncio.get_running_loop().create_connection(
            lambda: InterceptingConnection(RecordingProtocol(this.REMOTE)), sock=sock
        )

    async def asyncTearDown(self) -> None:
        this: Any = self
        await this.remote_connection.close()
        await this.connection.close()
        if this.served is not None:
            this.served.close()
            await this.served.wait_closed()

    async def assertFrameSent(self, frame: Any) -> None:  # noqa: N802
        await self.assertFramesSent([frame])

    async def assertFramesSent(self, frames: list[Any]) -> None:  # noqa: N802
        this: Any = self
        received: list[Any] = []
        deadline = asyncio.get_running_loop().time() + _WAIT
        while len(received) < len(frames) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.001)
            received += this.remote_connection.protocol.get_frames_rcvd()
        assert received == frames

    async def assertNoFrameSent(self) -> None:  # noqa: N802
        this: Any = self
        await asyncio.sleep(0.02)
        assert this.remote_connection.protocol.get_frames_rcvd() == []


def connection_tests() -> Any:
    """Return the tests of connections, about ours."""
    from tests.asyncio import test_connection as tests

    for name in _EXCEPTIONS:
        if hasattr(tests, name):
            setattr(tests, name, getattr(aio, name))
    tests.broadcast = aio.broadcast
    tests.State = aio.State
    for name in [each for each in vars(_Setup) if not each.startswith("__")]:
        setattr(tests.ClientConnectionTests, name, getattr(_Setup, name))
    return tests
