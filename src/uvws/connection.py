"""One WebSocket connection."""

from __future__ import annotations

import errno as errno_module
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from . import logs, options
from ._core import ffi, lib
from .core import Core
from .errors import (
    ConnectionClosed,
    InvalidState,
    MessageTooBig,
    PingTimeout,
    SendQueueFull,
    WrongThread,
)
from .exact import exact_bytes
from .failures import connect_error
from .headers import Headers, parse_headers
from .states import State

_NO_MEMORY = lib.UVWS_NO_MEMORY
_NOT_OPEN = lib.UVWS_NOT_OPEN
_WRONG_THREAD = lib.UVWS_WRONG_THREAD
_PIN_SIZE = lib.UVWS_PIN_SIZE
_IN_FRAGMENTS = lib.UVWS_IN_FRAGMENTS
_QUEUE_FULL = lib.UVWS_QUEUE_FULL
_INVALID_TEXT = lib.UVWS_INVALID_TEXT
_TEXT = lib.UVWS_TEXT
_BINARY = lib.UVWS_BINARY
_STATES = {
    lib.UVWS_CONNECTING: State.CONNECTING,
    lib.UVWS_CONNECTED: State.CONNECTED,
    lib.UVWS_CLOSING: State.CLOSING,
    lib.UVWS_CLOSED: State.CLOSED,
}
_ADDRESS_SIZE = 128  # more than sockaddr_un.sun_path

_send = lib.uvws_send
_send_pinned = lib.uvws_send_pinned
_from_buffer = ffi.from_buffer


@dataclass(frozen=True, slots=True)
class Callbacks:
    """The user's callbacks, shared by all connections of a listener."""

    on_connect: Callable[[Connection, Headers | None], object] | None
    on_message: Callable[[Connection, Any], object] | None
    on_close: Callable[[Connection, int, str], object] | None
    on_error: Callable[[Connection, Exception], object] | None
    on_pong: Callable[[Connection, bytes], object] | None
    on_drain: Callable[[Connection], object] | None

    @classmethod
    def checked(cls, given: dict[str, object]) -> Callbacks:
        """Make it from keyword arguments.

        Raises:
            TypeError: one is neither callable nor None.
        """
        return cls(**{name: options.callback(name, value) for name, value in given.items()})


_NOBODY = Callbacks(None, None, None, None, None, None)


def _ignore(_connection: Connection, _data: object) -> None:
    """Deliver to nobody any more."""


def _not_wanted(_connection: Connection, _data: object) -> None:
    """Stand in for `on_message` where there is none."""


def _hold(connection: Connection, data: object) -> None:
    """Keep a message that was read before `pause_recv` took effect."""
    connection.hold(partial(connection.deliver_held, data), is_message=True)


class Connection:
    """A WebSocket connection; made by `Context.connect` and by listeners, never directly.

    Every method and property raises `uvws.WrongThread` off the loop's thread.
    """

    __slots__ = (
        "__weakref__",
        "_c",
        "_callbacks",
        "_connecting",
        "_core",
        "_held",
        "_on_end",
        "_paused",
        "_peer_address",
        "_peer_port",
        "_protocol",
        "_slot",
        "_stash",
        "_state",
        "address",
        "closed_by_peer",
        "deliver",
    )

    def __init__(self, core: Core, c: Any, slot: int, callbacks: Callbacks) -> None:
        self._core = core
        self._c = c
        self.address = int(
            ffi.cast("uintptr_t", c)
        )  # for csrc/cpython.c; 0 once C's struct is gone
        self._slot = slot
        self._callbacks = callbacks
        self._state: State | None = None  # the last one; until then C knows
        self._stash: dict[Any, Any] | None = None
        self._connecting: Any = None
        self._on_end: Callable[[], object] | None = None
        self._protocol: str | None = None
        self._peer_address: str | None = None
        self._peer_port: int | None = None
        self.closed_by_peer = False
        self._paused = False
        # What was read before a pause took effect, each with whether it is a message.
        self._held: deque[tuple[Callable[[], None], bool]] | None = None
        self.deliver: Callable[[Connection, Any], object] = callbacks.on_message or _not_wanted
        core.connections[slot] = self
        core.live_changed()

    def __repr__(self) -> str:
        try:
            state: object = self.state
        except WrongThread:
            state = "of another thread"
        return f"<uvws.Connection {state} at {id(self):#x}>"

    @property
    def label(self) -> str:
        """What it is called in log lines, the same on every thread and in every state."""
        return f"connection {id(self):#x}"

    # Sending

    def send(self, data: str | bytes | bytearray | memoryview, /) -> None:
        """Send a message: text for a str, binary for anything bytes-like.

        It is queued, and written when the loop comes round. Where the queue holds `max_send_queue`
        bytes already, `on_send_overflow` says what happens.

        Args:
            data: the whole message. Changing a mutable one afterwards does not change what is sent.

        Raises:
            TypeError: `data` is neither.
            UnicodeEncodeError: `data` has a lone surrogate.
            uvws.ConnectionClosed: the connection is not open.
            uvws.SendQueueFull: the send queue is full, and `on_send_overflow` is "raise".
            uvws.InvalidState: a message in fragments has begun and has not been ended.
            uvws.WrongThread: this is not the loop's thread.
        """
        # Exactly these: what a subclass says of itself is not to be believed.
        if type(data) is str:
            payload = data.encode()
            size = len(payload)
            if size < _PIN_SIZE:
                result = _send(self._c, _TEXT, payload, size)
                if result < 0:
                    self.refuse(result)
            else:
                self._send_large(_TEXT, payload)
        elif type(data) is bytes:
            size = len(data)
            if size < _PIN_SIZE:
                result = _send(self._c, _BINARY, data, size)
                if result < 0:
                    self.refuse(result)
            else:
                self._send_large(_BINARY, data)
        else:
            self.send_other(data)

    def send_other(self, data: Any) -> None:
        """Send what is neither exactly str nor exactly bytes; csrc/cpython.c calls this as well."""
        if isinstance(data, str):
            self.send_text(data)
        else:
            self._send(_BINARY, _bytes("data", data))

    def send_text(self, data: str) -> None:
        """Send a text message.

        Raises:
            TypeError: `data` is not a str.
            UnicodeEncodeError: `data` has a lone surrogate.
            uvws.ConnectionClosed: the connection is not open.
            uvws.SendQueueFull: the send queue is full, and `on_send_overflow` is "raise".
            uvws.InvalidState: a message in fragments has begun and has not been ended.
            uvws.WrongThread: this is not the loop's thread.
        """
        if not isinstance(data, str):
            raise TypeError(f"data must be str, not {type(data).__name__}")
        self._send(_TEXT, str.encode(data))

    def send_binary(self, data: bytes | bytearray | memoryview) -> None:
        """Send a binary message.

        Raises:
            TypeError: `data` is not bytes-like.
            uvws.ConnectionClosed: the connection is not open.
            uvws.SendQueueFull: the send queue is full, and `on_send_overflow` is "raise".
            uvws.InvalidState: a message in fragments has begun and has not been ended.
            uvws.WrongThread: this is not the loop's thread.
        """
        self._send(_BINARY, _bytes("data", data, "bytes-like"))

    def send_fragment(
        self,
        data: str | bytes | bytearray | memoryview,
        *,
        binary: bool = False,
        final: bool = True,
    ) -> None:
        """Send one fragment of a message (RFC 6455, section 5.4).

        Until the final one is sent no other message can be; pings, pongs and `close` can.

        Args:
            data: this part of the message. Bytes in a text may end in the middle of a character.
            binary: whether the message is binary; counts with its first fragment only.
            final: whether this is the last fragment.

        Raises:
            TypeError: `data` is neither str nor bytes-like.
            ValueError: the message is a text, and `data` does not go on with it in UTF-8.
            uvws.ConnectionClosed: the connection is not open.
            uvws.SendQueueFull: the send queue is full, and `on_send_overflow` is "raise".
            uvws.WrongThread: this is not the loop's thread.
        """
        payload = _payload("data", data)
        kind = _BINARY if binary else _TEXT
        result = lib.uvws_send_fragment(self._c, kind, payload, len(payload), bool(final))
        if result < 0:
            self.refuse(result)

    def send_ping(self, payload: str | bytes | bytearray | memoryview = b"") -> None:
        """Send a Ping (RFC 6455, section 5.5.2); the answer comes to `on_pong`.

        Args:
            payload: cut to 125 bytes.

        Raises:
            TypeError: `payload` is neither str nor bytes-like.
            uvws.ConnectionClosed: the connection is not open.
            uvws.SendQueueFull: the send queue is full, and `on_send_overflow` is "raise".
            uvws.WrongThread: this is not the loop's thread.
        """
        self._send_control(lib.UVWS_PING, payload)

    def send_pong(self, payload: str | bytes | bytearray | memoryview = b"") -> None:
        """Send a Pong that nobody asked for (RFC 6455, section 5.5.3); pings are answered unasked.

        Args:
            payload: cut to 125 bytes.

        Raises:
            TypeError: `payload` is neither str nor bytes-like.
            uvws.ConnectionClosed: the connection is not open.
            uvws.SendQueueFull: the send queue is full, and `on_send_overflow` is "raise".
            uvws.WrongThread: this is not the loop's thread.
        """
        self._send_control(lib.UVWS_PONG, payload)

    def _send_control(self, opcode: int, data: object) -> None:
        payload = _payload("payload", data)
        result = lib.uvws_send_control(self._c, opcode, payload, len(payload))
        if result < 0:
            self.refuse(result)

    def _send(self, kind: int, payload: bytes) -> None:
        size = len(payload)
        if size >= _PIN_SIZE:
            self._send_large(kind, payload)
            return
        result = _send(self._c, kind, payload, size)
        if result < 0:
            self.refuse(result)

    def _send_large(self, kind: int, payload: bytes) -> None:
        """C reads the payload where it is, for as long as it is queued."""
        core = self._core
        token = core.pin(payload)
        result = _send_pinned(self._c, kind, _from_buffer(payload), len(payload), token)
        if result < 0:
            core.unpin(token)
            self.refuse(result)

    def refuse(self, result: int) -> None:
        """Raise what a negative result of C means; csrc/cpython.c calls this as well."""
        if result == _WRONG_THREAD:
            self._core.check_thread()
            raise WrongThread("uvws objects belong to the thread that runs their loop")
        if result == _NOT_OPEN:
            self._core.check_thread()
            if self._core.closed:
                raise ConnectionClosed("Connection has been destroyed")
            raise ConnectionClosed("Connection is not open")
        if result == _QUEUE_FULL:
            raise SendQueueFull("the send queue is full; on_drain tells when it is empty")
        if result == _IN_FRAGMENTS:
            raise InvalidState("a fragmented message has begun; send its final fragment first")
        if result == _INVALID_TEXT:
            raise ValueError("data must go on with the text message in UTF-8")
        if result == _NO_MEMORY:
            raise MemoryError
        raise OSError(errno_module.EIO, "the system gave no random bytes for the mask")

    # Closing

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection: what is queued is sent, then a Close frame (RFC 6455, section 7).

        `on_close` follows when the peer has answered, or after five seconds without an answer. No
        message is delivered any more. While connecting, closing and closed this does nothing.

        Args:
            code: 1000-1003, 1007-1014 or 3000-4999.
            reason: a text, cut at a character to 123 bytes of UTF-8.

        Raises:
            ValueError: `code` must not be sent.
            uvws.WrongThread: this is not the loop's thread.
        """
        code = options.close_code(code)
        encoded = options.close_reason(reason)
        self._core.check_thread()
        if self._state is None and lib.uvws_close(self._c, code, encoded, len(encoded)) == 0:
            self.deliver = _ignore
            self._drop_held_messages()

    # Flow control

    def pause_recv(self) -> None:
        """Stop reading: what the peer sends waits in the kernel, and then with the peer.

        No message is delivered until `resume_recv`, not even one that was read already. That the
        connection has ended is told only behind such messages. `close` ends the pause. Does
        nothing unless the connection is open.

        Raises:
            uvws.WrongThread: this is not the loop's thread.
        """
        self._core.check_thread()
        if self._paused or not self.is_connected:
            return
        self._paused = True
        if self._held is None:
            self._held = deque()
        self.deliver = _hold
        lib.uvws_pause(self._c)

    def resume_recv(self) -> None:
        """Read again after `pause_recv`. Does nothing unless the connection is paused.

        Raises:
            uvws.WrongThread: this is not the loop's thread.
        """
        self._core.check_thread()
        if self._paused:
            self._paused = False
            self._resume()

    def _resume(self) -> None:
        """Read again, and deliver what is held back: before anything that is read from now on."""
        if lib.uvws_resume(self._c) == _NO_MEMORY:
            self._core.call_soon_threadsafe(self.resumed)

    def _drop_held_messages(self) -> None:
        """Forget messages that were held back, and deliver the rest soon."""
        if self._held is None:
            return
        self._held = deque(each for each in self._held if not each[1])
        self._paused = False
        self._resume()

    # State

    @property
    def state(self) -> State:
        """Where the connection is in its life."""
        if self._state is not None:
            self._core.check_thread()
            return State.DESTROYED if self._core.closed else self._state
        result = lib.uvws_state(self._c)
        if result < 0:
            self.refuse(result)
        if result == lib.UVWS_CLOSED:
            return State.CLOSING  # over for C, but on_close is still to come
        return _STATES[result]

    @property
    def is_connected(self) -> bool:
        """Whether the state is "connected"."""
        return self.state is State.CONNECTED

    @property
    def is_connecting(self) -> bool:
        """Whether the state is "connecting"."""
        return self.state is State.CONNECTING

    @property
    def protocol(self) -> str | None:
        """The subprotocol that was agreed on (RFC 6455, section 1.9), None if there is none."""
        self._core.check_thread()
        return self._protocol

    @property
    def peer_address(self) -> str | None:
        """The peer's IP address, without the port.

        With a proxy it is the proxy's. Over a Unix socket it is the path that the peer is bound
        to: the server's on a client, mostly None on a server. None before there is a connection.
        """
        self._core.check_thread()
        if self._peer_address is None and self._c != ffi.NULL:
            self._peer_address = address_of(self._c)
        return self._peer_address

    @property
    def send_queue_size(self) -> int:
        """Payload bytes that are queued and not yet in the kernel's hands."""
        if self._state is not None:
            self._core.check_thread()
            return 0
        result = int(lib.uvws_send_queue_size(self._c))
        if result < 0:
            self.refuse(result)
        return result

    @property
    def stash(self) -> dict[Any, Any]:
        """A dict for whatever belongs to this connection."""
        self._core.check_thread()
        if self._stash is None:
            self._stash = {}
        return self._stash

    # For uvws.aio

    @property
    def peer_port(self) -> int:
        """The peer's TCP port; 0 where there is none."""
        if self._peer_port is None and self._c != ffi.NULL:
            self._peer_port = max(0, lib.uvws_peer_port(self._c))
        return self._peer_port or 0

    def fileno(self) -> int:
        """Return the descriptor, which stays C's; -1 where there is none."""
        return int(lib.uvws_descriptor(self._c))

    def want_drain(self, wanted: bool) -> None:
        """Say whether `on_drain` is to be called from now on."""
        lib.uvws_want_drain(self._c, wanted)

    def write_now(self) -> None:
        """Give the socket what it takes of what is queued, instead of when the loop comes round."""
        if not self._core.closed:
            self._core.flush()

    def take_latency(self) -> float:
        """Return the round trip of the last Ping of C's own that was answered since, in seconds."""
        return float(lib.uvws_take_latency(self._c)) / 1e6

    def replace_callbacks(self, callbacks: Callbacks) -> None:
        """Call others from now on."""
        self._callbacks = callbacks

    def detach(self) -> None:
        """Call nobody any more, and let them go."""
        self._callbacks = _NOBODY

    # Events, as core.py dispatches them

    def start_connecting(self, connecting: Any) -> None:
        """Begin with the first attempt."""
        self._connecting = connecting
        connecting.start()

    def upgrading(self, c: Any, raw: bytes) -> bool:
        """Decide on the upgrade over an adopted socket."""
        accepted: bool = self._connecting.upgrade(c, parse_headers(raw))
        return accepted

    def negotiated(self, raw: bytes) -> bool:
        """Check what a server made of a client's offer."""
        fine: bool = self._connecting.negotiate(parse_headers(raw))
        return fine

    def established(self, raw: bytes) -> None:
        """A client's handshake is done."""
        if logs.enabled:
            logs.log.debug("%s: connected", self.label)
        self._connecting = None
        self._peer_address = address_of(self._c)
        headers = parse_headers(raw)
        self.connected(headers, headers.get("Sec-WebSocket-Protocol") or None)

    def start_adopting(self, adopting: Any) -> None:
        """Be connecting over a socket that is there."""
        if logs.enabled:
            logs.log.debug("%s: adopting a socket", self.label)
        self._connecting = adopting

    def call_at_end(self, on_end: Callable[[], object]) -> None:
        """Have something called when the connection is over, however that happens."""
        self._on_end = on_end

    def give_up(self) -> None:
        """End it without another word, in whatever state; for uvws.aio.

        While connecting nothing is heard of it any more, else `on_close` follows.
        """
        connecting, self._connecting = self._connecting, None
        if self._state is not None:
            return
        if connecting is not None and lib.uvws_state(self._c) == lib.UVWS_CONNECTING:
            connecting.cancel()
            self.discard()
            return
        self._connecting = connecting
        lib.uvws_abort(self._c)

    def discard(self) -> None:
        """Connecting or adopting could not even begin: nobody knows of this connection."""
        self._connecting = None
        lib.uvws_connect_abort(self._c)
        self._forget(State.CLOSED, released=True)

    def adopted(self) -> None:
        """The handshake over an adopted socket is done."""
        if logs.enabled:
            logs.log.debug("%s: adopted, connected", self.label)
        protocol, self._connecting = self._connecting.protocol, None
        self.connected(None, protocol)

    def connected(self, headers: Headers | None, protocol: str | None) -> None:
        """The connection is open."""
        self._protocol = protocol
        if self._callbacks.on_connect is not None:
            self._callbacks.on_connect(self, headers)

    def hold(self, call: Callable[[], None], *, is_message: bool = False) -> None:
        """Put something off until reading is resumed."""
        assert self._held is not None
        self._held.append((call, is_message))

    def in_order(self, call: Callable[[], None]) -> None:
        """Call now, or behind the messages that are held back."""
        if self._held:
            self.hold(call)
        else:
            call()

    def resumed(self) -> None:
        """Deliver what was held back, for as long as the user does not pause again."""
        while self._held and not self._paused:
            call, _ = self._held.popleft()
            try:
                call()
            except BaseException as error:
                self._core.report("Exception in a uvws callback", error)
        if self._held is not None and not self._paused:
            self._held = None
            if self.deliver is _hold:
                self.deliver = self._callbacks.on_message or _not_wanted

    def deliver_held(self, data: object) -> None:
        """Deliver a message that was held back."""
        if self._callbacks.on_message is not None:
            self._callbacks.on_message(self, data)

    def pong(self, payload: bytes) -> None:
        """A Pong came."""
        if self._held is not None:
            self.hold(partial(self._pong, payload))
        else:
            self._pong(payload)

    def _pong(self, payload: bytes) -> None:
        if self._callbacks.on_pong is not None and self.deliver is not _ignore:
            self._callbacks.on_pong(self, payload)

    def message_too_big(self, limit: int) -> None:
        """A message over the limit came; C closes with 1009."""
        if logs.enabled:
            logs.log.debug("%s: message over the limit of %d bytes", self.label, limit)
        self.deliver = _ignore
        self._error(MessageTooBig(f"message exceeds max_message_size of {limit} bytes"))

    def send_queue_full(self, limit: int) -> None:
        """A message had no room; C closes with 1013."""
        if logs.enabled:
            logs.log.debug("%s: send queue over the limit of %d bytes", self.label, limit)
        self.deliver = _ignore
        self._error(SendQueueFull(f"send queue exceeds max_send_queue of {limit} bytes"))

    def ping_timed_out(self, milliseconds: int) -> None:
        """Nothing came after a Ping; C drops the connection."""
        if logs.enabled:
            logs.log.debug("%s: no answer to a ping", self.label)
        self.deliver = _ignore
        self._error(PingTimeout(f"nothing came within {milliseconds / 1000:g} s of a ping"))

    def closing(self) -> None:
        """The peer closes, or broke a rule: what was sent before is delivered by now."""
        self.deliver = _ignore
        lib.uvws_end_seen(self._c)

    def drained(self) -> None:
        """The send queue became empty."""
        if self._callbacks.on_drain is not None and self.deliver is not _ignore:
            self._callbacks.on_drain(self)

    def ended(self, code: int, reason: bytes, *, by_peer: bool) -> None:
        """The network side is gone; whether the code came in a Close frame of the peer's."""
        self.closed_by_peer = by_peer
        if logs.enabled:
            logs.log.debug("%s: closed with %d", self.label, code)
        self._forget(State.CLOSED)
        if self._callbacks.on_close is not None:
            self._callbacks.on_close(self, code, reason.decode("utf-8", "replace"))

    def attempt_failed(self, failure: int, status: int, payload: bytes) -> None:
        """One attempt to connect failed: try the next address, or report."""
        connecting = self._connecting
        may_go_on = failure in (lib.UVWS_FAILURE_NETWORK, lib.UVWS_FAILURE_SLOW)
        if may_go_on and connecting.has_more():
            if logs.enabled:
                error = connect_error(failure, status, payload)
                logs.log.debug("%s: attempt failed: %s", self.label, error)
            connecting.go_on()
            return
        error = connecting.failure or connect_error(failure, status, payload)
        self.connect_failed(error)

    def connect_failed(self, error: Exception) -> None:
        """The connection will not come about; `on_error` is all that is heard of it."""
        if logs.enabled:
            logs.log.debug("%s: failed: %s: %s", self.label, type(error).__name__, error)
        connecting, self._connecting = self._connecting, None
        connecting.cancel()
        lib.uvws_connect_abort(self._c)
        self._forget(State.CLOSED, released=True)
        self._error(error)

    def context_closed(self, code: int) -> None:
        """The context is closing: the last callback."""
        if logs.enabled:
            logs.log.debug("%s: closed with its context", self.label)
        connecting, self._connecting = self._connecting, None
        self.deliver = _ignore
        self._peer_address = self._peer_address or address_of(self._c)
        self._c = ffi.NULL
        self.address = 0
        self._paused = False
        self._held = None
        self._state = State.DESTROYED
        self._ended()
        try:
            if connecting is not None:
                connecting.cancel()
                self._error(ConnectionClosed("Context is closed"))
            elif self._callbacks.on_close is not None:
                self._callbacks.on_close(self, code, "")
        except BaseException as error:
            self._core.report("Exception in a uvws callback", error)

    def _error(self, error: Exception) -> None:
        if self._callbacks.on_error is not None:
            self._callbacks.on_error(self, error)

    def _ended(self) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()

    def _forget(self, state: State, *, released: bool = False) -> None:
        """C's struct goes back, the slot is free."""
        if self._peer_address is None and not released:
            self._peer_address = address_of(self._c)
        if not released:
            self._peer_port = max(0, lib.uvws_peer_port(self._c))
        c, self._c = self._c, ffi.NULL
        self.address = 0
        self._state = state
        self._paused = False
        self._held = None
        self.deliver = _ignore
        self._ended()
        if not released:
            lib.uvws_connection_release(c)
        self._core.connections.pop(self._slot, None)
        self._core.live_changed()


def address_of(c: Any) -> str | None:
    """Return the peer's address, as C has it."""
    out = ffi.new("char[]", _ADDRESS_SIZE)
    size = lib.uvws_peer_address(c, out, _ADDRESS_SIZE)
    return os.fsdecode(ffi.buffer(out, size)[:]) if size > 0 else None


def _payload(argument: str, data: object) -> bytes:
    return str.encode(data) if isinstance(data, str) else _bytes(argument, data)


def _bytes(argument: str, data: object, allowed: str = "str or bytes-like") -> bytes:
    try:
        return exact_bytes(data)
    except TypeError:
        raise TypeError(f"{argument} must be {allowed}, not {type(data).__name__}") from None
