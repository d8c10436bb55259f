"""uvws under uvicorn: any ASGI application, over the sockets that uvicorn has accepted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi import WebSocket as FastAPIWebSocket
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from uvicorn.logging import TRACE_LOG_LEVEL
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect, unix_connect
from websockets.uri import parse_uri

from support.certificates import certificate, client_context
from support.deadlines import time_limit
from support.wire import TEXT, frame, upgrade_request
from uvws.uvicorn import WebSocketProtocol

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:uvicorn")

HOST = "127.0.0.1"
LOOPS = ("uvloop", "asyncio")
HTTP = ("h11", "httptools")
LARGE = 3 << 20

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Event, Receive, Send], Awaitable[None]]


async def echo(scope: Event, receive: Receive, send: Send) -> None:
    """Send back what comes, until the end."""
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] != "websocket.disconnect":
        await send({**event, "type": "websocket.send"})


class Witness:
    """An application that says what it received, behind `app` where there is one."""

    def __init__(self, app: App | None = None) -> None:
        self.events: list[Event] = []
        self.scopes: list[Event] = []
        self._app = app or echo
        self._changed = threading.Condition()

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)

        async def seen() -> Event:
            event = await receive()
            with self._changed:
                self.events.append(event)
                self._changed.notify_all()
            return event

        await self._app(scope, seen, send)

    def wait_for(self, condition: Callable[[Event], bool]) -> Event:
        """Return the first event that is meant; the test fails if it does not come."""
        with self._changed:
            assert self._changed.wait_for(
                lambda: any(map(condition, self.events)), time_limit(10)
            ), self.events
        return next(filter(condition, self.events))

    @property
    def disconnect(self) -> Event:
        """The last event, once it has come."""
        return self.wait_for(lambda event: event["type"] == "websocket.disconnect")


class Server:
    """uvicorn in a thread."""

    def __init__(self, app: Any, **settings: Any) -> None:
        options = {"port": 0, "host": HOST, "lifespan": "off", "log_config": None, **settings}
        config = uvicorn.Config(app, ws=WebSocketProtocol, **options)
        self.uvicorn = uvicorn.Server(config)
        self._thread = threading.Thread(target=self.uvicorn.run, daemon=True)
        self._thread.start()
        self.wait(lambda: self.uvicorn.started)

    @property
    def port(self) -> int:
        """The port that the system chose."""
        return int(self.uvicorn.servers[0].sockets[0].getsockname()[1])

    def connect(self, path: str = "/", **options: Any) -> ClientConnection:
        """Connect with the `websockets` package."""
        return connect(f"ws://{HOST}:{self.port}{path}", **options)

    @property
    def connections(self) -> set[Any]:
        """What uvicorn counts."""
        return self.uvicorn.server_state.connections

    @staticmethod
    def wait(condition: Callable[[], object]) -> None:
        """Wait until something is so; the test fails if it never is."""
        deadline = time.monotonic() + time_limit(10)
        while not condition():
            assert time.monotonic() < deadline, "not so in time"
            time.sleep(0.005)

    def stop(self) -> None:
        """Shut it down, and wait until it has ended."""
        self.uvicorn.should_exit = True
        self._thread.join(time_limit(10))
        assert not self._thread.is_alive(), "uvicorn did not end"


@pytest.fixture
def serve(no_leaked_descriptors: None) -> Iterator[Callable[..., Server]]:
    """Start servers: serve(app, **settings of uvicorn) -> Server."""
    servers: list[Server] = []

    def start(app: Any, **settings: Any) -> Server:
        servers.append(Server(app, **settings))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def rejection(server: Server) -> Any:
    """Return the response of a server that does not accept."""
    with pytest.raises(InvalidStatus) as caught:
        server.connect()
    return caught.value.response


# Applications


async def starlette_echo(ws: WebSocket) -> None:
    await ws.accept()
    async for text in ws.iter_text():
        await ws.send_text(text)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("http", HTTP)
def test_starlette(serve: Callable[..., Server], loop: str, http: str) -> None:
    app = Starlette(routes=[WebSocketRoute("/echo", starlette_echo)])
    with serve(app, loop=loop, http=http).connect("/echo", max_size=None) as client:
        for text in ("", "Grüße", "x" * LARGE):
            client.send(text)
            assert client.recv() == text


def test_fastapi(serve: Callable[..., Server]) -> None:
    app = FastAPI()

    @app.websocket("/items/{item}")
    async def items(ws: FastAPIWebSocket, item: int, q: str) -> None:
        await ws.accept()
        data = await ws.receive_json()
        await ws.send_json({"item": item, "q": q, **data})
        await ws.close(3000, "that was all")

    with serve(app).connect("/items/7?q=a%20b") as client:
        client.send('{"n": 1}')
        assert client.recv() == '{"item":7,"q":"a b","n":1}'
        with pytest.raises(ConnectionClosed):
            client.recv()
        assert (client.close_code, client.close_reason) == (3000, "that was all")


# The handshake


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("http", HTTP)
def test_a_frame_in_the_segment_of_the_request(
    serve: Callable[..., Server], loop: str, http: str
) -> None:
    server = serve(echo, loop=loop, http=http)
    with socket.create_connection((HOST, server.port), time_limit(5)) as peer:
        peer.sendall(upgrade_request() + frame(TEXT, b"early", mask=b"abcd"))
        came = b""
        while not came.endswith(frame(TEXT, b"early")):
            data = peer.recv(4096)
            assert data, came
            came += data


def test_frames_that_come_before_the_application_accepts(serve: Callable[..., Server]) -> None:
    may_accept = threading.Event()

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await asyncio.get_running_loop().run_in_executor(None, may_accept.wait)
        await echo(scope, receive, send)

    server = serve(app)
    with socket.create_connection((HOST, server.port), time_limit(5)) as peer:
        peer.sendall(upgrade_request())
        server.wait(lambda: server.uvicorn.server_state.tasks)
        peer.sendall(frame(TEXT, b"x" * 100_000, mask=b"abcd"))
        may_accept.set()
        size = 0
        while size < 100_000:
            size += len(peer.recv(65536))


def test_the_scope_says_what_was_asked(serve: Callable[..., Server]) -> None:
    app = Witness()
    server = serve(app, root_path="/root")
    with server.connect(
        "/a%2Fb/%C3%A9?q=%20", subprotocols=["one", "two"], additional_headers={"X-Name": "value"}
    ) as client:
        own = client.socket.getsockname()
    scope = app.scopes[0]
    assert (b"x-name", b"value") in scope["headers"]
    assert scope["path"] == "/root/a/b/é"
    assert scope["raw_path"] == b"/root/a%2Fb/%C3%A9"
    assert scope["query_string"] == b"q=%20"
    assert scope["subprotocols"] == ["one", "two"]
    assert (scope["scheme"], scope["client"]) == ("ws", own)
    assert scope["server"] == (HOST, server.port)


def test_more_headers_than_uvws_takes_by_itself(serve: Callable[..., Server]) -> None:
    app = Witness()
    cookie = "c" * 40_000
    with serve(app, http="h11").connect(additional_headers={"Cookie": cookie}) as client:
        client.send("x")
        assert client.recv() == "x"
    assert (b"cookie", cookie.encode()) in app.scopes[0]["headers"]


@pytest.mark.parametrize("way", ["subprotocol", "headers"])
def test_the_application_chooses_the_subprotocol(serve: Callable[..., Server], way: str) -> None:
    answer: Event = {"headers": [(b"x-more", b"1")]}
    if way == "subprotocol":
        answer["subprotocol"] = "two"
    else:
        answer["headers"].append((b"Sec-WebSocket-Protocol", b"two"))

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept", **answer})
        await receive()

    with serve(app).connect(subprotocols=["one", "two"]) as client:
        assert client.subprotocol == "two"
        assert client.response is not None
        assert client.response.headers["x-more"] == "1"
        assert client.response.headers.get_all("server") == ["uvicorn"]


@pytest.mark.parametrize("deflate", [True, False])
def test_compression_is_a_setting(serve: Callable[..., Server], deflate: bool) -> None:
    with serve(echo, ws_per_message_deflate=deflate).connect(compression="deflate") as client:
        client.send("x" * 1000)
        assert client.recv() == "x" * 1000
        assert bool(client.protocol.extensions) == deflate


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 12"), 426),
        ((b"Sec-WebSocket-Version: 13\r\n", b""), 400),
        ((b"Sec-WebSocket-Key: ", b"Sec-WebSocket-Key: x"), 400),
        ((b"GET ", b"PUT "), 400),
    ],
)
def test_a_wrong_request_does_not_reach_the_application(
    serve: Callable[..., Server], change: tuple[bytes, bytes], status: int
) -> None:
    app = Witness()
    server = serve(app)
    request = upgrade_request()
    assert change[0] in request
    with socket.create_connection((HOST, server.port), time_limit(5)) as peer:
        peer.sendall(request.replace(*change))
        response = peer.makefile("rb").read()
    assert response.startswith(b"HTTP/1.1 %d " % status)
    assert not app.scopes


def test_a_header_that_cannot_be_sent_is_the_applications_error(
    serve: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept", "headers": [(b"x", b"a\r\nb: c")]})

    assert rejection(serve(app)).status_code == 500
    assert "the value of 'x' has the character" in caplog.text


# Refusing


def test_close_before_accept_is_403(serve: Callable[..., Server]) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.close"})
        await receive()

    witness = Witness(app)
    response = rejection(serve(witness))
    assert (response.status_code, response.body) == (403, b"")
    assert witness.disconnect == {"type": "websocket.disconnect", "code": 1006}


@pytest.mark.parametrize("parts", [1, 3])
def test_a_response_of_the_applications_own(serve: Callable[..., Server], parts: int) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        kind = "websocket.http.response"
        await send({"type": f"{kind}.start", "status": 418, "headers": [(b"x-tea", b"1")]})
        for n in range(parts):
            await send({"type": f"{kind}.body", "body": b"tea", "more_body": n + 1 < parts})

    response = rejection(serve(app))
    assert (response.status_code, response.body) == (418, b"tea" * parts)
    assert response.headers["x-tea"] == "1"


def test_an_application_that_fails_is_500(
    serve: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        raise ValueError("on purpose")

    assert rejection(serve(app)).status_code == 500
    assert "ValueError: on purpose" in caplog.text


def test_what_happens_is_logged_as_uvicorn_does(
    serve: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(TRACE_LOG_LEVEL, "uvicorn.error"):
        server = serve(echo, log_level="trace")
        with server.connect("/a%20b?q=1") as client:
            name = "{}:{}".format(*client.socket.getsockname())
        server.stop()
    for line in (
        f"{name} - WebSocket connection made",
        f'{name} - "WebSocket /a%20b?q=1" [accepted]',
        "connection open",
        "connection closed",
        f"{name} - WebSocket connection lost",
    ):
        assert line in caplog.messages


# The end


@pytest.mark.parametrize(
    ("code", "reason", "told"),
    [(1001, "custom", (1001, "custom")), (1000, "", (1000, ""))],
)
def test_the_close_code_of_the_client(
    serve: Callable[..., Server], code: int, reason: str, told: tuple[int, str]
) -> None:
    app = Witness()
    with serve(app).connect() as client:
        client.close(code, reason)
    assert app.disconnect == {
        "type": "websocket.disconnect",
        "code": told[0],
        "reason": told[1],
    }


def test_a_client_that_is_gone_is_1006(serve: Callable[..., Server]) -> None:
    app = Witness()
    server = serve(app)
    with server.connect() as client:
        client.socket.shutdown(socket.SHUT_RDWR)
        assert app.disconnect["code"] == 1006
        server.wait(lambda: not server.connections)


def test_a_client_that_is_gone_before_it_is_accepted(serve: Callable[..., Server]) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await receive()

    witness = Witness(app)
    server = serve(witness)
    with socket.create_connection((HOST, server.port)) as peer:
        peer.sendall(upgrade_request())
        server.wait(lambda: witness.events)
    assert witness.disconnect == {"type": "websocket.disconnect", "code": 1006}


def test_receive_at_the_end_never_hangs(serve: Callable[..., Server]) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(3):
            await receive()

    witness = Witness(app)
    with serve(witness).connect():
        pass
    witness.wait_for(lambda _event: len(witness.events) == 4)
    assert {event["code"] for event in witness.events[1:]} == {1000}


def test_sending_to_a_client_that_has_closed_is_an_oserror(serve: Callable[..., Server]) -> None:
    raised: list[BaseException] = []

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        try:
            await send({"type": "websocket.send", "text": "x"})
        except OSError as error:
            raised.append(error)

    server = serve(app)
    with server.connect():
        pass
    server.wait(lambda: raised)


def test_what_was_sent_arrives_before_the_application_returns(
    serve: Callable[..., Server],
) -> None:
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": bytes(LARGE)})

    with serve(app).connect(max_size=None) as client:
        assert len(client.recv()) == LARGE
        with pytest.raises(ConnectionClosed):
            client.recv()
        assert client.close_code == 1006


@pytest.mark.parametrize("loop", LOOPS)
def test_shutting_down_closes_with_1012(serve: Callable[..., Server], loop: str) -> None:
    app = Witness()
    server = serve(app, loop=loop)
    with server.connect() as client:
        server.stop()
        with pytest.raises(ConnectionClosed):
            client.recv()
        assert client.close_code == 1012
    assert app.disconnect == {"type": "websocket.disconnect", "code": 1012}


def test_sending_while_the_server_shuts_down_is_an_oserror(serve: Callable[..., Server]) -> None:
    raised: list[BaseException] = []

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        try:
            await send({"type": "websocket.send", "text": "x"})
        except OSError as error:
            raised.append(error)

    server = serve(app)
    with server.connect():
        server.stop()
    assert raised


def test_nothing_of_a_connection_is_left(serve: Callable[..., Server]) -> None:
    server = serve(echo)
    for _ in range(5):
        with server.connect() as client:
            assert len(server.connections) == 1
            client.send("x")
            assert client.recv() == "x"
        server.wait(lambda: not server.connections and not server.uvicorn.server_state.tasks)


# Limits


def test_a_message_over_ws_max_size(serve: Callable[..., Server]) -> None:
    app = Witness()
    with serve(app, ws_max_size=10).connect(compression=None) as client:
        client.send(b"x" * 10)
        assert client.recv() == b"x" * 10
        client.send(b"x" * 11)
        assert app.disconnect["code"] == 1009
        with pytest.raises(ConnectionClosed):
            client.recv()


def test_a_client_that_does_not_answer_pings(serve: Callable[..., Server]) -> None:
    app = Witness()
    server = serve(app, ws_ping_interval=0.1, ws_ping_timeout=0.2)
    with socket.create_connection((HOST, server.port), time_limit(5)) as peer:
        peer.sendall(upgrade_request())
        came = peer.makefile("rb").read()
    assert came.endswith(b"\x03\xf3keepalive ping timeout")
    assert app.disconnect["code"] == 1011


def test_a_client_that_answers_pings_stays(serve: Callable[..., Server]) -> None:
    with serve(echo, ws_ping_interval=0.05, ws_ping_timeout=time_limit(5)).connect() as client:
        with pytest.raises(TimeoutError):
            client.recv(0.5)
        client.send("x")
        assert client.recv() == "x"


@pytest.mark.parametrize("loop", LOOPS)
def test_sending_waits_for_a_client_that_does_not_read(
    serve: Callable[..., Server], loop: str
) -> None:
    count = 4096  # of 64 KiB: more than sockets hold
    sent = 0

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        nonlocal sent
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(count):
            await send({"type": "websocket.send", "bytes": bytes(65536)})
            sent += 1
        await send({"type": "websocket.close"})

    server = serve(app, loop=loop)
    with socket.create_connection((HOST, server.port), time_limit(5)) as peer:
        peer.sendall(upgrade_request())
        before = -1
        while before != sent or not sent:
            before = sent
            time.sleep(0.2)
        assert sent < count
        size = 0
        while data := peer.recv(1 << 20):
            size += len(data)
            if data.endswith(b"\x88\x02\x03\xe8"):
                break
        assert size >= count * 65536


def test_an_application_that_does_not_receive_is_not_flooded(
    serve: Callable[..., Server],
) -> None:
    may_receive = threading.Event()

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.get_running_loop().run_in_executor(None, may_receive.wait)
        size = 0
        while (event := await receive())["type"] == "websocket.receive":
            size += len(event["bytes"])
            if event["bytes"].endswith(b"end"):
                await send({"type": "websocket.send", "text": str(size)})

    server = serve(app, ws_max_queue=4)
    with server.connect(compression=None) as client:
        client.socket.settimeout(0.5)
        taken = 0
        with contextlib.suppress(TimeoutError):
            while taken < 512:
                client.socket.send(frame(2, bytes(1 << 16), mask=b"abcd"))
                taken += 1
        assert taken < 512
        may_receive.set()
        client.close_socket()


# Transports whose socket cannot be taken over


@pytest.mark.parametrize("loop", LOOPS)
def test_tls(serve: Callable[..., Server], loop: str, tmp_path: Path) -> None:
    made = certificate()
    (tmp_path / "cert.pem").write_bytes(made.cert)
    (tmp_path / "key.pem").write_bytes(made.key)
    app = Witness()
    server = serve(
        app,
        loop=loop,
        ssl_certfile=str(tmp_path / "cert.pem"),
        ssl_keyfile=str(tmp_path / "key.pem"),
    )
    url = f"wss://{HOST}:{server.port}/"
    with connect(url, ssl=client_context(), max_size=None, compression=None) as client:
        for data in ("x", b"y" * LARGE):
            client.send(data)
            assert client.recv() == data
    assert app.scopes[0]["scheme"] == "wss"
    assert app.disconnect["code"] == 1000
    server.wait(lambda: not server.connections)


def test_a_unix_socket(serve: Callable[..., Server], tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    serve(echo, uds=path)
    with unix_connect(path) as client:
        client.send("x")
        assert client.recv() == "x"


class MemoryTransport(asyncio.Transport):
    """A transport without a socket."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1), "sockname": ("192.0.2.2", 2)})
        self.written = bytearray()
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def test_a_transport_in_memory() -> None:
    async def main() -> None:
        config = uvicorn.Config(echo, ws=WebSocketProtocol, lifespan="off")
        config.load()
        state = uvicorn.server.ServerState()
        protocol = WebSocketProtocol(config, state, {})
        transport = MemoryTransport()
        client = ClientProtocol(parse_uri("ws://192.0.2.2/"))

        async def until(condition: Callable[[], object]) -> None:
            deadline = time.monotonic() + time_limit(5)
            while not condition():
                assert time.monotonic() < deadline, "not so in time"
                await asyncio.sleep(0.005)
                client.receive_data(bytes(transport.written))
                transport.written.clear()

        protocol.connection_made(transport)
        client.send_request(client.connect())
        protocol.data_received(b"".join(client.data_to_send()))
        await until(lambda: client.state.name == "OPEN")
        client.send_text(b"x")
        protocol.data_received(b"".join(client.data_to_send()))
        got: list[Any] = []
        await until(lambda: got.extend(client.events_received()) or len(got) > 1)
        assert got[1].data == b"x"
        client.send_close(1000)
        protocol.data_received(b"".join(client.data_to_send()))
        await until(lambda: transport.closed)
        protocol.connection_lost(None)
        assert not state.connections

    asyncio.run(main())


# Processes


APP = """
import os

async def app(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": str(os.getpid())})
    while (await receive())["type"] != "websocket.disconnect":
        pass

try:
    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from uvicorn.workers import UvicornWorker

    class Worker(UvicornWorker):
        CONFIG_KWARGS = {**UvicornWorker.CONFIG_KWARGS, "ws": "uvws.uvicorn:WebSocketProtocol"}
except ImportError:
    pass
"""


@pytest.mark.parametrize("how", ["uvicorn", "gunicorn"])
def test_several_processes(tmp_path: Path, how: str) -> None:
    (tmp_path / "served.py").write_text(textwrap.dedent(APP))
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    commands = {
        "uvicorn": f"uvicorn served:app --port {port} --workers 2 --lifespan off"
        " --ws uvws.uvicorn:WebSocketProtocol",
        "gunicorn": f"gunicorn served:app -b {HOST}:{port} -w 2 -k served.Worker",
    }
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "HOME": str(tmp_path)}
    environment["XDG_RUNTIME_DIR"] = str(tmp_path)
    with contextlib.ExitStack() as stack:
        output = stack.enter_context((tmp_path / "output").open("wb"))
        process = subprocess.Popen(
            [sys.executable, "-m", *commands[how].split()],
            cwd=tmp_path,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        served: set[str] = set()
        clients: list[ClientConnection] = []
        deadline = time.monotonic() + time_limit(20)
        while len(served) < 2:
            assert time.monotonic() < deadline, (tmp_path / "output").read_text()
            try:
                clients.append(stack.enter_context(connect(f"ws://{HOST}:{port}/")))
                served.add(str(clients[-1].recv()))
            except OSError:
                time.sleep(0.05)
        assert str(process.pid) not in served
        process.send_signal(signal.SIGTERM)
        for client in clients:
            with pytest.raises(ConnectionClosed):
                client.recv(time_limit(10))
            assert client.close_code == 1012
        process.wait(time_limit(15))
    assert "Traceback" not in (tmp_path / "output").read_text()
