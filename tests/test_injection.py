"""What an attacker might slip in: header lines, second requests, names that are not theirs."""

from __future__ import annotations

import socket
from typing import Any

import pytest

import uvws
from support import Recorder, Runner, loop_kinds
from support.http import answer_to, ask, request
from support.wire import (
    KEY,
    TEXT,
    RawPeer,
    RawServer,
    dial,
    frame,
    upgrade_request,
    upgrade_response,
)

HOST = "127.0.0.1"
MASK = b"abcd"


class Sly(str):
    """A str that shows another face to whoever asks nicely."""

    def strip(self, *_: Any) -> str:
        return "harmless"

    def encode(self, *_: Any) -> bytes:
        return b"x\r\nInjected: 1"

    def lower(self) -> str:
        return "harmless"

    def __str__(self) -> str:
        return "x\r\nInjected: 1"

    def __format__(self, _: str) -> str:
        return "x\r\nInjected: 1"


# Headers that a user gives


BAD_HEADERS = {
    "CR LF in a value": ("X-A", "x\r\nInjected: 1"),
    "LF in a value": ("X-A", "x\nInjected: 1"),
    "CR in a value": ("X-A", "x\rInjected: 1"),
    "CR LF at the end": ("X-A", "x\r\n"),
    "a folded value": ("X-A", "x\r\n y"),
    "NUL in a value": ("X-A", "x\0y"),
    "a value beyond Latin-1": ("X-A", "\u010a"),  # whose last byte is LF
    "a line separator in a value": ("X-A", "x\u2028y"),
    "a lone surrogate in a value": ("X-A", "\udc0a"),
    "CR LF in a name": ("X-A: 1\r\nInjected", "x"),
    "a space in a name": ("X A", "x"),
    "a space before the colon": ("X-A ", "x"),
    "a space at the beginning": (" X-A", "x"),
    "a colon in a name": ("X-A: 1", "x"),
    "NUL in a name": ("X\0A", "x"),
    "no name": ("", "x"),
    "a name beyond ASCII": ("X-\xe9", "x"),
    "a name that folds to another": ("Content\u2010Length", "1"),
    "a subclass of str as a value": ("X-A", Sly("x\r\nInjected: 1")),
    "a subclass of str as a name": (Sly("X-A\r\nInjected"), "x"),
    "a length": ("Content-Length", "5"),
    "a length in other letters": ("cONTENT-lENGTH", "5"),
    "a coding": ("Transfer-Encoding", "chunked"),
    "a connection": ("Connection", "keep-alive"),
}
OF_THE_HANDSHAKE = {
    "an upgrade": ("Upgrade", "h2c"),
    "a key": ("Sec-WebSocket-Key", KEY),
    "an answer": ("Sec-WebSocket-Accept", "x"),
    "an extension": ("Sec-WebSocket-Extensions", "permessage-deflate"),
    "a subprotocol": ("Sec-WebSocket-Protocol", "x"),
    "a version": ("Sec-WebSocket-Version", "8"),
    "a framing header in disguise": (Sly("Sec-WebSocket-Accept"), "x"),
}
EVERY_BAD_HEADER = {**BAD_HEADERS, **OF_THE_HANDSHAKE}

GIVERS = {
    "connect": lambda context, pair: context.connect("ws://127.0.0.1:1/", headers=[pair]),
    "listen": lambda context, pair: context.listen(host=HOST, headers=[pair]),
}


@loop_kinds("asyncio")
@pytest.mark.parametrize("give", GIVERS.values(), ids=GIVERS)
@pytest.mark.parametrize("pair", EVERY_BAD_HEADER.values(), ids=EVERY_BAD_HEADER)
def test_headers_that_would_say_more_are_refused_at_once(
    runner: Runner, give: Any, pair: tuple[str, str]
) -> None:
    with pytest.raises(ValueError, match=r"^headers: "):
        give(runner.context(), pair)


@pytest.mark.parametrize("kind", [uvws.Response, uvws.Reject])
@pytest.mark.parametrize("pair", BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_so_are_those_of_an_answer(kind: Any, pair: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=r"^headers: "):
        kind(headers=[pair])


@loop_kinds("asyncio")
def test_so_are_those_that_on_handshake_returns(runner: Runner) -> None:
    answers = [{name: value} for name, value in EVERY_BAD_HEADER.values()]
    given = iter(answers)
    listener = runner.context().listen(host=HOST, on_handshake=lambda _: next(given))
    for _ in answers:
        peer = dial(runner, listener)
        peer.send(upgrade_request())
        answer = answer_to(runner, peer)
        assert answer.status == 500
        assert "Injected" not in answer.headers
    assert [type(error) for error in runner.reported] == [ValueError] * len(answers)
    runner.reported.clear()


@loop_kinds("asyncio")
def test_an_answer_is_what_was_given_and_nothing_else(runner: Runner) -> None:
    given = [("X-A", " \t x \t"), ("X-B", "caf\xe9"), ("X-C", Sly("plain")), ("X-D", "")]
    listener = runner.context().listen(host=HOST, headers=given)
    peer = dial(runner, listener)
    peer.send(upgrade_request())
    runner.run(peer.has_head)
    lines = peer.take_head().split(b"\r\n")
    for line in (b"X-A: x", b"X-B: caf\xe9", b"X-C: plain", b"X-D: "):
        assert lines.count(line) == 1
    for name in (b"connection", b"upgrade", b"sec-websocket-accept"):
        assert sum(line.lower().startswith(name + b":") for line in lines) == 1
    assert not [line for line in lines if b"Injected" in line]


@loop_kinds("asyncio")
def test_a_request_is_what_was_given_and_nothing_else(runner: Runner) -> None:
    server = RawServer(runner)
    runner.context().connect(
        server.url + "a%0d%0aInjected:%201?\xe9",
        headers=[("X-A", " x "), ("X-B", "caf\xe9"), ("X-C", Sly("plain"))],
        protocol=["one", Sly("two")],
    )
    lines = server.accept().take_head().split(b"\r\n")
    assert lines[0] == b"GET /a%0d%0aInjected:%201?%C3%A9 HTTP/1.1"
    for line in (b"X-A: x", b"X-B: caf\xe9", b"X-C: plain"):
        assert lines.count(line) == 1
    assert [line for line in lines if b"one" in line] == [b"Sec-WebSocket-Protocol: one, two"]
    assert not [line for line in lines if line.lower().startswith(b"injected")]


@pytest.mark.parametrize("kind", [uvws.Response, uvws.Reject])
@pytest.mark.parametrize("body", [b"", b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "\u20ac"])
def test_the_length_of_an_answer_is_that_of_its_body(kind: Any, body: Any) -> None:
    raw = kind(400, body=body).encode()
    head, _, rest = raw.partition(b"\r\n\r\n")
    lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    assert lengths == [b"Content-Length: %d" % len(rest)]
    assert rest == (body.encode() if isinstance(body, str) else body)


# Subprotocols, URLs and proxies


@loop_kinds("asyncio")
@pytest.mark.parametrize("method", ["connect", "listen"])
@pytest.mark.parametrize(
    "name", ["x\r\nInjected: 1", "x\n", "x, y", "x y", " x", "x\0", "\u010a", "", Sly("x\r\ny")]
)
def test_a_subprotocol_that_would_say_more_is_refused(
    runner: Runner, method: str, name: str
) -> None:
    context = runner.context()
    give = {"listen": context.listen, "connect": lambda **o: context.connect("ws://h/", **o)}
    with pytest.raises(ValueError, match=r"^protocol .* is not a token"):
        give[method](protocol=name)


BAD_URLS = {
    "CR LF in the path": "ws://h/a\r\nInjected: 1",
    "LF in the query": "ws://h/?a\nInjected: 1",
    "a space in the path": "ws://h/a HTTP/1.1",
    "NUL in the path": "ws://h/a\0b",
    "a tab in the path": "ws://h/a\tb",
    "C1 in the path": "ws://h/a\x85b",
    "CR LF in the host": "ws://h\r\nInjected: 1/",
    "a space in the host": "ws://h Injected/",
    "an escape in the host": "ws://h%0d%0aInjected/",
    "a user": "ws://user@h/",
    "a user and CR LF": "ws://user:a\r\nb@h/",
    "CR LF in the port": "ws://h:80\r\n/",
    "a sign in the port": "ws://h:+80/",
    "other digits in the port": "ws://h:\u0668\u0660/",
    "a fragment": "ws://h/#a",
    "a backslash in the host": "ws://h\\@evil/",
    "IDNA of a dot": "ws://h\u3002\u3002evil/",
    "IDNA of a slash": "ws://h\u2100evil/",  # a/c
    "IDNA of a line separator": "ws://h\u2028evil/",
    "CR LF in an address": "ws://[::1\r\n]/",
    "a zone in an address": "ws://[fe80::1%25eth0]/",
    "a lone surrogate": "ws://h/\udc0a",
    "an empty label": "ws://a..b/",
    "a subclass of str": Sly("ws://h/a\r\nInjected: 1"),
}


@loop_kinds("asyncio")
@pytest.mark.parametrize("url", BAD_URLS.values(), ids=BAD_URLS)
def test_a_url_that_would_say_more_is_refused(runner: Runner, url: str) -> None:
    context = runner.context()
    with pytest.raises(uvws.InvalidURL):
        context.connect(url)
    assert context.connections == []


@loop_kinds("asyncio")
@pytest.mark.parametrize(
    "proxy",
    [
        "http://user:a%0d%0aInjected:%201@127.0.0.1:1",
        "http://user:a\r\nb@127.0.0.1:1",
        "http://us%3Aer:secret@127.0.0.1:1",
        "http://us%00er:secret@127.0.0.1:1",
        "http://127.0.0.1:1\r\n",
        "http://127.0.0.1 evil:1",
        "http://127.0.0.1:1/\r\nInjected: 1",
    ],
)
def test_a_proxy_that_would_say_more_is_refused(runner: Runner, proxy: str) -> None:
    # Control characters that base64 takes in do no harm there, but to whoever decodes it.
    with pytest.raises(ValueError, match=r"^proxy must ") as caught:
        runner.context(proxy=proxy)
    assert "secret" not in str(caught.value)


# Names that stand for the request line


@pytest.mark.parametrize("spelling", ["Query", "query", "QUERY"])
def test_a_client_cannot_make_a_query_of_a_header(runner: Runner, spelling: str) -> None:
    asked = []

    def on_request(got: uvws.Request) -> uvws.Response:
        asked.append((got.path, got.query, got.headers.get_all("Path"), got.headers.get("Query")))
        return uvws.Response()

    listener = runner.context().listen(host=HOST, on_request=on_request)
    forged = f"{spelling}: admin=1\r\nPath: /admin\r\n"
    assert ask(runner, listener, request("GET", "/a", forged)).status == 200
    assert asked == [("/a", "", ["/a"], None)]


@pytest.mark.parametrize("sent", ["/a", "/a?b"])
def test_nor_in_a_handshake(runner: Runner, sent: str) -> None:
    seen: list[Any] = []
    recorder = Recorder(on_connect=lambda _, headers: seen.append(headers))
    listener = runner.context().listen(
        host=HOST, on_handshake=lambda headers: seen.append(headers) is None, **recorder.callbacks
    )
    peer = dial(runner, listener)
    peer.send(upgrade_request(sent, headers="Path: /admin\r\nQuery: admin=1\r\n"))
    runner.run(recorder.saw("connect"))
    for headers in seen:
        assert headers.get_all("Path") == ["/a"]
        assert headers.get_all("Query") == (["b"] if "?" in sent else [])


# Requests that two readers could understand in two ways


def get(fields: str, body: str = "", line: str = "GET / HTTP/1.1") -> bytes:
    return f"{line}\r\nHost: here\r\n{fields}\r\n{body}".encode("latin-1")


SECOND = "GET /second HTTP/1.1\r\nHost: here\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
POST = "POST / HTTP/1.1"
# What is sent, and the status that refuses it.
AMBIGUOUS: dict[str, tuple[bytes, int]] = {
    "length and coding": (get("Content-Length: 4\r\n" + CHUNKED, "0\r\n\r\n", POST), 400),
    "coding and length": (get(CHUNKED + "Content-Length: 4\r\n", "0\r\n\r\n", POST), 400),
    "two lengths": (get("Content-Length: 0\r\nContent-Length: 9\r\n", SECOND, POST), 400),
    "the same length twice": (get("Content-Length: 0\r\n" * 2, SECOND, POST), 400),
    "a list of lengths": (get("Content-Length: 0, 9\r\n", SECOND, POST), 400),
    "a signed length": (get("Content-Length: +0\r\n", SECOND, POST), 400),
    "a negative length": (get("Content-Length: -1\r\n", SECOND, POST), 400),
    "a hexadecimal length": (get("Content-Length: 0x0\r\n", SECOND, POST), 400),
    "a length with a space": (get("Content-Length: 1 0\r\n", SECOND, POST), 400),
    "no length": (get("Content-Length:\r\n", SECOND, POST), 400),
    "two codings": (get(CHUNKED * 2, SECOND, POST), 400),
    "a coding that nobody knows": (get("Transfer-Encoding: xchunked\r\n", SECOND, POST), 501),
    "chunked and another": (get("Transfer-Encoding: chunked, identity\r\n", SECOND, POST), 501),
    "a quoted coding": (get('Transfer-Encoding: "chunked"\r\n', SECOND, POST), 501),
    "a vertical tab before a coding": (get("Transfer-Encoding:\x0bchunked\r\n", "", POST), 400),
    "a coding in HTTP/1.0": (get(CHUNKED, "0\r\n\r\n", "POST / HTTP/1.0"), 400),
    "a space before the colon": (get("Content-Length : 9\r\n", SECOND, POST), 400),
    "a tab before the colon": (get("Transfer-Encoding\t: chunked\r\n", SECOND, POST), 400),
    "a folded line": (get("X-A: x\r\n Content-Length: 9\r\n", SECOND), 400),
    "a folded first line": (get(" X-A: x\r\n"), 400),
    "a line without CR": (b"GET / HTTP/1.1\r\nHost: here\nX-A: 1\r\n\r\n", 400),
    "a request line without CR": (b"GET / HTTP/1.1\nHost: here\r\n\r\n", 400),
    "an end without CR": (b"GET / HTTP/1.1\r\nHost: here\r\n\n", 400),
    "CR in the middle of a value": (get("X-A: x\rInjected: 1\r\n"), 400),
    "CR CR LF": (get("X-A: x\r\r\n"), 400),
    "NUL in a value": (get("X-A: x\0y\r\n"), 400),
    "two hosts": (get("Host: there\r\n"), 400),
    "the same host twice": (get("Host: here\r\n"), 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts in one": (b"GET / HTTP/1.1\r\nHost: here, there\r\n\r\n", 400),
    "a host with a path": (b"GET / HTTP/1.1\r\nHost: here/there\r\n\r\n", 400),
    "a host with a user": (b"GET / HTTP/1.1\r\nHost: me@here\r\n\r\n", 400),
    "a host with a space": (b"GET / HTTP/1.1\r\nHost: here there\r\n\r\n", 400),
    "two spaces in the request line": (b"GET  / HTTP/1.1\r\nHost: here\r\n\r\n", 400),
    "a tab in the request line": (b"GET\t/ HTTP/1.1\r\nHost: here\r\n\r\n", 400),
    "a space in the target": (b"GET /a b HTTP/1.1\r\nHost: here\r\n\r\n", 400),
    "an authority for a target": (b"GET here:80 HTTP/1.1\r\nHost: here\r\n\r\n", 400),
    "a tunnel": (b"CONNECT here:80 HTTP/1.1\r\nHost: here\r\n\r\n", 501),
    "another scheme": (b"GET ftp://here/ HTTP/1.1\r\nHost: here\r\n\r\n", 400),
    "an empty line in front": (b"\r\n" + get(""), 400),
    "a version from the future": (b"GET / HTTP/2.0\r\nHost: here\r\n\r\n", 505),
    "no version": (b"GET /\r\nHost: here\r\n\r\n", 400),
}
UPGRADING: dict[str, tuple[bytes, int]] = {
    "an upgrade with a body": (upgrade_request(headers="Content-Length: 5\r\n") + b"12345", 400),
    "an upgrade with chunks": (upgrade_request(headers=CHUNKED) + b"0\r\n\r\n", 400),
    "an upgrade with both": (
        upgrade_request(headers=CHUNKED + "Content-Length: 5\r\n") + b"0\r\n\r\n",
        400,
    ),
    "an upgrade with two keys": (upgrade_request(headers=f"Sec-WebSocket-Key: {KEY}\r\n"), 400),
    "an upgrade with a folded line": (upgrade_request(headers="X-A: x\r\n y\r\n"), 400),
    "an upgrade by POST": (upgrade_request().replace(b"GET", b"POST"), 405),
    "an upgrade of HTTP/1.0": (upgrade_request().replace(b"HTTP/1.1", b"HTTP/1.0"), 426),
}
REFUSED = {**AMBIGUOUS, **UPGRADING}


@loop_kinds("asyncio")
@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED)
def test_a_listener_refuses_what_could_be_read_in_two_ways(
    runner: Runner, sent: bytes, status: int
) -> None:
    recorder, asked = Recorder(), []
    listener = runner.context().listen(
        host=HOST,
        on_request=lambda got: asked.append(got) or uvws.Response(426),
        **recorder.callbacks,
    )
    answer = ask(runner, listener, sent)
    assert answer.status == status
    assert answer.headers["Connection"] == "close"
    assert answer.body == b""  # and no second answer
    assert recorder.events == []
    assert len(asked) == (status == 426)


@loop_kinds("asyncio")
@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_so_does_a_socket_that_is_adopted(
    runner: Runner, sent: bytes, status: int, part: float
) -> None:
    where = int(len(sent) * part)
    recorder, answer = adopt(runner, runner.context(), sent, where)
    assert recorder.names == ["error"]
    assert answer.split()[1] == b"%d" % status
    assert answer.count(b"HTTP/") == 1


def adopt(runner: Runner, context: Any, sent: bytes, where: int) -> tuple[Recorder, bytes]:
    """Adopt a socket with the beginning of a request read, until that has failed."""
    server, client = socket.socketpair()
    recorder = Recorder()
    peer = RawPeer(runner, client, masks=True)
    runner.add_peer(peer)
    context.adopt(server, initial_data=sent[:where], **recorder.callbacks)
    peer.send(sent[where:])
    runner.run(lambda: recorder.events and (peer.is_ended or recorder.names == ["connect"]))
    return recorder, peer.take()


SPLIT = {
    "length and coding": AMBIGUOUS["length and coding"],
    "a line without CR": AMBIGUOUS["a line without CR"],
    "an upgrade with a body": UPGRADING["an upgrade with a body"],
}


@loop_kinds("uvloop")
@pytest.mark.parametrize(("sent", "status"), SPLIT.values(), ids=SPLIT)
def test_wherever_it_is_cut(runner: Runner, sent: bytes, status: int) -> None:
    context = runner.context()
    wrong = []
    for where in range(len(sent) + 1):
        recorder, answer = adopt(runner, context, sent, where)
        if recorder.names != ["error"] or not answer.startswith(b"HTTP/1.1 %d " % status):
            wrong.append((where, recorder.names, answer))
    assert wrong == []


@loop_kinds("uvloop")
def test_a_good_request_is_good_wherever_it_is_cut(runner: Runner) -> None:
    context = runner.context()
    sent = upgrade_request("/a?b", headers="Content-Length: 0\r\nX-A: \xe9\r\n")
    sent += frame(TEXT, b"behind it", mask=MASK)
    wrong = []
    for where in range(len(sent) + 1):
        server, client = socket.socketpair()
        recorder = Recorder(on_message=lambda connection, _: connection.close())
        context.adopt(server, initial_data=sent[:where], **recorder.callbacks)
        client.sendall(sent[where:])
        runner.run(recorder.saw("message"))
        client.close()
        runner.run(recorder.saw("close"))
        if recorder.messages != ["behind it"]:
            wrong.append((where, recorder.events))
    assert wrong == []


@loop_kinds("asyncio")
@pytest.mark.parametrize("method", ["listen", "adopt"])
def test_a_request_behind_an_upgrade_is_no_request(runner: Runner, method: str) -> None:
    asked: list[Any] = []
    recorder = Recorder()
    sent = upgrade_request() + request("GET", "/second")
    context = runner.context()
    if method == "listen":
        listener = context.listen(
            host=HOST,
            on_request=lambda got: asked.append(got) or uvws.Response(),
            **recorder.callbacks,
        )
        peer = dial(runner, listener)
        peer.send(sent)
    else:
        server, client = socket.socketpair()
        peer = RawPeer(runner, client, masks=True)
        runner.add_peer(peer)
        context.adopt(server, initial_data=sent, **recorder.callbacks)
    runner.run(lambda: peer.is_ended and "close" in recorder.names)
    # "GET " is no frame of a client: it is not masked.
    assert [event[:2] for event in recorder.events if event[0] == "close"] == [("close", 1002)]
    assert peer.take().count(b"HTTP/1.1 ") == 1
    assert asked == []


# Answers that two readers could understand in two ways


@loop_kinds("asyncio")
@pytest.mark.parametrize(
    "fields",
    [
        "Sec-WebSocket-Accept : x\r\n",
        "X-A: x\r\n y\r\n",
        "X-A: x\0\r\n",
        "X-A: x\rInjected: 1\r\n",
        "X A: x\r\n",
        ": x\r\n",
        "X-A: x\n",
    ],
)
def test_a_client_refuses_an_answer_that_could_be_read_in_two_ways(
    runner: Runner, fields: str
) -> None:
    server = RawServer(runner)
    recorder = Recorder()
    runner.context().connect(server.url, **recorder.callbacks)
    peer = server.accept()
    peer.send(upgrade_response(peer.take_head(), fields))
    runner.run(recorder.saw("error"))
    error = recorder.events[0][1]
    assert type(error) is uvws.HandshakeError
    assert "malformed header" in str(error)
