"""The states of a connection."""

from __future__ import annotations

from enum import Enum


class State(str, Enum):
    """What a connection is doing; each member equals its name in lower case.

    A connection goes through them in this order, and may skip some.
    """

    CONNECTING = "connecting"
    """The name look-up, the TCP connect, or the TLS or WebSocket handshake is under way."""

    CONNECTED = "connected"
    """The handshake is done: messages can be sent and received."""

    CLOSING = "closing"
    """`close()` was called, or a Close frame received (RFC 6455, section 7.1.3): what is queued is
    still sent, but nothing more can be."""

    CLOSED = "closed"
    """The network side is gone."""

    DESTROYED = "destroyed"
    """The context that the connection belonged to has been closed."""

    def __str__(self) -> str:
        """Return the value, `"connected"`, on every Python version."""
        return self.value
