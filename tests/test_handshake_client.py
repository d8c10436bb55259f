"""The client's side of the opening handshake: which responses it takes, what it says of others."""

from __future__ import annotations

import re
from typing import Any

import pytest

import uvws
from support import Recorder, Runner
from support.wire import TEXT, RawServer, upgrade_response


def answered(runner: Runner, answer: bytes, *, end: bool = False, **options: Any) -> Any:
    """Connect to a server that answers so, and stays there; returns what on_error was given."""
    server = RawServer(runner)
    peer, recorder = connect(runner, server, **options)
    peer.send(answer)
    if end:
        peer.finish()
    return error_of(runner, recorder)


def changed(runner: Runner, change: bytes, to: bytes, **options: Any) -> Any:
    """Connect to a server whose good answer is changed; returns what on_error was given."""
    peer, recorder = connect(runner, RawServer(runner), **options)
    peer.send(re.sub(change, to, upgrade_response(peer.take_head())))
    return error_of(runner, recorder)


def connect(runner: Runner, server: RawServer, **options: Any) -> tuple[Any, Recorder]:
    """Connect, and let the request arrive."""
    recorder = Recorder()
    runner.context().connect(server.url, **options, **recorder.callbacks)
    return server.accept(), recorder


def error_of(runner: Runner, recorder: Recorder) -> Any:
    """Run until the connect has failed, once and for all."""
    runner.run(lambda: recorder.events)
    runner.run_for(0.01)
    assert recorder.names == ["error"]
    assert recorder.connection.state == "closed"
    return recorder.events[0][1]


# What is taken


def test_response_headers_arrive_at_the_client(runner: Runner) -> None:
    server = RawServer(runner)
    recorder = Recorder()
    runner.context().connect(server.url, **recorder.callbacks)
    server.accept_websocket("Server: raw\r\nX-Own: \tvalue \r\nSet-Cookie: a=1\r\n")
    runner.run(recorder.saw("connect"))
    headers = recorder.events[0][1]
    assert headers["server"] == "raw"
    assert headers["x-own"] == "value"
    assert headers["set-cookie"] == "a=1"
    assert "Path" not in headers


@pytest.mark.parametrize("segment", [1, 7, 100_000])
def test_response_headers_arrive_in_their_order_and_spelling(runner: Runner, segment: int) -> None:
    peer, recorder = connect(runner, RawServer(runner))
    head = upgrade_response(peer.take_head(), "x-LOUD: 1\r\nSet-Cookie: a\r\nset-cookie: b\r\n")
    for at in range(0, len(head), segment):
        peer.send(head[at : at + segment])
        runner.turns(1)
    runner.run(lambda: recorder.events)
    pairs = list(recorder.events[0][1].items())
    assert pairs[:2] == [("Upgrade", "websocket"), ("Connection", "Upgrade")]
    assert pairs[3:] == [("x-LOUD", "1"), ("Set-Cookie", "a"), ("set-cookie", "b")]


@pytest.mark.parametrize(
    ("change", "to"),
    [
        (b"Upgrade: websocket", b"UPGRADE:WebSocket"),
        (b"Connection: Upgrade", b"connection: keep-alive, upgrade"),
        (b" Switching Protocols", b" Sure"),
        (b" Switching Protocols", b""),
        (b"Upgrade: websocket", b"Upgrade:\twebsocket \t"),
        (b"Connection: Upgrade", b"Connection: keep-alive\r\nConnection: Upgrade"),
        (b"Connection: Upgrade", b"Connection: " + b"x-hop, " * 100 + b"Upgrade"),
        (b"Accept: ", b"Accept:\t "),
        (b"=\r\n", b"= \t\r\n"),
    ],
)
def test_a_response_may_be_spelled_otherwise(runner: Runner, change: bytes, to: bytes) -> None:
    peer, recorder = connect(runner, RawServer(runner))
    peer.send(upgrade_response(peer.take_head()).replace(change, to))
    runner.run(lambda: recorder.events)
    assert recorder.names == ["connect"]


def test_white_space_around_the_subprotocol_does_not_count(runner: Runner) -> None:
    peer, recorder = connect(runner, RawServer(runner), protocol=["one", "two"])
    peer.send(upgrade_response(peer.take_head(), "Sec-WebSocket-Protocol: \t two\t \r\n"))
    runner.run(lambda: recorder.events)
    assert (recorder.names, recorder.connection.protocol) == (["connect"], "two")


INTERIM = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\nX-Early: 1\r\n\r\n"
)


@pytest.mark.parametrize("segment", [1, 7, 100_000])
def test_interim_responses_are_skipped(runner: Runner, segment: int) -> None:
    peer, recorder = connect(runner, RawServer(runner))
    answer = INTERIM + upgrade_response(peer.take_head(), "X-Late: 2\r\n")
    for at in range(0, len(answer), segment):
        peer.send(answer[at : at + segment])
        runner.turns(1)
    runner.run(lambda: recorder.events)
    assert recorder.names == ["connect"]
    names = [name for name, _ in recorder.events[0][1].items()]
    assert names == ["Upgrade", "Connection", "Sec-WebSocket-Accept", "X-Late"]


def test_a_message_behind_interim_responses_arrives(runner: Runner) -> None:
    peer, recorder = connect(runner, RawServer(runner))
    peer.send(INTERIM + upgrade_response(peer.take_head()) + peer.frame(TEXT, b"at once"))
    runner.run(recorder.saw("message"))
    assert recorder.messages == ["at once"]


def test_a_refusal_behind_interim_responses_is_told(runner: Runner) -> None:
    error = answered(runner, INTERIM + b"HTTP/1.1 404 Not Found\r\nServer: x\r\n\r\n")
    assert (str(error), error.status) == ("server answered 404 Not Found", 404)
    assert list(error.headers.items()) == [("Server", "x")]


def test_an_end_behind_an_interim_response_has_no_status(runner: Runner) -> None:
    assert answered(runner, INTERIM, end=True).status is None


# Another status than 101


@pytest.mark.parametrize("status", [200, 204, 301, 400, 401, 403, 404, 426, 500, 503])
def test_another_status_than_101_is_told(runner: Runner, status: int) -> None:
    error = answered(runner, f"HTTP/1.1 {status} \r\nContent-Length: 0\r\n\r\n".encode())
    assert type(error) is uvws.HandshakeError
    assert str(error) == f"server answered {status}"
    assert error.status == status


@pytest.mark.parametrize(
    ("status", "phrase"),
    [
        (301, "Moved Permanently"),
        (401, "Unauthorized"),
        (403, "Forbidden"),
        (404, "Not Found"),
        (500, "Internal Server Error"),
        (503, "Come back later, please"),
        (599, ""),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>no</html>"], ids=["empty", "with a body"])
def test_a_refusal_comes_with_its_phrase_and_headers(
    runner: Runner, status: int, phrase: str, body: bytes
) -> None:
    head = (
        f"HTTP/1.1 {status} {phrase}\r\nLocation: ws://127.0.0.1:1/\r\n"
        "WWW-Authenticate: Basic\r\nwww-authenticate: Digest\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    error = answered(runner, head.encode() + body)
    assert type(error) is uvws.HandshakeError
    assert str(error) == f"server answered {status} {phrase}".strip()
    assert error.status == status
    assert list(error.headers.items()) == [
        ("Location", "ws://127.0.0.1:1/"),
        ("WWW-Authenticate", "Basic"),
        ("www-authenticate", "Digest"),
        ("Content-Length", str(len(body))),
    ]


def test_a_refusal_of_http_1_0_is_told_too(runner: Runner) -> None:
    error = answered(runner, b"HTTP/1.0 404 Not Found\r\nServer: old\r\n\r\n")
    assert (str(error), error.status) == ("server answered 404 Not Found", 404)
    assert error.headers["server"] == "old"


# A response that breaks the rules


BROKEN = {
    "wrong accept key": (
        rb"(?m)^Sec-WebSocket-Accept: .*$",
        b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r",
        "Sec-WebSocket-Accept is wrong: 'AAAAAAAAAAAAAAAAAAAAAAAAAAA='",
    ),
    "no accept key": (
        rb"(?m)^Sec-WebSocket-Accept: .*\n",
        b"",
        "response has no Sec-WebSocket-Accept",
    ),
    "two accept keys": (
        rb"(?m)^Sec-WebSocket-Accept: .*$",
        rb"\g<0>\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r",
        "response has Sec-WebSocket-Accept more than once",
    ),
    "two upgrades": (
        rb"(?m)^Upgrade: .*$",
        rb"\g<0>\nUpgrade: h2c\r",
        "response has Upgrade more than once",
    ),
    "a list of upgrades": (
        rb"(?m)^Upgrade: .*$",
        b"Upgrade: websocket, h2c\r",
        "Upgrade is not websocket: 'websocket, h2c'",
    ),
    "upgrade to something else": (
        rb"(?m)^Upgrade: .*$",
        b"Upgrade: h2c\r",
        "Upgrade is not websocket: 'h2c'",
    ),
    "no upgrade": (rb"(?m)^Upgrade: .*\n", b"", "response has no Upgrade"),
    "no connection header": (rb"(?m)^Connection: .*\n", b"", "Connection is not Upgrade"),
    "another connection header": (
        rb"(?m)^Connection: .*$",
        b"Connection: close\r",
        "Connection is not Upgrade: 'close'",
    ),
    "the beginning of a word in connection": (
        rb"(?m)^Connection: .*$",
        b"Connection: Up\r",
        "Connection is not Upgrade: 'Up'",
    ),
    "an empty subprotocol": (
        rb"\r\n\r\n$",
        b"\r\nSec-WebSocket-Protocol: \r\n\r\n",
        "server chose a subprotocol that was not offered: ''",
    ),
    "a subprotocol that was not offered": (
        rb"\r\n\r\n$",
        b"\r\nSec-WebSocket-Protocol: never-offered\r\n\r\n",
        "server chose a subprotocol that was not offered: 'never-offered'",
    ),
    "an extension that was not offered": (
        rb"\r\n\r\n$",
        b"\r\nSec-WebSocket-Extensions: x-none; a=1\r\n\r\n",
        "server chose the extension 'x-none', which was not offered",
    ),
}


@pytest.mark.parametrize(("change", "to", "message"), BROKEN.values(), ids=BROKEN)
def test_a_handshake_that_breaks_the_rules_fails(
    runner: Runner, change: bytes, to: bytes, message: str
) -> None:
    error = changed(runner, change, to)
    assert type(error) is uvws.HandshakeError
    assert error.status == 101
    assert str(error).startswith(message.partition(":")[0])


@pytest.mark.parametrize(("change", "to", "message"), BROKEN.values(), ids=BROKEN)
def test_what_breaks_the_rules_is_shown(
    runner: Runner, change: bytes, to: bytes, message: str
) -> None:
    error = changed(runner, change, to)
    assert str(error) == message
    assert isinstance(error.headers, uvws.Headers)


def test_the_accept_key_compares_with_case(runner: Runner) -> None:
    peer, recorder = connect(runner, RawServer(runner))
    answer = upgrade_response(peer.take_head())
    peer.send(re.sub(rb"(?<=Accept: ).*", lambda key: key[0].swapcase(), answer))
    assert str(error_of(runner, recorder)).startswith("Sec-WebSocket-Accept is wrong: ")


@pytest.mark.parametrize("version", ["1.0", "1.2", "2.0"])
def test_another_version_of_http_fails_the_handshake(runner: Runner, version: str) -> None:
    error = changed(runner, rb"^HTTP/1.1", f"HTTP/{version}".encode())
    assert type(error) is uvws.HandshakeError
    assert str(error) == f"server speaks HTTP/{version}, not HTTP/1.1"
    assert error.status == 101


@pytest.mark.parametrize("offered", ["chat", ["a", "b"]])
def test_a_subprotocol_other_than_those_offered_fails(
    runner: Runner, offered: str | list[str]
) -> None:
    chosen = b"\r\nSec-WebSocket-Protocol: c\r\n\r\n"
    error = changed(runner, rb"\r\n\r\n$", chosen, protocol=offered)
    assert str(error) == "server chose a subprotocol that was not offered: 'c'"


@pytest.mark.parametrize(
    "line",
    [b"X-Space : 1", b": no name", b"no colon", b" a folded line", b"X-Nul: a\0b", b"X-CR: a\rb"],
)
def test_a_line_that_is_no_header_fails_the_handshake(runner: Runner, line: bytes) -> None:
    error = answered(runner, b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\n" + line + b"\r\n")
    assert type(error) is uvws.HandshakeError
    assert str(error) == f"response has a malformed header: {line!r}"
    assert (error.status, error.headers) == (None, None)


# What is no response at all: the server keeps the connection open, and nobody waits for more


NOT_HTTP = {
    "SSH": (b"SSH-2.0-OpenSSH_9.2p1\r\n", b"SSH-2.0-OpenSSH_9.2p1"),
    "SMTP": (b"220 mail.example.org ESMTP\r\n", b"220 mail.example.org ESMTP"),
    "binary noise": (b"\x80\x81\x82\x83" * 50, b"\x80\x81\x82\x83" * 16),
    "HTTP/2": (b"\0\0\x06\x04\0\0\0\0\0", b"\0\0\x06\x04\0\0\0\0\0"),
    "no number": (b"HTTP/1.1 banana\r\n", b"HTTP/1.1 banana"),
    "too long a number": (b"HTTP/1.1 1010 \r\n", b"HTTP/1.1 1010 "),
    "no carriage return": (b"HTTP/1.1 101 Line feed only\n", b"HTTP/1.1 101 Line feed only\n"),
    "empty lines": (b"\r\n\r\n", b"\r\n\r\n"),
    "an endless line": (b"x" * 100_000, b"x" * 64),
}


@pytest.mark.parametrize(("answer", "shown"), NOT_HTTP.values(), ids=NOT_HTTP)
def test_an_answer_that_is_not_http_is_shown(runner: Runner, answer: bytes, shown: bytes) -> None:
    error = answered(runner, answer)
    assert str(error) == f"response is not HTTP: {shown!r}"
    assert (error.status, error.headers) == (None, None)


@pytest.mark.parametrize(("answer", "shown"), NOT_HTTP.values(), ids=NOT_HTTP)
def test_an_answer_that_is_not_http_has_no_status(
    runner: Runner, answer: bytes, shown: bytes
) -> None:
    error = answered(runner, answer, end=True)
    assert type(error) is uvws.HandshakeError
    assert error.status is None


@pytest.mark.parametrize(
    "beginning",
    [b"HTTP/1.1 101 Sw", b"HTTP/1.1 101 Sw\r\n", b"HTTP/1.1 101 Sw\r\nUpgrade: websocket\r\nConn"],
    ids=["in the first line", "after a line", "in a header"],
)
def test_an_end_within_the_head_is_told(runner: Runner, beginning: bytes) -> None:
    error = answered(runner, beginning, end=True)
    assert type(error) is uvws.HandshakeError
    assert str(error) == (
        "server closed the connection within the head of the response: b'HTTP/1.1 101 Sw'"
    )
    assert (error.status, error.headers) == (None, None)


def test_no_answer_but_the_end_has_no_status(runner: Runner) -> None:
    error = answered(runner, b"", end=True)
    assert type(error) is uvws.HandshakeError
    assert (error.status, error.headers) == (None, None)


def test_an_end_without_any_answer_is_told(runner: Runner) -> None:
    error = answered(runner, b"", end=True)
    assert str(error) == "server closed the connection before the response"


def test_a_reset_during_the_handshake(runner: Runner) -> None:
    server = RawServer(runner)
    recorder = Recorder()
    runner.context().connect(server.url, **recorder.callbacks)
    server.accept().reset()
    runner.run(recorder.saw("error"))
    assert isinstance(recorder.events[0][1], (uvws.HandshakeError, ConnectionError))


# Floods


@pytest.mark.parametrize(
    "more",
    [b"X-More: of this\r\n", b"X-" + b"y" * 1000, b"Set-Cookie: a=1\r\n"],
    ids=["headers", "a header", "a header that lws knows"],
)
def test_a_response_head_without_end_is_given_up(runner: Runner, more: bytes) -> None:
    peer, recorder = connect(runner, RawServer(runner))

    def send(push: Any) -> None:
        push(b"HTTP/1.1 101 Switching Protocols\r\n")
        for _ in range(100_000):
            push(more)

    peer.send_in_thread(send)
    error = error_of(runner, recorder)
    assert type(error) is uvws.HandshakeError
    shown = b"HTTP/1.1 101 Switching Protocols"
    assert str(error) == f"head of the response is too large: {shown!r}"
    assert error.status is None


def test_a_response_of_almost_16_kib_is_taken(runner: Runner) -> None:
    peer, recorder = connect(runner, RawServer(runner))
    large = "x" * 16_000
    peer.send(upgrade_response(peer.take_head(), f"X-Large: {large}\r\n"))
    runner.run(lambda: recorder.events)
    assert recorder.events[0][1]["x-large"] == large


def test_a_response_with_more_headers_than_there_is_room_for_fails(runner: Runner) -> None:
    cookies = b"\r\n" + b"Set-Cookie: a=1\r\n" * 200 + b"\r\n"
    error = changed(runner, rb"\r\n\r\n$", cookies)
    assert str(error) == "head of the response is too large"
