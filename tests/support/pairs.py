"""Two ends of one connection, both of uvws, on one loop."""

from __future__ import annotations

from typing import Any

from .certificates import ca_of, certificate
from .helpers import url_of
from .recorder import Recorder
from .runners import Runner
from .wire import RawPeer, RawServer, dial_websocket

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


def raw_pair(runner: Runner, side: str, **options: Any) -> tuple[RawPeer, Recorder]:
    """Connect uvws, which is the server or the client, with a plain socket.

    Args:
        side: which one uvws is.
        options: more for listen() or connect(); callbacks are called behind the recorder. A
            `context` is used instead of a new one, a `protocol` is agreed on.
    """
    context = options.pop("context", None) or runner.context()
    hooks = {name: options.pop(name) for name in list(options) if callable(options[name])}
    recorder = Recorder(**hooks)
    protocol = options.get("protocol")
    headers = f"Sec-WebSocket-Protocol: {protocol}\r\n" if protocol else ""
    if side == "server":
        listener = context.listen(host="127.0.0.1", **options, **recorder.callbacks)
        peer = dial_websocket(runner, listener, headers=headers)
    else:
        server = RawServer(runner)
        context.connect(server.url, **options, **recorder.callbacks)
        peer = server.accept_websocket(headers)
    runner.run(recorder.saw("connect"))
    return peer, recorder


WAYS = ("plain", "TLS", "deflate")


def over(runner: Runner, way: str) -> dict[str, Any]:
    """Return what makes a Pair talk plainly, over TLS, or with compression."""
    if way == "TLS":
        return {
            "context": runner.context(ssl_ca=ca_of()),
            "listen": certificate().server_options,
        }
    compression = "deflate" if way == "deflate" else None
    return {"listen": {"compression": compression}, "connect": {"compression": compression}}
