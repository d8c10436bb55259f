"""The context: everything that one loop serves."""

from __future__ import annotations

import sys
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from . import adopting, fast, logs, options
from . import callbacks as _callbacks  # noqa: F401  C finds them by name
from ._core import ffi, lib
from .compression import Deflate, compression_option
from .connecting import Connecting, ConnectOptions
from .connection import Callbacks, Connection
from .core import ERROR_SIZE, Core
from .errors import TLSError
from .headers import HeaderPairs, Headers, encode_headers
from .limits import (
    PING_TIMEOUT,
    SERVER_HANDSHAKE_TIMEOUT,
    SERVER_HEADER_SIZE,
    SERVER_MESSAGE_SIZE,
    SERVER_PING_INTERVAL,
    SERVER_SEND_QUEUE,
    Limits,
)
from .listener import Listener, ListenOptions
from .loops import adapt
from .options import PEM
from .overflow import SendOverflow
from .proxies import ProxyOptions
from .responses import Reject, Request, Response
from .sockets import open_socket
from .states import State
from .upgrade import checked_upgrades
from .url import parse_url

_RESERVED_NAME = "default"


class Context:
    """WebSocket servers and clients on one event loop.

    A context belongs to the thread that runs its loop. It is a context manager that closes itself.

    In a process that is forked there is a copy that does nothing: `close` does nothing at all,
    everything else raises `uvws.WrongThread`, and the parent's connections are not affected. Make
    another context there, on another loop.
    """

    def __init__(
        self,
        loop: object = None,
        *,
        ssl_cert: PEM | None = None,
        ssl_key: PEM | None = None,
        ssl_ca: PEM | None = None,
        proxy: str | None = None,
        proxy_port: int = 1080,
        ssl_init: bool | None = None,
    ) -> None:
        """Create a context on a loop, which need not be running yet.

        A proxy is a host, `host:port` or a URL, `[scheme://][user:password@]host[:port]`, with user
        and password percent-encoded and IPv6 addresses in brackets. `socks5://` and `socks5h://`
        stand for SOCKS5; `http://`, `https://` and no scheme for HTTP, where it is asked to
        CONNECT. The proxy itself is always spoken to without TLS, also with `https://`, and is told
        the password in clear. It is given the server's name as it is, to look it up, and TLS to the
        server goes through it.

        In the environment `https_proxy` counts for `wss://` and `http_proxy` for `ws://`, then
        `all_proxy`; lower case before upper case. `no_proxy` is read the way the standard library
        does, as a list of domains, hosts and `host:port`, or `*`; it does not count for `proxy`.
        Unix sockets are never reached through a proxy.

        Args:
            loop: a `pyuv.Loop`, a uvloop loop or any asyncio loop; None for the running asyncio
                loop, else pyuv's default loop.
            ssl_cert: certificate that clients of this context show (mutual TLS), with the rest of
                its chain: a path, or PEM as bytes.
            ssl_key: its private key.
            ssl_ca: the authorities to trust instead of the system's.
            proxy: the proxy for every client connection over TCP, `""` for none, or None for what
                the environment says at the time of each `connect`.
            proxy_port: TCP port of a proxy that is given without one.
            ssl_init: False leaves OpenSSL's globals alone, for a process where another library
                initialises them its own way; OpenSSL does so by itself where nobody has by the time
                that TLS is used. None is True. They are never cleaned up before the process ends.

        Raises:
            TypeError: `loop` is no loop, a certificate neither a path nor bytes, `proxy` no str, or
                `ssl_init` no bool.
            ValueError: a certificate without a key, or the other way round, or a malformed proxy;
                the message does not quote it.
            OSError: a file cannot be read, or there is no descriptor left.
            RuntimeError: `loop` is None and there is none, or it is closed.
        """
        self._core: Core | None = None
        self._tls = options.tls_files(ssl_cert, ssl_key, ssl_ca)
        self._proxy = ProxyOptions.checked(proxy, proxy_port)
        initialise = options.flag("ssl_init", ssl_init, default=True)
        logs.apply()
        fast.install(Connection)
        if initialise:
            lib.uvws_tls_init()
        core = Core(adapt(loop))
        core.context = weakref.ref(self)
        self._core = core

    def __del__(self) -> None:
        core = getattr(self, "_core", None)
        if core is None or core.closed or core.is_copy or sys.is_finalizing():
            return
        try:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        finally:
            core.close_abandoned()  # also where the warning is made an error

    def __enter__(self) -> Context:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._core is None or self._core.closed else "open"
        return f"<uvws.Context {state} at {id(self):#x}>"

    @property
    def core(self) -> Core:
        """For the other modules of this package: what outlives this object."""
        assert self._core is not None  # __init__ has returned
        return self._core

    def _usable(self) -> Core:
        core = self._core
        assert core is not None  # __init__ has returned
        core.check()
        return core

    @property
    def connections(self) -> list[Connection]:
        """The connections that are connected or closing.

        Raises:
            uvws.WrongThread: this is not the loop's thread.
        """
        core = self._core
        assert core is not None
        core.check_thread()
        wanted = (State.CONNECTED, State.CLOSING)
        return [each for each in list(core.connections.values()) if each.state in wanted]

    def connect(
        self,
        url: str,
        *,
        protocol: str | Sequence[str] | None = None,
        headers: HeaderPairs | None = None,
        ssl_verify: bool = True,
        max_message_size: int = 0,
        max_send_queue: int = 0,
        on_send_overflow: SendOverflow | str = SendOverflow.CLOSE,
        idle_timeout: float | None = None,
        ping_interval: float | None = None,
        ping_timeout: float | None = PING_TIMEOUT,
        connect_timeout: float | None = None,
        compression: str | Deflate | None = None,
        on_connect: Callable[[Connection, Headers], object] | None = None,
        on_message: Callable[[Connection, Any], object] | None = None,
        on_close: Callable[[Connection, int, str], object] | None = None,
        on_error: Callable[[Connection, Exception], object] | None = None,
        on_pong: Callable[[Connection, bytes], object] | None = None,
        on_drain: Callable[[Connection], object] | None = None,
    ) -> Connection:
        """Open a client connection.

        Args:
            url: `ws://`, `wss://`, `ws+unix:` or `wss+unix:`; see `uvws.url.parse_url`.
            protocol: subprotocols to offer, in order of preference.
            headers: more headers for the request.
            ssl_verify: whether the server's certificate and its name are checked.
            max_message_size: largest message to accept, in bytes, after decompression; 0 for no
                limit. A larger one ends the connection with 1009.
            max_send_queue: how much may be queued for a peer that does not read, in bytes, frame
                headers included; 0 for no limit. It is looked at before a message is added, so
                that there is room for any one where less is queued.
            on_send_overflow: what becomes of a message that there is no room for; a
                `uvws.SendOverflow` or its value. "close" ends the connection with 1013, "raise"
                refuses the message with `uvws.SendQueueFull`, and "pause" queues it and stops
                reading from this peer until all is sent.
            idle_timeout: seconds without a byte from the peer after which the connection is closed
                with 1001 and the reason "idle timeout"; None for no limit. An answer to a ping is
                a byte. This and the next two may take up to half as much again.
            ping_interval: seconds without a byte from the peer after which it is sent a Ping; None
                for no pings. `on_pong` is not told of the answers.
            ping_timeout: seconds after such a Ping without a byte from the peer after which it is
                dead: `on_error` gets a `uvws.PingTimeout`, `on_close` 1006; None for no limit.
                While the connection is not read from, none of these counts.
            connect_timeout: seconds for name look-up, TCP, proxy, TLS and handshake together. None
                for 15 seconds for each address, and for the name look-up what the system allows.
                The head of the response may have 16384 bytes.
            compression: None, "deflate", or a `uvws.Deflate`, to offer permessage-deflate.
            on_connect: called with the connection and the response headers.
            on_message: called with each whole message: str for text, bytes for binary.
            on_close: called with the close code and the reason, once the connection has been open:
                1005 where the peer gave no code, 1006 where there was no Close frame.
            on_error: called with an exception. Before the connection is open that is
                `uvws.ConnectTimeout`, `uvws.HandshakeError`, `uvws.TLSError`, an OSError, or
                `uvws.ConnectionClosed` if the context is closed, and nothing follows; then it is
                `uvws.MessageTooBig`, `uvws.SendQueueFull` or `uvws.PingTimeout`, and `on_close`
                follows.
            on_pong: called with the payload of a Pong.
            on_drain: called when the send queue became empty.

        Returns:
            The connection, in the state "connecting".

        Raises:
            uvws.InvalidURL: the URL is malformed.
            uvws.TLSError: the certificates of this context cannot be used.
            uvws.InvalidState: the context is closed.
            uvws.WrongThread: this is not the loop's thread.
            TypeError, ValueError: another argument is wrong, or a proxy that the environment names;
                the message names it.
        """
        core = self._usable()
        callbacks = Callbacks.checked(
            {
                "on_connect": on_connect,
                "on_message": on_message,
                "on_close": on_close,
                "on_error": on_error,
                "on_pong": on_pong,
                "on_drain": on_drain,
            }
        )
        parsed = parse_url(url)
        connect_options = ConnectOptions(
            url=parsed,
            proxy=self._proxy.choose(parsed),
            protocols=options.protocols(protocol),
            headers=encode_headers(() if headers is None else headers, "headers"),
            verify=options.verify(ssl_verify),
            compression=compression_option(compression),
            wants_drain=on_drain is not None,
        )
        limits = Limits.checked(
            max_message_size=max_message_size,
            max_send_queue=max_send_queue,
            on_send_overflow=on_send_overflow,
            idle_timeout=idle_timeout,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
        )
        timeout = options.timeout("connect_timeout", connect_timeout)
        if connect_options.url.secure:
            self.set_up_client_tls()
        return _start_connecting(core, connect_options, callbacks, limits, timeout)

    def set_up_client_tls(self) -> None:
        """For the other modules of this package: read the certificates, the first time.

        Raises:
            uvws.TLSError: they cannot be used.
        """
        core = self.core
        error = ffi.new("char[]", ERROR_SIZE)
        pem, kept = self._tls.for_c()
        if lib.uvws_client_tls(core.c, pem, error, ERROR_SIZE) != lib.UVWS_OK:
            raise TLSError(ffi.string(error).decode("utf-8", "replace"))
        del kept

    def listen(
        self,
        port: int = 0,
        *,
        host: str | None = None,
        name: str = "server",
        protocol: str | Sequence[str] | None = None,
        ssl_cert: PEM | None = None,
        ssl_key: PEM | None = None,
        ssl_ca: PEM | None = None,
        max_message_size: int = SERVER_MESSAGE_SIZE,
        max_send_queue: int = SERVER_SEND_QUEUE,
        on_send_overflow: SendOverflow | str = SendOverflow.CLOSE,
        idle_timeout: float | None = None,
        ping_interval: float | None = SERVER_PING_INTERVAL,
        ping_timeout: float | None = PING_TIMEOUT,
        max_header_size: int = SERVER_HEADER_SIZE,
        handshake_timeout: float | None = SERVER_HANDSHAKE_TIMEOUT,
        max_connections: int = 0,
        headers: HeaderPairs | None = None,
        compression: str | Deflate | None = None,
        on_handshake: Callable[[Headers], bool | Mapping[str, str] | Reject | None] | None = None,
        on_request: Callable[[Request], Response] | None = None,
        on_connect: Callable[[Connection, Headers], object] | None = None,
        on_message: Callable[[Connection, Any], object] | None = None,
        on_close: Callable[[Connection, int, str], object] | None = None,
        on_error: Callable[[Connection, Exception], object] | None = None,
        on_pong: Callable[[Connection, bytes], object] | None = None,
        on_drain: Callable[[Connection], object] | None = None,
    ) -> Listener:
        """Listen for connections.

        Args:
            port: TCP port; 0 lets the system choose (`Listener.port` says which).
            host: address to bind, or a name, which is looked up at once; None for every address,
                IPv4 and IPv6; `unix:/path` for a Unix socket, or just a path that begins with `/`.
            name: tells this listener from the others of this context; "default" is reserved.
            protocol: subprotocols, in order of preference; the first that a client offers is
                chosen. With none in common the connection goes on without.
            ssl_cert: certificate with the rest of its chain, which turns TLS on: a path, or PEM as
                bytes.
            ssl_key: its private key.
            ssl_ca: authorities one of which must have signed the client's certificate.
            max_message_size: largest message to accept, in bytes, after decompression; 0 for no
                limit. A larger one ends the connection with 1009.
            max_send_queue: how much may be queued for a peer that does not read, in bytes, frame
                headers included; 0 for no limit. It is looked at before a message is added, so
                that there is room for any one where less is queued.
            on_send_overflow: what becomes of a message that there is no room for; a
                `uvws.SendOverflow` or its value. "close" ends the connection with 1013, "raise"
                refuses the message with `uvws.SendQueueFull`, and "pause" queues it and stops
                reading from this peer until all is sent.
            idle_timeout: seconds without a byte from the peer after which the connection is closed
                with 1001 and the reason "idle timeout"; None for no limit. An answer to a ping is
                a byte. This and the next two may take up to half as much again.
            ping_interval: seconds without a byte from the peer after which it is sent a Ping; None
                for no pings. `on_pong` is not told of the answers.
            ping_timeout: seconds after such a Ping without a byte from the peer after which it is
                dead: `on_error` gets a `uvws.PingTimeout`, `on_close` 1006; None for no limit.
                While the connection is not read from, none of these counts.
            max_header_size: largest head of a request, in bytes, 256 to 16384. A larger one is
                refused with 431.
            handshake_timeout: seconds for TLS and the head of the request together, from when the
                connection was accepted, however steadily it comes; up to half as much may be added.
                None for no limit.
            max_connections: how many connections this listener may have, those in their handshake
                among them; 0 for no limit. One more is accepted, answered with 503 (over TLS with
                nothing), and ended: left to the system it would wait, and not know for what.
            headers: headers for the response to every upgrade; 8192 bytes at most, together with
                the longest subprotocol.
            compression: None, "deflate", or a `uvws.Deflate`: permessage-deflate for clients that
                offer it. `max_message_size` counts what is decompressed.
            on_handshake: called with the request headers before an upgrade is answered. True or a
                mapping of more response headers, of 8192 bytes at most, accepts; False or None
                refuses with 403, a `uvws.Reject` as it says, an exception, or anything else that
                is returned, with 500. It must not run the loop.
            on_request: called with a `uvws.Request` that asks for no upgrade; returns a
                `uvws.Response`, after which the connection is closed. Without it the answer is 426.
                It must not run the loop.
            on_connect: called with the connection and the request headers, the path under "Path".
                Where another callback has closed the connection just before, its state is
                "closing" already, and `on_close` follows.
            on_message: called with each whole message: str for text, bytes for binary.
            on_close: called with the close code and the reason, as for `connect`.
            on_error: called with a `uvws.MessageTooBig`, `uvws.SendQueueFull` or
                `uvws.PingTimeout`; `on_close` follows.
            on_pong: called with the payload of a Pong.
            on_drain: called when the send queue became empty.

        Returns:
            The listener.

        Raises:
            OSError: the system refuses the address; errno says why.
            uvws.TLSError: the certificate or the key cannot be used.
            uvws.InvalidState: the context is closed.
            uvws.WrongThread: this is not the loop's thread.
            TypeError, ValueError: another argument is wrong; the message names it.
        """
        core = self._usable()
        callbacks = Callbacks.checked(
            {
                "on_connect": on_connect,
                "on_message": on_message,
                "on_close": on_close,
                "on_error": on_error,
                "on_pong": on_pong,
                "on_drain": on_drain,
            }
        )
        _check_name(core, name)
        tls = options.server_tls_files(ssl_cert, ssl_key, ssl_ca)
        listen_options = ListenOptions(
            callbacks=callbacks,
            tls=tls,
            limits=Limits.checked(
                max_message_size=max_message_size,
                max_send_queue=max_send_queue,
                on_send_overflow=on_send_overflow,
                idle_timeout=idle_timeout,
                ping_interval=ping_interval,
                ping_timeout=ping_timeout,
                max_header_size=max_header_size,
                handshake_timeout=handshake_timeout,
            ),
            max_connections=options.count_limit("max_connections", max_connections),
            upgrades=checked_upgrades(
                options.protocols(protocol),
                headers,
                compression_option(compression),
                options.callback("on_handshake", on_handshake),
            ),
            on_request=options.callback("on_request", on_request),
        )
        checked_port = options.listen_port(port)
        if host is not None and not isinstance(host, str):
            raise TypeError(f"host must be str or None, not {type(host).__name__}")
        sock = open_socket(host, checked_port)
        try:
            return Listener(core, name, sock, listen_options)
        except BaseException:
            sock.close()
            raise

    def adopt(
        self,
        sock: Any,
        *,
        initial_data: bytes | bytearray | memoryview | None = None,
        protocol: str | Sequence[str] | None = None,
        headers: HeaderPairs | None = None,
        max_message_size: int = SERVER_MESSAGE_SIZE,
        max_send_queue: int = SERVER_SEND_QUEUE,
        on_send_overflow: SendOverflow | str = SendOverflow.CLOSE,
        idle_timeout: float | None = None,
        ping_interval: float | None = SERVER_PING_INTERVAL,
        ping_timeout: float | None = PING_TIMEOUT,
        max_header_size: int = SERVER_HEADER_SIZE,
        handshake_timeout: float | None = SERVER_HANDSHAKE_TIMEOUT,
        compression: str | Deflate | None = None,
        on_connect: Callable[[Connection, None], object] | None = None,
        on_message: Callable[[Connection, Any], object] | None = None,
        on_close: Callable[[Connection, int, str], object] | None = None,
        on_error: Callable[[Connection, Exception], object] | None = None,
        on_pong: Callable[[Connection, bytes], object] | None = None,
        on_drain: Callable[[Connection], object] | None = None,
    ) -> Connection:
        """Take over a socket on which a client is about to ask for an upgrade, or has asked.

        On success a `socket.socket` is detached: the connection owns its descriptor. Of any other
        object the descriptor is duplicated; the object is kept until the connection ends, and
        whoever made it closes it. On failure `sock` is as it was.

        Args:
            sock: a connected TCP or Unix stream socket, or an object with `fileno()`.
            initial_data: what was already read from it: the request, or its beginning, or the
                request and what follows it.
            protocol: subprotocols, as for `listen`.
            headers: headers for the response; 8192 bytes at most, together with the longest
                subprotocol.
            max_message_size: largest message to accept, in bytes, after decompression; 0 for no
                limit. A larger one ends the connection with 1009.
            max_send_queue: how much may be queued for a peer that does not read, in bytes, frame
                headers included; 0 for no limit. It is looked at before a message is added, so
                that there is room for any one where less is queued.
            on_send_overflow: what becomes of a message that there is no room for; a
                `uvws.SendOverflow` or its value. "close" ends the connection with 1013, "raise"
                refuses the message with `uvws.SendQueueFull`, and "pause" queues it and stops
                reading from this peer until all is sent.
            idle_timeout: seconds without a byte from the peer after which the connection is closed
                with 1001 and the reason "idle timeout"; None for no limit. An answer to a ping is
                a byte. This and the next two may take up to half as much again.
            ping_interval: seconds without a byte from the peer after which it is sent a Ping; None
                for no pings. `on_pong` is not told of the answers.
            ping_timeout: seconds after such a Ping without a byte from the peer after which it is
                dead: `on_error` gets a `uvws.PingTimeout`, `on_close` 1006; None for no limit.
                While the connection is not read from, none of these counts.
            max_header_size: largest head of a request, in bytes, 256 to 16384. A larger one is
                refused with 431.
            handshake_timeout: seconds for TLS and the head of the request together, from when it
                is adopted, however steadily it comes; up to half as much may be added.
                None for no limit.
            compression: as for `listen`.
            on_connect: called with the connection and None once the handshake is done.
            on_message: called with each whole message: str for text, bytes for binary.
            on_close: called with the close code and the reason, once the connection has been open.
            on_error: called with a `uvws.HandshakeError`, or a `uvws.ConnectionClosed` if the
                context is closed before the handshake is done, and nothing follows; or with a
                `uvws.MessageTooBig`, `uvws.SendQueueFull` or `uvws.PingTimeout`, and `on_close`
                follows.
            on_pong: called with the payload of a Pong.
            on_drain: called when the send queue became empty.

        Returns:
            The connection, in the state "connecting".

        Raises:
            TypeError: `sock` has no fileno(), or is an `ssl.SSLSocket`; or another argument is
                wrong.
            ValueError: `sock` is no socket, or closed, listening, not connected or adopted
                already; or another argument is wrong.
            OSError: there is no descriptor left.
            uvws.InvalidState: the context is closed.
            uvws.WrongThread: this is not the loop's thread.
        """
        core = self._usable()
        callbacks = Callbacks.checked(
            {
                "on_connect": on_connect,
                "on_message": on_message,
                "on_close": on_close,
                "on_error": on_error,
                "on_pong": on_pong,
                "on_drain": on_drain,
            }
        )
        adopt_options = adopting.AdoptOptions(
            callbacks=callbacks,
            data=options.initial_data(initial_data),
            limits=Limits.checked(
                max_message_size=max_message_size,
                max_send_queue=max_send_queue,
                on_send_overflow=on_send_overflow,
                idle_timeout=idle_timeout,
                ping_interval=ping_interval,
                ping_timeout=ping_timeout,
                max_header_size=max_header_size,
                handshake_timeout=handshake_timeout,
            ),
            upgrades=checked_upgrades(
                options.protocols(protocol), headers, compression_option(compression), None
            ),
        )
        return adopting.adopt(core, sock, adopt_options)

    def close(self) -> None:
        """Close every connection and listener.

        A Close frame with code 1001 is tried on every open connection, without waiting; each gets
        `on_close` with 1001, a connecting one `on_error`. No callback comes after this. Closing
        twice does nothing, on whatever thread: a `with` block may end on another one than the
        loop, which has closed the context, ran on.

        Raises:
            uvws.WrongThread: this is not the loop's thread, and the context is open.
        """
        core = self._core
        if core is None or core.closed or core.is_copy:
            return
        core.check_thread()
        core.close()


def _check_name(core: Core, name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"name must be str, not {type(name).__name__}")
    if not name or name == _RESERVED_NAME:
        raise ValueError(f"name must not be empty or {_RESERVED_NAME!r}")
    if any(each.name == name and each.is_open for each in core.listeners.values()):
        raise ValueError(f"name {name!r} is in use by another listener of this context")


def _start_connecting(
    core: Core,
    connect_options: ConnectOptions,
    callbacks: Callbacks,
    limits: Limits,
    timeout: float | None,
) -> Connection:
    slot = ffi.new("uint32_t *")
    c = lib.uvws_client_new(core.c, limits.for_c(), timeout or 0.0, slot)
    if c == ffi.NULL:
        raise MemoryError
    connection = Connection(core, c, slot[0], callbacks)
    connecting = Connecting(core, connection, c, connect_options)
    try:
        connection.start_connecting(connecting)
    except BaseException:
        connecting.cancel()
        connection.discard()
        raise
    return connection
