"""The server's say in an opening handshake: subprotocol, headers, whether to accept at all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import websockets

import uvws
from support import Recorder, Runner, loop_kinds, url_of
from support.certificates import ca_of, certificate, client_context
from support.http import Answer, answer_to, ask, ask_over_tls, parse_answer
from support.pairs import Pair
from support.wire import TEXT, RawPeer, RawServer, dial, upgrade_request

HOST = "127.0.0.1"
OFFER = "Sec-WebSocket-Protocol"


def upgrade(runner: Runner, listener: Any, headers: str = "", path: str = "/") -> Answer:
    """Ask for an upgrade by hand; returns the answer's head, which may come before on_connect."""
    peer = dial(runner, listener)
    peer.send(upgrade_request(path, headers=headers))
    runner.run(lambda: peer.has_head() or peer.is_ended)
    return parse_answer(peer.take_head())


def refused(runner: Runner, listener: Any, headers: str = "") -> Answer:
    """Ask for an upgrade that is refused; returns the whole answer."""
    return ask(runner, listener, upgrade_request(headers=headers))


def listen(runner: Runner, **options: Any) -> Any:
    """Listen on a context of its own."""
    return runner.context().listen(host=HOST, **options)


# Subprotocols


@pytest.mark.parametrize(
    ("spoken", "offered", "chosen"),
    [
        ("chat", "chat", "chat"),
        (["chat"], "chat", "chat"),
        (["b", "a"], "a, b", "b"),
        (["a", "b"], "b,a", "a"),
        (["x", "b"], "a, b, c", "b"),
        (("v2.chat", "v1.chat"), "v1.chat", "v1.chat"),
        (["a"], " \t,, a ,", "a"),
    ],
)
def test_the_servers_order_of_preference_decides(
    runner: Runner, spoken: Any, offered: str, chosen: str
) -> None:
    recorder = Recorder()
    listener = listen(runner, protocol=spoken, **recorder.callbacks)
    answer = upgrade(runner, listener, f"{OFFER}: {offered}\r\n")
    assert (answer.status, answer.headers.get_all(OFFER)) == (101, [chosen])
    runner.run(recorder.saw("connect"))
    assert recorder.connection.protocol == chosen


def test_subprotocols_may_be_offered_in_several_header_lines(runner: Runner) -> None:
    listener = listen(runner, protocol=["b", "c"])
    answer = upgrade(runner, listener, f"{OFFER}: a\r\n{OFFER}: c, d\r\n{OFFER}: b\r\n")
    assert answer.headers.get_all(OFFER) == ["b"]


@pytest.mark.parametrize("spoken", [None, [], "chat", ["chat", "talk"]])
@pytest.mark.parametrize("offered", [None, "other", "Chat", "cha", "chat2", "a, b"])
def test_with_no_subprotocol_in_common_it_goes_on_without_one(
    runner: Runner, spoken: Any, offered: str | None
) -> None:
    recorder = Recorder()
    listener = listen(runner, protocol=spoken, **recorder.callbacks)
    answer = upgrade(runner, listener, f"{OFFER}: {offered}\r\n" if offered else "")
    assert (answer.status, answer.headers.get_all(OFFER)) == (101, [])
    runner.run(recorder.saw("connect"))
    assert recorder.connection.protocol is None


def test_both_ends_agree_on_the_subprotocol(runner: Runner) -> None:
    pair = Pair(runner, listen={"protocol": ["b", "a"]}, connect={"protocol": ["a", "b"]})
    assert pair.connection("server").protocol == "b"
    assert pair.connection("client").protocol == "b"
    assert pair.client.events[0][1]["Sec-WebSocket-Protocol"] == "b"


def test_without_a_match_neither_end_has_a_subprotocol(runner: Runner) -> None:
    pair = Pair(runner, listen={"protocol": "a"}, connect={"protocol": ["b", "c"]})
    assert pair.connection("server").protocol is None
    assert pair.connection("client").protocol is None


def test_a_websockets_client_gets_its_subprotocol(runner: Runner, websockets_client: Any) -> None:
    listener = listen(runner, protocol=["v2", "v1"])

    async def offer() -> Any:
        async with websockets.connect(url_of(listener), subprotocols=["v1", "v2"]) as connection:
            return connection.subprotocol

    client = websockets_client(offer)
    runner.run(client.done)
    assert client.result() == "v2"


def test_a_websockets_server_chooses_for_us(
    runner: Runner, websockets_server: Callable[..., str]
) -> None:
    async def wait(connection: Any) -> None:
        await connection.wait_closed()

    recorder = Recorder()
    uri = websockets_server(wait, subprotocols=["v2", "v1"])
    connection = runner.context().connect(uri, protocol=["v1", "v2"], **recorder.callbacks)
    runner.run(recorder.saw("connect"))
    assert connection.protocol == "v2"


@pytest.mark.parametrize(
    ("offered", "given"),
    [
        (None, "chat"),
        ("chat", "other"),
        (["a", "b"], "c"),
        (["a", "b"], "A"),
        ("chat", "chatter"),
        ("chatter", "chat"),
    ],
)
def test_a_client_that_is_given_what_it_did_not_offer_fails(
    runner: Runner, offered: Any, given: str
) -> None:
    assert connect_and_be_given(runner, offered, f"{OFFER}: {given}\r\n") == "error"


@pytest.mark.parametrize("given", ["b, a", "a,b", "a, b"])
def test_a_client_that_is_given_several_in_one_line_fails(runner: Runner, given: str) -> None:
    assert connect_and_be_given(runner, ["a", "b"], f"{OFFER}: {given}\r\n") == "error"


@pytest.mark.parametrize("names", [("a", "b"), ("a", "a"), ("a", "x")])
def test_a_client_that_is_given_several_in_several_lines_fails(
    runner: Runner, names: tuple[str, ...]
) -> None:
    given = "".join(f"{OFFER}: {name}\r\n" for name in names)
    assert connect_and_be_given(runner, ["a", "b"], given) == "error"


@pytest.mark.parametrize("offered", [None, ["a", "b"]])
def test_a_client_that_is_given_none_goes_on_without_one(runner: Runner, offered: Any) -> None:
    assert connect_and_be_given(runner, offered, "") == "connect"


def connect_and_be_given(runner: Runner, offered: Any, headers: str) -> str:
    """Connect to a plain socket that answers with these headers; returns what was called."""
    server = RawServer(runner)
    recorder = Recorder()
    connection = runner.context().connect(server.url, protocol=offered, **recorder.callbacks)
    server.accept_websocket(headers)
    runner.run(lambda: recorder.events)
    (event,) = recorder.events
    assert event[0] == "connect" or type(event[1]) is uvws.HandshakeError
    assert connection.protocol is None
    name: str = event[0]
    return name


@pytest.mark.parametrize("size", [63, 64, 126, 127, 128, 2048])
def test_a_long_subprotocol_that_is_not_spoken_does_no_harm(runner: Runner, size: int) -> None:
    listener = listen(runner, protocol="chat")
    answer = upgrade(runner, listener, f"{OFFER}: {'x' * size}, chat\r\n")
    assert (answer.status, answer.headers.get_all(OFFER)) == (101, ["chat"])


@pytest.mark.parametrize("size", [63, 64, 126, 127, 128, 2048])
def test_a_long_subprotocol_can_be_agreed_on(runner: Runner, size: int) -> None:
    name = "x" * size
    pair = Pair(runner, listen={"protocol": name}, connect={"protocol": [name, "short"]})
    assert pair.connection("server").protocol == name
    assert pair.connection("client").protocol == name


def test_a_hundred_subprotocols_can_be_offered(runner: Runner) -> None:
    names = [f"protocol-number-{number}" for number in range(100)]
    pair = Pair(runner, listen={"protocol": names[99]}, connect={"protocol": names})
    assert pair.connection("client").protocol == names[99]


# Headers for every upgrade


@pytest.mark.parametrize("with_protocol", [False, True], ids=["alone", "with a subprotocol"])
def test_headers_of_the_listener_are_in_every_answer(runner: Runner, with_protocol: bool) -> None:
    given = [("Set-Cookie", "a=1; Path=/"), ("X-One", "1"), ("Set-Cookie", "b=2")]
    listener = listen(runner, headers=given, protocol="chat" if with_protocol else None)
    for _ in range(2):
        answer = upgrade(runner, listener, f"{OFFER}: chat\r\n")
        assert answer.status == 101
        assert answer.headers.get_all("Set-Cookie") == ["a=1; Path=/", "b=2"]
        assert answer.headers.get_all("X-One") == ["1"]
        assert answer.headers.get_all(OFFER) == (["chat"] if with_protocol else [])


def test_headers_of_the_listener_may_be_a_mapping(runner: Runner) -> None:
    answer = upgrade(runner, listen(runner, headers={"Server": "grün"}))
    assert answer.headers.get_all("Server") == ["grün"]


def test_a_websockets_client_sees_the_headers(runner: Runner, websockets_client: Any) -> None:
    listener = listen(
        runner,
        headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")],
        on_handshake=lambda _: {"X-Own": "value"},
    )

    async def connect() -> Any:
        async with websockets.connect(url_of(listener)) as connection:
            headers = connection.response.headers
            return headers.get_all("Set-Cookie"), headers["X-Own"]

    client = websockets_client(connect)
    runner.run(client.done)
    assert client.result() == (["a=1", "b=2"], "value")


@pytest.mark.parametrize(
    ("headers", "error", "words"),
    [
        ({"A": "x\r\nB: y"}, ValueError, r"'\\r'"),
        ({"A": "x\nB: y"}, ValueError, r"'\\n'"),
        ({"A": "x\0"}, ValueError, r"'\\x00'"),
        ({"A: b\r\nC": "x"}, ValueError, "no header name"),
        ({"": "x"}, ValueError, "no header name"),
        ({"A": "€"}, ValueError, "Latin-1"),
        ({"Connection": "close"}, ValueError, "Connection"),
        ({"Upgrade": "h2c"}, ValueError, "Upgrade"),
        ({"Content-Length": "5"}, ValueError, "Content-Length"),
        ({"Sec-WebSocket-Accept": "x"}, ValueError, "Sec-WebSocket-Accept"),
        ({"Sec-WebSocket-Protocol": "x"}, ValueError, "protocol"),
        ({"A": 1}, TypeError, "must be str"),
        ({1: "a"}, TypeError, "must be str"),
        ("A: b", TypeError, "mapping or"),
        (5, TypeError, "mapping or"),
    ],
)
def test_headers_of_the_listener_that_cannot_be_sent_are_refused_at_once(
    runner: Runner, headers: Any, error: type[Exception], words: str
) -> None:
    context = runner.context()
    with pytest.raises(error, match=f"^headers.*{words}"):
        context.listen(host=HOST, headers=headers)
    assert context.listen(host=HOST).is_open


def sized(size: int, name: str = "X-Size") -> dict[str, str]:
    """Return a header whose line, its end included, is so many bytes long."""
    return {name: "v" * (size - len(name) - len(": \r\n"))}


@pytest.mark.parametrize("protocol", [None, "chat", "x" * 2048, ["short", "x" * 2048]])
def test_as_many_headers_as_are_allowed_arrive(runner: Runner, protocol: Any) -> None:
    names = [protocol] if isinstance(protocol, str) else protocol or []
    longest = max([len(f"{OFFER}: {name}\r\n") for name in names], default=0)
    own, more = sized(8192 - longest), sized(8192, "X-More")
    listener = listen(runner, headers=own, on_handshake=lambda _: more, protocol=protocol)
    answer = upgrade(runner, listener, f"{OFFER}: {names[-1]}\r\n" if names else "")
    assert answer.status == 101
    assert answer.headers["X-Size"] == own["X-Size"]
    assert answer.headers["X-More"] == more["X-More"]
    assert answer.headers.get_all(OFFER) == names[-1:]


@pytest.mark.parametrize("protocol", [None, "chat", ["short", "x" * 2048]])
def test_more_headers_than_are_allowed_are_refused_at_once(runner: Runner, protocol: Any) -> None:
    names = [protocol] if isinstance(protocol, str) else protocol or []
    longest = max([len(f"{OFFER}: {name}\r\n") for name in names], default=0)
    with pytest.raises(ValueError, match=r"^headers: 8193 bytes.* 8192 "):
        listen(runner, headers=sized(8193 - longest), protocol=protocol)


def test_a_subprotocol_too_long_to_be_answered_is_refused_at_once(runner: Runner) -> None:
    with pytest.raises(ValueError, match=r"^protocol"):
        listen(runner, protocol="x" * 8192)


# What on_handshake decides


@pytest.mark.parametrize("answer", [True, {}, {"X-Custom": "val"}, uvws.Headers()])
def test_true_and_mappings_accept(runner: Runner, answer: Any) -> None:
    recorder = Recorder()
    listener = listen(runner, on_handshake=lambda _: answer, **recorder.callbacks)
    got = upgrade(runner, listener)
    assert got.status == 101
    runner.run(recorder.saw("connect"))
    if isinstance(answer, Mapping):
        assert all(got.headers[name] == value for name, value in answer.items())


def test_a_mapping_may_repeat_a_name(runner: Runner) -> None:
    cookies = uvws.Headers([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    answer = upgrade(runner, listen(runner, on_handshake=lambda _: cookies))
    assert answer.headers.get_all("Set-Cookie") == ["a=1", "b=2"]


def test_headers_of_both_kinds_go_together(runner: Runner) -> None:
    listener = listen(
        runner, headers={"Set-Cookie": "a=1"}, on_handshake=lambda _: {"Set-Cookie": "b=2"}
    )
    assert upgrade(runner, listener).headers.get_all("Set-Cookie") == ["a=1", "b=2"]


def test_headers_differ_from_one_client_to_the_next(runner: Runner) -> None:
    listener = listen(runner, on_handshake=lambda headers: {"X-Path": headers["Path"]})
    for path in ("/one", "/two"):
        assert upgrade(runner, listener, path=path).headers["X-Path"] == path


@pytest.mark.parametrize("answer", [False, None])
def test_false_and_none_refuse_with_403(runner: Runner, answer: Any) -> None:
    recorder = Recorder()
    listener = listen(runner, on_handshake=lambda _: answer, **recorder.callbacks)
    got = refused(runner, listener)
    assert (got.status, got.body, got.headers["Content-Length"]) == (403, b"", "0")
    assert got.headers["Connection"] == "close"
    assert recorder.names == []


@pytest.mark.parametrize("status", [300, 401, 403, 404, 429, 499, 500, 503, 599])
def test_a_reject_has_its_own_status(runner: Runner, status: int) -> None:
    listener = listen(runner, on_handshake=lambda _: uvws.Reject(status))
    assert refused(runner, listener).status == status


@pytest.mark.parametrize(
    ("body", "raw", "kind"),
    [
        ("", b"", "text/plain; charset=utf-8"),
        ("nein: ü€", "nein: ü€".encode(), "text/plain; charset=utf-8"),
        (b"\0\xff\r\n\r\n", b"\0\xff\r\n\r\n", None),
        (b"x" * 1_000_000, b"x" * 1_000_000, None),
    ],
    ids=["empty", "str", "bytes", "large"],
)
def test_a_reject_has_its_own_headers_and_body(
    runner: Runner, body: Any, raw: bytes, kind: str | None
) -> None:
    headers = [("WWW-Authenticate", "Basic"), ("Set-Cookie", "a"), ("Set-Cookie", "b")]
    listener = listen(runner, on_handshake=lambda _: uvws.Reject(401, headers, body))
    got = refused(runner, listener)
    assert (got.status, got.body) == (401, raw)
    assert got.headers["WWW-Authenticate"] == "Basic"
    assert got.headers.get_all("Set-Cookie") == ["a", "b"]
    assert got.headers.get("Content-Type") == kind
    assert got.headers.get_all("Content-Length") == [str(len(raw))]


def test_a_reject_may_be_used_again(runner: Runner) -> None:
    reject = uvws.Reject(404, body="none here")
    listener = listen(runner, on_handshake=lambda _: reject)
    assert [refused(runner, listener).body for _ in range(2)] == [b"none here"] * 2


def test_our_client_is_told_the_status_of_a_reject(runner: Runner) -> None:
    recorder = Recorder()
    listener = listen(runner, on_handshake=lambda _: uvws.Reject(429, body="slow down"))
    runner.context().connect(url_of(listener), **recorder.callbacks)
    runner.run(recorder.saw("error"))
    error = recorder.events[0][1]
    assert (type(error), error.status) == (uvws.HandshakeError, 429)


def test_a_websockets_client_is_told_of_a_reject(runner: Runner, websockets_client: Any) -> None:
    listener = listen(runner, on_handshake=lambda _: uvws.Reject(401, {"X-Why": "who?"}, "no"))

    async def connect() -> Any:
        with pytest.raises(websockets.InvalidStatus) as raised:
            await websockets.connect(url_of(listener))
        response = raised.value.response
        return response.status_code, response.headers["X-Why"], response.body

    client = websockets_client(connect)
    runner.run(client.done)
    assert client.result() == (401, "who?", b"no")


@pytest.mark.parametrize(
    "answer", [0, 1, "", "yes", b"", [], [("A", "b")], 3.5, uvws.Response(200)], ids=repr
)
def test_any_other_answer_is_a_type_error_and_500(runner: Runner, answer: Any) -> None:
    got = refused(runner, listen(runner, on_handshake=lambda _: answer))
    assert got.status == 500
    (error,) = runner.reported
    assert type(error) is TypeError
    assert str(error).startswith("on_handshake must return ")
    runner.reported.clear()


class Grave(BaseException):
    """Not an Exception, and not one of those that end a program."""


@pytest.mark.parametrize("kind", [ValueError, uvws.Error, Grave])
def test_an_exception_is_reported_once_and_500(runner: Runner, kind: type[BaseException]) -> None:
    recorder = Recorder()

    def fail(headers: uvws.Headers) -> bool:
        raise kind("mine")

    got = refused(runner, listen(runner, on_handshake=fail, **recorder.callbacks))
    assert (got.status, got.body) == (500, b"")
    (error,) = runner.reported
    assert type(error) is kind
    assert error.__traceback__ is not None
    assert recorder.names == []
    runner.reported.clear()


@loop_kinds("uvloop", "asyncio")
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_ends_a_program_leaves_the_loop_and_is_500(
    runner: Runner, kind: type[BaseException]
) -> None:
    def leave(headers: uvws.Headers) -> bool:
        raise kind

    peer = dial(runner, listen(runner, on_handshake=leave))
    peer.send(upgrade_request())
    with pytest.raises(kind):
        runner.run(lambda: False)
    assert answer_to(runner, peer).status == 500


def test_after_an_exception_the_listener_goes_on(runner: Runner) -> None:
    answers: Iterator[Any] = iter([1 / 2, True, False, {}])
    listener = listen(runner, on_handshake=lambda _: next(answers))
    assert [upgrade(runner, listener).status for _ in range(5)] == [500, 101, 403, 101, 500]
    assert [type(error) for error in runner.reported] == [TypeError, StopIteration]
    runner.reported.clear()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"A": "x\r\nSet-Cookie: y=1"}, ValueError),
        ({"A\r\nSet-Cookie": "y=1"}, ValueError),
        ({"A": "x\0"}, ValueError),
        ({"A": "\N{SNOWMAN}"}, ValueError),
        ({"Transfer-Encoding": "chunked"}, ValueError),
        ({"sec-websocket-protocol": "x"}, ValueError),
        ({"Sec-WebSocket-Extensions": "permessage-deflate"}, ValueError),
        ({"A": None}, TypeError),
        ({"Set-Cookie": ["a", "b"]}, TypeError),
        ({b"A": "x"}, TypeError),
        ({"A": "x" * 8192}, ValueError),
    ],
)
def test_headers_that_cannot_be_sent_are_reported_and_500(
    runner: Runner, answer: Any, error: type[Exception]
) -> None:
    recorder = Recorder()
    got = refused(runner, listen(runner, on_handshake=lambda _: answer, **recorder.callbacks))
    assert got.status == 500
    assert not {"a", "set-cookie"} & {name.lower() for name in got.headers}
    (reported,) = runner.reported
    assert type(reported) is error
    assert str(reported).startswith("on_handshake")
    assert recorder.names == []
    runner.reported.clear()


def test_a_mapping_that_raises_is_reported_and_500(runner: Runner) -> None:
    class Hostile(Mapping[str, str]):
        def __getitem__(self, name: str) -> str:
            raise RuntimeError("no value")

        def __iter__(self) -> Iterator[str]:
            return iter(["A"])

        def __len__(self) -> int:
            return 1

    assert refused(runner, listen(runner, on_handshake=lambda _: Hostile())).status == 500
    assert [str(error) for error in runner.reported] == ["no value"]
    runner.reported.clear()


# What on_handshake is told


def test_on_handshake_sees_what_the_client_sent(runner: Runner) -> None:
    seen: list[uvws.Headers] = []
    listener = listen(runner, on_handshake=seen.append)
    sent = {
        "Origin": "https://example.org",
        "Cookie": "a=1; b=2",
        "Authorization": "Bearer token",
        "Sec-WebSocket-Protocol": "a, b",
        "User-Agent": "tests/1.0",
        "X-Forwarded-For": "192.0.2.1, 198.51.100.2",
        "X-Own": "grün",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    assert refused_path(runner, listener, "/chat/room?user=me&x=1", lines).status == 403
    (headers,) = seen
    assert headers["Path"] == "/chat/room"
    assert headers["Query"] == "user=me&x=1"
    assert headers["Host"] == "localhost"
    assert {name: headers[name] for name in sent} == sent


def refused_path(runner: Runner, listener: Any, path: str, headers: str) -> Answer:
    """Ask for an upgrade at a path, which is refused."""
    return ask(runner, listener, upgrade_request(path, headers=headers))


def test_on_handshake_sees_every_value_of_a_repeated_header(runner: Runner) -> None:
    seen: list[uvws.Headers] = []
    listener = listen(runner, on_handshake=seen.append)
    refused(runner, listener, "X-Forwarded-For: 1\r\nCookie: a=1\r\nX-Forwarded-For: 2\r\n")
    assert seen[0].get_all("x-forwarded-for") == ["1", "2"]


def test_on_connect_is_given_the_same_headers(runner: Runner) -> None:
    seen: list[uvws.Headers] = []
    recorder = Recorder()
    listener = listen(
        runner, on_handshake=lambda headers: seen.append(headers) or True, **recorder.callbacks
    )
    upgrade(runner, listener, "X-Own: 1\r\n", "/path")
    runner.run(recorder.saw("connect"))
    assert recorder.events[0][1] == seen[0]


def test_without_on_handshake_on_connect_still_has_the_headers(runner: Runner) -> None:
    recorder = Recorder()
    listener = listen(runner, headers={"A": "b"}, **recorder.callbacks)
    upgrade(runner, listener, "X-Own: 1\r\n", "/path")
    runner.run(recorder.saw("connect"))
    assert recorder.events[0][1]["X-Own"] == "1"


def test_on_handshake_comes_before_on_connect_and_once(runner: Runner) -> None:
    order: list[str] = []
    listener = listen(
        runner,
        on_handshake=lambda _: order.append("handshake") or True,
        on_connect=lambda *_: order.append("connect"),
    )
    upgrade(runner, listener)
    runner.run(lambda: len(order) == 2)
    assert order == ["handshake", "connect"]


@pytest.mark.parametrize(
    "change",
    [
        (b"Version: 13", b"Version: 12"),
        (b"Sec-WebSocket-Key", b"Sec-WebSocket-Lock"),
        (b"GET", b"POST"),
        (b"Upgrade: websocket\r\n", b""),
    ],
    ids=["version", "key", "method", "no upgrade"],
)
def test_on_handshake_is_not_asked_about_what_is_no_handshake(
    runner: Runner, change: tuple[bytes, bytes]
) -> None:
    asked: list[object] = []
    listener = listen(runner, on_handshake=lambda headers: asked.append(headers) or True)
    assert ask(runner, listener, upgrade_request().replace(*change)).status >= 400
    assert asked == []


def test_a_request_that_comes_in_pieces_is_asked_about_once(runner: Runner) -> None:
    asked: list[object] = []
    listener = listen(runner, on_handshake=lambda headers: asked.append(headers) or True)
    peer = dial(runner, listener)
    sent = upgrade_request(headers="X-Own: 1\r\n")
    for begin in range(0, len(sent), 40):
        peer.send(sent[begin : begin + 40])
        runner.run_for(0.005)
    runner.run(peer.has_head)
    assert len(asked) == 1


def test_frames_behind_the_request_arrive_although_the_answer_is_large(runner: Runner) -> None:
    recorder = Recorder()
    listener = listen(runner, on_handshake=lambda _: sized(8192), **recorder.callbacks)
    peer = dial(runner, listener)
    peer.send(upgrade_request() + b"".join(peer.frame(TEXT, b"%d" % n * 100) for n in range(50)))
    runner.run(recorder.saw("message", 50))
    assert recorder.messages == [str(n) * 100 for n in range(50)]


# Over TLS


def test_over_tls_the_server_has_the_same_say(runner: Runner) -> None:
    seen: list[uvws.Headers] = []

    def decide(headers: uvws.Headers) -> Any:
        seen.append(headers)
        return {"X-More": "m" * 8000}

    pair = Pair(
        runner,
        context=runner.context(ssl_ca=ca_of()),
        listen={
            **certificate().server_options,
            "protocol": ["b", "a"],
            "headers": [("Set-Cookie", "a"), ("Set-Cookie", "b")],
            "on_handshake": decide,
        },
        connect={"protocol": ["a", "b"], "headers": {"Authorization": "Basic eA=="}},
    )
    headers = pair.client.events[0][1]
    assert headers.get_all("Set-Cookie") == ["a", "b"]
    assert headers["X-More"] == "m" * 8000
    assert pair.connection("client").protocol == pair.connection("server").protocol == "b"
    assert seen[0]["Authorization"] == "Basic eA=="


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_over_tls_a_reject_arrives_whole(runner: Runner, size: int) -> None:
    listener = listen(
        runner,
        **certificate().server_options,
        on_handshake=lambda _: uvws.Reject(404, {"A": "b"}, b"x" * size),
    )
    answer = ask_over_tls(runner, listener, upgrade_request(), client_context())
    assert (answer.status, answer.headers["A"], answer.body) == (404, "b", b"x" * size)


# Several listeners


def test_listeners_of_one_context_each_have_their_own_say(runner: Runner) -> None:
    context = runner.context()
    listeners = []
    recorders = [Recorder() for _ in range(3)]
    for number, recorder in enumerate(recorders):
        listeners.append(
            context.listen(
                host=HOST,
                name=f"number {number}",
                protocol=f"p{number}",
                headers={"X-Listener": str(number)},
                on_handshake=lambda headers, own=number: (
                    {"X-Own": str(own)} if headers["Path"] == f"/{own}" else uvws.Reject(404 + own)
                ),
                **recorder.callbacks,
            )
        )
    offer = f"{OFFER}: p0, p1, p2\r\n"
    for number, listener in enumerate(listeners):
        answer = upgrade(runner, listener, offer, f"/{number}")
        assert answer.headers.get_all(OFFER) == [f"p{number}"]
        assert answer.headers.get_all("X-Listener") == [str(number)]
        assert answer.headers.get_all("X-Own") == [str(number)]
        assert refused_path(runner, listener, "/nowhere", "").status == 404 + number
        assert [listener.name for listener in listeners][number] == f"number {number}"
    runner.run(lambda: all(recorder.events for recorder in recorders))
    assert [recorder.names[0] for recorder in recorders] == ["connect"] * 3


@pytest.mark.parametrize("name", ["default", ""])
def test_a_reserved_name_is_refused(runner: Runner, name: str) -> None:
    with pytest.raises(ValueError, match=r"^name must not be"):
        listen(runner, name=name)


def test_a_name_must_be_a_str(runner: Runner) -> None:
    with pytest.raises(TypeError, match=r"^name must be str, not bytes"):
        listen(runner, name=b"server")


def test_a_name_in_use_is_refused(runner: Runner) -> None:
    context = runner.context()
    context.listen(host=HOST)
    with pytest.raises(ValueError, match=r"^name 'server' is in use"):
        context.listen(host=HOST)


def test_a_name_is_free_again_once_its_listener_is_closed(runner: Runner) -> None:
    context = runner.context()
    recorder = Recorder()
    listener = context.listen(host=HOST, name="again", **recorder.callbacks)
    upgrade(runner, listener)
    runner.run(recorder.saw("connect"))
    listener.close()  # which keeps the connection
    assert context.listen(host=HOST, name="again").name == "again"


def test_contexts_do_not_share_names(runner: Runner) -> None:
    assert [listen(runner, name="same").name for _ in range(2)] == ["same"] * 2


@pytest.mark.parametrize("name", ["on_handshake", "on_request"])
def test_a_callback_that_cannot_be_called_is_refused(runner: Runner, name: str) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be callable or None, not dict"):
        listen(runner, **{name: {}})


@pytest.mark.parametrize(
    ("protocol", "error"),
    [
        (5, TypeError),
        ([1], TypeError),
        ("a b", ValueError),
        ("", ValueError),
        (["a", "a"], ValueError),
    ],
)
def test_a_subprotocol_that_is_none_is_refused(
    runner: Runner, protocol: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"^protocol"):
        listen(runner, protocol=protocol)


# What a callback may do inside of it


def decide_after(action: Callable[[], object], answer: Any = True) -> Callable[[Any], Any]:
    """Return an on_handshake that does something first."""

    def decide(headers: uvws.Headers) -> Any:
        action()
        return answer

    return decide


def test_closing_the_context_inside_hangs_up(runner: Runner) -> None:
    recorder = Recorder()
    context = runner.context()
    listener = context.listen(
        host=HOST, on_handshake=decide_after(context.close), **recorder.callbacks
    )
    peer = dial(runner, listener)
    peer.send(upgrade_request())
    runner.run(peer.ended)
    assert peer.take() == b""
    assert recorder.names == []


def test_closing_the_context_inside_ends_its_connections(runner: Runner) -> None:
    recorder = Recorder()
    context = runner.context()
    actions: list[Callable[[], object]] = [lambda: None, context.close]
    listener = context.listen(
        host=HOST, on_handshake=lambda _: (actions.pop(0)(), True)[1], **recorder.callbacks
    )
    first = dial(runner, listener)
    first.send(upgrade_request())
    runner.run(recorder.saw("connect"))
    second = dial(runner, listener)
    second.send(upgrade_request())
    runner.run(lambda: first.is_ended and second.is_ended)
    assert recorder.events[1:] == [("close", 1001, "")]
    assert second.take() == b""


def test_closing_the_context_inside_and_rejecting_does_no_harm(runner: Runner) -> None:
    context = runner.context()
    decide = decide_after(context.close, uvws.Reject(404, body="x" * 1_000_000))
    peer = dial(runner, context.listen(host=HOST, on_handshake=decide))
    peer.send(upgrade_request())
    runner.run(peer.ended)


def test_closing_the_context_inside_and_raising_is_reported(runner: Runner) -> None:
    context = runner.context()

    def close(headers: uvws.Headers) -> bool:
        context.close()
        raise ValueError("after close")

    peer = dial(runner, context.listen(host=HOST, on_handshake=close))
    peer.send(upgrade_request())
    runner.run(peer.ended)
    assert [str(error) for error in runner.reported] == ["after close"]
    runner.reported.clear()


def test_closing_the_context_inside_over_tls_hangs_up(runner: Runner) -> None:
    context = runner.context()
    listener = context.listen(
        host=HOST, **certificate().server_options, on_handshake=decide_after(context.close)
    )
    recorder = Recorder()
    client = runner.context(ssl_ca=ca_of())
    client.connect(f"wss://localhost:{listener.port}/", **recorder.callbacks)
    runner.run(lambda: recorder.events)
    assert recorder.names == ["error"]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_closing_the_listener_inside_lets_this_one_in(runner: Runner, tls: bool) -> None:
    listeners: list[Any] = []
    context = runner.context(ssl_ca=ca_of())
    pair = Pair(
        runner,
        context=context,
        listen={
            **(certificate().server_options if tls else {}),
            "on_handshake": decide_after(
                lambda: [each.close() for each in context._core.listeners.values()]
            ),
        },
    )
    assert not pair.listener.is_open
    pair.connection("client").send("still here")
    runner.run(pair.server.saw("message"))
    assert listeners == []


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_closing_the_listener_inside_and_refusing_leaves_nothing(runner: Runner, tls: bool) -> None:
    context = runner.context(ssl_ca=ca_of())
    options = certificate().server_options if tls else {}
    listener = context.listen(
        host=HOST, **options, on_handshake=lambda _: listener.close() or uvws.Reject(410)
    )
    recorder = Recorder()
    scheme = "wss" if tls else "ws"
    runner.context(ssl_ca=ca_of()).connect(
        f"{scheme}://localhost:{listener.port}/", **recorder.callbacks
    )
    runner.run(recorder.saw("error"))
    assert recorder.events[0][1].status == 410
    runner.run(lambda: not context._core.listeners)


def test_closing_another_connection_inside(runner: Runner) -> None:
    recorder = Recorder()
    listener = listen(
        runner,
        on_handshake=lambda headers: (
            headers["Path"] != "/second" or recorder.connection.close(4000, "room") is None
        ),
        **recorder.callbacks,
    )
    client = Recorder()
    runner.context().connect(url_of(listener), **client.callbacks)
    runner.run(lambda: recorder.saw("connect")() and client.saw("connect")())
    assert upgrade(runner, listener, path="/second").status == 101
    runner.run(client.saw("close"))
    assert client.events[-1] == ("close", 4000, "room")


@pytest.mark.parametrize("size", [5, 1_000_000])
def test_sending_on_another_connection_inside(runner: Runner, size: int) -> None:
    recorder = Recorder()
    listener = listen(
        runner,
        on_handshake=lambda headers: (
            headers["Path"] != "/second" or recorder.connection.send("x" * size) is None
        ),
        **recorder.callbacks,
    )
    client = Recorder()
    runner.context().connect(url_of(listener), **client.callbacks)
    runner.run(lambda: recorder.saw("connect")() and client.saw("connect")())
    assert upgrade(runner, listener, path="/second").status == 101
    runner.run(client.saw("message"))
    assert client.messages == ["x" * size]


@pytest.mark.parametrize("unix", [False, True], ids=["TCP", "Unix"])
def test_connecting_inside(runner: Runner, unix: bool, tmp_path: Any) -> None:
    context = runner.context()
    host = f"unix:{tmp_path}/socket" if unix else HOST
    target = context.listen(host=host, name="target")
    url = f"ws+unix:{tmp_path}/socket" if unix else url_of(target)
    client = Recorder()
    server = Recorder()
    listener = context.listen(
        host=HOST,
        on_handshake=decide_after(lambda: context.connect(url, **client.callbacks)),
        **server.callbacks,
    )
    peer = dial(runner, listener)
    peer.send(upgrade_request() + peer.frame(TEXT, b"behind the request"))
    runner.run(lambda: client.saw("connect")() and server.saw("message")())
    assert server.messages == ["behind the request"]


def test_connecting_inside_and_closing_the_context_is_an_error(runner: Runner) -> None:
    context = runner.context()
    client = Recorder()

    def work() -> None:
        context.connect(f"ws://{HOST}:{listener.port}/", **client.callbacks)
        context.close()

    listener = context.listen(host=HOST, on_handshake=decide_after(work))
    peer = dial(runner, listener)
    peer.send(upgrade_request())
    runner.run(peer.ended)
    assert client.names == ["error"]


def test_listening_inside(runner: Runner) -> None:
    context = runner.context()
    made: list[Any] = []
    listener = context.listen(
        host=HOST,
        on_handshake=decide_after(
            lambda: made.append(
                context.listen(host=HOST, name="inner", **certificate().server_options)
            )
        ),
    )
    assert upgrade(runner, listener).status == 101
    recorder = Recorder()
    runner.context(ssl_ca=ca_of()).connect(f"wss://localhost:{made[0].port}/", **recorder.callbacks)
    runner.run(recorder.saw("connect"))


@loop_kinds("pyuv")
@pytest.mark.parametrize("answer", [True, False])
def test_running_the_loop_inside_keeps_this_context_waiting(runner: Runner, answer: bool) -> None:
    recorder = Recorder()
    during: list[int] = []

    def run(headers: uvws.Headers) -> bool:
        others[0].send(others[0].frame(TEXT, b"meanwhile"))
        runner.turns(20)
        during.append(recorder.count("message"))
        return answer

    others: list[RawPeer] = []
    listener = listen(
        runner,
        on_handshake=lambda headers: headers["Path"] == "/first" or run(headers),
        **recorder.callbacks,
    )
    others.append(dial(runner, listener))
    others[0].send(upgrade_request("/first"))
    runner.run(recorder.saw("connect"))
    assert upgrade(runner, listener).status == (101 if answer else 403)
    runner.run(recorder.saw("message"))
    assert during == [0]
    assert recorder.messages == ["meanwhile"]


@loop_kinds("pyuv")
def test_running_the_loop_inside_serves_other_contexts(runner: Runner) -> None:
    client = Recorder()
    other = listen(runner, name="other")

    def run() -> None:
        runner.context().connect(url_of(other), **client.callbacks)
        for _ in range(100):
            if client.events:
                return
            runner.turns(1)

    assert upgrade(runner, listen(runner, on_handshake=decide_after(run))).status == 101
    assert client.names == ["connect"]


@loop_kinds("pyuv")
def test_closing_the_context_in_a_loop_run_inside_does_no_harm(runner: Runner) -> None:
    context = runner.context()

    def run() -> None:
        runner.call_soon(context.close)
        runner.turns(5)
        assert not context.connections

    peer = dial(runner, context.listen(host=HOST, on_handshake=decide_after(run)))
    peer.send(upgrade_request())
    runner.run(peer.ended)
    assert peer.take() == b""


def test_running_an_asyncio_loop_inside_is_reported_and_500(runner: Runner) -> None:
    if runner.kind == "pyuv":
        pytest.skip("pyuv runs a loop inside of itself")
    listener = listen(runner, on_handshake=decide_after(runner.loop.run_forever))
    assert refused(runner, listener).status == 500
    assert [type(error) for error in runner.reported] == [RuntimeError]
    runner.reported.clear()


@pytest.mark.parametrize("how", ["stop", "reset"])
@pytest.mark.parametrize("answer", [True, False, {"X-Large": "x" * 8000}], ids=str)
def test_a_client_that_goes_away_meanwhile_is_forgotten(
    runner: Runner, how: str, answer: Any
) -> None:
    recorder = Recorder()
    asked: list[None] = []
    peers: list[RawPeer] = []

    def leave(headers: uvws.Headers) -> Any:
        if peers:
            getattr(peers.pop(), how)()
        asked.append(None)
        return answer

    context = runner.context()
    listener = context.listen(host=HOST, on_handshake=leave, **recorder.callbacks)
    peers.append(dial(runner, listener))
    peers[0].send(upgrade_request())
    runner.run(lambda: asked)
    runner.run(
        lambda: not context.connections and recorder.count("connect") == recorder.count("close")
    )
    assert upgrade(runner, listener).status == (403 if answer is False else 101)


def test_refusals_leave_no_connections_behind(runner: Runner) -> None:
    context = runner.context()
    listener = context.listen(host=HOST, on_handshake=lambda _: False)
    for _ in range(100):
        assert refused(runner, listener).status == 403
    assert context.connections == []
    assert context._core.connections == {}
    assert listener._accepting == {}


def test_an_accepted_upgrade_that_comes_to_nothing_leaves_nothing(runner: Runner) -> None:
    peers: list[RawPeer] = []

    def leave(headers: uvws.Headers) -> Any:
        with contextlib.suppress(IndexError):
            peers.pop().reset()
        return True

    recorder = Recorder()
    listener = listen(runner, on_handshake=leave, **recorder.callbacks)
    for number in range(20):
        peer = dial(runner, listener)
        peers.append(peer)
        peer.send(upgrade_request(f"/{number}"))
        runner.run(lambda: not peers)
    assert upgrade(runner, listener, path="/last").status == 101
    runner.run(lambda: recorder.count("connect") - recorder.count("close") == 1)
    paths = [event[1]["Path"] for event in recorder.events if event[0] == "connect"]
    assert paths[-1] == "/last"
