"""Every program in examples/ does what it says, with a peer that is not uvws."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import re
import signal
import socket
import ssl
import statistics
import struct
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets
from websockets.http11 import Response
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import Server, ServerConnection, serve

from support import time_limit
from support.certificates import ca_of, certificate, client_context, server_context
from support.examples import DIRECTORY, Example
from support.proxies import RealProxy
from support.wire import CLOSE, PING, Frame, parse_frames, upgrade_request

StartExample = Callable[..., Example]
StartServer = Callable[..., str]

NAMES = sorted(path.stem for path in DIRECTORY.glob("[!_]*.py"))
# What connect raises where the connection ends before the handshake is done.
REFUSED = (OSError, EOFError, websockets.WebSocketException)
_PACKAGES = ("pyuv", "uvloop", "gunicorn")


def _needed(name: str) -> list[str]:
    """Return the packages without which an example does not run."""
    source = Path(DIRECTORY, f"{name}.py").read_text()
    if name == "demo":
        return ["pyuv"]
    return [each for each in _PACKAGES if re.search(rf"(?:import|from) {each}\b", source)]


def _can_do_without(name: str) -> tuple[str, ...]:
    """Return the packages with which an example runs faster, and without which it runs."""
    return ("uvloop",) if "uvloop" in _needed(name) else ()


@pytest.fixture
def example() -> Iterator[StartExample]:
    """Run one of the examples: example(name, *arguments, **options) -> Example."""
    running: list[Example] = []

    def start(name: str, *arguments: object, **options: Any) -> Example:
        for package in _needed(name):
            if package not in _can_do_without(name):
                pytest.importorskip(package)
        started = Example(DIRECTORY / f"{name}.py", *map(str, arguments), **options)
        running.append(started)
        return started

    yield start
    for each in running:
        each.kill()


@pytest.fixture
def server() -> Iterator[StartServer]:
    """Start a server of the `websockets` package: server(handler, **options) -> url."""
    with contextlib.ExitStack() as running:

        def start(handler: Callable[[ServerConnection], None], **options: Any) -> str:
            started = serve(handler, "127.0.0.1", options.pop("port", 0), **options)
            running.callback(_stop, started)
            threading.Thread(target=started.serve_forever, daemon=True).start()
            scheme = "wss" if "ssl" in options else "ws"
            return f"{scheme}://127.0.0.1:{started.socket.getsockname()[1]}/"

        yield start


def _stop(server: Server) -> None:
    server.shutdown()


@pytest.fixture
def proxy() -> Iterator[RealProxy]:
    """A proxy that speaks HTTP and SOCKS5."""
    running = RealProxy(_NoRunner())
    yield running
    running.stop()


class _NoRunner:
    """Stands in where the peers of other tests wake the loop of the test."""

    def wake(self) -> None:
        """There is no loop to wake."""

    def add_peer(self, peer: object) -> None:
        """The fixture stops it."""


def echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


def client_of(running: Example, path: str = "/", **options: Any) -> ClientConnection:
    """Connect a client of the `websockets` package to an example."""
    limit = time_limit(10)
    return connect(f"ws://127.0.0.1:{running.port}{path}", open_timeout=limit, **options)


def refusal(running: Example, path: str = "/") -> Response:
    """Connect to an example that refuses that; return its response."""
    with pytest.raises(websockets.InvalidStatus) as caught, client_of(running, path):
        pass
    return caught.value.response


def receive(connection: ClientConnection) -> str | bytes:
    return connection.recv(time_limit(10))


def closed_with(connection: ClientConnection) -> int:
    """Read to the end; return the close code."""
    with contextlib.suppress(websockets.ConnectionClosed):
        while True:
            receive(connection)
    assert connection.close_code is not None
    return connection.close_code


def echoes(connection: ClientConnection) -> None:
    """Check that a connection sends everything back."""
    for message in ("Grüße", b"\x00\xff", "x" * 200_000, ""):
        connection.send(message)
        assert receive(connection) == message


def silent_peer(port: int) -> socket.socket:
    """Open a WebSocket on which nobody answers anything, not even a ping."""
    sock = socket.create_connection(("127.0.0.1", port), time_limit(10))
    sock.sendall(upgrade_request(host=f"127.0.0.1:{port}"))
    response = b""
    while not response.endswith(b"\r\n\r\n"):
        response += sock.recv(1)
    assert response.startswith(b"HTTP/1.1 101"), response
    return sock


def frames_until(sock: socket.socket, opcode: int) -> list[Frame]:
    """Read frames up to the first of a kind."""
    data = b""
    while True:
        frames, _ = parse_frames(data)
        if any(frame.opcode == opcode for frame in frames):
            return frames
        more = sock.recv(4096)
        assert more, f"the connection ended after {frames}"
        data += more


def get(port: int, path: str = "/") -> tuple[int, str, http.client.HTTPMessage]:
    """Make a plain HTTP request; return status, body and headers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=time_limit(10))
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode(), response.headers


# --- All of them ----------------------------------------------------------------------------------


def test_every_example_is_tested() -> None:
    tests = [name for name in globals() if name.startswith("test_")]
    untested = [
        name for name in NAMES if not any(test.startswith(f"test_{name}_") for test in tests)
    ]
    assert not untested


@pytest.mark.parametrize("name", [name for name in NAMES if name != "demo"])
def test_the_help_of_an_example_says_how_it_is_used(example: StartExample, name: str) -> None:
    assert "usage: " in example(name, "--help").finish()


@pytest.mark.parametrize(
    ("name", "package"),
    [
        (name, package)
        for name in NAMES
        for package in _needed(name)
        if name != "demo" and package not in _can_do_without(name)
    ],
)
def test_an_example_says_which_package_it_misses(
    example: StartExample, name: str, package: str
) -> None:
    running = example(name, without=(package,))
    running.finish(1, quiet=False)
    assert package in running.stderr
    assert "install" in running.stderr
    assert "Traceback" not in running.stderr


# --- Messages -------------------------------------------------------------------------------------


def test_echo_sends_everything_back(example: StartExample) -> None:
    running = example("echo", 0)
    with client_of(running, max_size=None) as client:
        echoes(client)
    running.interrupt()


def test_binary_answers_numbers_with_statistics(example: StartExample) -> None:
    running = example("binary", "--port", 0)
    numbers = array("d", [random.random() for _ in range(1000)])
    with client_of(running) as client:
        client.send(numbers.tobytes())
        count, least, most, mean = struct.unpack("=Q3d", receive(client))
    assert (count, least, most) == (len(numbers), min(numbers), max(numbers))
    assert mean == pytest.approx(statistics.fmean(numbers))
    running.interrupt()


@pytest.mark.parametrize(("message", "code"), [("text", 1003), (b"four", 1007), (b"", 1007)])
def test_binary_closes_on_what_are_no_numbers(
    example: StartExample, message: str | bytes, code: int
) -> None:
    running = example("binary", "--port", 0)
    with client_of(running) as client:
        client.send(message)
        assert closed_with(client) == code
    running.interrupt()


def test_binary_has_a_client_that_sends_numbers(example: StartExample, server: StartServer) -> None:
    received: list[str | bytes] = []

    def handler(connection: ServerConnection) -> None:
        received.append(connection.recv())
        connection.send(struct.pack("=Q3d", 7, -1.5, 2.5, 0.25))

    url = server(handler)
    printed = example("binary", url).finish()
    assert printed == "7 numbers from -1.50 to 2.50, on average 0.2500\n"
    assert len(received[0]) == 800_000


def test_json_protocol_answers_each_request_by_its_id(example: StartExample) -> None:
    running = example("json_protocol", "--port", 0)
    with client_of(running) as client:
        assert client.response is not None
        assert "permessage-deflate" in client.response.headers["Sec-WebSocket-Extensions"]
        requests = [
            {"id": 1, "method": "slowly", "params": [0.5, "last"]},
            {"id": "b", "method": "add", "params": [2, 3]},
            {"id": 3, "method": "no such", "params": []},
        ]
        for request in requests:
            client.send(json.dumps(request))
        client.send("not JSON")
        answers = [json.loads(receive(client)) for _ in range(4)]
    by_id = {answer["id"]: answer for answer in answers}
    assert by_id["b"] == {"id": "b", "result": 5}
    assert "KeyError" in by_id[3]["error"]
    assert "JSONDecodeError" in by_id[None]["error"]
    assert answers[-1] == {"id": 1, "result": "last"}
    running.interrupt()


def test_json_protocol_has_a_client_that_takes_answers_in_any_order(
    example: StartExample, server: StartServer
) -> None:
    def handler(connection: ServerConnection) -> None:
        assert connection.protocol.extensions
        requests = [json.loads(connection.recv()) for _ in range(4)]
        for request in reversed(requests):
            if request["method"] == "no such":
                connection.send(json.dumps({"id": request["id"], "error": "what?"}))
            else:
                connection.send(json.dumps({"id": request["id"], "result": request["params"]}))
        connection.close()

    printed = example("json_protocol", server(handler)).finish()
    assert printed.splitlines() == [
        "no such () failed: what?",
        "upper ('q',) -> ['q']",
        "add (2, 3) -> [2, 3]",
        "slowly (0.5, 'last') -> [0.5, 'last']",
    ]


@pytest.mark.parametrize("without", [(), ("uvloop",)], ids=["uvloop", "asyncio"])
def test_chat_serves_its_page_and_passes_on_what_is_said(
    example: StartExample, without: tuple[str, ...]
) -> None:
    running = example("chat", 0, without=without)
    status, page, headers = get(running.port)
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert "new WebSocket(" in page
    assert get(running.port, "/else")[0] == 404
    origin = f"http://127.0.0.1:{running.port}"
    with client_of(running, "/chat?name=Zoe+Q", origin=origin) as one:
        assert receive(one) == "Zoe Q came in."
        with client_of(running, "/chat") as other:
            assert receive(one) == receive(other) == "somebody came in."
            one.send("<b>Grüße</b>")
            assert receive(one) == receive(other) == "Zoe Q: <b>Grüße</b>"
        assert receive(one) == "somebody went away."
    running.interrupt()


def test_broadcast_tells_everybody_the_time(example: StartExample) -> None:
    running = example("broadcast", 0, "--interval", 0.05)
    with client_of(running) as one, client_of(running) as other:
        for client in (one, other):
            for _ in range(2):
                assert re.fullmatch(r"\d\d:\d\d:\d\d", str(receive(client)))
    running.interrupt()


# --- The handshake --------------------------------------------------------------------------------


def test_router_tells_applications_apart_by_path(example: StartExample) -> None:
    running = example("router", 0)
    with client_of(running, "/upper") as upper, client_of(running, "/reverse?x=1") as reverse:
        for client, answer in ((upper, "HELLO"), (reverse, "olleh")):
            client.send("hello")
            assert receive(client) == answer
        upper.send(b"binary")
        assert closed_with(upper) == 1003
    response = refusal(running, "/elsewhere")
    assert response.status_code == 404
    assert b"/reverse" in (response.body or b"")
    running.interrupt()


def test_headers_cookies_knows_who_comes_back(example: StartExample) -> None:
    running = example("headers_cookies", 0)
    token = {"Authorization": "Bearer open-sesame"}
    with client_of(running, additional_headers=token) as client:
        assert receive(client) == "Welcome, stranger."
        assert client.response is not None
        assert str(client.response.headers["Server"]).startswith("uvws/")
        cookie = client.response.headers["Set-Cookie"].partition(";")[0]
    with client_of(running, additional_headers={**token, "Cookie": cookie}) as client:
        assert receive(client) == "Welcome back, this is visit 2."
        assert client.response is not None
        assert "Set-Cookie" not in client.response.headers
    running.interrupt()


def test_headers_cookies_refuses_who_has_no_token(example: StartExample) -> None:
    running = example("headers_cookies", 0)
    response = refusal(running)
    assert (response.status_code, response.body) == (401, b"Who are you?\n")
    assert response.headers["WWW-Authenticate"] == "Bearer"
    running.interrupt()


def test_headers_cookies_has_a_client_that_comes_back(example: StartExample) -> None:
    running = example("headers_cookies", 0)
    printed = example("headers_cookies", "--client", f"ws://127.0.0.1:{running.port}/").finish()
    assert printed.splitlines() == [
        "Without a token: 401",
        "Welcome, stranger.",
        "Welcome back, this is visit 2.",
    ]
    running.interrupt()


# --- Staying connected, and not -------------------------------------------------------------------


def test_keepalive_keeps_who_answers(example: StartExample) -> None:
    running = example("keepalive", 0, "--interval", 0.1)
    with client_of(running):
        running.wait_for(r"127\.0\.0\.1 answered in \d", count=3)
        assert "does not answer" not in running.stdout
    running.wait_for("closed with 1000")
    running.interrupt()


def test_keepalive_closes_who_does_not_answer(example: StartExample) -> None:
    running = example("keepalive", 0, "--interval", 0.1)
    with silent_peer(running.port) as peer:
        frames = frames_until(peer, CLOSE)
    assert [frame.opcode for frame in frames] == [PING, CLOSE]
    assert frames[1].payload == struct.pack("!H", 1011) + b"no answer to a ping"
    running.wait_for(r"127\.0\.0\.1 does not answer")
    running.interrupt()


def test_backpressure_queues_little_for_a_slow_reader(example: StartExample) -> None:
    running = example("backpressure", "--port", 0)
    received = 0
    with client_of(running) as client:
        for message in client:
            received += len(message)
            if received == len(message):  # the first: give the server the time to be ahead
                time.sleep(0.2)
    assert received == 1600 << 16
    most = running.wait_for(r"Closed with 1000; at most ([\d,]+) bytes queued")[1]
    assert int(most.replace(",", "")) <= (1 << 20) + (64 << 10)
    running.interrupt()


def test_backpressure_has_a_reader_that_takes_its_time(
    example: StartExample, server: StartServer
) -> None:
    def handler(connection: ServerConnection) -> None:
        for _ in range(100):
            connection.send(bytes(64 << 10))

    began = time.monotonic()
    printed = example("backpressure", server(handler), "--pause", 0.01).finish()
    assert printed == f"Received {100 << 16:,} bytes; closed with 1000\n"
    assert time.monotonic() - began >= 0.01 * 99


def test_reconnect_comes_back_after_a_close_and_a_failure(
    example: StartExample, server: StartServer
) -> None:
    def handler(connection: ServerConnection) -> None:
        assert connection.recv() == "hello again"
        connection.close(1001, "back soon")

    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    url = f"ws://127.0.0.1:{port}/"
    running = example("reconnect", url, "--first", 0.05, "--longest", 0.1)
    running.wait_for(r"failed: .*refused\nnext attempt in 0\.\d\d s", count=2)
    assert server(handler, port=port) == url
    running.wait_for(r"connected\nclosed with 1001 back soon\nnext attempt in 0\.0", count=2)
    running.interrupt()


def test_graceful_shutdown_says_goodbye_and_waits_for_answers(example: StartExample) -> None:
    running = example("graceful_shutdown", 0, "--deadline", 10)
    with client_of(running) as one, client_of(running) as other:
        echoes(one)
        running.send_signal(signal.SIGTERM)
        for client in (one, other):
            assert closed_with(client) == 1001
            assert client.close_reason == "the server is going away"
    assert running.finish().endswith("2 said goodbye, 0 did not answer\n")


def test_graceful_shutdown_does_not_wait_for_ever(example: StartExample) -> None:
    running = example("graceful_shutdown", 0, "--deadline", 0.2)
    with silent_peer(running.port) as peer, client_of(running) as client:
        running.send_signal(signal.SIGTERM)
        assert closed_with(client) == 1001
        assert frames_until(peer, CLOSE)
        assert running.finish().endswith("1 said goodbye, 1 did not answer\n")


@pytest.mark.parametrize("without", [(), ("uvloop",)], ids=["uvloop", "asyncio"])
def test_graceful_shutdown_of_an_idle_server_is_at_once(
    example: StartExample, without: tuple[str, ...]
) -> None:
    running = example("graceful_shutdown", 0, "--deadline", 1000, without=without)
    assert running.port
    running.interrupt()


def test_state_monitor_shows_the_life_of_a_connection(
    example: StartExample, server: StartServer
) -> None:
    for arguments in ((), (server(echo),)):
        lines = example("state_monitor", *arguments).finish().splitlines()
        assert [re.split(r"  +", line) for line in lines] == [
            ["after connect()", "connecting", "Connection is not open"],
            ["in on_connect", "connected", "sends"],
            ["in on_message", "connected", "sends"],
            ["after close()", "closing", "Connection is not open"],
            ["in on_close", "closed", "Connection is not open"],
            ["", "closed with 1000 (seen enough)"],
            ["after loop.run()", "closed", "Connection is not open"],
            ["after the context", "destroyed", "Connection has been destroyed"],
        ]


# --- Clients --------------------------------------------------------------------------------------


def test_several_connections_asks_servers_of_its_own(example: StartExample) -> None:
    printed = example("several_connections").finish().splitlines()
    assert len(printed) == 4
    for name in ("first", "second", "third"):
        assert any(line.endswith(f'''"{name} got 'hello'"''') for line in printed)
    assert sum("ConnectionRefusedError" in line for line in printed) == 1


def test_several_connections_prints_answers_as_they_come(
    example: StartExample, server: StartServer
) -> None:
    first_is_out = threading.Event()

    def slow(connection: ServerConnection) -> None:
        assert first_is_out.wait(time_limit(20))
        echo(connection)

    slow_url, quick_url = server(slow), server(echo)
    running = example("several_connections", slow_url, quick_url)
    running.wait_for(f"{quick_url} 'hello'\n")
    first_is_out.set()
    assert running.finish() == f"{quick_url} 'hello'\n{slow_url} 'hello'\n"


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_proxy_connects_through_the_proxy_that_it_is_told(
    example: StartExample, server: StartServer, proxy: RealProxy, scheme: str
) -> None:
    running = example("proxy", "--proxy", proxy.url(scheme), server(echo))
    assert running.finish() == "received 'hello'\n"
    assert len(proxy.lines) == 1


def test_proxy_asks_the_environment(
    example: StartExample, server: StartServer, proxy: RealProxy
) -> None:
    environment = {"http_proxy": proxy.url("http")}
    for arguments, connections in (((), 1), (("--proxy", ""), 1)):
        running = example("proxy", *arguments, server(echo), environment=environment)
        assert running.finish() == "received 'hello'\n"
        assert len(proxy.lines) == connections


def test_proxy_says_what_went_wrong(example: StartExample, server: StartServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    running = example("proxy", "--proxy", f"127.0.0.1:{port}", server(echo))
    running.finish(1, quiet=False)
    assert running.stderr.startswith("failed: ")
    assert "refused" in running.stderr


# --- async/await ----------------------------------------------------------------------------------


@pytest.mark.parametrize("without", [(), ("uvloop",)], ids=["uvloop", "asyncio"])
def test_aio_echo_serves_and_says_goodbye(example: StartExample, without: tuple[str, ...]) -> None:
    running = example("aio_echo", 0, without=without)
    with client_of(running, max_size=None) as client:
        echoes(client)
        running.send_signal(signal.SIGINT)
        assert closed_with(client) == 1001
    assert "connected: ('127.0.0.1', " in running.finish()


def test_aio_echo_connects_again_after_a_loss(example: StartExample, server: StartServer) -> None:
    seen: list[str | bytes] = []

    def lose_the_first(connection: ServerConnection) -> None:
        seen.append(connection.recv())
        if len(seen) == 1:
            connection.close(1011)
            return
        connection.send(seen[-1])
        echo(connection)

    running = example("aio_echo", "--connect", server(lose_the_first), "--most", 2)
    assert running.finish() == "received 'message 0'\nreceived 'message 1'\n"
    assert seen == ["message 0", "message 0"]


# --- TLS ------------------------------------------------------------------------------------------


def test_tls_server_makes_certificates_for_the_occasion(example: StartExample) -> None:
    running = example("tls_server", 0)
    trusting = ssl.create_default_context(cafile=running.wait_for("is in (.*)")[1])
    with connect(f"wss://localhost:{running.port}/", ssl=trusting, max_size=None) as client:
        echoes(client)
    running.interrupt()


def test_tls_server_takes_certificates(example: StartExample, tmp_path: Path) -> None:
    made = certificate()
    Path(tmp_path, "cert").write_bytes(made.cert)
    Path(tmp_path, "key").write_bytes(made.key)
    running = example("tls_server", 0, "--cert", tmp_path / "cert", "--key", tmp_path / "key")
    trusting = client_context()
    with connect(f"wss://localhost:{running.port}/", ssl=trusting, max_size=None) as client:
        echoes(client)
    running.interrupt()


def test_self_signed_shows_three_ways(
    example: StartExample, server: StartServer, tmp_path: Path
) -> None:
    # What signed itself is its own authority; here an authority of the tests stands for it.
    Path(tmp_path, "ca.pem").write_bytes(ca_of())
    url = server(echo, ssl=server_context())
    for arguments in ((), (url, "--cert", tmp_path / "ca.pem")):
        as_it_is, unverified, trusted = example("self_signed", *arguments).finish().splitlines()
        assert "TLSError" in as_it_is
        assert "self-signed" in as_it_is or "issuer" in as_it_is
        assert unverified.endswith(" 'hello'")
        assert trusted.endswith(" 'hello'")


def test_mtls_lets_in_only_clients_with_a_certificate(example: StartExample) -> None:
    running = example("mtls", 0)
    directory = Path(running.wait_for("certificates in (.*)")[1])
    known, unknown = running.stdout.splitlines()[:2]
    assert known.endswith(" 'hello'")
    assert "Error(" in unknown
    context = ssl.create_default_context(cafile=directory / "ca.pem")
    url = f"wss://localhost:{running.port}/"
    with pytest.raises(REFUSED), connect(url, ssl=context):
        pass
    context.load_cert_chain(directory / "client.pem", directory / "client.key")
    with connect(url, ssl=context, max_size=None) as client:
        echoes(client)
    running.interrupt()


# --- Sockets of other code ------------------------------------------------------------------------


def test_adopt_serves_sockets_that_were_accepted_elsewhere(example: StartExample) -> None:
    running = example("adopt", 0, "--most", 2)
    with client_of(running, max_size=None) as one, client_of(running, max_size=None) as other:
        echoes(one)
        echoes(other)
        with pytest.raises(REFUSED), client_of(running):
            pass
        running.wait_for("No room for 127.0.0.1")
    deadline = time.monotonic() + time_limit(10)
    while not _lets_in(running):  # it may hear of the end of a connection later than the client
        assert time.monotonic() < deadline
    running.interrupt()


def _lets_in(running: Example) -> bool:
    try:
        with client_of(running) as client:
            client.send("hello")
            return receive(client) == "hello"
    except REFUSED:
        return False


def test_pyuv_http_hands_upgrades_over(example: StartExample) -> None:
    running = example("pyuv_http", 0)
    _serves_both(running)
    with socket.create_connection(("127.0.0.1", running.port), time_limit(10)) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\nX: " + bytes(20_000))
        assert peer.recv(100).startswith(b"HTTP/1.1 431 ")
    running.interrupt()


@pytest.mark.parametrize("without", [(), ("uvloop",)], ids=["uvloop", "asyncio"])
def test_asyncio_streams_hands_upgrades_over(
    example: StartExample, without: tuple[str, ...]
) -> None:
    running = example("asyncio_streams", 0, without=without)
    _serves_both(running)
    running.interrupt()


def _serves_both(running: Example) -> None:
    """See plain requests answered while WebSockets are open, and these close cleanly."""
    with client_of(running, max_size=None) as one, client_of(running, max_size=None) as other:
        echoes(one)
        assert get(running.port)[:2] == (200, "Talk WebSocket to me.\n")
        echoes(other)
        echoes(one)
    assert one.close_code == other.close_code == 1000
    assert get(running.port)[0] == 200


@pytest.mark.parametrize("worker", ["sync", "gthread"])
def test_gunicorn_app_takes_upgrades_over(
    example: StartExample, tmp_path: Path, worker: str
) -> None:
    running = example(
        "gunicorn_app",
        *("--bind", "127.0.0.1:0", "--worker-class", worker, "--workers", 2),
        *("--access-logfile", "-"),
        environment={"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    port = int(running.wait_for(r"Listening at: http://127.0.0.1:(\d+)", stream="stderr")[1])
    url = f"ws://127.0.0.1:{port}/some%20where?a=b"
    with connect(url, max_size=None) as one, connect(url, max_size=None) as other:
        for _ in range(3):
            echoes(one)
            assert get(port)[:2] == (200, "Talk WebSocket to me.\n")
            echoes(other)
        one.close()
        assert one.close_code == 1000
        running.wait_for(r'"GET /some%20where\?a=b HTTP/1.1" 101 ', count=2)
        running.send_signal(signal.SIGTERM)
        assert closed_with(other) == 1001
    running.finish(quiet=False)
    for word in ("Traceback", "ERROR", "WARNING"):
        assert word not in running.stderr


# --- What `make demo` shows -----------------------------------------------------------------------


def test_demo_runs_to_its_end(example: StartExample) -> None:
    printed = example("demo").finish(timeout=60)
    assert "closed with 1000 (that was all)" in printed
    assert "messages/s" in printed
