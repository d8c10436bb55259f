"""A connection, awaited.

The hot path is `received`, `recv` and `send`: nothing is created there that is not needed, no task
is, and a coroutine that need not wait does not.
"""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Coroutine,
    Iterable,
    Mapping,
)
from enum import IntEnum
from types import TracebackType
from typing import Any, Literal, overload

from .. import errors
from ..connection import Callbacks
from ..connection import Connection as Wire
from ..limits import Limits
from ..states import State as WireState
from .exceptions import (
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    PayloadTooBig,
    ProtocolError,
)
from .fragments import send_fragments
from .frames import Close, CloseCode
from .http import Request, Response
from .pings import Pings
from .settings import Settings

Data = str | bytes
DataLike = str | bytes | bytearray | memoryview

_FRAME = 14  # bytes of the longest header
_UTF8 = 4  # bytes of the longest character
_CONTROL_MAX = 125  # bytes of payload: RFC 6455, section 5.5
_NORMAL = (CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY, CloseCode.NO_STATUS_RCVD)
_NOBODY = Callbacks(None, None, None, None, None, None)


class State(IntEnum):
    """Where a connection is in its life (RFC 6455, section 4)."""

    CONNECTING = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3


_STATES = {
    WireState.CONNECTING: State.CONNECTING,
    WireState.CONNECTED: State.OPEN,
    WireState.CLOSING: State.CLOSING,
    WireState.CLOSED: State.CLOSED,
    WireState.DESTROYED: State.CLOSED,
}


class Connection:
    """What client and server connections have in common; made by `connect` and `serve`.

    Attributes:
        id: tells the connection from all others, in logs.
        logger: where it says what went wrong.
        request: the request of the opening handshake.
        response: the response to it.
    """

    __slots__ = (
        "_blocked",
        "_close_sent",
        "_close_timer",
        "_closed",
        "_create_future",
        "_draining",
        "_end",
        "_ended",
        "_fail",
        "_fragmenting",
        "_high",
        "_id",
        "_local_address",
        "_loop",
        "_low",
        "_paused",
        "_pings",
        "_queue",
        "_send",
        "_settings",
        "_unsent",
        "_waiter",
        "_wire",
        "_write_high",
        "logger",
        "request",
        "response",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: Settings) -> None:
        self._loop = loop
        self._create_future = loop.create_future
        self._settings = settings
        self.logger = settings.logger
        self.request: Request | None = None
        self.response: Response | None = None
        self._id: uuid.UUID | None = None
        self._wire: Wire | None = None
        self._send: Any = None
        self._local_address: Any = None
        # Receiving
        self._queue: deque[Data] = deque()
        self._waiter: asyncio.Future[None] | None = None  # of the one recv() that waits
        self._high = settings.queue_high
        self._low = settings.queue_low
        self._blocked = False  # the queue is long: somebody is to look whether it stays so
        self._paused = False
        # Sending
        self._write_high = settings.write_high
        self._unsent = 0  # at least as many bytes as are queued
        self._draining: list[asyncio.Future[None]] = []
        self._fragmenting: asyncio.Future[None] | None = None
        self._pings: Pings | None = None
        # Ending
        self._close_sent: Close | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self._fail: BaseException | None = None  # why it ended, where that is known
        self._ended = False
        self._end: tuple[Close | None, Close | None, bool | None] = None, None, None
        self._closed: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<uvws.aio.{type(self).__name__} {self.state.name.lower()} at {id(self):#x}>"

    # What it is

    @property
    def limits(self) -> Limits:
        """What C holds it to."""
        return self._settings.limits

    @property
    def id(self) -> uuid.UUID:
        """Tells the connection from all others, in logs."""
        if self._id is None:
            self._id = uuid.uuid4()
        return self._id

    @property
    def state(self) -> State:
        """Where the connection is in its life."""
        if self._ended:
            return State.CLOSED
        return State.CONNECTING if self._wire is None else _STATES[self._wire.state]

    @property
    def is_open(self) -> bool:
        """Whether the state is OPEN."""
        return self._wire is not None and not self._ended and self._wire.is_connected

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that was agreed on, None if there is none."""
        return None if self._wire is None else self._wire.protocol

    @property
    def remote_address(self) -> Any:
        """Host and port of the peer; over a Unix socket its path, or ""."""
        if self._wire is None:
            return None
        return _address(self._wire.peer_address, self._wire.peer_port)

    @property
    def local_address(self) -> Any:
        """Host and port of this end, as the system says; () if first asked once closed."""
        if self._local_address is None and self._wire is not None:
            self._local_address = _own_address(self._wire.fileno())
        return self._local_address

    @property
    def latency(self) -> float:
        """The last round trip of a Ping and its Pong, in seconds; 0.0 before the first.

        Keepalive sends a Ping when nothing came for `ping_interval`.
        """
        if self._pings is None:
            self._pings = Pings(self._loop)
        if self._wire is not None:
            self._pings.update(self._wire.take_latency())
        return self._pings.latency

    @property
    def close_code(self) -> int | None:
        """The close code that came: None while open, 1006 where none came."""
        if not self._ended:
            return None
        rcvd = self._end[0]
        return int(CloseCode.ABNORMAL_CLOSURE) if rcvd is None else rcvd.code

    @property
    def close_reason(self) -> str | None:
        """The reason that came with it: None while open."""
        if not self._ended:
            return None
        rcvd = self._end[0]
        return "" if rcvd is None else rcvd.reason

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close(CloseCode.NORMAL_CLOSURE if kind is None else CloseCode.INTERNAL_ERROR)

    # Receiving

    def __aiter__(self) -> Connection:
        return self

    def __anext__(self) -> Coroutine[Any, Any, Data]:
        return self._receive(None, StopAsyncIteration)

    @overload
    def recv(self, decode: Literal[True]) -> Coroutine[Any, Any, str]: ...

    @overload
    def recv(self, decode: Literal[False]) -> Coroutine[Any, Any, bytes]: ...

    @overload
    def recv(self, decode: bool | None = None) -> Coroutine[Any, Any, Data]: ...

    def recv(self, decode: bool | None = None) -> Coroutine[Any, Any, Data]:
        """Receive the next message, whole.

        A cancelled call loses nothing: the message comes to the next one.

        Args:
            decode: True for a str also where the message is binary, False for bytes also where it
                is a text.

        Returns:
            A str for a text message, bytes for a binary one.

        Raises:
            ConnectionClosedOK, ConnectionClosedError: the connection is closed, and all that came
                before was received.
            ConcurrencyError: another coroutine is waiting in `recv`.
        """
        return self._receive(decode, None)

    async def _receive(
        self, decode: bool | None, at_the_end: type[StopAsyncIteration] | None
    ) -> Any:
        """What `recv` and `async for` wait for: one coroutine, not one that waits for another."""
        if self._waiter is not None:
            raise ConcurrencyError(
                "cannot call recv while another coroutine is already running recv or recv_streaming"
            )
        queue = self._queue
        if not queue:
            if not self._ended:
                self._waiter = waiter = self._create_future()
                try:
                    await waiter
                finally:
                    self._waiter = None
            if not queue:
                error = self._closed_error()
                if at_the_end is not None and isinstance(error, ConnectionClosedOK):
                    raise at_the_end
                raise error
        message = queue.popleft()
        if self._paused and len(queue) <= self._low:
            self._go_on()
        return message if decode is None else await self._decoded(message, decode)

    async def recv_streaming(self, decode: bool | None = None) -> AsyncIterator[Data]:
        """Receive the next message; an iterator of one item, as messages are received whole.

        Args:
            decode: as for `recv`.

        Raises:
            ConnectionClosedOK, ConnectionClosedError: the connection is closed.
            ConcurrencyError: another coroutine is waiting in `recv`.
        """
        if self._waiter is not None:
            raise ConcurrencyError(
                "cannot call recv_streaming while another coroutine "
                "is already running recv or recv_streaming"
            )
        yield await self.recv(decode)

    async def _decoded(self, message: Data, decode: bool) -> Data:
        if not decode:
            return message.encode() if isinstance(message, str) else message
        if isinstance(message, str):
            return message
        try:
            return message.decode()
        except UnicodeDecodeError as error:
            self._remember(error)
            reason = f"{error.reason} at position {error.start}"
            await self.close(CloseCode.INVALID_DATA, reason)
            raise self._closed_error() from None

    def _look_at_queue(self) -> None:
        """Stop reading, if whoever receives did not get through what came at once."""
        self._blocked = False
        if not self._paused and len(self._queue) > self._high and self._wire is not None:
            self._paused = True
            self._wire.pause_recv()

    def _go_on(self) -> None:
        self._paused = False
        if self._wire is not None:
            self._wire.resume_recv()

    # Sending

    async def send(
        self,
        message: DataLike | Iterable[DataLike] | AsyncIterable[DataLike],
        text: bool | None = None,
    ) -> None:
        """Send a message: text for a str, binary for anything bytes-like.

        Waits where more than `write_limit` bytes are queued, until the queue is empty. A cancelled
        call has queued the whole message; in the middle of a message in fragments it ends the
        connection.

        Args:
            message: the message, or an iterable, or an asynchronous one, of its fragments, all
                of one type.
            text: True to send bytes as a text, False to send a str as binary.

        Raises:
            ConnectionClosedOK, ConnectionClosedError: the connection is closed.
            TypeError: `message` is nothing that can be sent.
        """
        kind = type(message)
        if (kind is str or kind is bytes) and text is None and self._fragmenting is None:
            try:
                self._send(message)
            except errors.ConnectionClosed:
                raise await self._wait_for_error() from None
            self._unsent += _UTF8 * len(message) + _FRAME  # type: ignore[arg-type]
            if self._unsent > self._write_high:
                await self._drain()
        else:
            await self._send_other(message, text)

    async def _send_other(self, message: Any, text: bool | None) -> None:
        while self._fragmenting is not None:
            await asyncio.shield(self._fragmenting)
        if isinstance(message, (str, bytes, bytearray, memoryview)):
            await self._send_whole(_converted(message, text))
        elif isinstance(message, Mapping):
            raise TypeError("data is a dict-like object")
        elif isinstance(message, (Iterable, AsyncIterable)):
            await send_fragments(self, message, text)
        else:
            raise TypeError("data must be str, bytes, iterable, or async iterable")

    async def _send_whole(self, message: Data) -> None:
        try:
            self._open_wire().send(message)
        except errors.ConnectionClosed:
            raise await self._wait_for_error() from None
        await self._sent(_UTF8 * len(message))

    async def send_fragment(self, data: DataLike, *, binary: bool, final: bool) -> None:
        """Send one fragment; for fragments.py."""
        try:
            self._open_wire().send_fragment(data, binary=binary, final=final)
        except errors.ConnectionClosed:
            raise await self._wait_for_error() from None
        await self._sent(_UTF8 * len(data))

    async def _sent(self, size: int) -> None:
        self._unsent += size + _FRAME
        if self._unsent > self._write_high:
            await self._drain()

    def send_soon(self, message: Data) -> None:
        """Send a message however much is queued; for broadcasting.py.

        Raises:
            uvws.Error: it cannot be.
        """
        self._open_wire().send(message)
        self._unsent += _UTF8 * len(message) + _FRAME

    @property
    def is_sending_fragments(self) -> bool:
        """Whether a message in fragments is under way."""
        return self._fragmenting is not None

    def fragments_begin(self) -> None:
        """From now on no other message can be sent; for fragments.py."""
        self._fragmenting = self._loop.create_future()

    def fragments_end(self) -> None:
        """Others can be sent again."""
        assert self._fragmenting is not None
        self._fragmenting.set_result(None)
        self._fragmenting = None

    async def _drain(self) -> None:
        """Wait, if too much is queued even after the socket got what it takes."""
        wire = self._open_wire()
        self._unsent = wire.send_queue_size
        if self._unsent <= self._write_high:
            return
        wire.write_now()
        self._unsent = wire.send_queue_size
        if self._unsent <= self._write_high or self._ended:
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._draining.append(waiter)
        wire.want_drain(True)
        try:
            await waiter
        finally:
            self._draining.remove(waiter)
            if not self._draining:
                wire.want_drain(False)
        if self._ended:
            raise self._closed_error()

    async def ping(self, data: DataLike | None = None) -> Awaitable[float]:
        """Send a Ping.

        Args:
            data: its payload, at most 125 bytes; four random bytes by default.

        Returns:
            A future for the round trip in seconds, which nobody has to wait for.

        Raises:
            ConnectionClosedOK, ConnectionClosedError: the connection is closed.
            ConcurrencyError: a Ping with that payload was sent and not answered yet.
            ProtocolError: the payload is too long.
        """
        payload = None if data is None else _control_payload(data)
        if self._pings is None:
            self._pings = Pings(self._loop)
        payload = self._pings.payload(payload)
        try:
            self._open_wire().send_ping(payload)
        except errors.ConnectionClosed:
            raise await self._wait_for_error() from None
        return self._pings.sent(payload)

    async def pong(self, data: DataLike = b"") -> None:
        """Send a Pong that nobody asked for.

        Args:
            data: its payload, at most 125 bytes.

        Raises:
            ConnectionClosedOK, ConnectionClosedError: the connection is closed.
            ProtocolError: the payload is too long.
        """
        payload = _control_payload(data)
        try:
            self._open_wire().send_pong(payload)
        except errors.ConnectionClosed:
            raise await self._wait_for_error() from None

    # Ending

    async def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Close the connection, and wait until it is: what is queued is sent before.

        Messages that have come can still be received. A cancelled call does not stop it.

        Args:
            code: 1000-1003, 1007-1014 or 3000-4999.
            reason: a text, cut to 123 bytes of UTF-8.

        Raises:
            ProtocolError: `code` must not be sent.
        """
        self.begin_close(code, reason)
        await self.wait_closed()

    def begin_close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Close the connection without waiting; what `close` begins with."""
        if self._ended or self._wire is None:
            return
        if self._fragmenting is not None:
            code, reason = CloseCode.INTERNAL_ERROR, "close during fragmented message"
        is_open = self._wire.is_connected
        try:
            self._wire.close(int(code), reason)
        except ValueError as error:
            raise ProtocolError(f"invalid close code: {error}") from None
        if is_open:
            self._close_sent = Close(int(code), reason)
        timeout = self._settings.close_timeout
        if self._close_timer is None and timeout is not None:
            self._close_timer = self._loop.call_later(timeout, self._close_timed_out)

    def _close_timed_out(self) -> None:
        self._remember(TimeoutError("timed out while closing connection"))
        self.abort()

    def abort(self) -> None:
        """End the connection without a word."""
        if self._wire is not None and not self._ended:
            self._wire.give_up()

    async def wait_closed(self) -> None:
        """Wait until the connection is closed."""
        if self._ended or self._wire is None:
            return
        if self._closed is None:
            self._closed = self._loop.create_future()
        await asyncio.shield(self._closed)

    async def _wait_for_error(self) -> ConnectionClosed:
        """Wait until it is closed, and return what to raise."""
        await self.wait_closed()
        return self._closed_error()

    def _closed_error(self) -> ConnectionClosed:
        rcvd, sent, rcvd_then_sent = self._end
        fine = (
            rcvd is not None and sent is not None and rcvd.code in _NORMAL and sent.code in _NORMAL
        )
        kind = ConnectionClosedOK if fine else ConnectionClosedError
        error = kind(rcvd, sent, rcvd_then_sent)
        error.__cause__ = self._fail
        return error

    def _remember(self, error: BaseException) -> None:
        """Keep the first reason for which the connection ends."""
        if self._fail is None:
            self._fail = error

    def _open_wire(self) -> Wire:
        if self._wire is None:
            raise errors.ConnectionClosed("Connection is not open")
        return self._wire

    # Events

    def callbacks(self) -> Callbacks:
        """Return what the wire is to call."""
        return Callbacks(
            on_connect=None,
            on_message=self.received,
            on_close=self.ended,
            on_error=self.failed,
            on_pong=self.ponged,
            on_drain=self.drained,
        )

    def attach(self, wire: Wire) -> None:
        """The handshake is done, or begins on a client."""
        self._wire = wire
        self._send = wire.send

    def received(self, _wire: Wire, data: Data) -> None:
        """A message came."""
        queue = self._queue
        queue.append(data)
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        elif len(queue) > self._high and not self._blocked:
            # Behind whoever waits for messages, and before more is read.
            self._blocked = True
            self._loop.call_soon(self._look_at_queue)

    def drained(self, _wire: Wire) -> None:
        """The send queue became empty."""
        self._unsent = 0
        self._wake_senders()

    def _wake_senders(self) -> None:
        for waiter in self._draining:
            if not waiter.done():
                waiter.set_result(None)

    def ponged(self, _wire: Wire, payload: bytes) -> None:
        """A Pong came."""
        if self._pings is not None:
            self._pings.answered(payload)

    def failed(self, _wire: Wire, error: Exception) -> None:
        """Something went wrong; `ended` follows."""
        if isinstance(error, errors.MessageTooBig):
            size = self._settings.max_size
            self._close_sent = Close(CloseCode.MESSAGE_TOO_BIG, "")
            error = PayloadTooBig(f"message exceeds limit of {size} bytes")
        elif isinstance(error, errors.SendQueueFull):
            self._close_sent = Close(CloseCode.TRY_AGAIN_LATER, "")
        elif isinstance(error, errors.PingTimeout):
            error = TimeoutError("timed out while waiting for keepalive pong")
        self._remember(error)

    def ended(self, wire: Wire, code: int, reason: str) -> None:
        """The network side is gone."""
        self._end = self._close_frames(wire, code, reason)
        self._ended = True
        if self._local_address is None:
            self._local_address = ()
        wire.detach()
        if self._close_timer is not None:
            self._close_timer.cancel()
            self._close_timer = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        self._wake_senders()
        if self._pings is not None:
            self._pings.end(self._closed_error)
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    def _close_frames(
        self, wire: Wire, code: int, reason: str
    ) -> tuple[Close | None, Close | None, bool | None]:
        sent = self._close_sent
        if wire.closed_by_peer:
            rcvd = Close(code, reason)
            if sent is None:
                return rcvd, Close(code, reason), True  # the answer says the same
            return rcvd, sent, False
        if sent is None and code != CloseCode.ABNORMAL_CLOSURE:
            sent = Close(code, reason)  # to one that broke the rules, or with the context
            if code != CloseCode.GOING_AWAY:
                self._remember(ProtocolError(reason or "the peer broke the protocol"))
        return None, sent, None


def _address(host: str | None, port: int) -> Any:
    if host is None or (not port and "/" in host):
        return host or ""
    return (host, port, 0, 0) if ":" in host else (host, port)


def _own_address(descriptor: int) -> Any:
    if descriptor < 0:
        return None
    probe = socket.socket(fileno=descriptor)
    try:
        return probe.getsockname()
    finally:
        probe.detach()


def _converted(message: DataLike, text: bool | None) -> Data:
    if isinstance(message, str):
        return message.encode() if text is False else message
    return bytes(message).decode() if text is True else bytes(message)


def _control_payload(data: object) -> bytes:
    if isinstance(data, str):
        data = data.encode()
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError("data must be str or bytes-like")
    if len(data) > _CONTROL_MAX:
        raise ProtocolError("control frame too long")
    return bytes(data)
