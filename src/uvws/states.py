"""The states of a connection."""

from __future__ import annotations

from enum import Enum


class State(str, Enum):
    """What a connection is doing; each member equals its name in lower case.

    A connection goes through them in this order, and may skip some.
    """

    CONNECTING = "connecting"
    """The TCP connect, the TLS handshake or the WebSocket handshake is under way."""

    CONNECTED = "connected"
    """The handshake is done: messages can be sent and received."""

    CLOSING = "closing"
    """A Close frame has been sent or received (RFC 6455, section 7.1.3): nothing can be sent."""

    CLOSED = "closed"
    """The network side is gone."""

    DESTROYED = "destroyed"
    """The context that the connection belonged to has been closed."""

    def __str__(self) -> str:
        """Return the value, `"connected"`, on every Python version."""
        return self.value
