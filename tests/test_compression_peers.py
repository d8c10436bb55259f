"""permessage-deflate with other implementations of it, as they are commonly set up."""

from __future__ import annotations

import asyncio
import queue
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)

import uvws
from support import Recorder, Runner, echo, loop_kinds, time_limit, url_of
from support.interop.node import node_environment, node_with_ws
from support.patches import compresses
from support.payloads import binary, text
from support.peers import ClientThread

pytestmark = compresses

EXTENSION = "Sec-WebSocket-Extensions"
DEFLATE = {"compression": "deflate"}
WORDS = "how many words could a websocket compress " * 2000

# A large message, one of each kind, an empty one, and what was there before.
MESSAGES: list[str | bytes] = [
    "Hello",
    binary(1000),
    "",
    b"",
    text(70_000),
    WORDS,
    bytes(300_000),
    binary(1000),
    "Hello",
]

PARAMETERS = [
    {},
    {"server_no_context_takeover": True},
    {"client_no_context_takeover": True},
    {"server_no_context_takeover": True, "client_no_context_takeover": True},
    *({"server_max_window_bits": bits} for bits in (9, 12, 15)),
    *({"client_max_window_bits": bits} for bits in (9, 12, 15)),
    {"server_max_window_bits": 9, "client_max_window_bits": 10, "client_no_context_takeover": True},
]
by_parameters = pytest.mark.parametrize(
    "parameters", PARAMETERS, ids=lambda each: ",".join(f"{k}={v:d}" for k, v in each.items())
)


def send_and_receive(runner: Runner, url: str, **options: Any) -> Recorder:
    """Send all the messages to an echo server that is not ours, and check what comes back."""
    recorder = Recorder()
    client = runner.context().connect(url, **options, **recorder.callbacks)
    runner.run(recorder.saw("connect"), timeout=10)
    for message in MESSAGES:
        client.send(message)
    runner.run(recorder.saw("message", len(MESSAGES)), timeout=10)
    assert recorder.messages == MESSAGES
    client.close()
    runner.run(recorder.saw("close"))
    assert recorder.events[-1][1] == 1000
    return recorder


async def echo_websockets(connection: Any) -> None:
    async for message in connection:
        await connection.send(message)


def websockets_talk(uri: str, **options: Any) -> Callable[[], Any]:
    """Return what exchanges the messages as a client of `websockets`; it returns the answer."""

    async def talk() -> Any:
        async with connect(uri, max_size=None, **options) as connection:
            for message in MESSAGES:
                await connection.send(message)
                assert await connection.recv() == message
            await connection.send(iter([WORDS, "", "fragments"]))  # type: ignore[arg-type]
            assert await connection.recv() == WORDS + "fragments"
            return connection.response.headers.get(EXTENSION)

    return talk


# --- websockets -----------------------------------------------------------------------------------


def test_a_server_of_websockets_compresses_by_default(
    runner: Runner, websockets_server: Callable[..., str]
) -> None:
    uri = websockets_server(echo_websockets, max_size=None)
    recorder = send_and_receive(runner, uri, **DEFLATE)
    assert EXTENSION in recorder.events[0][1]


def test_a_client_of_websockets_compresses_by_default(
    runner: Runner, websockets_client: Callable[..., ClientThread]
) -> None:
    client = websockets_client(websockets_talk(url_of(echo(runner, **DEFLATE))))
    runner.run(client.done, timeout=10)
    assert client.result().startswith("permessage-deflate")


@by_parameters
def test_a_server_of_websockets_with_these_parameters(
    runner: Runner, websockets_server: Callable[..., str], parameters: dict[str, Any]
) -> None:
    factory = ServerPerMessageDeflateFactory(**parameters)
    uri = websockets_server(echo_websockets, max_size=None, compression=None, extensions=[factory])
    recorder = send_and_receive(runner, uri, **DEFLATE)
    agreed = recorder.events[0][1][EXTENSION]
    assert all(name in agreed for name, value in parameters.items() if value is True)


@by_parameters
def test_a_client_of_websockets_with_these_parameters(
    runner: Runner, websockets_client: Callable[..., ClientThread], parameters: dict[str, Any]
) -> None:
    factory = ClientPerMessageDeflateFactory(**parameters)
    uri = url_of(echo(runner, **DEFLATE))
    client = websockets_client(websockets_talk(uri, compression=None, extensions=[factory]))
    runner.run(client.done, timeout=10)
    agreed = client.result()
    assert all(name in agreed for name, value in parameters.items() if value is True)


@by_parameters
def test_a_client_of_ours_with_these_parameters(
    runner: Runner, websockets_server: Callable[..., str], parameters: dict[str, Any]
) -> None:
    uri = websockets_server(echo_websockets, max_size=None)
    recorder = send_and_receive(runner, uri, compression=uvws.Deflate(**parameters))
    assert EXTENSION in recorder.events[0][1]


@by_parameters
def test_a_server_of_ours_with_these_parameters(
    runner: Runner, websockets_client: Callable[..., ClientThread], parameters: dict[str, Any]
) -> None:
    uri = url_of(echo(runner, compression=uvws.Deflate(**parameters)))
    client = websockets_client(websockets_talk(uri))
    runner.run(client.done, timeout=10)
    assert client.result().startswith("permessage-deflate")


def test_ends_of_which_one_does_not_compress(
    runner: Runner,
    websockets_server: Callable[..., str],
    websockets_client: Callable[..., ClientThread],
) -> None:
    uri = websockets_server(echo_websockets, max_size=None, compression=None)
    recorder = send_and_receive(runner, uri, **DEFLATE)
    assert EXTENSION not in recorder.events[0][1]
    client = websockets_client(websockets_talk(url_of(echo(runner))))
    runner.run(client.done, timeout=10)
    assert client.result() is None


def test_websockets_takes_our_fragments(
    runner: Runner, websockets_server: Callable[..., str]
) -> None:
    recorder = Recorder()
    uri = websockets_server(echo_websockets)
    connection = runner.context().connect(uri, **DEFLATE, **recorder.callbacks)
    runner.run(recorder.saw("connect"))
    for _ in range(2):
        for number in range(10):
            connection.send_fragment(f"part {number} ", final=number == 9)
            connection.send_ping()
    runner.run(recorder.saw("message", 2))
    assert recorder.messages == ["".join(f"part {number} " for number in range(10))] * 2


def test_websockets_says_what_it_thinks_of_a_limit(
    runner: Runner, websockets_client: Callable[..., ClientThread]
) -> None:
    listener = echo(runner, **DEFLATE, max_message_size=10_000)

    async def talk() -> int | None:
        async with connect(url_of(listener)) as connection:
            await connection.send(bytes(10_000))
            assert await connection.recv() == bytes(10_000)
            await connection.send(bytes(10_001))
            with pytest.raises(websockets.ConnectionClosedError):
                await connection.recv()
            return connection.close_code

    client = websockets_client(talk)
    runner.run(client.done, timeout=10)
    assert client.result() == 1009


# --- aiohttp --------------------------------------------------------------------------------------


@pytest.fixture
def aiohttp_server(
    websockets_client: Callable[..., ClientThread],
) -> Iterator[Callable[[bool], str]]:
    """Start an echo server of aiohttp: aiohttp_server(compress) -> url."""
    web = pytest.importorskip("aiohttp.web")
    stops: list[Callable[[], object]] = []
    servers: list[ClientThread] = []

    def start(compress: bool) -> str:
        addresses: queue.Queue[tuple[str, int]] = queue.Queue()

        async def handle(request: Any) -> Any:
            answer = web.WebSocketResponse(compress=compress, max_msg_size=0)
            await answer.prepare(request)
            async for message in answer:
                is_text = isinstance(message.data, str)
                await (answer.send_str if is_text else answer.send_bytes)(message.data)
            return answer

        async def serve() -> None:
            app = web.Application()
            app.router.add_get("/", handle)
            runner = web.AppRunner(app, shutdown_timeout=0)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            loop, over = asyncio.get_running_loop(), asyncio.Event()
            stops.append(lambda: loop.call_soon_threadsafe(over.set))
            addresses.put(runner.addresses[0])
            await over.wait()
            await runner.cleanup()

        servers.append(websockets_client(serve))
        return "ws://{}:{}/".format(*addresses.get(timeout=time_limit(5)))

    yield start
    for stop in stops:
        stop()
    for server in servers:
        server.result()


@pytest.mark.parametrize("compress", [True, False])
def test_a_server_of_aiohttp(
    runner: Runner, aiohttp_server: Callable[[bool], str], compress: bool
) -> None:
    recorder = send_and_receive(runner, aiohttp_server(compress), **DEFLATE)
    assert (EXTENSION in recorder.events[0][1]) == compress


@pytest.mark.parametrize("parameters", PARAMETERS)
def test_a_server_of_aiohttp_and_our_parameters(
    runner: Runner, aiohttp_server: Callable[[bool], str], parameters: dict[str, Any]
) -> None:
    send_and_receive(runner, aiohttp_server(True), compression=uvws.Deflate(**parameters))


@pytest.mark.parametrize("compress", [0, 9, 10, 12, 15])
@pytest.mark.parametrize("parameters", [{}, {"server_no_context_takeover": True}])
def test_a_client_of_aiohttp(
    runner: Runner,
    websockets_client: Callable[..., ClientThread],
    compress: int,
    parameters: dict[str, Any],
) -> None:
    aiohttp = pytest.importorskip("aiohttp")
    url = url_of(echo(runner, compression=uvws.Deflate(**parameters)))

    async def talk() -> int:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url, compress=compress, max_msg_size=0) as connection,
        ):
            for message in MESSAGES:
                is_text = isinstance(message, str)
                await (connection.send_str if is_text else connection.send_bytes)(message)
                assert (await connection.receive()).data == message
            return int(connection.compress)

    client = websockets_client(talk)
    runner.run(client.done, timeout=10)
    assert bool(client.result()) == bool(compress)


# --- Node -----------------------------------------------------------------------------------------

NODE_OPTIONS = [
    "true",
    "{serverNoContextTakeover: true, clientNoContextTakeover: true}",
    "{serverMaxWindowBits: 10, clientMaxWindowBits: 9}",
    "{threshold: 0, zlibDeflateOptions: {level: 9}}",
]
by_node_options = pytest.mark.parametrize("options", NODE_OPTIONS)


@by_node_options
def test_a_server_of_node(runner: Runner, options: str) -> None:
    source = f"""
        const {{WebSocketServer}} = require("ws");
        const server = new WebSocketServer({{host: "127.0.0.1", port: 0,
                                             perMessageDeflate: {options}}});
        server.on("listening", () => console.log(server.address().port));
        server.on("connection", (ws) => ws.on("message",
            (data, binary) => ws.send(data, {{binary, compress: true}})));
    """
    with subprocess.Popen(
        [node_with_ws(), "-e", source], stdout=subprocess.PIPE, env=node_environment()
    ) as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            recorder = send_and_receive(runner, f"ws://127.0.0.1:{port}/", **DEFLATE)
        finally:
            process.kill()
    assert EXTENSION in recorder.events[0][1]


@by_node_options
def test_a_client_of_node(
    runner: Runner, websockets_client: Callable[..., ClientThread], options: str
) -> None:
    node = node_with_ws()
    url = url_of(echo(runner, **DEFLATE))
    source = f"""
        const WebSocket = require("ws");
        const assert = require("assert");
        const ws = new WebSocket("{url}", {{perMessageDeflate: {options}}});
        const messages = ["Hello", "", "words ".repeat(50000), Buffer.alloc(300000, "x"),
                          require("crypto").randomBytes(100000), "Hello", "parts of one"];
        ws.on("open", () => {{
            assert(ws.extensions.startsWith("permessage-deflate"), ws.extensions);
            for (const message of messages.slice(0, -1)) ws.send(message);
            ws.send("parts ", {{fin: false}});
            ws.send("of ", {{fin: false}});
            ws.send("one");
        }});
        let at = 0;
        ws.on("message", (data, binary) => {{
            const expected = messages[at++];
            assert.strictEqual(binary, typeof expected !== "string");
            assert(Buffer.compare(data, Buffer.from(expected)) === 0, "message " + at);
            if (at === messages.length) ws.close(1000);
        }});
        ws.on("close", (code) => {{ console.log("closed", code); }});
    """

    async def talk() -> str:
        process = await asyncio.create_subprocess_exec(
            *(node, "-e", source),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=node_environment(),
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), time_limit(15))
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return output.decode()

    client = websockets_client(talk)
    runner.run(client.done, timeout=20)
    assert client.result() == "closed 1000\n"


@loop_kinds("asyncio")
def test_who_knows_nothing_of_compression_is_served(
    runner: Runner, websockets_client: Callable[..., ClientThread]
) -> None:
    client = websockets_client(websockets_talk(url_of(echo(runner, **DEFLATE)), compression=None))
    runner.run(client.done, timeout=10)
    assert client.result() is None
