"""Plain HTTP on a listener: what on_request is told, what it answers, and how that gets there."""

from __future__ import annotations

import asyncio
import http.client
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import websockets

import uvws
from support import ClientThread, Recorder, Runner, loop_kinds, url_of
from support.certificates import ca_of, certificate, client_context
from support.http import answer_to, ask, ask_over_tls, request
from support.wire import dial, dial_websocket, shrink_send_buffer, upgrade_request

HOST = "127.0.0.1"
MEGABYTE = 1_000_000


def serve(runner: Runner, on_request: Any, **options: Any) -> Any:
    """Listen with an on_request, on a context of its own."""
    options.setdefault("host", HOST)
    return runner.context().listen(on_request=on_request, **options)


def answering(response: Any) -> tuple[list[uvws.Request], Callable[[uvws.Request], Any]]:
    """Return an on_request that gives this answer, and the list of what it was asked."""
    seen: list[uvws.Request] = []

    def on_request(asked: uvws.Request) -> Any:
        seen.append(asked)
        return response

    return seen, on_request


def in_thread(runner: Runner, function: Callable[[], Any], timeout: float = 10) -> Any:
    """Run a client that blocks in a thread while the loop runs; returns what it returns."""

    async def work() -> Any:
        return await asyncio.to_thread(function)

    client = ClientThread(work, runner.wake)
    runner.add_peer(client)
    runner.run(client.done, timeout)
    return client.result()


# What on_request is told


def test_a_request_is_told_as_it_was_sent(runner: Runner) -> None:
    seen, on_request = answering(uvws.Response())
    listener = serve(runner, on_request)
    sent = request("GET", "/a/path?key=value&x=1", "X-Own: 1\r\nCookie: a=b\r\n", host="there:8080")
    assert ask(runner, listener, sent).status == 200
    (asked,) = seen
    assert (asked.method, asked.path, asked.query) == ("GET", "/a/path", "key=value&x=1")
    assert asked.headers["Host"] == "there:8080"
    assert asked.headers["x-own"] == "1"
    assert asked.headers["Cookie"] == "a=b"
    assert asked.headers["Path"] == "/a/path"
    assert asked.headers["Query"] == "key=value&x=1"
    assert asked.peer_address == HOST


def test_without_a_query_it_is_empty(runner: Runner) -> None:
    seen, on_request = answering(uvws.Response())
    ask(runner, serve(runner, on_request), request())
    assert (seen[0].path, seen[0].query) == ("/", "")
    assert "Query" not in seen[0].headers


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_the_method_is_told(runner: Runner, method: str) -> None:
    seen, on_request = answering(uvws.Response(201, body="made"))
    answer = ask(runner, serve(runner, on_request), request(method, headers="X-Own: b\r\n"))
    assert [asked.method for asked in seen] == [method]
    assert answer.status == 201
    assert answer.body == (b"" if method == "HEAD" else b"made")
    assert answer.headers["Content-Length"] == "4"


@pytest.mark.parametrize("method", ["BREW", "M-SEARCH", "X"])
def test_a_method_that_is_not_known_is_not_asked_about(runner: Runner, method: str) -> None:
    seen, on_request = answering(uvws.Response())
    listener = serve(runner, on_request)
    peer = dial(runner, listener)
    peer.send(request(method))
    runner.run(peer.ended)
    raw = peer.take()
    assert not raw or raw.split()[1][:1] in b"45"
    assert ask(runner, listener, request()).status == 200
    assert [asked.method for asked in seen] == ["GET"]


def test_the_peer_address_is_none_on_a_unix_socket(runner: Runner, tmp_path: Path) -> None:
    seen, on_request = answering(uvws.Response(body="here"))
    listener = serve(runner, on_request, host=f"unix:{tmp_path}/socket")
    assert ask(runner, listener, request(), host=f"{tmp_path}/socket").body == b"here"
    assert seen[0].peer_address is None


def test_a_request_that_comes_in_pieces_is_told_once(runner: Runner) -> None:
    seen, on_request = answering(uvws.Response())
    peer = dial(runner, serve(runner, on_request))
    sent = request(headers="X-Own: 1\r\n")
    for begin in range(0, len(sent), 20):
        peer.send(sent[begin : begin + 20])
        runner.run_for(0.005)
    assert answer_to(runner, peer).status == 200
    assert len(seen) == 1


# What it answers


def test_an_answer_arrives_as_it_was_given(runner: Runner) -> None:
    headers = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Content-Type", "text/html")]
    _, on_request = answering(uvws.Response(404, headers, "<p>grün"))
    answer = ask(runner, serve(runner, on_request), request())
    assert (answer.status, answer.body) == (404, "<p>grün".encode())
    assert answer.headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert answer.headers.get_all("Content-Type") == ["text/html"]
    assert answer.headers.get_all("Connection") == ["close"]


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_ends_at_once(runner: Runner, status: int) -> None:
    _, on_request = answering(uvws.Response(status, body=b"dropped"))
    answer = ask(runner, serve(runner, on_request), request())
    assert (answer.status, answer.body) == (status, b"")


@pytest.mark.parametrize("size", [1, 65536, 262_144, 262_145, 20 * MEGABYTE])
def test_a_body_of_any_size_arrives(runner: Runner, size: int) -> None:
    body = bytes(range(251)) * (size // 251 + 1)
    _, on_request = answering(uvws.Response(body=body[:size]))
    answer = ask(runner, serve(runner, on_request), request())
    assert answer.headers["Content-Length"] == str(size)
    assert answer.body == body[:size]


@pytest.mark.parametrize("requests", [1, 2])
def test_a_client_that_reads_slowly_gets_all_of_a_large_body(runner: Runner, requests: int) -> None:
    body = b"0123456789" * 500_000
    _, on_request = answering(uvws.Response(body=body))
    listener = serve(runner, on_request)
    peer = dial(runner, listener, receive_buffer=65536)
    peer.pause()
    peer.send(request() * requests)
    # Longer than libwebsockets waits for what is left when it closes.
    runner.run_for(5.5)
    assert not peer.is_ended
    peer.resume()
    assert answer_to(runner, peer).body == body


def test_a_client_that_leaves_a_large_body_behind_is_forgotten(runner: Runner) -> None:
    _, on_request = answering(uvws.Response(body=b"x" * 20 * MEGABYTE))
    context = runner.context()
    listener = context.listen(host=HOST, on_request=on_request)
    peer = dial(runner, listener, receive_buffer=65536)
    peer.send(request())
    runner.run(peer.has_head)
    peer.reset()
    listener.close()
    runner.run(lambda: not context._core.listeners)


@pytest.mark.parametrize("answer", [None, True, 200, "text", b"", {}, uvws.Reject(404)], ids=repr)
def test_any_other_answer_is_a_type_error_and_500(runner: Runner, answer: Any) -> None:
    _, on_request = answering(answer)
    got = ask(runner, serve(runner, on_request), request())
    assert (got.status, got.body) == (500, b"")
    (error,) = runner.reported
    assert type(error) is TypeError
    assert str(error).startswith("on_request must return a uvws.Response, not ")
    runner.reported.clear()


class Grave(BaseException):
    """Not an Exception, and not one of those that end a program."""


@pytest.mark.parametrize("kind", [ValueError, uvws.Error, Grave])
def test_an_exception_is_reported_once_and_500(runner: Runner, kind: type[BaseException]) -> None:
    def fail(asked: uvws.Request) -> uvws.Response:
        raise kind("mine")

    got = ask(runner, serve(runner, fail), request())
    assert (got.status, got.body) == (500, b"")
    (error,) = runner.reported
    assert type(error) is kind
    assert error.__traceback__ is not None
    runner.reported.clear()


def test_a_bad_argument_of_the_response_is_500_like_any_exception(runner: Runner) -> None:
    listener = serve(runner, lambda _: uvws.Response(200, {"A": "x\r\nB: y"}))
    assert ask(runner, listener, request()).status == 500
    assert [type(error) for error in runner.reported] == [ValueError]
    runner.reported.clear()


@loop_kinds("uvloop", "asyncio")
def test_what_ends_a_program_leaves_the_loop_and_is_500(runner: Runner) -> None:
    def leave(asked: uvws.Request) -> uvws.Response:
        raise SystemExit(3)

    peer = dial(runner, serve(runner, leave))
    peer.send(request())
    with pytest.raises(SystemExit):
        runner.run(lambda: False)
    assert answer_to(runner, peer).status == 500


# Without on_request


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
def test_without_on_request_the_client_is_told_to_upgrade(runner: Runner, method: str) -> None:
    listener = runner.context().listen(host=HOST, on_handshake=lambda _: True)
    answer = ask(runner, listener, request(method))
    assert (answer.status, answer.body) == (426, b"")
    assert answer.headers["Upgrade"].lower() == "websocket"
    assert answer.headers["Connection"].lower() == "close"


def test_without_on_request_a_body_is_read_all_the_same(runner: Runner) -> None:
    peer = dial(runner, runner.context().listen(host=HOST))
    size = 5 * MEGABYTE
    sent = request("POST", headers=f"Content-Length: {size}\r\n", body=b"x" * size)
    peer.send_in_thread(lambda send: send(sent))
    assert answer_to(runner, peer).status == 426


# Requests with a body


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "GET"])
@pytest.mark.parametrize("size", [1, 1000, 5 * MEGABYTE])
def test_the_answer_arrives_although_the_request_has_a_body(
    runner: Runner, method: str, size: int
) -> None:
    seen, on_request = answering(uvws.Response(body="thanks"))
    peer = dial(runner, serve(runner, on_request))
    sent = request(method, headers=f"Content-Length: {size}\r\n", body=b"x" * size)
    peer.send_in_thread(lambda send: send(sent))
    assert answer_to(runner, peer).body == b"thanks"
    assert [asked.method for asked in seen] == [method]
    assert seen[0].headers["Content-Length"] == str(size)


def test_a_body_in_chunks_is_read_until_the_client_has_its_answer(runner: Runner) -> None:
    _, on_request = answering(uvws.Response(body="thanks"))
    listener = serve(runner, on_request)

    def post() -> Any:
        connection = http.client.HTTPConnection(HOST, listener.port, timeout=10)
        parts = (b"x" * 100_000 for _ in range(50))
        connection.request("POST", "/", body=parts, encode_chunked=True)
        response = connection.getresponse()
        result = response.status, response.read()
        connection.close()
        return result

    assert in_thread(runner, post) == (200, b"thanks")


def test_a_large_answer_to_a_large_request_arrives(runner: Runner) -> None:
    size = 5 * MEGABYTE
    _, on_request = answering(uvws.Response(body=b"y" * size))
    peer = dial(runner, serve(runner, on_request))
    sent = request("POST", headers=f"Content-Length: {size}\r\n", body=b"x" * size)
    peer.send_in_thread(lambda send: send(sent))
    assert answer_to(runner, peer).body == b"y" * size


def test_a_body_that_begins_late_is_waited_for(runner: Runner) -> None:
    _, on_request = answering(uvws.Response(body="thanks"))
    peer = dial(runner, serve(runner, on_request))
    peer.send(request("POST", headers="Content-Length: 10\r\n"))
    runner.run(peer.has_head)
    runner.run_for(0.05)
    assert not peer.is_ended
    peer.send(b"0123456789")
    assert answer_to(runner, peer).body == b"thanks"


def test_a_client_that_leaves_before_its_body_is_whole_is_forgotten(runner: Runner) -> None:
    _, on_request = answering(uvws.Response())
    context = runner.context()
    listener = context.listen(host=HOST, on_request=on_request)
    peer = dial(runner, listener)
    peer.send(request("POST", headers="Content-Length: 1000\r\n", body=b"x"))
    runner.run(peer.has_head)
    listener.close()
    assert context._core.listeners
    peer.stop()
    runner.run(lambda: not context._core.listeners)


@pytest.mark.parametrize(
    "framing",
    [f"Content-Length: {1 << 60}\r\n", "Transfer-Encoding: chunked\r\n"],
    ids=["length", "chunks"],
)
def test_a_request_with_an_endless_body_is_given_up(runner: Runner, framing: str) -> None:
    _, on_request = answering(uvws.Response())
    context = runner.context()
    listener = context.listen(host=HOST, on_request=on_request)
    peer = dial(runner, listener)

    def send_for_ever(send: Callable[[bytes], None]) -> None:
        send(request("POST", headers=framing))
        for _ in range(10_000):  # ten times what is taken
            send(b"10000\r\n" + b"x" * 65536 + b"\r\n")

    peer.send_in_thread(send_for_ever)
    runner.run(peer.ended, timeout=20)
    listener.close()
    runner.run(lambda: not context._core.listeners)


# One request for each connection


@pytest.mark.parametrize("size", [5, 20 * MEGABYTE])
def test_a_second_request_behind_the_first_is_not_answered(runner: Runner, size: int) -> None:
    seen, on_request = answering(uvws.Response(body=b"x" * size))
    answer = ask(runner, serve(runner, on_request), request(target="/1") + request(target="/2"))
    assert answer.body == b"x" * size
    assert [asked.path for asked in seen] == ["/1"]


def test_a_second_request_behind_a_body_is_not_answered(runner: Runner) -> None:
    seen, on_request = answering(uvws.Response(body=b"only"))
    first = request("POST", "/1", "Content-Length: 3\r\n", b"abc")
    answer = ask(runner, serve(runner, on_request), first + request(target="/2"))
    assert answer.body == b"only"
    assert [asked.path for asked in seen] == ["/1"]


def test_an_upgrade_behind_a_request_is_not_answered(runner: Runner) -> None:
    recorder = Recorder()
    _, on_request = answering(uvws.Response(body=b"only"))
    listener = serve(runner, on_request, **recorder.callbacks)
    assert ask(runner, listener, request() + upgrade_request()).body == b"only"
    assert recorder.names == []


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_connection_is_closed_even_if_it_was_to_be_kept(runner: Runner, version: str) -> None:
    _, on_request = answering(uvws.Response(body=b"done"))
    sent = request(headers="Connection: keep-alive\r\n").replace(b"/1.1", f"/{version}".encode())
    answer = ask(runner, serve(runner, on_request), sent)
    assert (answer.body, answer.headers["Connection"]) == (b"done", "close")


# Over TLS


@pytest.mark.parametrize("size", [5, 5 * MEGABYTE])
def test_over_tls_the_answer_arrives_whole(runner: Runner, size: int) -> None:
    seen, on_request = answering(uvws.Response(404, {"A": "b"}, b"x" * size))
    listener = serve(runner, on_request, **certificate().server_options)
    answer = ask_over_tls(runner, listener, request("GET", "/a?b"), client_context())
    assert (answer.status, answer.headers["A"]) == (404, "b")
    assert answer.body == b"x" * size
    assert (seen[0].path, seen[0].query, seen[0].peer_address) == ("/a", "b", HOST)


def test_over_tls_a_body_is_read_to_its_end(runner: Runner) -> None:
    _, on_request = answering(uvws.Response(body="thanks"))
    listener = serve(runner, on_request, **certificate().server_options)
    size = 5 * MEGABYTE
    sent = request("POST", headers=f"Content-Length: {size}\r\n", body=b"x" * size)
    assert ask_over_tls(runner, listener, sent, client_context()).body == b"thanks"


# Real clients


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_urllib_gets_an_answer(runner: Runner, tls: bool) -> None:
    _, on_request = answering(uvws.Response(body="grün"))
    options = certificate().server_options if tls else {}
    listener = serve(runner, on_request, **options)
    url = f"{'https' if tls else 'http'}://localhost:{listener.port}/path"
    context = client_context() if tls else None

    def get() -> Any:
        with urllib.request.urlopen(url, timeout=10, context=context) as response:
            return response.status, response.headers["Content-Type"], response.read()

    assert in_thread(runner, get) == (200, "text/plain; charset=utf-8", "grün".encode())


def test_urllib_is_told_of_an_error(runner: Runner) -> None:
    _, on_request = answering(uvws.Response(418, body=b"teapot"))
    listener = serve(runner, on_request)

    def get() -> Any:
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(f"http://{HOST}:{listener.port}/", data=b"x" * 1000, timeout=10)
        with raised.value as error:
            return error.code, error.read()

    assert in_thread(runner, get) == (418, b"teapot")


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.parametrize("arguments", [(), ("--data-binary", "@FILE"), ("--head",)], ids=str)
def test_curl_gets_an_answer(runner: Runner, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    import subprocess

    (tmp_path / "file").write_bytes(b"x" * 3 * MEGABYTE)
    _, on_request = answering(uvws.Response(body=b"answer"))
    listener = serve(runner, on_request)
    given = [each.replace("FILE", str(tmp_path / "file")) for each in arguments]
    # A sanitizer that is loaded into this process is not for curl.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", *given]

    def run() -> Any:
        return subprocess.run(
            [*command, f"http://{HOST}:{listener.port}/"],
            capture_output=True,
            check=True,
            env=environment,
        ).stdout

    out = in_thread(runner, run)
    assert b"200 OK" in out if "--head" in arguments else out == b"answer"


# Next to WebSockets


def test_one_listener_serves_both(runner: Runner, websockets_client: Any) -> None:
    _, on_request = answering(uvws.Response(body="page"))
    listener = serve(runner, on_request, on_message=lambda connection, data: connection.send(data))

    async def talk() -> Any:
        async with websockets.connect(url_of(listener)) as connection:
            await connection.send("hello")
            return await connection.recv()

    for _ in range(3):
        assert ask(runner, listener, request()).body == b"page"
        client = websockets_client(talk)
        runner.run(client.done)
        assert client.result() == "hello"


def test_requests_are_no_connections(runner: Runner) -> None:
    recorder = Recorder()
    context = runner.context()
    counts: list[int] = []

    def on_request(asked: uvws.Request) -> uvws.Response:
        counts.append(len(context.connections))
        return uvws.Response()

    listener = context.listen(host=HOST, on_request=on_request, **recorder.callbacks)
    for _ in range(3):
        assert ask(runner, listener, request()).status == 200
    assert counts == [0, 0, 0]
    assert recorder.names == []
    assert context._core.connections == {}


@loop_kinds("pyuv")
def test_a_request_under_way_keeps_the_loop_running_no_longer(runner: Runner) -> None:
    _, on_request = answering(uvws.Response())
    listener = serve(runner, on_request)
    assert ask(runner, listener, request()).status == 200
    listener.close()
    runner.run_to_end()


def test_many_requests_at_once(runner: Runner) -> None:
    _, on_request = answering(uvws.Response(body=b"x" * 100_000))
    listener = serve(runner, on_request)
    peers = [dial(runner, listener) for _ in range(50)]
    for peer in peers:
        peer.send(request())
    assert all(len(answer_to(runner, peer).body) == 100_000 for peer in peers)


# What a callback may do inside of it


def test_closing_the_context_inside_hangs_up(runner: Runner) -> None:
    context = runner.context()

    def close(asked: uvws.Request) -> uvws.Response:
        context.close()
        return uvws.Response(body=b"x" * 5 * MEGABYTE)

    peer = dial(runner, context.listen(host=HOST, on_request=close))
    peer.send(request())
    runner.run(peer.ended)


def test_closing_the_context_inside_a_request_with_a_body_hangs_up(runner: Runner) -> None:
    context = runner.context()

    def close(asked: uvws.Request) -> uvws.Response:
        context.close()
        raise ValueError("after close")

    peer = dial(runner, context.listen(host=HOST, on_request=close))
    peer.send(request("POST", headers="Content-Length: 1000\r\n", body=b"x"))
    runner.run(peer.ended)
    assert [str(error) for error in runner.reported] == ["after close"]
    runner.reported.clear()


def test_closing_the_context_while_an_answer_is_written_leaves_nothing(runner: Runner) -> None:
    _, on_request = answering(uvws.Response(body=b"x" * 20 * MEGABYTE))
    context = runner.context()
    peer = dial(runner, context.listen(host=HOST, on_request=on_request), receive_buffer=65536)
    peer.pause()
    peer.send(request())
    runner.run_for(0.05)
    context.close()
    peer.resume()
    runner.run(peer.ended)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("size", [5, 5 * MEGABYTE])
def test_closing_the_listener_inside_lets_the_answer_through(
    runner: Runner, tls: bool, size: int
) -> None:
    context = runner.context()
    options = certificate().server_options if tls else {}

    def close(asked: uvws.Request) -> uvws.Response:
        listener.close()
        return uvws.Response(body=b"x" * size)

    listener = context.listen(host=HOST, on_request=close, **options)
    if tls:
        answer = ask_over_tls(runner, listener, request(), client_context())
    else:
        answer = ask(runner, listener, request())
    assert answer.body == b"x" * size
    runner.run(lambda: not context._core.listeners)


def test_connecting_and_sending_inside(runner: Runner) -> None:
    context = runner.context(ssl_ca=ca_of())
    server, client = Recorder(), Recorder()

    def work(asked: uvws.Request) -> uvws.Response:
        for connection in context.connections:
            connection.send("somebody asks")
        context.connect(url_of(listener), **client.callbacks)
        return uvws.Response()

    listener = context.listen(host=HOST, on_request=work, **server.callbacks)
    peer = dial_websocket(runner, listener)
    runner.run(server.saw("connect"))
    assert ask(runner, listener, request()).status == 200
    runner.run(lambda: client.saw("connect")() and peer.frames())
    assert peer.frames()[0].payload == b"somebody asks"


@loop_kinds("pyuv")
def test_running_the_loop_inside_keeps_this_context_waiting(runner: Runner) -> None:
    served: list[str] = []

    def work(asked: uvws.Request) -> uvws.Response:
        served.append(asked.path)
        if asked.path == "/outer":
            second.send(request(target="/inner"))
            runner.turns(20)
            served.append("end of outer")
        return uvws.Response(body=asked.path)

    listener = serve(runner, work)
    first, second = dial(runner, listener), dial(runner, listener)
    first.send(request(target="/outer"))
    assert answer_to(runner, first).body == b"/outer"
    assert answer_to(runner, second).body == b"/inner"
    assert served == ["/outer", "end of outer", "/inner"]


@pytest.mark.parametrize("how", ["stop", "reset"])
def test_a_client_that_goes_away_meanwhile_is_forgotten(runner: Runner, how: str) -> None:
    context = runner.context()

    def leave(asked: uvws.Request) -> uvws.Response:
        getattr(peer, how)()
        return uvws.Response(body=b"x" * 5 * MEGABYTE)

    listener = context.listen(host=HOST, on_request=leave)
    peer = dial(runner, listener)
    peer.send(request())
    runner.run(lambda: peer.sock.fileno() < 0)
    listener.close()
    runner.run(lambda: not context._core.listeners)


def test_a_socket_with_a_small_buffer_gets_a_large_answer(runner: Runner) -> None:
    _, on_request = answering(uvws.Response(body=b"x" * 5 * MEGABYTE))
    peer = dial(runner, serve(runner, on_request), receive_buffer=8192)
    runner.turns(3)
    shrink_send_buffer(peer, 8192)
    peer.send(request())
    assert len(answer_to(runner, peer).body) == 5 * MEGABYTE
