"""Subclasses of bytes and str: what they hold counts, not what they say of themselves."""

from __future__ import annotations

import enum
from typing import Any

import pytest

import uvws
from support import Recorder, Runner, loop_kinds
from support.http import ask, request
from support.pairs import Pair
from support.wire import dial, upgrade_request
from uvws import options
from uvws.headers import encode_headers
from uvws.proxies import ProxyOptions
from uvws.sockets import open_socket
from uvws.url import parse_url


class LyingBytes(bytes):
    claimed = 200

    def __len__(self) -> int:
        return self.claimed

    def __bytes__(self) -> bytes:
        return self


class EnormousBytes(LyingBytes):
    claimed = 1 << 20


class EmptyBytes(LyingBytes):
    claimed = 0


class Disguised(LyingBytes):
    __class__ = bytes  # type: ignore[assignment]


class LyingStr(str):
    __slots__ = ()

    def __len__(self) -> int:
        return 200

    def __contains__(self, part: object) -> bool:
        return False

    def __format__(self, form: str) -> str:
        return "evil\r\nX-Evil: 1"

    def encode(self, *_: Any) -> bytes:
        return LyingBytes(b"evil")

    def lower(self) -> str:
        return "evil"

    def partition(self, separator: str) -> tuple[str, str, str]:
        return "ws", ":", "//evil/"

    def strip(self, *_: Any) -> str:
        return self


class Name(str, enum.Enum):
    CHAT = "chat"


LIARS = [LyingBytes, EnormousBytes, EmptyBytes, Disguised]

by_liar = pytest.mark.parametrize("liar", LIARS)


# What is sent


@by_liar
@pytest.mark.parametrize("method", ["send", "send_binary", "send_fragment"])
def test_a_message_is_the_bytes_that_there_are(runner: Runner, method: str, liar: Any) -> None:
    connection, receiver = Pair(runner).sender("client")
    arguments = {"binary": True} if method == "send_fragment" else {}
    getattr(connection, method)(liar(b"abc"), **arguments)
    runner.run(receiver.saw("message"))
    assert receiver.messages == [b"abc"]


@pytest.mark.parametrize("method", ["send", "send_text", "send_fragment"])
def test_a_message_is_the_text_that_there_is(runner: Runner, method: str) -> None:
    connection, receiver = Pair(runner).sender("client")
    getattr(connection, method)(LyingStr("abc"))
    runner.run(receiver.saw("message"))
    assert receiver.messages == ["abc"]


@by_liar
def test_a_ping_has_the_bytes_that_there_are(runner: Runner, liar: Any) -> None:
    pair = Pair(runner)
    pair.connection("client").send_ping(liar(b"abc"))
    runner.run(pair.client.saw("pong"))
    assert ("pong", b"abc") in pair.client.events


@by_liar
def test_a_pong_has_the_bytes_that_there_are(runner: Runner, liar: Any) -> None:
    pair = Pair(runner)
    pair.connection("client").send_pong(liar(b"abc"))
    runner.run(pair.server.saw("pong"))
    assert ("pong", b"abc") in pair.server.events


def test_a_reason_is_the_text_that_there_is(runner: Runner) -> None:
    pair = Pair(runner)
    pair.connection("client").close(1000, LyingStr("abc"))
    runner.run(pair.server.saw("close"))
    assert ("close", 1000, "abc") in pair.server.events


# What is read later: it must be exact by then


@by_liar
def test_a_certificate_is_taken_as_exact_bytes(liar: Any) -> None:
    files = options.tls_files(liar(b"PEM"), liar(b"PEM"), liar(b"PEM"))
    assert [type(each) for each in (files.cert, files.key, files.ca)] == [bytes] * 3
    assert (files.cert, files.key, files.ca) == (b"PEM", b"PEM", b"PEM")


@by_liar
def test_what_was_read_of_a_socket_is_taken_as_exact_bytes(liar: Any) -> None:
    data = options.initial_data(liar(b"GET"))
    assert type(data) is bytes
    assert data == b"GET"


@pytest.mark.parametrize("kind", [uvws.Response, uvws.Reject])
@pytest.mark.parametrize("body", [*(liar(b"abc") for liar in LIARS), LyingStr("abc")], ids=type)
def test_a_body_is_taken_as_exact_bytes(kind: Any, body: Any) -> None:
    answer = kind(404, body=body)
    assert type(answer.body) is bytes
    assert answer.body == b"abc"


# Text that is put together with other text


@pytest.mark.parametrize("text", [LyingStr("chat"), Name.CHAT], ids=["liar", "enumeration"])
def test_a_header_is_what_there_is(text: str) -> None:
    ((name, value),) = encode_headers({text: text}, "headers")
    assert type(name) is type(value) is str
    assert (name, value) == ("chat", "chat")


@pytest.mark.parametrize("name", [LyingStr("Upgrade"), LyingStr("a\r\nb")])
def test_a_header_that_lies_about_its_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="headers"):
        encode_headers({name: "x"}, "headers")


@pytest.mark.parametrize("text", [LyingStr("chat"), Name.CHAT], ids=["liar", "enumeration"])
def test_a_subprotocol_is_what_there_is(runner: Runner, text: str) -> None:
    recorder = Recorder()
    listener = runner.context().listen(host="127.0.0.1", protocol=text, **recorder.callbacks)
    peer = dial(runner, listener)
    peer.send(upgrade_request(headers="Sec-WebSocket-Protocol: chat\r\n"))
    runner.run(recorder.saw("connect"))
    assert recorder.connections[0].protocol == "chat"
    runner.run(peer.has_head)
    assert b"\r\nSec-WebSocket-Protocol: chat\r\n" in peer.take_head()


def test_a_subprotocol_that_is_offered_is_what_there_is(runner: Runner) -> None:
    pair = Pair(runner, listen={"protocol": "chat"}, connect={"protocol": [Name.CHAT]})
    assert pair.connection("client").protocol == "chat"


def test_a_url_is_what_there_is() -> None:
    assert parse_url(LyingStr("wss://h/path")) == parse_url("wss://h/path")


def test_a_proxy_is_what_there_is() -> None:
    assert ProxyOptions.checked(LyingStr("h:1"), 1080) == ProxyOptions.checked("h:1", 1080)


def test_a_host_is_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"^host must not contain a NUL$"):
        open_socket(LyingStr("unix:\0name"), 0)


class LyingInt(int):
    def __le__(self, other: object) -> bool:
        return True

    __ge__ = __le__


@pytest.mark.parametrize("status", [5, 600])
def test_a_status_is_what_there_is(status: int) -> None:
    with pytest.raises(ValueError, match=f"^status must be 200 to 599, not {status}$"):
        uvws.Response(LyingInt(status))


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_number_is_what_there_is(port: int) -> None:
    with pytest.raises(ValueError, match=f"^port must be 0 to 65535, not {port}$"):
        options.listen_port(LyingInt(port))


# Answers that say something of their own


class LyingResponse(uvws.Response):
    __slots__ = ()

    def encode(self, *, with_body: bool = True) -> Any:
        return LyingBytes(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


class SilentResponse(uvws.Response):
    __slots__ = ()

    def encode(self, *, with_body: bool = True) -> Any:
        return None


class UnmadeResponse(uvws.Response):
    __slots__ = ()

    def __init__(self) -> None:
        """Leave everything out."""


@loop_kinds("asyncio")
def test_an_answer_is_the_bytes_that_there_are(runner: Runner) -> None:
    listener = runner.context().listen(host="127.0.0.1", on_request=lambda _: LyingResponse())
    peer = dial(runner, listener)
    peer.send(request())
    runner.run(peer.ended)
    assert peer.take() == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@loop_kinds("asyncio")
@pytest.mark.parametrize(
    ("kind", "error"), [(SilentResponse, TypeError), (UnmadeResponse, AttributeError)]
)
def test_an_answer_that_cannot_be_encoded_is_reported_and_500(
    runner: Runner, kind: Any, error: type[Exception]
) -> None:
    listener = runner.context().listen(host="127.0.0.1", on_request=lambda _: kind())
    assert ask(runner, listener, request()).status == 500
    assert [type(reported) for reported in runner.reported] == [error]
    runner.reported.clear()


class UnmadeReject(uvws.Reject):
    __slots__ = ()

    def __init__(self) -> None:
        """Leave everything out."""


@loop_kinds("asyncio")
def test_a_reject_that_cannot_be_encoded_is_reported_and_500(runner: Runner) -> None:
    listener = runner.context().listen(host="127.0.0.1", on_handshake=lambda _: UnmadeReject())
    assert ask(runner, listener, upgrade_request()).status == 500
    assert [type(reported) for reported in runner.reported] == [AttributeError]
    runner.reported.clear()
