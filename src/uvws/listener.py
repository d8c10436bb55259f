"""Listeners: they accept connections and answer requests."""

from __future__ import annotations

import contextlib
import errno
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import logs
from ._core import ffi, lib
from .connection import Callbacks, Connection, address_of
from .core import ERROR_SIZE, Core
from .errors import InvalidState, TLSError
from .headers import Headers, parse_headers
from .limits import Limits
from .options import PEM, TLSFiles, server_tls_files
from .responses import Request, encode_response
from .sockets import bound_to, identity
from .upgrade import Accept, Upgrades, accept


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """What a listener does with what it accepts."""

    callbacks: Callbacks
    tls: TLSFiles
    limits: Limits
    max_connections: int
    upgrades: Upgrades
    on_request: Any


class Listener:
    """Accepts connections; made by `Context.listen`, never directly."""

    def __init__(
        self, core: Core, name: str, sock: socket.socket, listen_options: ListenOptions
    ) -> None:
        self._core = core
        self._name = name
        self._options = listen_options
        self._ssl_ca = listen_options.tls.ca
        self._slot = core.listeners_made
        self._port, self._unix_path = bound_to(sock)
        self._unix_file = identity(self._unix_path)
        # By the slot of the connection: what was decided about a handshake that is under way. One
        # that comes to nothing leaves its entry to the next connection in that slot.
        self._accepting: dict[int, tuple[Headers, Accept]] = {}
        self._c = self._open(sock)
        sock.detach()  # C has it now
        core.listeners_made += 1
        core.open_listeners += 1
        core.listeners[self._slot] = self
        core.live_changed()
        if logs.enabled:
            scheme = "wss" if listen_options.tls.cert is not None else "ws"
            logs.log.debug("%s: listening for %s on %s", self._label, scheme, self._place)

    @property
    def _label(self) -> str:
        return f"listener {self._name!r}"

    @property
    def _place(self) -> str:
        return self._unix_path or f"port {self._port}"

    def __repr__(self) -> str:
        state = "listening" if self._c is not None else "closed"
        return f"<uvws.Listener {self._name!r} {state} on {self._unix_path or self._port}>"

    def _open(self, sock: socket.socket) -> Any:
        error = ffi.new("char[]", ERROR_SIZE)
        options = self._options
        has_tls = options.tls.cert is not None
        pem, kept = options.tls.for_c()
        limits = options.limits.for_c()
        struct = ffi.new(
            "uvws_listen_options *",
            {
                "tls": pem if has_tls else ffi.NULL,
                "limits": limits,
                "max_connections": options.max_connections,
                "want_drain": options.callbacks.on_drain is not None,
                "want_handshake": options.upgrades.need_asking,
                "want_requests": options.on_request is not None,
            },
        )
        c = lib.uvws_listener_new(
            self._core.c, sock.fileno(), self._slot, struct, error, ERROR_SIZE
        )
        del kept
        if c == ffi.NULL:
            reason = ffi.string(error).decode("utf-8", "replace")
            if not reason:
                raise MemoryError
            if has_tls:
                raise TLSError(reason)
            raise OSError(errno.EIO, reason)
        return c

    @property
    def name(self) -> str:
        """The name given to `Context.listen`."""
        return self._name

    @property
    def port(self) -> int:
        """The TCP port; 0 for a Unix socket."""
        return self._port

    @property
    def is_open(self) -> bool:
        """Whether it accepts connections."""
        return self._c is not None

    def close(self) -> None:
        """Stop accepting. Connections that are open stay open.

        Closing twice does nothing.

        Raises:
            uvws.WrongThread: this is not the loop's thread.
        """
        self._core.check_thread()
        if self._c is None:
            return
        c, self._c = self._c, None
        if logs.enabled:
            logs.log.debug("%s: closed", self._label)
        self._core.open_listeners -= 1
        lib.uvws_listener_close(c)
        self._remove_path()
        self._core.live_changed()

    def reload_tls(self, *, ssl_cert: PEM, ssl_key: PEM, ssl_ca: PEM | None = None) -> None:
        """Show another certificate to whoever connects from now on.

        Everything is read and checked first: where it cannot be used, all stays as it was.
        Connections that are open, and handshakes under way, go on with what they began with.
        Whoever comes back proves itself anew: TLS sessions of before are not resumed.

        Args:
            ssl_cert: certificate with the rest of its chain: a path, or PEM as bytes.
            ssl_key: its private key.
            ssl_ca: authorities one of which must have signed the client's certificate, instead of
                those of before; None leaves these as they were given, so that what was demanded of
                clients stays demanded.

        Raises:
            uvws.TLSError: the certificate, the key or the authorities cannot be used.
            uvws.InvalidState: the listener is closed, or was opened without TLS.
            uvws.WrongThread: this is not the loop's thread.
            OSError: a file cannot be read.
            TypeError, ValueError: an argument is wrong; the message names it.
        """
        self._core.check_thread()
        if self._c is None:
            raise InvalidState("Listener is closed")
        if self._options.tls.cert is None:
            raise InvalidState("Listener has no TLS")
        files = server_tls_files(ssl_cert, ssl_key, ssl_ca)
        if files.cert is None:
            raise TypeError("ssl_cert must be a path or bytes in PEM format, not NoneType")
        if files.ca is None:
            files = replace(files, ca=self._ssl_ca)
        error = ffi.new("char[]", ERROR_SIZE)
        pem, kept = files.for_c()
        if lib.uvws_listener_reload_tls(self._c, pem, error, ERROR_SIZE) != lib.UVWS_OK:
            reason = ffi.string(error).decode("utf-8", "replace")
            if not reason:
                raise MemoryError
            raise TLSError(reason)
        del kept
        self._ssl_ca = files.ca
        if logs.enabled:
            logs.log.debug("%s: certificates reloaded", self._label)

    # Events, as core.py dispatches them

    def tls_failed(self, raw: bytes) -> None:
        """A client and this listener did not agree on TLS; told while debugging only."""
        address, _, reason = raw.partition(b"\0")
        peer = address.decode() or "a client"
        logs.log.debug("%s: TLS handshake with %s failed: %s", self._label, peer, reason.decode())

    def handshake(self, c: Any, slot: int, raw: bytes) -> bool:
        """Decide on an upgrade; tell whether it is accepted."""
        headers = parse_headers(raw)
        answer = self._options.upgrades.decide(headers, self._core.report)
        if isinstance(answer, Accept):
            try:
                accept(c, answer, self._options.upgrades.compression)
            except MemoryError as error:
                self._core.report("Exception in a handshake", error)
                return False
            self._accepting[slot] = headers, answer
            return True
        if logs.enabled:
            logs.log.debug("%s: handshake refused with %s", self._label, _status(answer))
        lib.uvws_respond(c, answer, len(answer))
        return False

    def request(self, c: Any, method: str, raw: bytes) -> None:
        """Answer a plain HTTP request."""
        headers = parse_headers(raw)
        request = Request(
            method=method,
            path=headers.get("Path", ""),
            query=headers.get("Query", ""),
            headers=headers,
            peer_address=address_of(c),
        )
        response = encode_response(request, self._options.on_request, self._core.report)
        if logs.enabled:
            logs.log.debug("%s: request answered with %s", self._label, _status(response))
        lib.uvws_respond(c, response, len(response))

    def accepted(self, slot: int, raw: bytes) -> None:
        """A handshake is done; see core.py."""
        c = lib.uvws_connection_at(self._core.c, slot)
        connection = Connection(self._core, c, slot, self._options.callbacks)
        if logs.enabled:
            logs.log.debug("%s: accepted by %s", connection.label, self._label)
        if self._options.upgrades.need_asking:
            headers, answer = self._accepting.pop(slot)
            connection.connected(headers, answer.protocol)
        else:
            connection.connected(parse_headers(raw), None)

    def context_closed(self) -> None:
        """The context closes the socket."""
        if self._c is not None:
            self._c = None
            self._remove_path()

    def _remove_path(self) -> None:
        path = self._unix_path
        # Not what somebody else has put there meanwhile.
        if path is not None and self._unix_file and identity(path) == self._unix_file:
            with contextlib.suppress(OSError):
                Path(path).unlink()


def _status(response: bytes) -> str:
    """Return the status code of a response that we wrote."""
    return response.split(b" ", 2)[1].decode()
