"""Client connections through proxies: real ones, and sockets that behave as no proxy should."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import uvws
from support import Recorder, Runner, echo, loop_kinds
from support.certificates import ca_of, certificate
from support.proxies import KNOWN_TO_THE_PROXY, RealProxy
from support.wire import TEXT, Frame, RawPeer, RawServer

SCHEMES = ("http", "socks5")
CREDENTIALS = "me:secret"
TARGET = "server.example"
OK = b"HTTP/1.1 200 Connection established\r\n\r\n"
SOCKS_OK = b"\5\0\0\1\0\0\0\0\0\0"
NO_METHOD_NEEDED = b"\5\0"
PASSWORD_NEEDED = b"\5\2"
PASSWORD_RIGHT = b"\1\0"
# What is sent in answer, one after the other, until there is a tunnel.
GOOD_ANSWERS = {"http": [OK], "socks5": [NO_METHOD_NEEDED, SOCKS_OK]}


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """A port that nobody listens on, and nobody else gets."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def connect(runner: Runner, url: str, proxy: str | None, **options: Any) -> Recorder:
    """Connect through a proxy; returns what is recorded."""
    recorder = Recorder()
    context = {name: options.pop(name) for name in ("ssl_ca", "proxy_port") if name in options}
    made = runner.context(proxy=proxy, **context)
    made.connect(url, **options, **recorder.callbacks)
    assert recorder.events == [], "a callback was called below connect()"
    return recorder


def echo_through(runner: Runner, recorder: Recorder) -> None:
    """Send a message, and see it come back."""
    runner.run(lambda: recorder.events)
    assert recorder.names == ["connect"], recorder.events
    recorder.connection.send("there and back")
    runner.run(recorder.saw("message"))
    assert recorder.messages == ["there and back"]


def failure(runner: Runner, recorder: Recorder) -> Any:
    """Return what on_error was given; nothing else may be called, then or later."""
    runner.run(recorder.saw("error"))
    runner.run_for(0.01)
    assert recorder.names == ["error"]
    assert recorder.connection.state == "closed"
    return recorder.events[0][1]


def assert_no_way_through(error: Any, match: str) -> None:
    assert type(error) is uvws.HandshakeError, repr(error)
    assert error.status is None
    assert "the proxy" in str(error)
    assert match in str(error)


def start(
    runner: Runner, scheme: str, *, credentials: str = "", host: str = TARGET, **options: Any
) -> tuple[RawServer, RawPeer, Recorder]:
    """Connect to a socket as a proxy, and wait for the first that it is told."""
    server = RawServer(runner)
    at = f"{credentials}@" if credentials else ""
    recorder = connect(
        runner, f"ws://{host}/", f"{scheme}://{at}127.0.0.1:{server.port}", **options
    )
    runner.run(lambda: server.peers)
    peer = server.peers[0]
    runner.run(lambda: len(received(peer)) >= 3)
    return server, peer, recorder


def received(peer: RawPeer) -> bytes:
    """Return what a socket received so far, and leave it there."""
    peer.has_head()
    return peer.data


def take(runner: Runner, peer: RawPeer, size: int) -> bytes:
    """Wait for so many bytes and take all that are there."""
    runner.run(lambda: len(received(peer)) >= size)
    return peer.take()


def answer(runner: Runner, peer: RawPeer, answers: list[bytes], *, slowly: bool = False) -> None:
    """Answer each thing that a client says to a proxy, byte by byte if `slowly`."""
    for each in answers:
        take(runner, peer, 3)
        for part in [each[at : at + 1] for at in range(len(each))] if slowly else [each]:
            peer.send(part)
            if slowly:
                runner.turns(2)


# Through real proxies


@pytest.mark.parametrize("credentials", ["", CREDENTIALS], ids=["open", "with credentials"])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_connection_goes_through_a_proxy(
    runner: Runner, scheme: str, secure: bool, credentials: str
) -> None:
    proxy = RealProxy(runner, credentials=credentials)
    listener = echo(runner, **(certificate().server_options if secure else {}))
    url = f"{'wss' if secure else 'ws'}://localhost:{listener.port}/"
    echo_through(runner, connect(runner, url, proxy.url(scheme, credentials), ssl_ca=ca_of()))
    runner.run(proxy.connected_to(f"localhost:{listener.port}"))


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("scheme", [*SCHEMES, "socks5h"])
def test_the_name_of_the_server_is_for_the_proxy_to_look_up(
    runner: Runner, scheme: str, secure: bool
) -> None:
    proxy = RealProxy(runner)
    listener = echo(runner, **(certificate(KNOWN_TO_THE_PROXY).server_options if secure else {}))
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo(KNOWN_TO_THE_PROXY, 1)
    url = f"{'wss' if secure else 'ws'}://{KNOWN_TO_THE_PROXY}:{listener.port}/"
    echo_through(runner, connect(runner, url, proxy.url(scheme), ssl_ca=ca_of()))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_addresses_of_servers_and_of_proxies(runner: Runner, scheme: str, host: str) -> None:
    proxy = RealProxy(runner, host=host)
    listener = echo(runner, host=host)
    url = f"ws://{proxy.host}:{listener.port}/"
    echo_through(runner, connect(runner, url, proxy.url(scheme)))
    runner.run(lambda: proxy.lines)


def test_the_peer_of_a_connection_through_a_proxy_is_the_proxy(runner: Runner) -> None:
    proxy = RealProxy(runner, host="::1")
    recorder = connect(runner, f"ws://127.0.0.1:{echo(runner).port}/", proxy.url("http"))
    echo_through(runner, recorder)
    assert recorder.connection.peer_address == "::1"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_certificate_is_checked_behind_a_proxy(runner: Runner, scheme: str) -> None:
    proxy = RealProxy(runner)
    listener = echo(runner, **certificate("other.example").server_options)
    recorder = connect(
        runner, f"wss://localhost:{listener.port}/", proxy.url(scheme), ssl_ca=ca_of()
    )
    error = failure(runner, recorder)
    assert type(error) is uvws.TLSError, repr(error)
    assert "hostname mismatch" in str(error).lower()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_much_goes_through_a_proxy(runner: Runner, scheme: str) -> None:
    proxy = RealProxy(runner)
    listener = echo(runner, **certificate().server_options)
    recorder = connect(
        runner, f"wss://localhost:{listener.port}/", proxy.url(scheme), ssl_ca=ca_of()
    )
    runner.run(recorder.saw("connect"))
    payload = bytes(range(256)) * (4 << 12)
    for _ in range(3):
        recorder.connection.send(payload)
    runner.run(recorder.saw("message", 3), timeout=20)
    assert recorder.messages == [payload] * 3


def test_wrong_credentials_for_http(runner: Runner) -> None:
    proxy = RealProxy(runner, credentials=CREDENTIALS)
    error = failure(runner, connect(runner, "ws://h/", proxy.url("http", "me:wrong")))
    assert type(error) is uvws.HandshakeError
    assert error.status == 407
    assert str(error) == "the proxy refused with 407 Proxy Authentication Required"


def test_wrong_credentials_for_socks(runner: Runner) -> None:
    proxy = RealProxy(runner, credentials=CREDENTIALS)
    error = failure(runner, connect(runner, "ws://h/", proxy.url("socks5", "me:wrong")))
    assert_no_way_through(error, "")
    assert "wrong" not in str(error)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_server_that_the_proxy_cannot_reach(
    runner: Runner, scheme: str, refusing_port: int
) -> None:
    proxy = RealProxy(runner)
    url = f"ws://127.0.0.1:{refusing_port}/"
    assert isinstance(failure(runner, connect(runner, url, proxy.url(scheme))), uvws.Error)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_many_connections_through_one_proxy(runner: Runner, secure: bool) -> None:
    proxy = RealProxy(runner)
    listener = echo(runner, **(certificate().server_options if secure else {}))
    context = runner.context(proxy=proxy.url("http"), ssl_ca=ca_of())
    recorder = Recorder(on_connect=lambda connection, _: connection.send("x"))
    for _ in range(20):
        url = f"{'wss' if secure else 'ws'}://localhost:{listener.port}/"
        context.connect(url, **recorder.callbacks)
    runner.run(recorder.saw("message", 20), timeout=20)
    assert len(context.connections) == 20


# Which proxy


@pytest.mark.parametrize(
    ("name", "secure"),
    [("http_proxy", False), ("HTTPS_PROXY", True), ("all_proxy", False), ("ALL_PROXY", True)],
)
def test_the_environment_names_the_proxy(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, name: str, secure: bool
) -> None:
    proxy = RealProxy(runner, credentials=CREDENTIALS)
    monkeypatch.setenv(name, proxy.url("socks5", CREDENTIALS))
    listener = echo(runner, **(certificate().server_options if secure else {}))
    url = f"{'wss' if secure else 'ws'}://localhost:{listener.port}/"
    echo_through(runner, connect(runner, url, None, ssl_ca=ca_of()))
    runner.run(proxy.connected_to(f"localhost:{listener.port}"))


def test_the_environment_is_read_at_each_connect(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = RealProxy(runner)
    listener = echo(runner)
    context = runner.context()
    for number in range(2):
        recorder = Recorder()
        context.connect(f"ws://127.0.0.1:{listener.port}/", **recorder.callbacks)
        echo_through(runner, recorder)
        runner.run(proxy.connected_to(f"127.0.0.1:{listener.port}", number))
        monkeypatch.setenv("http_proxy", proxy.url("http"))


@pytest.mark.parametrize("variables", [{"no_proxy": "localhost"}, {"NO_PROXY": "*"}])
def test_no_proxy_in_the_environment(
    runner: Runner,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    refusing_port: int,
) -> None:
    monkeypatch.setenv("all_proxy", f"127.0.0.1:{refusing_port}")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    echo_through(runner, connect(runner, f"ws://localhost:{echo(runner).port}/", None))


@pytest.mark.parametrize("scheme", ["", "http://", "socks5://"])
def test_an_empty_proxy_goes_around_the_environment(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, scheme: str, refusing_port: int
) -> None:
    # libwebsockets too looks into it, and does so as a context is made.
    for name in ("http_proxy", "https_proxy", "all_proxy", "socks_proxy"):
        monkeypatch.setenv(name, f"{scheme}127.0.0.1:{refusing_port}")
    echo_through(runner, connect(runner, f"ws://127.0.0.1:{echo(runner).port}/", ""))


def test_a_proxy_that_is_given_comes_before_the_environment(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, refusing_port: int
) -> None:
    monkeypatch.setenv("http_proxy", f"127.0.0.1:{refusing_port}")
    monkeypatch.setenv("no_proxy", "*")
    proxy = RealProxy(runner)
    listener = echo(runner)
    url = f"ws://127.0.0.1:{listener.port}/"
    echo_through(runner, connect(runner, url, f"127.0.0.1:{proxy.port}"))
    runner.run(proxy.connected_to(f"127.0.0.1:{listener.port}"))


def test_proxy_port_is_for_a_proxy_without_one(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = RealProxy(runner)
    listener = echo(runner)
    url = f"ws://127.0.0.1:{listener.port}/"
    monkeypatch.setenv("http_proxy", "127.0.0.1")
    for number, given in enumerate(["127.0.0.1", "http://127.0.0.1/", None]):
        echo_through(runner, connect(runner, url, given, proxy_port=proxy.port))
        runner.run(proxy.connected_to(f"127.0.0.1:{listener.port}", number + 1))


@loop_kinds("asyncio")
def test_a_malformed_proxy_that_is_given_is_an_error_at_once(runner: Runner) -> None:
    with pytest.raises(ValueError, match=r"^proxy must"):
        uvws.Context(runner.loop, proxy="ftp://proxy.example")
    with pytest.raises(TypeError, match=r"^proxy_port must"):
        uvws.Context(runner.loop, proxy_port="80")  # type: ignore[arg-type]


def test_a_malformed_proxy_in_the_environment_is_an_error_of_connect(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://me:secret@proxy.example:port")
    context = runner.context()
    with pytest.raises(ValueError, match=r"^the environment variable http_proxy must") as told:
        context.connect("ws://127.0.0.1:1/")
    assert "secret" not in str(told.value)
    assert context.connections == []


@pytest.mark.parametrize("given", ["given", "environment"])
def test_a_unix_socket_needs_no_proxy(
    runner: Runner,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    given: str,
    refusing_port: int,
) -> None:
    proxy = f"127.0.0.1:{refusing_port}"
    monkeypatch.setenv("all_proxy", proxy)
    echo(runner, host=f"unix:{tmp_path}/socket")
    url = f"ws+unix:{tmp_path}/socket"
    echo_through(runner, connect(runner, url, proxy if given == "given" else None))


# Reaching the proxy


def test_a_proxy_that_refuses_the_connection(runner: Runner, refusing_port: int) -> None:
    error = failure(runner, connect(runner, "ws://h/", f"127.0.0.1:{refusing_port}"))
    assert isinstance(error, ConnectionRefusedError)
    assert error.errno == errno.ECONNREFUSED


def test_a_proxy_whose_name_is_unknown(runner: Runner) -> None:
    recorder = connect(runner, "ws://127.0.0.1:1/", "http://no-such-host.invalid")
    runner.run(recorder.saw("error"), timeout=20)
    assert isinstance(failure(runner, recorder), socket.gaierror)


def resolve_to(
    runner: Runner,
    monkeypatch: pytest.MonkeyPatch,
    context: Any,
    found: list[tuple[str, int]],
) -> list[tuple[str, int]]:
    """Have a context find these addresses; returns a list of what it will have looked up."""
    looked_up = []

    def resolve(host: str, port: int, resolved: Any) -> Callable[[], None]:
        looked_up.append((host, port))
        runner.call_soon(lambda: resolved(found))
        return lambda: None

    monkeypatch.setattr(context._core.adapter, "resolve", resolve)
    return looked_up


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_address_of_the_proxy_is_tried(
    runner: Runner, scheme: str, refusing_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = RawServer(runner)
    context = runner.context(proxy=f"{scheme}://proxy.example:5")
    found = [("127.0.0.1", refusing_port), ("127.0.0.1", server.port)]
    looked_up = resolve_to(runner, monkeypatch, context, found)
    recorder = Recorder()
    context.connect(f"ws://{TARGET}/", **recorder.callbacks)
    runner.run(lambda: server.peers)
    answer(runner, server.peers[0], GOOD_ANSWERS[scheme])
    server.accept_websocket()
    runner.run(recorder.saw("connect"))
    assert looked_up == [("proxy.example", 5)]


def test_an_address_is_not_tried_after_a_refusal_by_the_proxy(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = RawServer(runner)
    context = runner.context(proxy="proxy.example")
    found = [("127.0.0.1", server.port), ("127.0.0.2", server.port)]
    resolve_to(runner, monkeypatch, context, found)
    recorder = Recorder()
    context.connect("ws://h/", **recorder.callbacks)
    server.accept().send(b"HTTP/1.1 403 Forbidden\r\n\r\n")
    assert failure(runner, recorder).status == 403
    assert len(server.peers) == 1


# What the proxy is told


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("ws://server.example/", "server.example:80"),
        ("wss://server.example/path?query", "server.example:443"),
        ("ws://server.example:8080/", "server.example:8080"),
        ("ws://192.0.2.1/", "192.0.2.1:80"),
        ("ws://[2001:db8::1]/", "[2001:db8::1]:80"),
        ("ws://grün.example/", f"{'grün.example'.encode('idna').decode()}:80"),
    ],
)
def test_an_http_proxy_is_told_host_and_port(runner: Runner, url: str, target: str) -> None:
    server = RawServer(runner)
    connect(runner, url, f"127.0.0.1:{server.port}")
    head = server.accept().take_head().decode()
    assert head == f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"


def test_an_http_proxy_is_told_the_credentials(runner: Runner) -> None:
    _, peer, _ = start(runner, "http", credentials="Aladdin:open%20sesame")
    # RFC 7617, section 2.
    line = b"Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"
    assert line in peer.take_head()


def test_the_server_is_not_told_the_credentials(runner: Runner) -> None:
    server, peer, _ = start(runner, "http", credentials=CREDENTIALS)
    answer(runner, peer, [OK])
    head = server.accept().take_head()
    assert head.startswith(b"GET / HTTP/1.1\r\n")
    assert b"\r\nHost: server.example\r\n" in head
    assert b"proxy" not in head.lower()


def test_long_credentials_are_sent_whole(runner: Runner) -> None:
    _, peer, _ = start(runner, "http", credentials=f"{'u' * 3000}:{'p' * 3000}")
    runner.run(peer.has_head)
    assert len(peer.take_head()) > 8000
    _, peer, _ = start(runner, "socks5", credentials=f"{'u' * 255}:{'p' * 255}")
    peer.take()
    peer.send(PASSWORD_NEEDED)
    said = take(runner, peer, 513)
    assert said == b"\1\xff" + b"u" * 255 + b"\xff" + b"p" * 255


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("server.example", b"\3\x0eserver.example"),
        ("a" * 63 + ("." + "b" * 62) * 3, b"\3\xfc" + b"a" * 63 + (b"." + b"b" * 62) * 3),
        ("192.0.2.1", b"\1\xc0\0\2\1"),
        ("[2001:db8::1]", b"\4\x20\1\x0d\xb8" + bytes(11) + b"\1"),
    ],
    ids=["name", "long name", "IPv4", "IPv6"],
)
def test_a_socks_proxy_is_told_host_and_port(runner: Runner, host: str, address: bytes) -> None:
    _, peer, _ = start(runner, "socks5", host=f"{host}:258")
    assert peer.take() == b"\5\1\0"
    peer.send(NO_METHOD_NEEDED)
    assert take(runner, peer, 6 + len(address) - 1) == b"\5\1\0" + address + b"\1\2"


@pytest.mark.parametrize(
    ("credentials", "said"),
    [
        ("me:secret", b"\1\2me\6secret"),
        ("me", b"\1\2me\0"),
        ("m%40e:%ff%00", b"\1\3m@e\2\xff\0"),
    ],
)
def test_a_socks_proxy_is_told_the_credentials(
    runner: Runner, credentials: str, said: bytes
) -> None:
    server, peer, recorder = start(runner, "socks5", credentials=credentials)
    assert peer.take() == b"\5\2\0\2"
    peer.send(PASSWORD_NEEDED)
    assert take(runner, peer, len(said)) == said
    peer.send(PASSWORD_RIGHT)
    answer(runner, peer, [SOCKS_OK])
    server.accept_websocket()
    runner.run(recorder.saw("connect"))


def test_a_socks_proxy_need_not_want_the_credentials(runner: Runner) -> None:
    server, peer, recorder = start(runner, "socks5", credentials=CREDENTIALS)
    answer(runner, peer, [NO_METHOD_NEEDED, SOCKS_OK])
    server.accept_websocket()
    runner.run(recorder.saw("connect"))


# Answers that let a connection through


@pytest.mark.parametrize("slowly", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.0 200 Connection established\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 200 OK\n\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nVia: 1.1 proxy\r\nContent-Length: 100\r\nX: \r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2000 + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" + OK,
    ],
    ids=lambda said: said[:40].decode(),
)
@loop_kinds("pyuv", "asyncio")
def test_an_http_answer_that_opens_the_tunnel(runner: Runner, said: bytes, slowly: bool) -> None:
    server, peer, recorder = start(runner, "http")
    answer(runner, peer, [said], slowly=slowly and len(said) < 200)
    tunnelled(runner, server, recorder)


@pytest.mark.parametrize("slowly", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize(
    "said",
    [
        b"\5\0\0\1\x7f\0\0\1\1\2",
        b"\5\0\0\4" + bytes(18),
        b"\5\0\0\3\0\1\2",
        b"\5\0\0\3\x01x\1\2",
        b"\5\0\0\3\xff" + b"x" * 255 + b"\1\2",
    ],
    ids=["IPv4", "IPv6", "empty name", "short name", "long name"],
)
@loop_kinds("pyuv", "asyncio")
def test_a_socks_answer_that_opens_the_tunnel(runner: Runner, said: bytes, slowly: bool) -> None:
    server, peer, recorder = start(runner, "socks5", credentials=CREDENTIALS)
    answer(runner, peer, [PASSWORD_NEEDED, PASSWORD_RIGHT, said], slowly=slowly)
    tunnelled(runner, server, recorder)


def tunnelled(runner: Runner, server: RawServer, recorder: Recorder) -> None:
    """Go on as the server behind the proxy."""
    peer = server.accept_websocket()
    runner.run(recorder.saw("connect"))
    recorder.connection.send("x")
    runner.run(peer.saw_frames())
    assert peer.frames() == [Frame(TEXT, b"x", masked=True)]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_follows_the_answer_is_from_the_server(runner: Runner, scheme: str) -> None:
    _, peer, recorder = start(runner, scheme)
    *before, last = GOOD_ANSWERS[scheme]
    answer(runner, peer, [*before, last + b"HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n"])
    error = failure(runner, recorder)
    assert isinstance(error, uvws.HandshakeError)
    assert error.status == 418
    assert "proxy" not in str(error)


# Answers that do not


@pytest.mark.parametrize("slowly", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize(
    ("line", "status", "words"),
    [
        ("407 Auth", 407, "the proxy refused with 407 Proxy Authentication Required"),
        ("403 No", 403, "the proxy refused with 403 Forbidden"),
        ("502 Bad", 502, "the proxy refused with 502 Bad Gateway"),
        ("504", 504, "the proxy refused with 504 Gateway Timeout"),
        ("302 Found", 302, "the proxy refused with 302 Found"),
        ("101 Switching Protocols", 101, "the proxy refused with 101 Switching Protocols"),
        ("599 Whatever", 599, "the proxy refused with 599"),
    ],
)
@loop_kinds("uvloop", "asyncio")
def test_an_http_proxy_that_refuses(
    runner: Runner, line: str, status: int, words: str, slowly: bool
) -> None:
    _, peer, recorder = start(runner, "http", credentials=CREDENTIALS)
    answer(runner, peer, [f"HTTP/1.1 {line}\r\nA: b\r\n\r\n".encode()], slowly=slowly)
    error = failure(runner, recorder)
    assert type(error) is uvws.HandshakeError
    assert (error.status, str(error)) == (status, words)


def test_a_refusal_with_a_body_is_a_refusal(runner: Runner) -> None:
    _, peer, recorder = start(runner, "http")
    body = b"x" * 100_000
    peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100000\r\n\r\n" + body)
    assert failure(runner, recorder).status == 403


@pytest.mark.parametrize("finish", [False, True], ids=["open", "ended"])
@pytest.mark.parametrize(
    ("said", "match"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not HTTP"),
        (b"\x15\3\3\0\2\2\x32", "not HTTP"),
        (b"\5\xff", "not HTTP"),
        (b"\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 20\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 099 OK\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 20x OK\r\n\r\n", "not HTTP"),
        (b"HTTP/2 200 OK\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1  200 OK\r\n\r\n", "not HTTP"),
        (b"\0" * 5000, "not HTTP"),
        (b"HTTP/1.1 200 " + b"x" * 20_000, "too long"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 4000, "too long"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, "too long"),
    ],
    ids=lambda said: ascii(said[:24]),
)
@loop_kinds("pyuv", "asyncio")
def test_an_answer_that_is_not_http(runner: Runner, said: bytes, match: str, finish: bool) -> None:
    _, peer, recorder = start(runner, "http")
    peer.send(said)
    if finish:
        peer.finish()
    assert_no_way_through(failure(runner, recorder), match)


@pytest.mark.parametrize(
    ("answers", "match"),
    [
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "not SOCKS5"),
        ([b"\0"], "not SOCKS5"),
        ([b"\4\0"], "not SOCKS5"),
        ([b"\5\xff"], "it takes neither user and password nor a connection without"),
        ([b"\5\1"], "it takes neither user and password nor a connection without"),
        ([PASSWORD_NEEDED, b"\1\1"], "it refused user and password"),
        ([PASSWORD_NEEDED, b"\1\xff"], "it refused user and password"),
        ([NO_METHOD_NEEDED, b"\4"], "not SOCKS5"),
        ([NO_METHOD_NEEDED, b"\5\0\0\2\0\0\0\0"], "not SOCKS5"),
        ([NO_METHOD_NEEDED, b"\5\0\0\0\0\0\0\0"], "not SOCKS5"),
    ],
    ids=lambda answers: ascii(answers[-1]),
)
@loop_kinds("uvloop", "asyncio")
def test_an_answer_that_is_not_socks(runner: Runner, answers: list[bytes], match: str) -> None:
    _, peer, recorder = start(runner, "socks5", credentials=CREDENTIALS)
    answer(runner, peer, answers)
    error = failure(runner, recorder)
    assert_no_way_through(error, match)
    assert "secret" not in str(error)


@pytest.mark.parametrize("method", [b"\5\2", b"\5\xff"])
def test_a_socks_proxy_that_wants_credentials_of_one_who_has_none(
    runner: Runner, method: bytes
) -> None:
    _, peer, recorder = start(runner, "socks5")
    answer(runner, peer, [method])
    assert_no_way_through(failure(runner, recorder), "it wants user and password")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1, "general failure"),
        (2, "not allowed by its rules"),
        (3, "network unreachable"),
        (4, "host unreachable"),
        (5, "connection refused"),
        (6, "TTL expired"),
        (7, "command not supported"),
        (8, "address type not supported"),
        (9, "unknown reply"),
        (255, "unknown reply"),
    ],
)
@pytest.mark.parametrize("rest", [b"", b"\0\1\0\0\0\0\0\0"], ids=["short", "whole"])
@loop_kinds("asyncio")
def test_a_socks_proxy_that_refuses(runner: Runner, code: int, words: str, rest: bytes) -> None:
    _, peer, recorder = start(runner, "socks5")
    answer(runner, peer, [NO_METHOD_NEEDED, b"\5" + bytes([code]) + rest])
    error = failure(runner, recorder)
    assert_no_way_through(error, "")
    assert str(error) == f"the proxy refused: {words} (SOCKS5 reply {code})"


EARLY_ENDS = [
    ("http", []),
    ("http", [b"HTT"]),
    ("http", [OK[:-1]]),
    ("socks5", []),
    ("socks5", [b"\5"]),
    ("socks5", [PASSWORD_NEEDED]),
    ("socks5", [PASSWORD_NEEDED, b"\1"]),
    ("socks5", [NO_METHOD_NEEDED]),
    ("socks5", [NO_METHOD_NEEDED, b"\5\0\0"]),
    ("socks5", [NO_METHOD_NEEDED, SOCKS_OK[:-1]]),
]
early_ends = pytest.mark.parametrize(
    ("scheme", "answers"), EARLY_ENDS, ids=[ascii((kind, *said)) for kind, said in EARLY_ENDS]
)


@early_ends
def test_a_proxy_that_ends_the_connection(
    runner: Runner, scheme: str, answers: list[bytes]
) -> None:
    _, peer, recorder = start(runner, scheme, credentials=CREDENTIALS)
    answer(runner, peer, answers)
    peer.finish()
    error = failure(runner, recorder)
    assert_no_way_through(error, "it closed the connection before it had answered")


@early_ends
def test_a_proxy_that_resets_the_connection(
    runner: Runner, scheme: str, answers: list[bytes]
) -> None:
    _, peer, recorder = start(runner, scheme, credentials=CREDENTIALS)
    answer(runner, peer, answers)
    peer.reset()
    # What was sent last may be lost with it.
    assert_no_way_through(failure(runner, recorder), "")


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_end_right_behind_the_answer(runner: Runner, scheme: str, secure: bool) -> None:
    server = RawServer(runner)
    url = f"{'wss' if secure else 'ws'}://{TARGET}/"
    recorder = connect(runner, url, f"{scheme}://127.0.0.1:{server.port}")
    runner.run(lambda: server.peers)
    answer(runner, server.peers[0], GOOD_ANSWERS[scheme])
    server.peers[0].finish()
    assert isinstance(failure(runner, recorder), (uvws.Error, OSError))


# Waiting


@early_ends
def test_the_connect_timeout_counts_the_proxy(
    runner: Runner, scheme: str, answers: list[bytes]
) -> None:
    _, peer, recorder = start(runner, scheme, credentials=CREDENTIALS, connect_timeout=0.3)
    answer(runner, peer, answers)
    error = failure(runner, recorder)
    assert type(error) is uvws.ConnectTimeout
    runner.run(peer.ended)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_connect_timeout_counts_what_comes_behind_the_proxy(
    runner: Runner, scheme: str
) -> None:
    server, peer, recorder = start(runner, scheme, connect_timeout=0.3)
    answer(runner, peer, GOOD_ANSWERS[scheme])
    server.accept()
    assert type(failure(runner, recorder)) is uvws.ConnectTimeout


@pytest.mark.parametrize(
    ("scheme", "answers"),
    [("http", []), ("http", [b"HTT"]), ("socks5", []), ("socks5", [NO_METHOD_NEEDED, b"\5"])],
    ids=["http", "http, begun", "socks5", "socks5, begun"],
)
def test_waiting_for_a_proxy_costs_no_turns_of_the_loop(
    runner: Runner, scheme: str, answers: list[bytes]
) -> None:
    _, peer, recorder = start(runner, scheme)
    answer(runner, peer, answers)
    runner.run_for(0.2)  # there are timers that are due soon after a context is made
    turns = []
    over: list[None] = []
    runner.call_later(0.2, lambda: over.append(None))

    def waited() -> object:
        turns.append(None)
        return over

    runner.run(waited)
    assert len(turns) < 15
    assert recorder.events == []


@early_ends
def test_a_context_may_be_closed_while_a_proxy_is_waited_for(
    runner: Runner, scheme: str, answers: list[bytes]
) -> None:
    server = RawServer(runner)
    recorder = Recorder()
    context = runner.context(proxy=f"{scheme}://{CREDENTIALS}@127.0.0.1:{server.port}")
    connection = context.connect("ws://h/", **recorder.callbacks)
    runner.run(lambda: server.peers)
    answer(runner, server.peers[0], answers)
    context.close()
    runner.run(server.peers[0].ended)
    assert recorder.names == ["error"]
    assert isinstance(recorder.events[0][1], uvws.ConnectionClosed)
    assert connection.state == "destroyed"


@early_ends
def test_a_connection_that_waits_for_a_proxy_is_connecting(
    runner: Runner, scheme: str, answers: list[bytes]
) -> None:
    server = RawServer(runner)
    context = runner.context(proxy=f"{scheme}://{CREDENTIALS}@127.0.0.1:{server.port}")
    connection = context.connect("ws://h/")
    runner.run(lambda: server.peers)
    answer(runner, server.peers[0], answers)
    runner.turns(5)
    assert connection.state == "connecting"
    assert context.connections == []
    with pytest.raises(uvws.ConnectionClosed):
        connection.send("x")


@loop_kinds("pyuv")
def test_run_returns_once_a_proxy_has_refused(runner: Runner) -> None:
    _, peer, recorder = start(runner, "http")
    peer.send(b"HTTP/1.1 403 Forbidden\r\n\r\n")
    runner.run_to_end()
    assert recorder.names == ["error"]
