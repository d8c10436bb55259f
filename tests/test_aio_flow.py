"""uvws.aio: backpressure, cancellation at every await, keepalive."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from websockets.asyncio.client import connect as their_connect
from websockets.asyncio.server import serve as their_serve
from websockets.sync.client import connect as connect_blocking

from support.coroutines import Coroutines, echo, until, uri_of
from support.deadlines import time_limit
from support.wire import upgrade_request
from uvws import aio
from uvws.aio import contexts

Run = Coroutines
BIG = bytes(64 * 1024)


@contextlib.asynccontextmanager
async def deaf_client(server: aio.Server) -> AsyncIterator[socket.socket]:
    """A client that reads nothing behind the handshake, but by hand."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    try:
        await loop.sock_connect(sock, server.sockets[0].getsockname())
        await loop.sock_sendall(sock, upgrade_request())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await loop.sock_recv(sock, 1)
        yield sock
    finally:
        sock.close()


class Served:
    """A server whose one connection the test has in its hands."""

    def __init__(self, **options: Any) -> None:
        self.connection: asyncio.Future[aio.ServerConnection] = (
            asyncio.get_running_loop().create_future()
        )
        self.server = aio.serve(self._handle, "127.0.0.1", 0, compression=None, **options)

    async def _handle(self, connection: aio.ServerConnection) -> None:
        self.connection.set_result(connection)
        await connection.wait_closed()


def queued(connection: aio.Connection) -> int:
    """Return how many bytes wait to be sent."""
    assert connection._wire is not None
    return connection._wire.send_queue_size


async def fill(connection: aio.Connection) -> tuple[asyncio.Task[None], int]:
    """Send until a call has to wait; return that and how many calls there were."""
    sent = 0
    while True:
        task = asyncio.ensure_future(connection.send(BIG))
        sent += 1
        for _ in range(20):
            await asyncio.sleep(0.001)
            if task.done():
                break
        else:
            return task, sent
        await task


async def read_away(sock: socket.socket, size: int) -> int:
    """Read so many bytes."""
    loop = asyncio.get_running_loop()
    left = size
    while left > 0:
        left -= len(await loop.sock_recv(sock, 1 << 20))
    return size


# --- Sending --------------------------------------------------------------------------------------


def test_send_waits_while_the_peer_does_not_read(run: Run) -> None:
    async def scenario() -> None:
        served = Served(write_limit=2**15)
        async with served.server as server, deaf_client(server) as peer:
            connection = await served.connection
            waiting, sent = await fill(connection)
            assert 2**15 < queued(connection) <= 2**15 + len(BIG)
            assert not waiting.done()
            await read_away(peer, sent * len(BIG))
            await waiting
            assert queued(connection) == 0
            connection.abort()

    run(scenario())


def test_send_does_not_wait_below_the_high_water_mark(run: Run) -> None:
    async def scenario() -> None:
        served = Served(write_limit=2**15)
        async with served.server as server, deaf_client(server):
            connection = await served.connection
            for _ in range(100):
                sending = connection.send("x" * 100)
                with pytest.raises(StopIteration):
                    sending.send(None)
            connection.abort()

    run(scenario())


def test_a_send_that_waits_fails_with_the_connection(run: Run) -> None:
    async def scenario() -> None:
        served = Served()
        async with served.server as server, deaf_client(server):
            connection = await served.connection
            waiting, _ = await fill(connection)
            connection.abort()
            with pytest.raises(aio.ConnectionClosedError):
                await waiting

    run(scenario())


def test_a_cancelled_send_leaves_the_connection_usable(run: Run) -> None:
    async def scenario() -> None:
        served = Served()
        async with served.server as server, deaf_client(server) as peer:
            connection = await served.connection
            waiting, sent = await fill(connection)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await read_away(peer, sent * len(BIG))
            await until(lambda: queued(connection) == 0)
            await connection.send("hello")
            tail = b""
            while not tail.endswith(b"hello"):
                tail += await asyncio.get_running_loop().sock_recv(peer, 1 << 20)
            connection.abort()

    run(scenario())


def test_broadcasts_to_a_peer_that_does_not_read_are_bounded(run: Run) -> None:
    message = bytes(8 * 1024 * 1024)

    async def scenario() -> None:
        served = Served()
        async with served.server as server, deaf_client(server):
            connection = await served.connection
            for _ in range(12):
                aio.broadcast(server.connections, message)
                await asyncio.sleep(0)
            assert queued(connection) <= 72 * 1024 * 1024
            await until(lambda: connection.state is not aio.State.OPEN)
            connection.abort()
            with pytest.raises(aio.ConnectionClosedError, match="1013"):
                await connection.recv()

    run(scenario())


# --- Receiving ------------------------------------------------------------------------------------


def test_a_slow_consumer_stops_the_reading(run: Run) -> None:
    count, size = 20_000, 1000
    one_read = 128 * 1024

    async def scenario() -> None:
        served = Served(max_queue=16)
        async with (
            served.server as server,
            their_connect(uri_of(server), compression=None, ping_interval=None) as peer,
        ):
            connection = await served.connection
            sending = asyncio.ensure_future(_send_numbers(peer, count, size))
            await until(lambda: connection._paused)
            await asyncio.sleep(0.05)
            assert not sending.done()
            assert 16 < len(connection._queue) <= 16 + 2 * one_read // size
            for number in range(count):
                message = await connection.recv()
                assert int(message[:10]) == number
            await sending

    run(scenario(), timeout=30)


async def _send_numbers(peer: Any, count: int, size: int) -> None:
    for number in range(count):
        await peer.send(f"{number:010}".ljust(size))


def test_a_consumer_that_keeps_up_never_stops_the_reading(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[aio.Connection] = []
    from uvws.connection import Connection

    pause = Connection.pause_recv
    monkeypatch.setattr(Connection, "pause_recv", lambda self: (pauses.append(self), pause(self)))

    async def scenario() -> None:
        async with (
            aio.serve(echo, "127.0.0.1", 0, compression=None) as server,
            aio.connect(uri_of(server), compression=None) as connection,
        ):
            for _ in range(20):
                for _ in range(100):
                    await connection.send("hello")
                for _ in range(100):
                    await connection.recv()
        assert not pauses

    run(scenario())


def test_a_cancelled_recv_loses_nothing(run: Run) -> None:
    async def scenario() -> None:
        async with (
            aio.serve(echo, "127.0.0.1", 0) as server,
            aio.connect(uri_of(server)) as connection,
        ):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(connection.recv(), 0.001)
            receiving = asyncio.ensure_future(connection.recv())
            await asyncio.sleep(0)
            assert connection._wire is not None
            connection.received(connection._wire, "hello")  # as if it came between two turns
            receiving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await receiving
            assert await connection.recv() == "hello"

    run(scenario())


# --- Other awaits that are cancelled --------------------------------------------------------------


@pytest.mark.parametrize("turns", range(6))
def test_a_cancelled_connect_leaves_nothing(run: Run, turns: int) -> None:
    async def scenario() -> None:
        async with aio.serve(echo, "127.0.0.1", 0) as server:
            connecting = asyncio.ensure_future(aio.connect(uri_of(server))._connect())
            for _ in range(turns):
                await asyncio.sleep(0)
            connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await (await connecting).close()
            _, core = contexts.shared_core()
            await until(lambda: not core.connections)

    run(scenario())


def test_a_cancelled_connect_to_a_silent_server_leaves_nothing(run: Run) -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            uri = f"ws://127.0.0.1:{silent.getsockname()[1]}/"
            connecting = asyncio.ensure_future(aio.connect(uri)._connect())
            await asyncio.sleep(0.02)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            _, core = contexts.shared_core()
            assert not core.connections

    run(scenario())


def test_a_cancelled_close_goes_on(run: Run) -> None:
    async def scenario() -> None:
        async with aio.serve(echo, "127.0.0.1", 0) as server:
            connection = await aio.connect(uri_of(server))
            closing = asyncio.ensure_future(connection.close())
            waiting = asyncio.ensure_future(connection.wait_closed())
            others = asyncio.ensure_future(connection.wait_closed())
            await asyncio.sleep(0)
            closing.cancel()
            waiting.cancel()
            await others
            assert connection.close_code == 1000

    run(scenario())


def test_a_message_in_fragments_that_is_cancelled_ends_the_connection(run: Run) -> None:
    async def parts() -> Any:
        yield "a"
        await asyncio.Event().wait()

    async def scenario() -> None:
        async with (
            aio.serve(echo, "127.0.0.1", 0) as server,
            aio.connect(uri_of(server)) as connection,
        ):
            sending = asyncio.ensure_future(connection.send(parts()))
            await asyncio.sleep(0.01)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            with pytest.raises(aio.ConnectionClosedError, match="sent 1011"):
                await connection.recv()

    run(scenario())


def test_a_cancelled_handler_closes_its_connection(run: Run) -> None:
    tasks: list[asyncio.Task[Any]] = []

    async def handler(connection: aio.ServerConnection) -> None:
        tasks.append(asyncio.current_task())  # type: ignore[arg-type]
        await connection.recv()

    async def scenario() -> None:
        async with (
            aio.serve(handler, "127.0.0.1", 0) as server,
            aio.connect(uri_of(server)) as connection,
        ):
            await until(lambda: tasks)
            tasks[0].cancel()
            with pytest.raises(aio.ConnectionClosedError, match="received 1011"):
                await connection.recv()

    run(scenario())


# --- Keepalive ------------------------------------------------------------------------------------


def test_a_silent_peer_is_pinged_and_given_up(run: Run) -> None:
    async def scenario() -> None:
        served = Served(ping_interval=0.05, ping_timeout=0.05)
        async with served.server as server, deaf_client(server):
            connection = await served.connection
            with pytest.raises(aio.ConnectionClosedError) as raised:
                await connection.recv()
            assert isinstance(raised.value.__cause__, TimeoutError)
            assert connection.close_code == 1006

    run(scenario())


def test_a_peer_that_answers_pings_lives_and_its_latency_is_known(run: Run) -> None:
    async def scenario() -> None:
        async with (
            their_serve(echo, "127.0.0.1", 0, ping_interval=None) as server,
            aio.connect(uri_of(server), ping_interval=0.03, ping_timeout=0.2) as connection,
        ):
            assert connection.latency == 0
            await until(lambda: connection.latency > 0)
            await connection.send("hello")
            assert await connection.recv() == "hello"

    run(scenario())


@pytest.fixture
def chatting() -> Iterator[Any]:
    """Start a client in a thread that sends for a while and says what it was answered."""
    threads: list[threading.Thread] = []

    def start(uri: str, answers: list[str]) -> threading.Thread:
        def chat() -> None:
            with connect_blocking(uri, ping_interval=None) as client:
                for number in range(3):
                    client.send(str(number))
                    answers.append(str(client.recv(timeout=time_limit(10))))

        threads.append(threading.Thread(target=chat))
        threads[-1].start()
        return threads[-1]

    yield start
    for thread in threads:
        thread.join(time_limit(10))


def test_a_blocked_loop_kills_no_healthy_connection(run: Run, chatting: Any) -> None:
    answers: list[str] = []

    async def scenario() -> None:
        async with aio.serve(echo, "127.0.0.1", 0, ping_interval=0.1, ping_timeout=0.1) as server:
            thread = chatting(uri_of(server), answers)
            await until(lambda: answers)
            time.sleep(0.5)
            await until(lambda: not thread.is_alive())

    run(scenario())
    assert answers == ["0", "1", "2"]


def test_a_connection_that_waits_for_its_consumer_is_not_given_up(run: Run) -> None:
    async def scenario() -> None:
        served = Served(max_queue=1, ping_interval=0.03, ping_timeout=0.03)
        async with (
            served.server as server,
            their_connect(uri_of(server), ping_interval=None) as peer,
        ):
            connection = await served.connection
            for number in range(5):
                await peer.send(str(number))
            await until(lambda: connection._paused)
            await asyncio.sleep(0.3)
            for number in range(5):
                assert await connection.recv() == str(number)

    run(scenario())
