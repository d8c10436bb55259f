"""Peers from the `websockets` package, each in a thread with an asyncio loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import websockets
from websockets.asyncio.server import serve

from .deadlines import time_limit

_STOP_LIMIT = 10.0


class ClientThread:
    """A coroutine that runs in a thread, while the test's own loop runs in the test's thread."""

    def __init__(self, function: Callable[[], Awaitable[Any]], on_done: Callable[[], None]) -> None:
        self._function = function
        self._on_done = on_done
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._started = threading.Event()
        self._finished = False
        self._outcome: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="websockets client", daemon=True)
        self._thread.start()
        assert self._started.wait(time_limit(_STOP_LIMIT))

    def done(self) -> bool:
        """Tell whether the coroutine has returned or raised."""
        return self._finished

    def result(self, timeout: float = 5.0) -> Any:
        """Return what the coroutine returned, or raise what it raised."""
        self._thread.join(time_limit(timeout))
        assert not self._thread.is_alive(), f"the peer is not done after {timeout} s"
        if self._error is not None:
            raise self._error
        return self._outcome

    def stop(self) -> None:
        """Cancel the coroutine if it still runs."""
        if not self._finished and self._loop is not None and self._task is not None:
            with contextlib.suppress(RuntimeError):  # it ended meanwhile
                self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(time_limit(_STOP_LIMIT))
        assert not self._thread.is_alive(), "the peer does not stop"

    def _work(self) -> None:
        try:
            self._outcome = asyncio.run(self._run())
        except BaseException as error:
            self._error = error
        finally:
            self._finished = True
            self._started.set()
            self._on_done()

    async def _run(self) -> Any:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._started.set()
        return await self._function()


class ServerThread:
    """A server of the `websockets` package.

    Attributes:
        uri: where to reach it.
        errors: what its handlers raised, but for ConnectionClosed.
    """

    def __init__(
        self,
        handler: Callable[[Any], Awaitable[None]],
        options: dict[str, Any],
        on_event: Callable[[], None],
    ) -> None:
        self._handler = handler
        self._options = options
        self._on_event = on_event
        self._stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self.errors: list[BaseException] = []
        self.uri = ""
        self._thread = threading.Thread(target=self._work, name="websockets server", daemon=True)
        self._thread.start()
        assert self._ready.wait(time_limit(_STOP_LIMIT)), "the server does not start"
        if self._failure is not None:
            raise self._failure

    def call(self, function: Callable[[], None]) -> None:
        """Call a function from the server's loop, soon."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(function)

    def stop(self) -> None:
        """Stop the server and drop its connections."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(time_limit(_STOP_LIMIT))
        assert not self._thread.is_alive(), "the server does not stop"

    def _work(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _guarded(self, connection: Any) -> None:
        try:
            await self._handler(connection)
        except websockets.ConnectionClosed:
            pass  # how most handlers end
        except Exception as error:
            self.errors.append(error)
            raise
        finally:
            self._on_event()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        options = {"host": "127.0.0.1", "port": 0, **self._options}
        server = await serve(self._guarded, **options)
        scheme = "wss" if options.get("ssl") is not None else "ws"
        host, port = server.sockets[0].getsockname()[:2]
        self.uri = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/"
        self._ready.set()
        await self._stop.wait()
        server.close(close_connections=False)
        await asyncio.sleep(0)  # it closes its socket in a task, which is not to be cancelled yet
        for connection in list(server.connections):
            connection.transport.abort()
        # Handlers that wait for something else than their connection do not end by themselves.
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await asyncio.sleep(0)
