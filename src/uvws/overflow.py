"""What a connection does when its send queue is full."""

from __future__ import annotations

from enum import Enum


class SendOverflow(str, Enum):
    """The choices for `on_send_overflow`; each member equals its name in lower case."""

    RAISE = "raise"
    """The sending methods raise `uvws.SendQueueFull`, and queue nothing."""

    CLOSE = "close"
    """The connection ends: what is queued is dropped, and a Close frame with 1013 tried."""

    PAUSE = "pause"
    """It is queued, and nothing is read from this peer until the queue is empty."""

    def __str__(self) -> str:
        """Return the value, `"raise"`, on every Python version."""
        return self.value
