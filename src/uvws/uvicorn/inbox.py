"""What an application receives."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from ..connection import Connection

Event = dict[str, Any]


class Inbox:
    """Messages and events in the order in which they came.

    While more than a number of messages waits, nothing is read from the peer.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int) -> None:
        """Create it.

        Args:
            loop: the running one.
            limit: so many messages may wait.
        """
        self._loop = loop
        self._limit = limit
        self._queue: deque[str | bytes | Event] = deque()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._end: Event | None = None
        self._paused: Connection | None = None
        self._is_checking = False

    def message(self, connection: Connection, data: str | bytes) -> None:
        """Take a message; this is `on_message`."""
        self._queue.append(data)
        if self._waiters:
            self._wake()
        if len(self._queue) > self._limit and not self._is_checking:
            # Behind the application, if that waits for messages, and before more is read.
            self._is_checking = True
            self._loop.call_soon(self._check, connection)

    def event(self, event: Event) -> None:
        """Take an event of ASGI."""
        self._queue.append(event)
        self._wake()

    def end(self, event: Event) -> None:
        """Take the last event, which is received again and again; only the first one counts."""
        if self._end is None:
            self._end = event
            while self._waiters:
                self._wake()

    async def receive(self) -> Event:
        """Wait for the next event; this is ASGI's `receive`."""
        queue = self._queue
        while not queue:
            if self._end is not None:
                return self._end.copy()
            await self._wait()
        item = queue.popleft()
        if self._paused is not None and len(queue) <= self._limit // 2:
            connection, self._paused = self._paused, None
            connection.resume_recv()
        if isinstance(item, str):
            return {"type": "websocket.receive", "text": item}
        if isinstance(item, bytes):
            return {"type": "websocket.receive", "bytes": item}
        return item

    def _check(self, connection: Connection) -> None:
        self._is_checking = False
        if self._paused is None and len(self._queue) > self._limit:
            self._paused = connection
            connection.pause_recv()

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                break

    async def _wait(self) -> None:
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if self._queue:  # it was woken as well: somebody else can have what is there
                self._wake()
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
