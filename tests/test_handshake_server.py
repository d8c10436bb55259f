"""The server's side of the opening handshake: what it takes, refuses, and hands out."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import websockets

from support import Recorder, Runner, echo, loop_kinds, url_of
from support.http import ask
from support.wire import KEY, RawPeer, accept_key, dial, dial_websocket, upgrade_request

HOST = "127.0.0.1"

# Sent in many small segments, a head is looked at many times.
SEGMENTS = [1, 7, 100_000]


def answer_to(runner: Runner, listener: Any, request: bytes) -> RawPeer:
    """Send something that is no handshake, and run until the server has hung up."""
    peer = dial(runner, listener)
    with contextlib.suppress(ConnectionError):  # it may hang up before it has read all
        peer.send(request)
    runner.run(peer.ended)
    return peer


def status_of(runner: Runner, request: bytes) -> int:
    """Send a request that a server of its own refuses; returns the status of the answer."""
    recorder = Recorder()
    listener = runner.context().listen(host=HOST, **recorder.callbacks)
    answer = answer_to(runner, listener, request).take()
    assert recorder.events == []
    assert answer.startswith(b"HTTP/1."), answer
    assert answer.endswith(b"\r\n\r\n")
    return int(answer.split(b" ", 2)[1])


def headers_of(runner: Runner, request: bytes, *, segment: int = 100_000) -> Any:
    """Send a request that a server of its own accepts; returns what on_connect was given."""
    recorder = Recorder()
    peer = dial(runner, runner.context().listen(host=HOST, **recorder.callbacks))
    for at in range(0, len(request), segment):
        peer.send(request[at : at + segment])
        if segment < len(request):
            runner.turns(1)
    runner.run(lambda: recorder.events or peer.is_ended)
    assert recorder.names == ["connect"], peer.take()
    return recorder.events[0][1]


# The answer


def test_the_answer_to_a_handshake(runner: Runner) -> None:
    peer = dial(runner, runner.context().listen(host=HOST))
    peer.send(upgrade_request())
    runner.run(peer.has_head)
    lines = peer.take_head().decode().lower().split("\r\n")
    assert lines[0].startswith("http/1.1 101 ")
    assert "upgrade: websocket" in lines
    assert "connection: upgrade" in lines
    assert f"sec-websocket-accept: {accept_key(KEY)}".lower() in lines
    assert not [line for line in lines if line.startswith("sec-websocket-extensions")]


def test_an_unknown_subprotocol_is_no_reason_to_refuse(runner: Runner) -> None:
    peer = dial(runner, runner.context().listen(host=HOST))
    peer.send(upgrade_request(headers="Sec-WebSocket-Protocol: chat, superchat\r\n"))
    runner.run(peer.has_head)
    head = peer.take_head().lower()
    assert head.startswith(b"http/1.1 101 ")
    assert b"sec-websocket-protocol" not in head


def test_an_offered_extension_is_not_taken(runner: Runner) -> None:
    peer = dial(runner, runner.context().listen(host=HOST))
    peer.send(upgrade_request(headers="Sec-WebSocket-Extensions: permessage-deflate\r\n"))
    runner.run(peer.has_head)
    head = peer.take_head().lower()
    assert head.startswith(b"http/1.1 101 ")
    assert b"sec-websocket-extensions" not in head


def test_a_websockets_client_of_any_subprotocol_gets_through(
    runner: Runner, websockets_client: Any
) -> None:
    listener = echo(runner)

    async def talk() -> Any:
        async with websockets.connect(url_of(listener), subprotocols=["chat"]) as peer:
            return peer.subprotocol

    client = websockets_client(talk)
    runner.run(client.done)
    assert client.result() is None


def test_half_handshakes_do_not_keep_others_waiting(runner: Runner) -> None:
    recorder = Recorder()
    listener = runner.context().listen(host=HOST, **recorder.callbacks)
    request = upgrade_request()
    for number in range(100):
        dial(runner, listener).send(request[: number % len(request)])
    runner.turns(5)
    dial_websocket(runner, listener)
    runner.run(recorder.saw("connect"))


@pytest.mark.parametrize("how", ["finish", "reset"])
@pytest.mark.parametrize("sent", [0, 50])
def test_a_client_that_leaves_during_the_handshake_is_forgotten(
    runner: Runner, how: str, sent: int
) -> None:
    recorder = Recorder()
    context = runner.context()
    listener = context.listen(host=HOST, **recorder.callbacks)
    for _ in range(20):
        peer = dial(runner, listener)
        peer.send(upgrade_request()[:sent])
        getattr(peer, how)()
    dial_websocket(runner, listener)
    runner.run_for(0.02)
    assert recorder.names == ["connect"]
    assert len(context.connections) == 1


def test_a_client_that_resets_right_after_the_handshake_is_told_to_both_callbacks(
    runner: Runner,
) -> None:
    recorder = Recorder()
    listener = runner.context().listen(host=HOST, **recorder.callbacks)
    dial_websocket(runner, listener).reset()
    runner.run(recorder.saw("close"))
    assert recorder.names == ["connect", "close"]


def test_many_clients_that_knock_together_are_all_let_in(runner: Runner) -> None:
    recorder = Recorder()
    listener = runner.context().listen(host=HOST, **recorder.callbacks)
    peers = [dial(runner, listener) for _ in range(150)]
    for peer in peers:
        peer.send(upgrade_request())
    runner.run(recorder.saw("connect", 150))
    runner.run(lambda: all(peer.has_head() for peer in peers))


# Path, query and headers


def test_path_and_query_arrive(runner: Runner) -> None:
    requests = Recorder()
    listener = runner.context().listen(host=HOST, **requests.callbacks)
    runner.context().connect(url_of(listener, "/chat/room?user=me&x=1&x=2&empty=&flag"))
    runner.run(requests.saw("connect"))
    headers = requests.events[0][1]
    assert headers["Path"] == "/chat/room"
    assert headers["Query"] == "user=me&x=1&x=2&empty=&flag"


def test_the_query_arrives_with_its_escapes(runner: Runner) -> None:
    # Decoded, an escaped & could not be told from one that separates.
    requests = Recorder()
    listener = runner.context().listen(host=HOST, **requests.callbacks)
    runner.context().connect(url_of(listener, "/?a=%26b%3D1&c=%25"))
    runner.run(requests.saw("connect"))
    assert requests.events[0][1]["Query"] == "a=%26b%3D1&c=%25"


@pytest.mark.parametrize(
    "path", ["/a%2Fb", "/%C3%A9", "/a//b", "/a/../b", "/a/./b/", "/a;b=1", "/a+b", "/%41"]
)
def test_the_path_arrives_as_it_was_sent(runner: Runner, path: str) -> None:
    assert headers_of(runner, upgrade_request(path))["Path"] == path


@pytest.mark.parametrize("query", ["a=b;c", "a+b", "?", "a?b=/c/../d", "a&&b", "=", "%41=%00"])
def test_the_query_arrives_as_it_was_sent(runner: Runner, query: str) -> None:
    assert headers_of(runner, upgrade_request(f"/?{query}"))["Query"] == query


def test_without_a_query_there_is_none(runner: Runner) -> None:
    requests = Recorder()
    listener = runner.context().listen(host=HOST, **requests.callbacks)
    runner.context().connect(url_of(listener))
    runner.run(requests.saw("connect"))
    assert "Query" not in requests.events[0][1]


def test_request_headers_arrive_at_the_server(runner: Runner) -> None:
    requests = Recorder()
    listener = runner.context().listen(host=HOST, **requests.callbacks)
    given = [("X-Token", "one"), ("Authorization", "Basic eA==")]
    runner.context().connect(url_of(listener), headers=given)
    runner.run(requests.saw("connect"))
    headers = requests.events[0][1]
    assert headers["authorization"] == "Basic eA=="
    assert headers["HOST"] == f"127.0.0.1:{listener.port}"
    assert headers["x-token"] == "one"


def test_request_headers_compare_without_case(runner: Runner) -> None:
    recorder = Recorder()
    listener = runner.context().listen(host=HOST, **recorder.callbacks)
    peer = dial(runner, listener)
    peer.send(upgrade_request("/p?q=1", headers="x-cUsToM:  spaced out \r\nUser-Agent: me\r\n"))
    runner.run(recorder.saw("connect"))
    headers = recorder.events[0][1]
    assert headers["X-Custom"] == "spaced out"
    assert headers["user-agent"] == "me"
    assert headers["path"] == "/p"
    assert headers["query"] == "q=1"


@pytest.mark.parametrize("name", ["a", "X-F", "user", "sec-", "h", "Authorizatio"])
def test_a_header_named_like_the_beginning_of_another_is_itself(runner: Runner, name: str) -> None:
    recorder = Recorder()
    peer = dial(runner, runner.context().listen(host=HOST, **recorder.callbacks))
    peer.send(upgrade_request(headers=f"{name}: 1\r\nAuthorization: Basic eA==\r\n"))
    runner.run(recorder.saw("connect"))
    headers = recorder.events[0][1]
    assert (headers[name], headers["authorization"]) == ("1", "Basic eA==")


def test_a_repeated_header_of_the_users_own_keeps_its_values(runner: Runner) -> None:
    requests = Recorder()
    listener = runner.context().listen(host=HOST, **requests.callbacks)
    runner.context().connect(url_of(listener), headers=[("X-Token", "one"), ("X-Token", "two")])
    runner.run(requests.saw("connect"))
    assert requests.events[0][1].get_all("x-token") == ["one", "two"]


@pytest.mark.parametrize("segment", SEGMENTS)
def test_headers_arrive_in_their_order_and_spelling(runner: Runner, segment: int) -> None:
    own = "x-LOUD: 1\r\nCookie: a=1\r\nX-Loud: 2\r\ncookie: b=2\r\nX-Empty:\r\n"
    pairs = list(headers_of(runner, upgrade_request(headers=own), segment=segment).items())
    assert pairs == [
        ("Path", "/"),
        ("Host", "localhost"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", KEY),
        ("Sec-WebSocket-Version", "13"),
        ("x-LOUD", "1"),
        ("Cookie", "a=1"),
        ("X-Loud", "2"),
        ("cookie", "b=2"),
        ("X-Empty", ""),
    ]


def test_a_header_may_have_bytes_that_are_not_ascii(runner: Runner) -> None:
    headers = headers_of(runner, upgrade_request(headers="X-Name: Zo\xeb\tand\xa0more\r\n"))
    assert headers["X-Name"] == "Zo\xeb\tand\xa0more"


@pytest.mark.parametrize("authority", ["http://other.example", "HTTPS://other.example:8443"])
@pytest.mark.parametrize(
    ("rest", "path", "query"),
    [("/p/q?x=1", "/p/q", "x=1"), ("", "/", None), ("?x=http://y/", "/", "x=http://y/")],
)
def test_a_target_in_absolute_form_is_its_path_and_query(
    runner: Runner, authority: str, rest: str, path: str, query: str | None
) -> None:
    headers = headers_of(runner, upgrade_request(authority + rest))
    assert (headers["Path"], headers.get("Query")) == (path, query)


# What asks for an upgrade, and what does not


def with_header(name: str, value: str) -> bytes:
    """Return an opening handshake in which a header has another value."""
    lines = upgrade_request().decode().split("\r\n")
    return "\r\n".join(
        f"{name}: {value}" if line.startswith(f"{name}:") else line for line in lines
    ).encode()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Upgrade", "WebSocket"),
        ("Upgrade", "h2c, websocket"),
        ("Upgrade", "websocket ,,h2c"),
        ("Upgrade", "h2c\r\nupgrade: websocket"),
        ("Connection", "UPGRADE"),
        ("Connection", "keep-alive, Upgrade"),
        ("Connection", "upgrade,keep-alive"),
        ("Connection", "keep-alive\r\nConnection: Upgrade"),
    ],
)
def test_upgrade_and_connection_are_lists(runner: Runner, name: str, value: str) -> None:
    assert "Path" in headers_of(runner, with_header(name, value))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Upgrade", "h2c"),
        ("Upgrade", "websockets"),
        ("Upgrade", "web socket"),
        ("Upgrade", ""),
        ("Connection", "keep-alive"),
        ("Connection", "upgrades"),
        ("Connection", "x-upgrade"),
        ("Connection", ""),
    ],
)
def test_what_does_not_ask_for_a_websocket_is_told_to_upgrade(
    runner: Runner, name: str, value: str
) -> None:
    assert status_of(runner, with_header(name, value)) == 426


@pytest.mark.parametrize("name", ["Upgrade", "Connection"])
def test_without_upgrade_or_connection_it_is_a_plain_request(runner: Runner, name: str) -> None:
    assert status_of(runner, upgrade_request().replace(f"{name}: ".encode(), b"X-No: ")) == 426


def test_a_plain_request_is_told_to_upgrade(runner: Runner) -> None:
    recorder = Recorder()
    listener = runner.context().listen(host=HOST, **recorder.callbacks)
    peer = answer_to(runner, listener, b"GET /page HTTP/1.1\r\nHost: h\r\n\r\n")
    head = peer.take().decode().lower()
    assert head.startswith("http/1.1 426 ")
    assert "\r\nupgrade: websocket\r\n" in head
    assert "\r\nconnection: close\r\n" in head
    assert recorder.events == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_other_methods_get_an_answer_too(runner: Runner, method: str) -> None:
    listener = runner.context().listen(host=HOST)
    request = f"{method} / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".encode()
    assert answer_to(runner, listener, request).take().startswith(b"HTTP/1.1 4")


# Refusals


@pytest.mark.parametrize(
    ("status", "old", "new"),
    [
        (400, b"Sec-WebSocket-Key", b"X-Key"),
        (400, KEY.encode(), b"c2hvcnQ="),
        (426, b"Sec-WebSocket-Version", b"X-Version"),
        (426, b"Version: 13", b"Version: 8"),
        (405, b"GET ", b"POST "),
    ],
    ids=["no key", "a key that is too short", "no version", "an old version", "POST"],
)
def test_a_handshake_without_what_it_needs_is_refused(
    runner: Runner, status: int, old: bytes, new: bytes
) -> None:
    assert status_of(runner, upgrade_request().replace(old, new)) == status


BAD_HANDSHAKES = {
    "a key with more behind it": (400, lambda request: request.replace(b"==", b"==, x")),
    "a key of 15 bytes": (400, lambda request: request.replace(KEY.encode(), b"A" * 20)),
    "a key of 17 bytes": (400, lambda request: request.replace(b"ZQ==", b"ZTE=")),
    "a key of 18 bytes": (400, lambda request: request.replace(b"ZQ==", b"ZTEx")),
    "a key without padding": (400, lambda request: request.replace(b"==", b"")),
    "a key in the alphabet of URLs": (400, lambda request: request.replace(b"dGhl", b"d-_l")),
    "two keys": (400, lambda request: with_more(request, f"Sec-WebSocket-Key: {KEY}")),
    "a version like ours": (426, lambda request: request.replace(b"Version: 13", b"Version: 013")),
    "two versions": (400, lambda request: with_more(request, "Sec-WebSocket-Version: 13")),
    # In HTTP/1.0 Upgrade is to be ignored (RFC 9110, section 7.8).
    "HTTP/1.0": (426, lambda request: request.replace(b"HTTP/1.1", b"HTTP/1.0")),
    "HTTP/2.0": (505, lambda request: request.replace(b"HTTP/1.1", b"HTTP/2.0")),
    "HTTP/0.9": (505, lambda request: request.replace(b"HTTP/1.1", b"HTTP/0.9")),
    "no Host": (400, lambda request: request.replace(b"Host: ", b"X-Host: ")),
    "two Hosts": (400, lambda request: with_more(request, "host: localhost")),
}


def with_more(request: bytes, line: str) -> bytes:
    """Return a request with a line more at its end."""
    return request[:-2] + line.encode("latin-1") + b"\r\n\r\n"


@pytest.mark.parametrize(("status", "change"), BAD_HANDSHAKES.values(), ids=BAD_HANDSHAKES)
def test_a_handshake_that_breaks_the_rules_is_refused(
    runner: Runner, status: int, change: Any
) -> None:
    assert status_of(runner, change(upgrade_request())) == status


@loop_kinds("asyncio")
@pytest.mark.parametrize("version", ["8", "12", "14", "8, 13", ""])
def test_another_version_is_refused_with_the_one_that_is_spoken(
    runner: Runner, version: str
) -> None:
    listener = runner.context().listen(host=HOST)
    answer = ask(runner, listener, with_header("Sec-WebSocket-Version", version))
    assert answer.status == 426
    assert answer.headers.get_all("Sec-WebSocket-Version") == ["13"]


# RFC 6455, section 4.2.1: whatever is not in the grammar of the handshake is answered with 400.


@loop_kinds("asyncio")
@pytest.mark.parametrize("protocol", ["a b", '"a"', "(a)", "a;x=1", "a/b", "gr\xfcn", "a, b c"])
def test_a_malformed_offer_of_subprotocols_is_refused(runner: Runner, protocol: str) -> None:
    offer = f"Sec-WebSocket-Protocol: {protocol}"
    assert status_of(runner, with_more(upgrade_request(), offer)) == 400


@loop_kinds("asyncio")
@pytest.mark.parametrize(
    "extension",
    [
        "foo bar",
        "foo;",
        "; a",
        "foo; ; a",
        "foo; =1",
        "foo; a=",
        "foo; a=1 2",
        'foo; a="',
        'foo; a=""',
        'foo; a="1',
        'foo; a="1 2"',
        'foo; a="1, 2"',
        'foo; a="1\\"',
        'foo; a="1"2',
        "foo; a==1",
        "foo=1",
        "(foo)",
        "foo, bar baz",
        "foo\r\nSec-WebSocket-Extensions: bar baz",
    ],
)
def test_a_malformed_offer_of_extensions_is_refused(runner: Runner, extension: str) -> None:
    offer = f"Sec-WebSocket-Extensions: {extension}"
    assert status_of(runner, with_more(upgrade_request(), offer)) == 400


@loop_kinds("asyncio")
@pytest.mark.parametrize(
    "line",
    [
        "Sec-WebSocket-Protocol: a,b ,\tc",
        "Sec-WebSocket-Protocol: ,a,, b,",
        "Sec-WebSocket-Protocol:",
        "Sec-WebSocket-Protocol: a, a",
        "Sec-WebSocket-Extensions: foo",
        'Sec-WebSocket-Extensions: foo ;a; b = 1;c="2" , bar',
        'Sec-WebSocket-Extensions: foo; a="\\1\\2"',
        "Sec-WebSocket-Extensions: ,foo, ,bar; a;a",
        "Sec-WebSocket-Extensions:",
    ],
)
def test_an_offer_may_be_spelled_in_every_way_of_the_grammar(runner: Runner, line: str) -> None:
    assert "Path" in headers_of(runner, with_more(upgrade_request(), line))


@pytest.mark.parametrize(
    "line",
    [
        "X-Space : 1",
        "X-Tab\t: 1",
        "X Two: 1",
        "X-(Comment): 1",
        "X-\xe9: 1",
        ": no name",
        "no colon",
        " a folded line",
        "\ta folded line",
        "X-Nul: a\0b",
        "X-Return: a\rb",
        "X-Bell: a\ab",
        "X-Delete: a\x7fb",
        "X-Feed: a\nX-Other: b",
    ],
)
def test_a_line_that_is_no_header_is_refused(runner: Runner, line: str) -> None:
    assert status_of(runner, with_more(upgrade_request(), line)) == 400


def test_lines_that_end_without_a_carriage_return_are_refused(runner: Runner) -> None:
    assert status_of(runner, upgrade_request().replace(b"\r\n", b"\n") + b"\r\n") == 400


@pytest.mark.parametrize(
    "line",
    [
        "GET / HTTP/1.1 ",
        "GET  / HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/1",
        "GET / HTTP/1.10",
        "GET /a b HTTP/1.1",
        "GET /",
        "G\xcbT / HTTP/1.1",
        "GET /\t HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "",
    ],
)
def test_a_line_that_is_no_request_is_refused(runner: Runner, line: str) -> None:
    request = upgrade_request().replace(b"GET / HTTP/1.1", line.encode("latin-1"))
    assert status_of(runner, request) == 400


@pytest.mark.parametrize(
    "target", ["path", "*", "localhost:80", "ftp://h/", "http://", "/%", "/%4", "/%zz", "/a%00b"]
)
def test_a_target_that_names_no_path_is_refused(runner: Runner, target: str) -> None:
    assert status_of(runner, upgrade_request(target)) == 400


@pytest.mark.parametrize("line", ["CONNECT h:80", "BREW /", "get /", "PROPFIND /"])
def test_a_method_that_nobody_implements_is_refused(runner: Runner, line: str) -> None:
    assert status_of(runner, f"{line} HTTP/1.1\r\nHost: h\r\n\r\n".encode()) == 501


def test_a_plain_request_of_http_1_0_needs_no_host(runner: Runner) -> None:
    assert status_of(runner, b"GET / HTTP/1.0\r\n\r\n") == 426


@pytest.mark.parametrize(
    ("status", "beginning"),
    [
        (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        (400, b"SSH-2.0-OpenSSH_9.2p1\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost : h\r\n"),
        (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ],
    ids=["a TLS hello", "SSH", "a bad header", "HTTP/2"],
)
def test_what_cannot_become_a_request_is_refused_before_its_end(
    runner: Runner, status: int, beginning: bytes
) -> None:
    assert status_of(runner, beginning) == status


# Floods


@pytest.mark.parametrize(
    "request_head",
    [
        upgrade_request(headers="X-Large: " + "x" * 16_384 + "\r\n"),
        upgrade_request(headers="X-Many: 1\r\n" * 2_000),
        upgrade_request(headers="Cookie: a=1\r\n" * 500),
        upgrade_request("/" + "x" * 16_384),
        b"GET / HTTP/1.1\r\nX-Endless: " + b"x" * 16_384,
    ],
    ids=["a large header", "many headers", "many of one that lws knows", "a long path", "no end"],
)
def test_a_head_that_is_too_large_is_answered_with_431(runner: Runner, request_head: bytes) -> None:
    assert status_of(runner, request_head) == 431


def test_a_head_of_almost_16_kib_is_not_too_large(runner: Runner) -> None:
    large = "x" * 16_000
    assert headers_of(runner, upgrade_request(headers=f"X-Large: {large}\r\n"))["X-Large"] == large


GARBAGE = {
    "binary": bytes(range(256)) * 4,
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "no HTTP": b"EHLO example.org\r\n\r\n",
    "no end": b"GET / HTTP/1.1\r\n" + b"X-Filler: " + b"x" * 200_000,
    "a header of 100 KB": upgrade_request(headers="X-Large: " + "x" * 100_000 + "\r\n"),
    "10000 headers": upgrade_request(headers="X-Many: 1\r\n" * 10_000),
    "a path of 100 KB": upgrade_request("/" + "x" * 100_000),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_hung_up_on_and_does_not_hurt_others(runner: Runner, garbage: bytes) -> None:
    recorder = Recorder()
    listener = runner.context().listen(host=HOST, **recorder.callbacks)
    healthy = dial_websocket(runner, listener)
    answer_to(runner, listener, garbage)
    healthy.send_frame(1, b"still fine")
    runner.run(recorder.saw("message"))
    assert recorder.names == ["connect", "message"]
