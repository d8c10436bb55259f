"""Loops that run the coroutines of a test."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from .deadlines import time_limit

KINDS = ("uvloop", "asyncio")
LOGGER = "uvws.aio"

_Result = TypeVar("_Result")


class Coroutines:
    """Runs a coroutine to its end on a new loop of a kind, and sees that all ends with it.

    Attributes:
        kind: "uvloop" or "asyncio".
        reported: what was said to the exception handler of the loop. What is left over fails the
            test.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.reported: list[dict[str, Any]] = []

    def __call__(self, coroutine: Coroutine[Any, Any, _Result], timeout: float = 10) -> _Result:
        """Run it.

        Args:
            coroutine: what the test does.
            timeout: in seconds, before scaling.
        """
        loop = self._new_loop()
        loop.set_exception_handler(lambda _loop, context: self.reported.append(context))
        try:
            return loop.run_until_complete(asyncio.wait_for(coroutine, time_limit(timeout)))
        finally:
            self._end(loop)

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        if self.kind == "asyncio":
            return asyncio.new_event_loop()
        uvloop = pytest.importorskip("uvloop")
        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        return loop

    @staticmethod
    def _end(loop: asyncio.AbstractEventLoop) -> None:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def until(condition: Any, timeout: float = 5) -> None:
    """Wait until a condition holds; fail if that takes too long."""
    __tracebackhide__ = True
    deadline = asyncio.get_running_loop().time() + time_limit(timeout)
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            pytest.fail("the condition does not come to hold")
        await asyncio.sleep(0.001)


def port_of(server: Any) -> int:
    """Return the TCP port of a server, ours or theirs."""
    port: int = server.sockets[0].getsockname()[1]
    return port


def uri_of(server: Any, path: str = "/") -> str:
    """Return the URI of a plain server."""
    return f"ws://127.0.0.1:{port_of(server)}{path}"


async def echo(connection: Any) -> None:
    """Send each message back."""
    async for message in connection:
        await connection.send(message)


def quiet(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return the errors that were logged by uvws.aio."""
    return [
        record
        for record in caplog.records
        if record.levelno >= logging.ERROR and record.name.startswith(LOGGER)
    ]
