"""Pings that wait for their Pongs."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable

from .exceptions import ConcurrencyError

_SIZE = 4  # bytes of a payload of our own


class Pings:
    """The pings of one connection.

    Attributes:
        latency: the last round trip, in seconds; 0.0 before the first.
    """

    __slots__ = ("_loop", "_pending", "latency")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pending: dict[bytes, tuple[asyncio.Future[float], float]] = {}
        self.latency = 0.0

    def update(self, latency: float) -> None:
        """Take a round trip that was measured elsewhere; 0.0 for none."""
        self.latency = latency or self.latency

    def payload(self, wanted: bytes | None) -> bytes:
        """Return a payload that no other Ping waits with.

        Raises:
            ConcurrencyError: the wanted one is in use.
        """
        if wanted is not None:
            if wanted in self._pending:
                raise ConcurrencyError("already waiting for a pong with the same data")
            return wanted
        while True:
            payload = os.urandom(_SIZE)
            if payload not in self._pending:
                return payload

    def sent(self, payload: bytes) -> Awaitable[float]:
        """Return a future for the round trip of a Ping that was sent."""
        future: asyncio.Future[float] = self._loop.create_future()
        self._pending[payload] = future, time.monotonic()
        return future

    def answered(self, payload: bytes) -> None:
        """A Pong came: it answers that Ping and all before it (RFC 6455, section 5.5.3)."""
        if payload not in self._pending:
            return
        now = time.monotonic()
        for each in list(self._pending):
            future, since = self._pending.pop(each)
            if not future.done():
                future.set_result(now - since)
            if each == payload:
                self.latency = now - since
                return

    def end(self, make_error: Callable[[], Exception]) -> None:
        """The connection is closed: nobody is answered any more."""
        for future, _ in self._pending.values():
            if not future.done():
                future.set_exception(make_error())
                future.exception()  # who does not ask is not to read of it in the log
        self._pending.clear()
