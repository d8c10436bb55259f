"""Two ends of one connection, both of uvws, on one loop."""

from __future__ import annotations

from typing import Any

from .helpers import url_of
from .recorder import Recorder
from .runners import Runner

SIDES = ("server", "client")


class Pair:
    """A connection seen from both ends.

    Attributes:
        server: what the server's end was told.
        client: what the client's end was told.
        listener: where the client connected to.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        listen: dict[str, Any] | None = None,
        connect: dict[str, Any] | None = None,
        server: Recorder | None = None,
        client: Recorder | None = None,
        context: Any = None,
        url: str | None = None,
    ) -> None:
        """Connect, and run the loop until both ends know.

        Args:
            listen: more options for listen().
            connect: more options for connect().
            server: records the server's callbacks.
            client: records the client's callbacks.
            context: for both ends; None makes one.
            url: what to connect to; None is the listener.
        """
        context = context or runner.context()
        self.server = server or Recorder()
        self.client = client or Recorder()
        options = {"host": "127.0.0.1", **(listen or {})}
        self.listener = context.listen(**options, **self.server.callbacks)
        address = url or url_of(self.listener)
        if url is None and "ssl_cert" in options:
            address = f"wss://localhost:{self.listener.port}/"
        self._client = context.connect(address, **(connect or {}), **self.client.callbacks)
        runner.run(lambda: self.server.events and self.client.events)
        assert "error" not in self.client.names, self.client.events
        assert self.client.names[0] == self.server.names[0] == "connect"

    def connection(self, side: str) -> Any:
        """Return the connection object of one side."""
        return self._client if side == "client" else self.server.connections[0]

    def recorder(self, side: str) -> Recorder:
        """Return what one side was told."""
        return self.client if side == "client" else self.server

    def sender(self, side: str) -> tuple[Any, Recorder]:
        """Return the connection of one side, and what the other one is told."""
        return self.connection(side), self.recorder("server" if side == "client" else "client")
