"""The packages websockets, aiohttp and picows as peers, each in a thread."""

from __future__ import annotations

import abc
import asyncio
import importlib
import importlib.util
import json
import queue
from typing import Any

from ..certificates import client_context, server_context
from ..deadlines import time_limit
from ..peers import ClientThread
from ..runners import Runner
from . import FRAGMENTS, Closed, Peer, missing


class PythonPeer(Peer):
    """A package; what differs from one to the other is in the classes below."""

    package: str

    def __init__(self, runner: Runner) -> None:
        if importlib.util.find_spec(self.package) is None:
            missing(f"there is no package {self.package}")
        super().__init__(runner)
        self._runner = runner
        self._urls: queue.Queue[str] = queue.Queue()

    def serve(self, **options: Any) -> str:
        tls = server_context() if options["tls"] else None
        self._start(lambda: self._serve(tls, options["deflate"], options["protocol"]))
        return self._urls.get(timeout=time_limit(5))

    def connect(self, url: str, **options: Any) -> None:
        tls = client_context() if options["tls"] else None
        self._start(lambda: self._connect(url, tls, options["deflate"], options["protocol"]))

    def _start(self, function: Any) -> None:
        self._runner.add_peer(ClientThread(function, self._runner.wake))

    async def _listening(self, sock: Any, tls: Any) -> None:
        scheme, host = ("wss", "localhost") if tls else ("ws", "127.0.0.1")
        self._urls.put(f"{scheme}://{host}:{sock.getsockname()[1]}/")
        await asyncio.Event().wait()

    def _ended(self, code: Any, reason: Any) -> None:
        self.closed = Closed(int(code), reason or "")
        self.wake()

    @abc.abstractmethod
    async def _serve(self, tls: Any, deflate: bool, protocol: str | None) -> None: ...

    @abc.abstractmethod
    async def _connect(self, url: str, tls: Any, deflate: bool, protocol: str | None) -> None: ...


async def _obey(end: Any, message: str | bytes) -> None:
    """Do what a message asks for, or send it back."""
    if isinstance(message, bytes) or not message.startswith("please "):
        await end.send(message)
        return
    _, what, *rest = message.split(" ", 3)
    if what == "close":
        await end.close(int(rest[0]), " ".join(rest[1:]))
    elif what == "fragment":
        await end.fragment(FRAGMENTS)
    elif what == "ping":
        await end.ping(rest[0].encode())
    else:
        await end.send(json.dumps(end.report()))


# --- websockets -----------------------------------------------------------------------------------


class Websockets(PythonPeer):
    package = "websockets"

    async def _serve(self, tls: Any, deflate: bool, protocol: str | None) -> None:
        from websockets.asyncio.server import serve

        options = self._options(tls, deflate, protocol)
        async with serve(self._talk, "127.0.0.1", 0, **options) as server:
            await self._listening(next(iter(server.sockets)), tls)

    async def _connect(self, url: str, tls: Any, deflate: bool, protocol: str | None) -> None:
        from websockets.asyncio.client import connect

        async with connect(url, **self._options(tls, deflate, protocol)) as connection:
            await self._talk(connection)

    def _options(self, tls: Any, deflate: bool, protocol: str | None) -> dict[str, Any]:
        return {
            "ssl": tls,
            "compression": "deflate" if deflate else None,
            "subprotocols": [protocol] if protocol else None,
            "max_size": None,
        }

    async def _talk(self, connection: Any) -> None:
        from websockets import ConnectionClosed

        end = _WebsocketsEnd(connection)
        try:
            async for message in connection:
                await _obey(end, message)
        except ConnectionClosed:
            pass  # with another code than 1000 and 1001
        self._ended(connection.close_code, connection.close_reason)


class _WebsocketsEnd:
    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.send = self.fragment = connection.send
        self.close = connection.close
        self._tasks: list[asyncio.Task[None]] = []

    async def ping(self, payload: bytes) -> None:
        answered = await self._connection.ping(payload)

        async def tell() -> None:
            await answered
            await self.send("pong " + payload.decode())

        self._tasks.append(asyncio.create_task(tell()))

    def report(self) -> dict[str, Any]:
        extensions = self._connection.protocol.extensions
        return {"protocol": self._connection.subprotocol, "deflate": bool(extensions)}


# --- aiohttp --------------------------------------------------------------------------------------


class Aiohttp(PythonPeer):
    package = "aiohttp"

    async def _serve(self, tls: Any, deflate: bool, protocol: str | None) -> None:
        from aiohttp import web

        async def handle(request: Any) -> Any:
            answer = web.WebSocketResponse(
                compress=deflate,
                protocols=[protocol] if protocol else (),
                max_msg_size=0,
                autoping=False,
            )
            await answer.prepare(request)
            await self._talk(answer)
            return answer

        app = web.Application()
        app.router.add_get("/", handle)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
            (server,) = (site._server for site in runner.sites)  # type: ignore[attr-defined]
            await self._listening(server.sockets[0], tls)
        finally:
            await runner.cleanup()

    async def _connect(self, url: str, tls: Any, deflate: bool, protocol: str | None) -> None:
        import aiohttp

        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(
                url,
                ssl=tls or True,
                compress=15 if deflate else 0,
                protocols=[protocol] if protocol else (),
                max_msg_size=0,
                autoping=False,
            ) as connection,
        ):
            sock = connection.get_extra_info("socket")
            await self._talk(connection)
        # With TLS the socket is closed later than the session, and would be reported as left open.
        while sock is not None and sock.fileno() != -1:
            await asyncio.sleep(0.01)

    async def _talk(self, connection: Any) -> None:
        from aiohttp import WSMsgType

        end = _AiohttpEnd(connection)
        code, reason = 1006, ""
        while not connection.closed:
            message = await connection.receive()
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                await _obey(end, message.data)
            elif message.type == WSMsgType.PING:
                await connection.pong(message.data)  # autoping would hide the Pongs as well
            elif message.type == WSMsgType.PONG:
                await connection.send_str("pong " + bytes(message.data).decode())
            elif message.type == WSMsgType.CLOSE:
                code, reason = message.data, message.extra
        self._ended(code, reason)


class _AiohttpEnd:
    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.ping = connection.ping

    async def close(self, code: int, reason: str) -> None:
        await self._connection.close(code=code, message=reason.encode())

    async def send(self, message: str | bytes) -> None:
        is_text = isinstance(message, str)
        await (self._connection.send_str if is_text else self._connection.send_bytes)(message)

    def report(self) -> dict[str, Any]:
        connection = self._connection
        protocol = getattr(connection, "ws_protocol", None) or getattr(connection, "protocol", None)
        return {"protocol": protocol, "deflate": bool(connection.compress)}


# --- picows ---------------------------------------------------------------------------------------


class Picows(PythonPeer):
    """It knows frames only: messages are put together here. It does not compress."""

    package = "picows"

    async def _serve(self, tls: Any, deflate: bool, protocol: str | None) -> None:
        import picows

        def respond(request: Any) -> Any:
            headers = {"Sec-WebSocket-Protocol": protocol} if protocol else None
            response = picows.WSUpgradeResponse.create_101_response(headers)
            return picows.WSUpgradeResponseWithListener(response, self._listener())

        server = await picows.ws_create_server(respond, "127.0.0.1", 0, ssl=tls)
        async with server:
            await self._listening(server.sockets[0], tls)

    async def _connect(self, url: str, tls: Any, deflate: bool, protocol: str | None) -> None:
        import picows

        headers = {"Sec-WebSocket-Protocol": protocol} if protocol else None
        transport, _ = await picows.ws_connect(
            self._listener, url, ssl_context=tls, extra_headers=headers
        )
        await transport.wait_disconnected()

    def _listener(self) -> Any:
        picows: Any = importlib.import_module("picows")
        kinds = picows.WSMsgType
        peer = self

        class Listener(picows.WSListener):  # type: ignore[misc]
            def __init__(self) -> None:
                self._parts: list[bytes] = []
                self._kind = kinds.TEXT
                self._tasks: list[asyncio.Task[None]] = []
                self._end: Any = None
                self._closed = Closed(1006, "")

            def on_ws_frame(self, transport: Any, frame: Any) -> None:
                kind = frame.msg_type
                payload = frame.get_payload_as_bytes()
                self._end = self._end or _PicowsEnd(transport, kinds)
                if kind == kinds.PING:
                    transport.send_pong(payload)
                elif kind == kinds.PONG:
                    transport.send(kinds.TEXT, b"pong " + payload)
                elif kind == kinds.CLOSE:
                    reason = frame.get_close_message() or b""
                    self._closed = Closed(int(frame.get_close_code()), reason.decode())
                    transport.send_close(frame.get_close_code(), reason)
                    transport.disconnect()
                else:
                    self._kind = self._kind if kind == kinds.CONTINUATION else kind
                    self._parts.append(payload)
                    if frame.fin:
                        self._obey()

            def _obey(self) -> None:
                whole = b"".join(self._parts)
                self._parts.clear()
                message = whole.decode() if self._kind == kinds.TEXT else whole
                self._tasks.append(
                    asyncio.get_running_loop().create_task(_obey(self._end, message))
                )

            def on_ws_disconnected(self, transport: Any) -> None:
                peer._ended(*self._closed)

        return Listener()


class _PicowsEnd:
    def __init__(self, transport: Any, kinds: Any) -> None:
        self._transport = transport
        self._kinds = kinds

    async def send(self, message: str | bytes) -> None:
        kind = self._kinds.TEXT if isinstance(message, str) else self._kinds.BINARY
        self._transport.send(kind, message.encode() if isinstance(message, str) else message)

    async def fragment(self, parts: list[str]) -> None:
        for number, part in enumerate(parts):
            kind = self._kinds.CONTINUATION if number else self._kinds.TEXT
            self._transport.send(kind, part.encode(), fin=number == len(parts) - 1)

    async def ping(self, payload: bytes) -> None:
        self._transport.send_ping(payload)

    async def close(self, code: int, reason: str) -> None:
        self._transport.send_close(code, reason.encode())

    def report(self) -> dict[str, Any]:
        protocol = self._transport.response.headers.get("Sec-WebSocket-Protocol")
        return {"protocol": protocol, "deflate": False}
