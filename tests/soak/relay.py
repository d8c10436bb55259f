"""A relay between clients and the server that breaks what goes through it, for both ends alike."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path
from typing import Any

from .foreign import reset
from .ledger import Ledger
from .process import new_descriptors, on_stop, open_descriptors, tell
from .settings import Settings

_STALL = 2.0
_CRUMBS = 300  # bytes in each direction that travel one by one


class Relayed:
    """One connection through the relay.

    After so many bytes, anywhere in a frame or in the handshake, it is reset, closed, or stalled
    and then reset; in both directions, or in one of them first.
    """

    def __init__(self, source: random.Random, ledger: Ledger) -> None:
        self._left = int(10 ** source.uniform(1, 6.5))
        self._fault = source.choice(("reset", "close", "half-close", "stall"))
        self._crumbs = {side: _CRUMBS if source.random() < 0.2 else 0 for side in (0, 1)}
        self._ledger = ledger
        self._transports: list[asyncio.Transport | None] = [None, None]
        self._is_over = False

    def made(self, side: int, transport: asyncio.Transport) -> None:
        self._transports[side] = transport
        if self._is_over:
            transport.abort()

    def received(self, side: int, data: bytes) -> None:
        other = self._transports[1 - side]
        if self._is_over or other is None:
            return
        self._left -= len(data)
        if self._left < 0:
            other.write(data[: self._left])  # up to the place where it breaks
            self._break()
            return
        while data and self._crumbs[side] > 0:
            self._crumbs[side] -= 1
            other.write(data[:1])
            data = data[1:]
        other.write(data)

    def set_writing(self, side: int, on: bool) -> None:
        """Have the other side read only as fast as this one takes it."""
        other = self._transports[1 - side]
        if other is not None and not other.is_closing():
            (other.resume_reading if on else other.pause_reading)()

    def lost(self, side: int) -> None:
        other = self._transports[1 - side]
        if other is not None:
            other.close()

    def _break(self) -> None:
        self._is_over = True
        self._ledger.count(f"faults of the relay: {self._fault}")
        if self._fault == "reset":
            self._reset()
        elif self._fault == "close":
            self._close()
        else:
            if self._fault == "half-close":
                for each in self._transports:
                    if each is not None and not each.is_closing():
                        each.write_eof()
            asyncio.get_running_loop().call_later(_STALL, self._reset)

    def _reset(self) -> None:
        for each in self._transports:
            if each is not None:
                reset(each)
                each.abort()

    def _close(self) -> None:
        for each in self._transports:
            if each is not None:
                each.close()


class Side(asyncio.Protocol):
    """One of the two sockets of a connection."""

    def __init__(self, relayed: Relayed, side: int) -> None:
        self._relayed = relayed
        self._side = side

    def connection_made(self, transport: Any) -> None:
        self._relayed.made(self._side, transport)

    def data_received(self, data: bytes) -> None:
        self._relayed.received(self._side, data)

    def eof_received(self) -> None:
        return None

    def pause_writing(self) -> None:
        self._relayed.set_writing(self._side, on=False)

    def resume_writing(self) -> None:
        self._relayed.set_writing(self._side, on=True)

    def connection_lost(self, _error: Exception | None) -> None:
        self._relayed.lost(self._side)


class Incoming(Side):
    """The client's side, which makes the server's."""

    def __init__(self, relayed: Relayed, port: int) -> None:
        super().__init__(relayed, 0)
        self._port = port

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.pause_reading()
        self._task = asyncio.create_task(self._connect(transport))

    async def _connect(self, transport: Any) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: Side(self._relayed, 1), "127.0.0.1", self._port)
        if not transport.is_closing():
            transport.resume_reading()


async def relay(settings: Settings) -> None:
    """Relay until the conductor says stop."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    source = random.Random(f"{settings.seed}/relay")
    ledger = Ledger(Path(settings.directory, "relay.ledger"))

    async def listen(port: int) -> asyncio.Server:
        return await loop.create_server(
            lambda: Incoming(Relayed(source, ledger), port), "127.0.0.1", 0, backlog=1000
        )

    servers = [await listen(settings.port), await listen(settings.tls_port)]
    before = open_descriptors()
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    tell(relay_port=ports[0], tls_relay_port=ports[1])
    on_stop(lambda: loop.call_soon_threadsafe(stopped.set))
    await stopped.wait()
    await asyncio.sleep(0.1)
    tell(final=True, descriptors=new_descriptors(before))


def main() -> None:
    settings = Settings.from_json(sys.argv[1])
    asyncio.run(relay(settings))


if __name__ == "__main__":
    main()
