"""A process of clients made of other libraries, which also do what a good client does not."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import struct
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import websockets
from websockets.asyncio.client import connect

from support.wire import upgrade_request

from .ledger import CLOSE_CODES, Entry, Ledger
from .process import new_descriptors, on_stop, open_descriptors, tell
from .script import Plan, Script
from .settings import Settings

_LONG_AGO = struct.pack("ii", 1, 0)  # for SO_LINGER: a RST instead of a FIN
_GARBAGE = b"\xff" * 64  # reserved bits and an opcode that is none
_ABANDONED_A_SECOND = 5.0
_ENDS_WITHIN = 60.0


class WebsocketsPeer:
    """A connection of the `websockets` package."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.transport = connection.transport
        self.code = 0

    async def send(self, message: str | bytes, parts: int) -> None:
        await self._connection.send(_cut(message, parts) if parts else message)

    async def messages(self) -> AsyncIterator[str | bytes]:
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                yield await self._connection.recv()
        received = self._connection.protocol.close_rcvd
        self.code = received.code if received is not None else 1006

    async def close(self, code: int) -> None:
        await self._connection.close(code)


class AiohttpPeer:
    """A connection of aiohttp."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.transport = connection._response.connection.transport
        self.code = 0

    async def send(self, message: str | bytes, _parts: int) -> None:
        if isinstance(message, str):
            await self._connection.send_str(message)
        else:
            await self._connection.send_bytes(message)

    async def messages(self) -> AsyncIterator[str | bytes]:
        with contextlib.suppress(ConnectionResetError):  # by its own answer to a Close frame
            async for message in self._connection:
                yield message.data
        self.code = self._connection.close_code or 1006

    async def close(self, code: int) -> None:
        await self._connection.close(code=code)


class Foreign:
    """Keeps up so many connections, half of them with each library."""

    def __init__(self, settings: Settings, first_stream: int) -> None:
        self._settings = settings
        self._next_stream = first_stream
        self._ledger = Ledger(Path(settings.directory, "foreign.ledger"))
        self._random = random.Random(f"{settings.seed}/foreign")
        self._tls = ssl.create_default_context(cafile=str(Path(settings.directory, "ca.pem")))
        self._tls.check_hostname = False
        self._stopped = asyncio.Event()

    async def run(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        before = open_descriptors()
        on_stop(lambda: loop.call_soon_threadsafe(self._stopped.set))
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            tasks = [asyncio.create_task(self._keep_up(n, session)) for n in range(count)]
            tasks.append(asyncio.create_task(self._abandon_handshakes()))
            await asyncio.gather(*tasks)
        await asyncio.sleep(0.5)
        tell(final=True, descriptors=new_descriptors(before))

    async def _keep_up(self, number: int, session: aiohttp.ClientSession) -> None:
        await asyncio.sleep(number / 50)
        while not self._stopped.is_set():
            stream, self._next_stream = self._next_stream, self._next_stream + 1
            kind = ("websockets", "aiohttp")[number % 2]
            settings = self._settings
            plan = Plan.of(settings.seed, stream, settings.shortest_life, settings.longest_life)
            entry = Entry(stream, "client", kind)
            try:
                async with contextlib.AsyncExitStack() as stack:
                    peer = await stack.enter_async_context(self._connected(entry, plan, session))
                    await _Life(settings, self._ledger, entry, plan, peer, self._stopped).live()
            except (OSError, websockets.WebSocketException, aiohttp.ClientError) as error:
                if entry.fault != "reset" and entry.fault != "drop":
                    self._ledger.complain(stream, f"{kind}: {error!r}")
            self._ledger.write(entry)

    @contextlib.asynccontextmanager
    async def _connected(
        self, entry: Entry, plan: Plan, session: aiohttp.ClientSession
    ) -> AsyncIterator[WebsocketsPeer | AiohttpPeer]:
        scheme, port = ("wss", self._settings.tls_port) if plan.tls else ("ws", self._settings.port)
        url = f"{scheme}://127.0.0.1:{port}/?stream={entry.stream}&kind={entry.kind}"
        if entry.kind == "websockets":
            async with connect(
                url,
                ssl=self._tls if plan.tls else None,
                compression="deflate" if plan.compressed else None,
                max_size=None,
                open_timeout=_ENDS_WITHIN,
                ping_interval=None,
            ) as connection:
                yield WebsocketsPeer(connection)
        else:
            async with session.ws_connect(
                url,
                ssl=self._tls,
                compress=15 if plan.compressed else 0,
                max_msg_size=0,
            ) as response:
                yield AiohttpPeer(response)

    async def _abandon_handshakes(self) -> None:
        """Begin handshakes and end them anywhere."""
        while not self._stopped.is_set():
            await asyncio.sleep(self._random.expovariate(_ABANDONED_A_SECOND))
            tls = self._random.random() < 0.5
            port = self._settings.tls_port if tls else self._settings.port
            request = self._random.randbytes(400) if tls else upgrade_request()
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request[: self._random.randrange(len(request))])
            await asyncio.sleep(self._random.random() / 10)
            if self._random.random() < 0.5:
                reset(writer.transport)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            self._ledger.count("handshakes abandoned")


class _Life:
    """One connection from its opening on."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        entry: Entry,
        plan: Plan,
        peer: WebsocketsPeer | AiohttpPeer,
        stopped: asyncio.Event,
    ) -> None:
        self._ledger = ledger
        self._entry = entry
        self._plan = plan
        self._peer = peer
        self._stopped = stopped
        self._random = random.Random(f"{settings.seed}/{entry.stream}/client/acts")
        self._mean_pause = 1 / settings.tempo
        self._sends = Script(settings.seed, entry.stream, "client")
        self._expects = Script(settings.seed, entry.stream, "server")
        self._until = time.monotonic() + plan.life

    async def live(self) -> None:
        reading = asyncio.create_task(self._read())
        writing = asyncio.create_task(self._write(reading))
        await asyncio.wait([reading])
        await writing
        if not reading.cancelled():
            reading.result()
        self._entry.code = self._peer.code

    async def _read(self) -> None:
        async for message in self._peer.messages():
            expected = self._expects.take()
            if message == expected and type(message) is type(expected):
                self._entry.received += 1
            else:
                number = self._expects.count - 1
                found = self._expects.find(message)
                what = f"{self._entry.kind}: instead of number {number}: {found}"
                self._ledger.complain(self._entry.stream, what)
                return
            if "client" in self._plan.pauses and self._random.random() < 0.1:
                await asyncio.sleep(self._random.random() * (2 if self._plan.slow else 0.1))

    async def _write(self, reading: asyncio.Task[None]) -> None:
        while not reading.done() and not self._stopped.is_set():
            await asyncio.wait([reading], timeout=self._random.expovariate(1) * self._mean_pause)
            if time.monotonic() >= self._until and self._plan.ended_by != "server":
                break
            await self._send_some(reading)
        if not reading.done():
            await self._end(reading)

    async def _send_some(self, reading: asyncio.Task[None]) -> None:
        for _ in range(self._random.randint(1, 8)):
            if reading.done():
                return
            message = self._sends.take()
            parts = self._random.randint(1, 4) if self._plan.fragments else 0
            self._entry.offered += 1
            self._entry.bytes_sent += len(message)
            try:
                await self._peer.send(message, parts)
            except (OSError, websockets.ConnectionClosed, aiohttp.ClientError):
                return
            self._entry.sent += 1

    async def _end(self, reading: asyncio.Task[None]) -> None:
        entry = self._entry
        entry.fault = "" if self._stopped.is_set() else self._plan.fault
        self._ledger.count(f"faults of clients: {entry.fault or 'none'}")
        if entry.fault == "garbage":
            self._peer.transport.write(_GARBAGE)
            await asyncio.wait([reading], timeout=_ENDS_WITHIN)
        elif entry.fault in ("reset", "drop"):
            if entry.fault == "reset":
                reset(self._peer.transport)
            self._peer.transport.abort()
            await asyncio.wait([reading], timeout=_ENDS_WITHIN)
        else:
            entry.closed = True
            with contextlib.suppress(OSError):  # the server may have closed meanwhile
                await self._peer.close(CLOSE_CODES["client"])
        if not reading.done():
            await asyncio.wait([reading], timeout=_ENDS_WITHIN)
        if not reading.done():
            self._ledger.complain(entry.stream, f"not over in time: {entry}, {self._plan}")
            self._peer.transport.abort()
            reading.cancel()


def reset(transport: Any) -> None:
    """Have the socket end with a RST when it is closed."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return  # it ended meanwhile
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LONG_AGO)


def _cut(message: str | bytes, parts: int) -> Any:
    size = len(message) // parts + 1
    return [message[at : at + size] for at in range(0, size * parts, size)]


def main() -> None:
    settings = Settings.from_json(sys.argv[1])
    count, first_stream = sys.argv[2:]

    async def run() -> None:
        await Foreign(settings, int(first_stream)).run(int(count))

    asyncio.run(run())


if __name__ == "__main__":
    main()
