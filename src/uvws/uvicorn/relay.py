"""A way to transports whose socket cannot be taken over: TLS, or what is in memory only.

Their bytes go through a pair of sockets, one of which uvws adopts.
"""

from __future__ import annotations

import asyncio
import socket


class Relay(asyncio.Protocol):
    """Moves bytes between a transport and the other socket of the pair."""

    def __init__(self, outer: asyncio.Transport) -> None:
        """Create it; `open` does the rest."""
        self._outer = outer
        self._inner: asyncio.Transport | None = None

    async def open(self, loop: asyncio.AbstractEventLoop) -> socket.socket:
        """Return a socket on which all that the transport carries is read and written."""
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            self._inner, _ = await loop.create_unix_connection(lambda: self, sock=ours)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        return theirs

    # What comes from the transport

    def feed(self, data: bytes) -> None:
        """Pass on what the peer has sent."""
        if self._inner is not None:
            self._inner.write(data)

    def close(self) -> None:
        """The peer is gone."""
        if self._inner is not None:
            self._inner.close()

    def discard(self) -> None:
        """It was not needed: the transport stays as it is."""
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.abort()

    def hold(self) -> None:
        """The transport has enough to write for now."""
        if self._inner is not None and not self._inner.is_closing():
            self._inner.pause_reading()

    def go_on(self) -> None:
        """The transport has room again."""
        if self._inner is not None and not self._inner.is_closing():
            self._inner.resume_reading()

    # What comes from uvws

    def data_received(self, data: bytes) -> None:
        """Pass on what is for the peer."""
        self._outer.write(data)

    def connection_lost(self, _error: Exception | None) -> None:
        """Uvws is done: what it has written is followed by the end of the transport."""
        if self._inner is not None:
            self._inner = None
            self._outer.close()

    def pause_writing(self) -> None:
        """Have the peer wait."""
        if not self._outer.is_closing():
            self._outer.pause_reading()

    def resume_writing(self) -> None:
        """Have the peer go on."""
        if not self._outer.is_closing():
            self._outer.resume_reading()
