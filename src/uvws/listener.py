"""Listeners, and the sockets that they listen on."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path
from typing import Any

from ._core import ffi, lib
from .connection import Callbacks, Connection
from .core import ERROR_SIZE, Core
from .errors import TLSError
from .options import TLSFiles

_BACKLOG = 4096
_UNIX_PREFIX = "unix:"


class Listener:
    """Accepts connections; made by `Context.listen`, never directly."""

    def __init__(
        self,
        core: Core,
        name: str,
        sock: socket.socket,
        callbacks: Callbacks,
        tls: TLSFiles,
        max_message_size: int,
    ) -> None:
        self._core = core
        self._name = name
        self._callbacks = callbacks
        self._slot = core.listeners_made
        self._port, self._unix_path = _bound_to(sock)
        self._unix_file = _identity(self._unix_path)
        self._c = self._open(sock, tls, max_message_size)
        sock.detach()  # C has it now
        core.listeners_made += 1
        core.open_listeners += 1
        core.listeners[self._slot] = self
        core.live_changed()

    def __repr__(self) -> str:
        state = "listening" if self._c is not None else "closed"
        return f"<uvws.Listener {self._name!r} {state} on {self._unix_path or self._port}>"

    def _open(self, sock: socket.socket, tls: TLSFiles, max_message_size: int) -> Any:
        error = ffi.new("char[]", ERROR_SIZE)
        pem, kept = tls.for_c()
        c = lib.uvws_listener_new(
            self._core.c,
            sock.fileno(),
            self._slot,
            max_message_size,
            pem if tls.cert is not None else ffi.NULL,
            self._callbacks.on_drain is not None,
            error,
            ERROR_SIZE,
        )
        del kept
        if c == ffi.NULL:
            reason = ffi.string(error).decode("utf-8", "replace")
            if tls.cert is not None:
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
        self._core.open_listeners -= 1
        lib.uvws_listener_close(c)
        self._remove_path()
        self._core.live_changed()

    def accepted(self, slot: int, raw: bytes) -> None:
        """A handshake is done; see core.py."""
        c = lib.uvws_connection_at(self._core.c, slot)
        Connection(self._core, c, slot, self._callbacks).connected(raw)

    def context_closed(self) -> None:
        """The context closes the socket."""
        if self._c is not None:
            self._c = None
            self._remove_path()

    def _remove_path(self) -> None:
        path = self._unix_path
        # Not what somebody else has put there meanwhile.
        if path is not None and self._unix_file and _identity(path) == self._unix_file:
            with contextlib.suppress(OSError):
                Path(path).unlink()


def open_socket(host: str | None, port: int) -> socket.socket:
    """Bind and listen.

    Args:
        host: an address or a name, which is looked up at once, blocking; None for every address,
            IPv4 and IPv6; `unix:/path` or a path that begins with `/` for a Unix socket.
        port: 0 to let the system choose.

    Raises:
        OSError: the system refuses; errno says why.
        ValueError: `host` is empty.
    """
    if host is None:
        return _everywhere(port)
    if "\0" in host:
        raise ValueError("host must not contain a NUL")
    if host.startswith((_UNIX_PREFIX, "/")):
        return _unix(host.removeprefix(_UNIX_PREFIX))
    if not host:
        raise ValueError("host must be None, a name, an address or a Unix socket, not empty")
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    return _tcp(family, address, v6_only=True)


def _everywhere(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return _tcp(socket.AF_INET6, ("::", port), v6_only=False)
    return _tcp(socket.AF_INET, ("0.0.0.0", port), v6_only=True)


def _tcp(family: int, address: Any, *, v6_only: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6_only)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise _with_address(error, f"{address[0]} port {address[1]}") from None
    return sock


def _unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        _remove_stale(path)
        sock.bind(path)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise _with_address(error, path) from None
    return sock


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on any more: its owner did not get to do it."""
    try:
        if not stat.S_ISSOCK(Path(path).stat().st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()


def _with_address(error: OSError, address: str) -> OSError:
    """Name the address, which the system's error leaves out."""
    if error.errno is None:
        return error
    return OSError(error.errno, f"{os.strerror(error.errno)}: {address}")


def _identity(path: str | None) -> tuple[int, int] | None:
    """Tell which file is at a path, if any; abstract sockets have none."""
    if path is None or path.startswith("\0"):
        return None
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _bound_to(sock: socket.socket) -> tuple[int, str | None]:
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return 0, name if isinstance(name, str) else name.decode()
    return name[1], None
