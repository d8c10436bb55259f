"""uvws.aio: connect, serve, send, receive, close; against itself and the `websockets` package."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import socket
import ssl
import warnings
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect as their_connect
from websockets.asyncio.server import serve as their_serve
from websockets.exceptions import InvalidStatus as TheirInvalidStatus

import uvws
from support.certificates import ca_of, certificate, client_context, server_context
from support.coroutines import Coroutines, echo, quiet, until, uri_of
from uvws import aio

Run = Coroutines
MESSAGES = ["", "text", "Grüße 🎉", b"", b"\x00\xff", "x" * 100_000, b"y" * 300_000]


# --- Messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_messages_come_back_as_they_were_sent(run: Run, compression: str | None) -> None:
    async def scenario() -> None:
        async with (
            aio.serve(echo, "127.0.0.1", 0, compression=compression) as server,
            aio.connect(uri_of(server), compression=compression) as connection,
        ):
            for message in MESSAGES:
                await connection.send(message)
                assert await connection.recv() == message

    run(scenario())


def test_a_client_of_websockets_is_served(run: Run) -> None:
    async def scenario() -> None:
        async with (
            aio.serve(echo, "127.0.0.1", 0) as server,
            their_connect(uri_of(server), max_size=None) as connection,
        ):
            for message in MESSAGES:
                await connection.send(message)
                assert await connection.recv() == message

    run(scenario())


def test_a_server_of_websockets_is_spoken_to(run: Run) -> None:
    async def scenario() -> None:
        async with (
            their_serve(echo, "127.0.0.1", 0) as server,
            aio.connect(uri_of(server)) as connection,
        ):
            for message in MESSAGES:
                await connection.send(message)
                assert await connection.recv() == message

    run(scenario())


def test_decode_decides_what_a_message_is_received_as(run: Run) -> None:
    async def scenario() -> None:
        async with (
            aio.serve(echo, "127.0.0.1", 0) as server,
            aio.connect(uri_of(server)) as connection,
        ):
            await connection.send("ä")
            assert await connection.recv(decode=False) == "ä".encode()
            await connection.send("ä".encode())
            assert await connection.recv(decode=True) == "ä"

    run(scenario())


def test_text_decides_what_a_message_is_sent_as(run: Run) -> None:
    async def scenario() -> None:
        async with (
            aio.serve(echo, "127.0.0.1", 0) as server,
            aio.connect(uri_of(server)) as connection,
        ):
            await connection.send("ä".encode(), text=True)
            assert await connection.recv() == "ä"
            await connection.send("ä", text=False)
            assert await connection.recv() == "ä".encode()

    run(scenario())


def test_fragments_are_put_together(run: Run) -> None:
    async def later() -> Any:
        for part in (b"b", bytearray(b"c")):
            await asyncio.sleep(0)
            yield part

    async def scenario() -> None:
        async with (
            aio.serve(echo, "127.0.0.1", 0) as server,
            aio.connect(uri_of(server)) as connection,
        ):
            await connection.send(["a", "ä"])
            assert await connection.recv() == "aä"
            await connection.send(later())
            assert await connection.recv() == b"bc"
            await connection.send(iter([]))  # nothing
            await connection.send("end")
            assert await connection.recv() == "end"

    run(scenario())


def test_messages_wait_for_the_end_of_one_in_fragments(run: Run) -> None:
    async def scenario() -> None:
        gate = asyncio.Event()

        async def parts() -> Any:
            yield "a"
            await gate.wait()
            yield "b"

        async with (
            aio.serve(echo, "127.0.0.1", 0) as server,
            aio.connect(uri_of(server)) as connection,
        ):
            first = asyncio.ensure_future(connection.send(parts()))
            await asyncio.sleep(0)
            second = asyncio.ensure_future(connection.send("c"))
            await asyncio.sleep(0)
            gate.set()
            await asyncio.gather(first, second)
            assert [await connection.recv(), await connection.recv()] == ["ab", "c"]

    run(scenario())


@pytest.mark.parametrize("message", [1, None, {"a": 1}, [1]])
def test_what_is_no_message_is_refused(run: Run, message: Any) -> None:
    async def scenario() -> None:
        async with (
            aio.serve(echo, "127.0.0.1", 0) as server,
            aio.connect(uri_of(server)) as connection,
        ):
            with pytest.raises(TypeError):
                await connection.send(message)

    run(scenario())


def test_two_coroutines_cannot_receive_at_once(run: Run) -> None:
    async def scenario() -> None:
        async with (
            aio.serve(echo, "127.0.0.1", 0) as server,
            aio.connect(uri_of(server)) as connection,
        ):
            first = asyncio.ensure_future(connection.recv())
            await asyncio.sleep(0)
            with pytest.raises(aio.ConcurrencyError):
                await connection.recv()
            await connection.send("hello")
            assert await first == "hello"

    run(scenario())


def test_a_broadcast_reaches_all_that_are_open(run: Run) -> None:
    async def scenario() -> None:
        async with aio.serve(lambda ws: ws.wait_closed(), "127.0.0.1", 0) as server:
            clients = [await aio.connect(uri_of(server)) for _ in range(3)]
            await clients[0].close()
            await until(lambda: len(server.connections) == 2)
            aio.broadcast(server.connections, "hello")
            aio.broadcast(server.connections, b"hello", text=True)
            for client in clients[1:]:
                assert [await client.recv(), await client.recv()] == ["hello", "hello"]
                await client.close()

    run(scenario())


# --- The connection -------------------------------------------------------------------------------


def test_a_connection_knows_request_response_and_addresses(run: Run) -> None:
    seen: dict[str, Any] = {}

    async def handler(connection: aio.ServerConnection) -> None:
        seen["server"] = connection
        await connection.send("ready")
        await connection.wait_closed()

    async def scenario() -> None:
        async with (
            aio.serve(handler, "127.0.0.1", 0, subprotocols=["chat"]) as server,
            aio.connect(
                uri_of(server, "/a%20b?c=d"),
                subprotocols=["other", "chat"],
                additional_headers={"X-One": "1"},
                origin="http://here",
            ) as client,
        ):
            await client.recv()
            ours = seen["server"]
            assert ours.request.path == "/a%20b?c=d"
            assert ours.request.headers["x-one"] == client.request.headers["X-One"] == "1"
            assert ours.request.headers["Origin"] == "http://here"
            assert ours.response.status_code == client.response.status_code == 101
            accepts = {each.response.headers["Sec-WebSocket-Accept"] for each in (ours, client)}
            assert len(accepts) == 1
            assert "uvws" in client.response.headers["Server"]
            assert ours.subprotocol == client.subprotocol == "chat"
            assert ours.remote_address == client.local_address
            assert client.remote_address == ours.local_address == server.sockets[0].getsockname()
            assert ours.server is server
            assert server.connections == {ours}
            assert ours.state is client.state is aio.State.OPEN
            assert ours.id != client.id
            assert client.close_code is None
            assert client.close_reason is None
        assert client.remote_address  # also afterwards

    run(scenario())


def test_a_ping_gives_the_round_trip(run: Run) -> None:
    async def scenario() -> None:
        async with (
            aio.serve(echo, "127.0.0.1", 0) as server,
            aio.connect(uri_of(server)) as connection,
        ):
            assert connection.latency == 0
            latency = await (await connection.ping())
            assert 0 < latency == connection.latency
            first = await connection.ping("same")
            with pytest.raises(aio.ConcurrencyError):
                await connection.ping(b"same")
            await first
            with pytest.raises(aio.ProtocolError):
                await connection.ping(bytes(126))
            await connection.pong("nobody asked")

    run(scenario())


def test_a_ping_is_given_up_with_the_connection(run: Run) -> None:
    async def scenario() -> None:
        async with their_serve(lambda ws: ws.wait_closed(), "127.0.0.1", 0) as server:
            connection = await aio.connect(uri_of(server))
            pong = await connection.ping()
            connection.abort()
            with pytest.raises(aio.ConnectionClosedError):
                await pong

    run(scenario())


# --- Closing --------------------------------------------------------------------------------------


def test_the_one_that_closes_and_the_other_read_who_began(run: Run) -> None:
    errors: list[aio.ConnectionClosed] = []

    async def handler(connection: aio.ServerConnection) -> None:
        with pytest.raises(aio.ConnectionClosedError) as raised:
            await connection.recv()
        errors.append(raised.value)

    async def scenario() -> None:
        async with aio.serve(handler, "127.0.0.1", 0) as server:
            connection = await aio.connect(uri_of(server))
            await connection.close(4000, "why")
            await connection.close()  # again does nothing
            assert connection.state is aio.State.CLOSED
            assert (connection.close_code, connection.close_reason) == (4000, "why")
            with pytest.raises(aio.ConnectionClosedError) as raised:
                await connection.send("too late")
            assert str(raised.value).startswith("sent 4000 (private use) why; then received 4000")
            with pytest.raises(uvws.ConnectionClosed):
                await connection.ping()
        assert str(errors[0]).startswith("received 4000 (private use) why; then sent 4000")

    run(scenario())


def test_what_came_before_the_end_is_received_first(run: Run) -> None:
    async def handler(connection: aio.ServerConnection) -> None:
        for number in range(3):
            await connection.send(str(number))

    async def scenario() -> None:
        async with aio.serve(handler, "127.0.0.1", 0) as server:
            connection = await aio.connect(uri_of(server))
            await connection.wait_closed()
            assert [message async for message in connection] == ["0", "1", "2"]
            with pytest.raises(aio.ConnectionClosedOK):
                await connection.recv()

    run(scenario())


def test_a_connection_that_is_lost_is_an_error(run: Run) -> None:
    async def handler(connection: Any) -> None:
        connection.transport.abort()

    async def scenario() -> None:
        async with their_serve(handler, "127.0.0.1", 0) as server:
            connection = await aio.connect(uri_of(server))
            with pytest.raises(aio.ConnectionClosedError, match="no close frame received or sent"):
                await connection.recv()
            assert connection.close_code == 1006

    run(scenario())


def test_an_exception_in_the_handler_is_logged_and_closes_with_1011(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(connection: aio.ServerConnection) -> None:
        raise ZeroDivisionError

    async def scenario() -> None:
        async with (
            aio.serve(handler, "127.0.0.1", 0) as server,
            aio.connect(uri_of(server)) as connection,
        ):
            with pytest.raises(aio.ConnectionClosedError, match="received 1011"):
                await connection.recv()

    run(scenario())
    (record,) = quiet(caplog)
    assert record.getMessage() == "connection handler failed"
    assert isinstance(record.exc_info[1], ZeroDivisionError)  # type: ignore[index]


def test_a_message_over_max_size_ends_the_connection(run: Run) -> None:
    async def scenario() -> None:
        async with (
            aio.serve(echo, "127.0.0.1", 0, max_size=None) as server,
            aio.connect(uri_of(server), max_size=1000) as connection,
        ):
            await connection.send(bytes(1001))
            with pytest.raises(aio.ConnectionClosedError, match="sent 1009") as raised:
                await connection.recv()
            assert isinstance(raised.value.__cause__, aio.PayloadTooBig)

    run(scenario())


def test_a_peer_that_does_not_answer_is_given_up_after_close_timeout(run: Run) -> None:
    async def scenario() -> None:
        accepted: list[socket.socket] = []

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            key = re.search(rb"Sec-WebSocket-Key: (\S+)", head)[1].decode()  # type: ignore[index]
            writer.write(_switching(key))
            accepted.append(writer.get_extra_info("socket"))
            await reader.read()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        connection = await aio.connect(uri_of(server), close_timeout=0.1)
        begun = asyncio.get_running_loop().time()
        await connection.close()
        assert asyncio.get_running_loop().time() - begun < 4  # libwebsockets alone takes five
        with pytest.raises(aio.ConnectionClosedError, match="no close frame received") as raised:
            await connection.recv()
        assert isinstance(raised.value.__cause__, TimeoutError)
        server.close()
        await server.wait_closed()

    run(scenario())


def _switching(key: str) -> bytes:
    response = aio.Response.switching(key, [])
    return f"HTTP/1.1 101 Switching Protocols\r\n{response.headers}".encode()


def test_a_bad_close_code_is_refused(run: Run) -> None:
    async def scenario() -> None:
        async with (
            aio.serve(echo, "127.0.0.1", 0) as server,
            aio.connect(uri_of(server)) as connection,
        ):
            with pytest.raises(aio.ProtocolError):
                await connection.close(1006)
            await connection.send("still here")
            assert await connection.recv() == "still here"

    run(scenario())


# --- The server -----------------------------------------------------------------------------------


def test_closing_the_server_closes_connections_and_waits_for_handlers(run: Run) -> None:
    ended: list[str] = []

    async def handler(connection: aio.ServerConnection) -> None:
        await connection.wait_closed()
        await asyncio.sleep(0.02)
        ended.append("handler")

    async def scenario() -> None:
        server = await aio.serve(handler, "127.0.0.1", 0)
        assert server.is_serving()
        connection = await aio.connect(uri_of(server))
        server.close(code=1012, reason="restart")
        server.close()
        assert not server.is_serving()
        await server.wait_closed()
        assert ended == ["handler"]
        with pytest.raises(aio.ConnectionClosedError, match=r"received 1012 .* restart"):
            await connection.recv()
        assert server.sockets == ()

    run(scenario())


def test_closing_the_server_may_leave_connections_open(run: Run) -> None:
    async def scenario() -> None:
        server = await aio.serve(echo, "127.0.0.1", 0)
        connection = await aio.connect(uri_of(server))
        server.close(close_connections=False)
        await asyncio.sleep(0.01)
        await connection.send("still here")
        assert await connection.recv() == "still here"
        await connection.close()
        await server.wait_closed()

    run(scenario())


def test_serve_forever_ends_with_its_cancellation(run: Run) -> None:
    async def scenario() -> None:
        server = await aio.serve(echo, "127.0.0.1", 0)
        connection = await aio.connect(uri_of(server))
        serving = asyncio.ensure_future(server.serve_forever())
        await asyncio.sleep(0)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        await connection.wait_closed()
        assert connection.close_code == 1001

    run(scenario())


def test_a_handler_is_all_that_a_connection_has_for_a_task(run: Run) -> None:
    async def scenario() -> None:
        before = asyncio.all_tasks()
        async with (
            aio.serve(echo, "127.0.0.1", 0) as server,
            aio.connect(uri_of(server)) as connection,
        ):
            await connection.send("hello")
            await connection.recv()
            assert len(asyncio.all_tasks() - before) == 1

    run(scenario())


def test_process_request_answers_before_the_handshake(run: Run) -> None:
    async def health(connection: aio.ServerConnection, request: aio.Request) -> aio.Response | None:
        if request.path == "/health":
            response = connection.respond(200, "fine\n")
            response.headers["X-Here"] = "yes"
            return response
        connection.username = request.headers.get("X-Name")
        return None

    async def handler(connection: Any) -> None:
        await connection.send(connection.username)

    async def scenario() -> None:
        async with aio.serve(handler, "127.0.0.1", 0, process_request=health) as server:
            with pytest.raises(aio.InvalidStatus) as raised:
                await aio.connect(uri_of(server, "/health"))
            assert raised.value.response.status_code == raised.value.status == 200
            assert raised.value.response.headers["X-Here"] == "yes"
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n")
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answer.endswith(b"\r\n\r\nfine\n")
            writer.close()
            headers = {"X-Name": "me"}
            async with their_connect(uri_of(server), additional_headers=headers) as connection:
                assert await connection.recv() == "me"

    run(scenario())


def test_process_response_changes_the_response(run: Run) -> None:
    def add(_ws: object, _request: aio.Request, response: aio.Response) -> None:
        response.headers["X-One"] = "1"
        response.headers["X-One"] = "2"

    async def scenario() -> None:
        async with (
            aio.serve(echo, "127.0.0.1", 0, process_response=add) as server,
            their_connect(uri_of(server)) as connection,
        ):
            assert connection.response.headers.get_all("X-One") == ["1", "2"]

    run(scenario())


@pytest.mark.parametrize("name", ["process_request", "process_response", "select_subprotocol"])
def test_a_hook_that_raises_is_logged_and_answered_with_500(
    run: Run, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    def broken(*_arguments: object) -> None:
        raise ZeroDivisionError

    async def scenario() -> None:
        async with aio.serve(echo, "127.0.0.1", 0, **{name: broken}) as server:  # type: ignore[arg-type]
            with pytest.raises(TheirInvalidStatus, match="500"):
                await their_connect(uri_of(server))

    run(scenario())
    (record,) = quiet(caplog)
    assert isinstance(record.exc_info[1], ZeroDivisionError)  # type: ignore[index]


def test_origins_are_checked(run: Run) -> None:
    async def scenario() -> None:
        allowed = ["http://one", re.compile("http://t.*"), None]
        async with aio.serve(echo, "127.0.0.1", 0, origins=allowed) as server:
            for origin in ("http://one", "http://two", None):
                async with aio.connect(uri_of(server), origin=origin):
                    pass
            with pytest.raises(aio.InvalidStatus, match="403"):
                await aio.connect(uri_of(server), origin="http://evil")

    run(scenario())


def test_a_subprotocol_is_selected_or_the_client_refused(run: Run) -> None:
    def last(_ws: object, offered: list[str]) -> str | None:
        if "bad" in offered:
            raise aio.NegotiationError("no bad ones")
        return offered[-1] if offered else None

    async def scenario() -> None:
        async with aio.serve(echo, "127.0.0.1", 0, select_subprotocol=last) as server:
            async with their_connect(uri_of(server), subprotocols=["a", "b"]) as connection:
                assert connection.subprotocol == "b"
            async with their_connect(uri_of(server)) as connection:
                assert connection.subprotocol is None
            with pytest.raises(aio.InvalidStatus, match="400"):
                await aio.connect(uri_of(server), subprotocols=["bad"])
        async with aio.serve(echo, "127.0.0.1", 0, subprotocols=["chat"]) as server:
            with pytest.raises(aio.InvalidStatus, match="400"):
                await aio.connect(uri_of(server))
            with pytest.raises(aio.InvalidStatus, match="400"):
                await aio.connect(uri_of(server), subprotocols=["other"])

    run(scenario())


def test_a_socket_that_is_there_is_served(run: Run) -> None:
    async def scenario() -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        async with (
            aio.serve(echo, sock=sock) as server,
            aio.connect(uri_of(server)) as connection,
        ):
            await connection.send("hello")
            assert await connection.recv() == "hello"

    run(scenario())


def test_a_unix_socket_is_served(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def scenario() -> None:
        async with aio.unix_serve(echo, path), aio.unix_connect(path) as connection:
            await connection.send("hello")
            assert await connection.recv() == "hello"
            assert connection.remote_address == str(path)
        assert not path.exists()

    run(scenario())


def test_localhost_is_served_on_every_address(run: Run) -> None:
    async def scenario() -> None:
        async with aio.serve(echo, "localhost", 0) as server:
            for sock in server.sockets:
                async with aio.connect(
                    "ws://localhost/", host=sock.getsockname()[0], port=sock.getsockname()[1]
                ) as connection:
                    assert connection.request.headers["Host"] == "localhost"

    run(scenario())


# --- TLS ------------------------------------------------------------------------------------------


def test_tls_goes_both_ways(run: Run) -> None:
    made = certificate()
    tls = aio.TLS(cert=made.cert, key=made.key)

    async def scenario() -> None:
        async with aio.serve(echo, "127.0.0.1", 0, ssl=tls) as server:
            uri = uri_of(server).replace("ws://127.0.0.1", "wss://localhost")
            async with their_connect(uri, ssl=client_context()) as theirs:
                await theirs.send("hello")
                assert await theirs.recv() == "hello"
            async with aio.connect(uri, ssl=aio.TLS(ca=ca_of())) as ours:
                await ours.send("hello")
                assert await ours.recv() == "hello"
            async with aio.connect(uri, ssl=aio.TLS(verify=False)) as ours:
                assert ours.state is aio.State.OPEN
            with pytest.raises(aio.TLSError) as raised:
                await aio.connect(uri)
            assert isinstance(raised.value, OSError)
        async with their_serve(echo, "127.0.0.1", 0, ssl=server_context()) as server:
            uri = uri_of(server).replace("ws://127.0.0.1", "wss://localhost")
            async with aio.connect(uri, ssl=aio.TLS(ca=ca_of())) as ours:
                await ours.send("hello")
                assert await ours.recv() == "hello"

    run(scenario())


def test_an_ssl_context_is_refused_with_what_to_give_instead() -> None:
    context = ssl.create_default_context()
    with pytest.raises(TypeError, match=r"uvws\.aio\.TLS"):
        aio.connect("wss://localhost/", ssl=context)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"uvws\.aio\.TLS"):
        aio.serve(echo, "localhost", 0, ssl=context)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="incompatible"):
        aio.connect("ws://localhost/", ssl=True)


# --- Connecting -----------------------------------------------------------------------------------


def test_a_refused_connection_is_an_oserror(run: Run) -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            await aio.connect(f"ws://127.0.0.1:{port}/")

    run(scenario())


def test_open_timeout_is_a_timeout_error(run: Run) -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            with pytest.raises(TimeoutError, match="opening handshake"):
                await aio.connect(f"ws://127.0.0.1:{port}/", open_timeout=0.05)

    run(scenario())


@pytest.mark.parametrize("uri", ["http://localhost/", "ws://", "ws://host:0/", "nonsense"])
def test_a_bad_uri_is_refused_at_once(uri: str) -> None:
    with pytest.raises(aio.InvalidURI) as raised:
        aio.connect(uri)
    assert isinstance(raised.value, uvws.InvalidURL)


def test_redirects_are_followed_without_credentials_to_others(run: Run) -> None:
    seen: list[str | None] = []

    def redirect(location: Any) -> Any:
        def process(connection: aio.ServerConnection, request: aio.Request) -> Any:
            seen.append(request.headers.get("Authorization"))
            if request.path == "/end":
                return None
            response = connection.respond(302, "")
            response.headers["Location"] = location()
            return response

        return process

    async def scenario() -> None:
        async with (
            aio.serve(echo, "127.0.0.1", 0, process_request=redirect(lambda: "/end")) as second,
            aio.serve(
                echo, "127.0.0.1", 0, process_request=redirect(lambda: uri_of(second))
            ) as first,
            aio.connect(
                uri_of(first), additional_headers={"Authorization": "secret"}
            ) as connection,
        ):
            assert connection.request.path == "/end"
        assert seen == ["secret", None, None]

    run(scenario())


def test_iterating_connects_again_after_a_loss_and_after_5xx(run: Run) -> None:
    answers = [503, None, 500, None, 402]
    delays: list[float] = []
    opened: list[aio.ClientConnection] = []

    async def use_each(connections: aio.connect) -> None:
        async for connection in connections:
            opened.append(connection)
            await connection.send("hello")
            assert await connection.recv() == "hello"

    def process(connection: aio.ServerConnection, _request: object) -> aio.Response | None:
        status = answers.pop(0)
        return None if status is None else connection.respond(status, "")

    def backoff() -> Any:
        while True:
            delays.append(0)
            yield 0

    async def scenario() -> None:
        async with aio.serve(echo, "127.0.0.1", 0, process_request=process) as server:
            with pytest.raises(aio.InvalidStatus, match="402"):
                await use_each(aio.connect(uri_of(server), reconnect_delays=backoff))
        assert (len(opened), len(delays)) == (2, 2)

    run(scenario())


# --- What they share ------------------------------------------------------------------------------


def test_a_loop_that_ends_takes_the_shared_context_with_it_silently(run: Run) -> None:
    async def scenario() -> None:
        async with aio.serve(echo, "127.0.0.1", 0) as server, aio.connect(uri_of(server)):
            pass

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(scenario())
        gc.collect()
    from uvws.aio import contexts

    assert not contexts._shared


def test_contexts_with_certificates_of_their_own_do_not_pile_up(run: Run) -> None:
    async def scenario() -> None:
        from uvws.aio import contexts

        for number in range(30):
            files = aio.TLS(ca=b"not read %d" % number).files()
            contexts.shared_core(files)
        (kept,) = contexts._shared.values()
        assert len(kept) < 12

    run(scenario())


def test_names_are_logged(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with aio.serve(echo, "127.0.0.1", 0):
            pass

    with caplog.at_level(logging.INFO, "uvws.aio.server"):
        run(scenario())
    assert [record.getMessage().split()[1] for record in caplog.records] == [
        "listening", "closing", "closed",
    ]  # fmt: skip
