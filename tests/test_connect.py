"""Client connections: what is sent to open one, where to, and all the ways in which it fails."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import uvws
from support import Recorder, Runner, echo, loop_kinds, url_of
from support.wire import RawServer
from uvws.connecting import Connecting


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """A port that nobody listens on, and nobody else gets."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def fail_to_connect(runner: Runner, url: str, *, timeout: float = 5.0, **options: Any) -> Exception:
    """Connect, and return what on_error was given; nothing else may be called, then or later."""
    recorder = Recorder()
    connection = runner.context().connect(url, **options, **recorder.callbacks)
    assert recorder.events == [], "on_error was called below connect()"
    runner.run(recorder.saw("error"), timeout=timeout)
    runner.run_for(0.01)
    assert recorder.names == ["error"]
    assert recorder.connections == [connection]
    assert connection.state == "closed"
    error = recorder.events[0][1]
    assert isinstance(error, Exception)
    return error


def request_of(runner: Runner, url: str = "", **options: Any) -> tuple[str, dict[str, list[str]]]:
    """Connect to a plain socket; returns the request line and the headers, by lower-case name."""
    server = RawServer(runner)
    url = url.replace("PORT", str(server.port)) or server.url
    runner.context().connect(url, **options)
    head = server.accept().take_head().decode("latin-1")
    line, *fields = head.removesuffix("\r\n\r\n").split("\r\n")
    headers: dict[str, list[str]] = {}
    for field in fields:
        name, _, value = field.partition(":")
        headers.setdefault(name.lower(), []).append(value.strip())
    return line, headers


# The request


def test_the_request_is_an_opening_handshake(runner: Runner) -> None:
    line, headers = request_of(runner)
    assert line == "GET / HTTP/1.1"
    assert [each.lower() for each in headers["upgrade"]] == ["websocket"]
    assert [each.lower() for each in headers["connection"]] == ["upgrade"]
    assert headers["sec-websocket-version"] == ["13"]
    assert [len(base64.b64decode(each)) for each in headers["sec-websocket-key"]] == [16]


def test_every_request_has_a_key_of_its_own(runner: Runner) -> None:
    keys = {request_of(runner)[1]["sec-websocket-key"][0] for _ in range(3)}
    assert len(keys) == 3


def test_nothing_is_asked_for_that_was_not_wanted(runner: Runner) -> None:
    _, headers = request_of(runner)
    assert not {"sec-websocket-extensions", "sec-websocket-protocol", "origin"} & set(headers)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("", "GET / HTTP/1.1"),
        ("?a=b", "GET /?a=b HTTP/1.1"),
        ("/chat/room?user=me&x=%26", "GET /chat/room?user=me&x=%26 HTTP/1.1"),
        ("/grün", "GET /gr%C3%BCn HTTP/1.1"),
        ("/a%20b/../c//d", "GET /a%20b/../c//d HTTP/1.1"),
        ("/" + "x" * 1000, "GET /" + "x" * 1000 + " HTTP/1.1"),
    ],
    ids=["none", "only a query", "both", "not ASCII", "as it is", "long"],
)
def test_path_and_query_are_in_the_request_line(runner: Runner, path: str, line: str) -> None:
    assert request_of(runner, f"ws://127.0.0.1:PORT{path}")[0] == line


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_host_header_has_the_host_and_a_port_that_is_not_the_default(
    runner: Runner, host: str
) -> None:
    server = RawServer(runner)
    runner.context().connect(f"ws://{host}:{server.port}/")
    head = server.accept().take_head().decode()
    assert re.findall(r"(?im)^host: *(.*)\r$", head) == [f"{host}:{server.port}"]


def test_the_host_header_of_a_unix_socket_is_localhost(runner: Runner, tmp_path: Path) -> None:
    server = RawServer(runner, address=str(tmp_path / "socket"))
    runner.context().connect(f"ws+unix:{tmp_path}/socket:/path")
    head = server.accept().take_head().decode()
    assert head.startswith("GET /path HTTP/1.1\r\n")
    assert re.findall(r"(?im)^host: *(.*)\r$", head) == ["localhost"]


@pytest.mark.parametrize(
    ("protocol", "sent"),
    [("chat", "chat"), (["chat.v2", "chat.v1"], "chat.v2, chat.v1"), (("only",), "only")],
)
def test_subprotocols_are_offered_in_order(runner: Runner, protocol: Any, sent: str) -> None:
    _, headers = request_of(runner, protocol=protocol)
    assert ", ".join(headers["sec-websocket-protocol"]).replace(",chat", ", chat") == sent


def test_headers_are_sent_as_given(runner: Runner) -> None:
    given = [("X-Token", "secret"), ("Cookie", "a=1"), ("x-token", "other"), ("X-Name", "grün")]
    _, headers = request_of(runner, headers=given)
    assert headers["x-token"] == ["secret", "other"]
    assert headers["cookie"] == ["a=1"]
    assert headers["x-name"] == ["grün"]


def test_headers_may_be_a_mapping(runner: Runner) -> None:
    assert request_of(runner, headers={"X-One": "1"})[1]["x-one"] == ["1"]


def test_a_host_header_of_the_users_replaces_the_default(runner: Runner) -> None:
    assert request_of(runner, headers={"Host": "other.example"})[1]["host"] == ["other.example"]


def test_many_headers_are_sent(runner: Runner) -> None:
    given = {f"X-Header-{number}": "v" * 50 for number in range(40)}
    _, headers = request_of(runner, headers=given)
    assert all(headers[name.lower()] == [value] for name, value in given.items())


def test_headers_that_are_too_many_are_an_error_and_not_a_hang(runner: Runner) -> None:
    error = fail_to_connect(
        runner, RawServer(runner).url, headers={f"X-{n}": "v" * 1000 for n in range(500)}
    )
    assert isinstance(error, (uvws.Error, OSError))


# Headers by name


@pytest.mark.parametrize(
    "name", ["Set-Cookie", "Content-Type", "Server", "Location", "WWW-Authenticate"]
)
def test_a_response_header_is_found_under_its_name(runner: Runner, name: str) -> None:
    server = RawServer(runner)
    recorder = Recorder()
    runner.context().connect(server.url, **recorder.callbacks)
    server.accept_websocket(f"{name}: the value\r\n")
    runner.run(recorder.saw("connect"))
    assert recorder.events[0][1][name] == "the value"


@pytest.mark.parametrize(
    "name", ["Host", "Origin", "Cookie", "Authorization", "User-Agent", "X-Forwarded-For"]
)
def test_a_request_header_is_found_under_its_name(runner: Runner, name: str) -> None:
    requests = Recorder()
    listener = runner.context().listen(host="127.0.0.1", **requests.callbacks)
    runner.context().connect(url_of(listener), headers={name: "the-value"})
    runner.run(requests.saw("connect"))
    assert requests.events[0][1][name] == "the-value"


def test_the_subprotocols_offered_are_in_the_request_headers(runner: Runner) -> None:
    requests = Recorder()
    listener = runner.context().listen(host="127.0.0.1", **requests.callbacks)
    runner.context().connect(url_of(listener), protocol=["one", "two"])
    runner.run(requests.saw("connect"))
    offered = requests.events[0][1].get_all("Sec-WebSocket-Protocol")
    assert [name.strip() for value in offered for name in value.split(",")] == ["one", "two"]


# Where to


def test_a_connection_is_connecting_then_connected(runner: Runner) -> None:
    states = []
    recorder = Recorder(on_connect=lambda connection, _: states.append(connection.state))
    connection = runner.context().connect(url_of(echo(runner)), **recorder.callbacks)
    assert (connection.state, connection.is_connecting) == ("connecting", True)
    runner.run(recorder.saw("connect"))
    assert states == ["connected"]
    assert (connection.is_connected, connection.is_connecting) == (True, False)


@pytest.mark.parametrize(
    ("host", "url_host"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), (None, "127.0.0.1"), (None, "[::1]")],
)
def test_addresses_of_both_families(runner: Runner, host: str | None, url_host: str) -> None:
    listener = echo(runner, host=host)
    recorder = Recorder()
    runner.context().connect(f"ws://{url_host}:{listener.port}/", **recorder.callbacks)
    runner.run(recorder.saw("connect"))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_name_leads_to_whichever_of_its_addresses_answers(runner: Runner, host: str) -> None:
    listener = echo(runner, host=host)
    recorder = Recorder()
    runner.context().connect(f"ws://localhost:{listener.port}/", **recorder.callbacks)
    runner.run(lambda: recorder.events)
    addresses = {entry[4][0] for entry in socket.getaddrinfo("localhost", 1)}
    assert recorder.names == (["connect"] if host in addresses else ["error"])


def test_a_unix_socket(runner: Runner, tmp_path: Path) -> None:
    requests = []
    echo(
        runner,
        host=f"unix:{tmp_path}/socket",
        on_connect=lambda _, headers: requests.append(headers["Path"]),
    )
    recorder = Recorder(on_connect=lambda connection, _: connection.send("hello"))
    runner.context().connect(f"ws+unix:{tmp_path}/socket:/where", **recorder.callbacks)
    runner.run(recorder.saw("message"))
    assert recorder.messages == ["hello"]
    assert requests == ["/where"]


def test_a_hundred_connections_at_once(runner: Runner) -> None:
    listener = echo(runner)
    context = runner.context()
    recorder = Recorder(on_connect=lambda connection, _: connection.send("hello"))
    for _ in range(100):
        context.connect(url_of(listener), **recorder.callbacks)
    runner.run(recorder.saw("message", 100))
    assert len(context.connections) == 100


def test_connecting_in_a_callback(runner: Runner) -> None:
    listener = echo(runner)
    context = runner.context()
    second = Recorder()
    first = Recorder(on_connect=lambda *_: context.connect(url_of(listener), **second.callbacks))
    context.connect(url_of(listener), **first.callbacks)
    runner.run(second.saw("connect"))


# Failures


def test_a_port_where_nobody_listens(runner: Runner, refusing_port: int) -> None:
    error = fail_to_connect(runner, f"ws://127.0.0.1:{refusing_port}/")
    assert type(error) is ConnectionRefusedError


def test_a_name_where_nobody_listens_on_any_address(runner: Runner, refusing_port: int) -> None:
    error = fail_to_connect(runner, f"ws://localhost:{refusing_port}/")
    assert type(error) is ConnectionRefusedError


def test_connecting_again_in_on_error(runner: Runner, refusing_port: int) -> None:
    context = runner.context()
    listener = echo(runner)
    again = Recorder()

    def retry(connection: Any, error: Exception) -> None:
        context.connect(url_of(listener), **again.callbacks)

    context.connect(f"ws://127.0.0.1:{refusing_port}/", on_error=retry)
    runner.run(again.saw("connect"))


def test_a_unix_socket_that_is_not_there(runner: Runner, tmp_path: Path) -> None:
    assert type(fail_to_connect(runner, f"ws+unix:{tmp_path}/nothing")) is FileNotFoundError


def test_a_unix_socket_where_nobody_listens(runner: Runner, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "stale"))
    error = fail_to_connect(runner, f"ws+unix:{tmp_path}/stale")
    assert type(error) is ConnectionRefusedError


def test_a_unix_socket_whose_path_is_not_utf_8(runner: Runner, tmp_path: Path) -> None:
    recorder = Recorder()
    listener = runner.context().listen(host=f"{tmp_path}/\udcff", **recorder.callbacks)
    runner.context().connect(f"ws+unix:{tmp_path}/%ff")
    runner.run(recorder.saw("connect"))
    assert listener.is_open


@loop_kinds("asyncio")
def test_a_connect_that_cannot_begin_leaves_nothing(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError

    context = runner.context()
    recorder = Recorder()
    monkeypatch.setattr(Connecting, "_struct", fail)
    with pytest.raises(MemoryError):
        context.connect("ws://127.0.0.1:1/", connect_timeout=0.05, **recorder.callbacks)
    runner.run_for(0.2)
    assert context._core.connections == {}
    assert context._core._live_context is None
    assert recorder.names == []


def test_a_failed_connect_without_on_error_is_quiet(runner: Runner, refusing_port: int) -> None:
    connection = runner.context().connect(f"ws://127.0.0.1:{refusing_port}/")
    runner.run(lambda: connection.state == "closed")


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_a_server_that_never_answers_is_a_timeout(runner: Runner, scheme: str) -> None:
    server = RawServer(runner)
    begin = time.monotonic()
    error = fail_to_connect(runner, f"{scheme}://127.0.0.1:{server.port}/", connect_timeout=0.1)
    assert type(error) is uvws.ConnectTimeout
    assert str(error) == "connect timeout"
    assert 0.09 < time.monotonic() - begin < 2


def test_a_server_that_never_accepts_is_a_timeout(runner: Runner) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(3):  # the queue of the kernel is full then
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        url = f"ws://127.0.0.1:{server.getsockname()[1]}/"
        error = fail_to_connect(runner, url, connect_timeout=0.1)
    assert type(error) is uvws.ConnectTimeout


def test_an_answer_that_trickles_in_is_a_timeout(runner: Runner) -> None:
    server = RawServer(runner)
    recorder = Recorder()
    runner.context().connect(server.url, connect_timeout=0.2, **recorder.callbacks)
    peer = server.accept()
    peer.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n")
    runner.run(recorder.saw("error"))
    assert type(recorder.events[0][1]) is uvws.ConnectTimeout
    runner.run(peer.ended)


def test_the_timeout_does_not_concern_an_open_connection(runner: Runner) -> None:
    recorder = Recorder()
    connection = runner.context().connect(
        url_of(echo(runner)), connect_timeout=0.1, **recorder.callbacks
    )
    runner.run(recorder.saw("connect"))
    runner.run_for(0.2)
    assert connection.is_connected
    assert recorder.names == ["connect"]


# Arguments


@loop_kinds("asyncio")
@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"url": None}, TypeError, "url"),
        ({"url": b"ws://h/"}, TypeError, "url"),
        ({"url": "http://h/"}, uvws.InvalidURL, "url"),
        ({"url": "ws:///path"}, uvws.InvalidURL, "url"),
        ({"protocol": 5}, TypeError, "protocol"),
        ({"protocol": [5]}, TypeError, "protocol"),
        ({"protocol": b"chat"}, TypeError, "protocol"),
        ({"protocol": b""}, TypeError, "protocol"),
        ({"protocol": "a b"}, ValueError, "protocol"),
        ({"protocol": ""}, ValueError, "protocol"),
        ({"protocol": ["a", "a"]}, ValueError, "protocol"),
        ({"headers": 5}, TypeError, "headers"),
        ({"headers": 0}, TypeError, "headers"),
        ({"headers": ""}, TypeError, "headers"),
        ({"headers": {"X": 5}}, TypeError, "headers"),
        ({"headers": {"X": "a\r\nb: c"}}, ValueError, "headers"),
        ({"headers": {"Upgrade": "x"}}, ValueError, "headers"),
        ({"ssl_verify": None}, TypeError, "ssl_verify"),
        ({"ssl_verify": 0}, TypeError, "ssl_verify"),
        ({"ssl_verify": "no"}, TypeError, "ssl_verify"),
        ({"max_message_size": "1"}, TypeError, "max_message_size"),
        ({"max_message_size": -1}, ValueError, "max_message_size"),
        ({"connect_timeout": "1"}, TypeError, "connect_timeout"),
        ({"connect_timeout": 0}, ValueError, "connect_timeout"),
        ({"connect_timeout": -1}, ValueError, "connect_timeout"),
        ({"connect_timeout": float("nan")}, ValueError, "connect_timeout"),
        ({"on_connect": 5}, TypeError, "on_connect"),
        ({"on_message": "f"}, TypeError, "on_message"),
        ({"on_close": 5}, TypeError, "on_close"),
        ({"on_error": 5}, TypeError, "on_error"),
        ({"on_drain": 5}, TypeError, "on_drain"),
        ({"no_such_thing": 5}, TypeError, "no_such_thing"),
    ],
)
def test_a_bad_argument_is_named_and_nothing_is_begun(
    runner: Runner, options: dict[str, Any], error: type[Exception], named: str
) -> None:
    context = runner.context()
    options = {"url": "ws://127.0.0.1:1/", **options}
    with pytest.raises(error, match=rf"\b{named}\b"):
        context.connect(options.pop("url"), **options)
    assert context.connections == []


def test_a_closed_context_does_not_connect(runner: Runner) -> None:
    context = runner.context()
    context.close()
    with pytest.raises(uvws.InvalidState, match=r"^Context is closed$"):
        context.connect("ws://127.0.0.1:1/")
