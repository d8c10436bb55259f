"""The sockets that listeners listen on."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import Any

from .exact import exact_str
from .url import MAX_SOCKET_PATH

_BACKLOG = 4096
_UNIX_PREFIX = "unix:"


def open_socket(host: str | None, port: int) -> socket.socket:
    """Bind and listen.

    Args:
        host: an address or a name, which is looked up at once, blocking; None for every address,
            IPv4 and IPv6; `unix:/path` or a path that begins with `/` for a Unix socket.
        port: 0 to let the system choose.

    Raises:
        OSError: the system refuses; errno says why.
        ValueError: `host` is empty, or no path that a socket can have.
    """
    if host is None:
        return _everywhere(port)
    host = exact_str(host)
    if "\0" in host:
        raise ValueError("host must not contain a NUL")
    if host.startswith((_UNIX_PREFIX, "/")):
        return _unix(_checked_path(host.removeprefix(_UNIX_PREFIX)))
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


def _checked_path(path: str) -> str:
    try:
        size = len(os.fsencode(path))
    except UnicodeEncodeError:
        raise ValueError("host has a Unix path that the system cannot encode") from None
    if not size:  # which the system takes for an abstract socket of its own choice
        raise ValueError(f"host must have a path after {_UNIX_PREFIX!r}")
    if size > MAX_SOCKET_PATH:
        raise ValueError(
            f"host has a Unix path of {size} bytes; at most {MAX_SOCKET_PATH} are allowed"
        )
    return path


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
        probe.setblocking(False)
        try:
            # Where the backlog is full, this would wait: somebody listens there as well.
            with contextlib.suppress(BlockingIOError):
                probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()


def _with_address(error: OSError, address: str) -> OSError:
    """Name the address, which the system's error leaves out."""
    if error.errno is None:
        return error
    return OSError(error.errno, f"{os.strerror(error.errno)}: {address}")


def identity(path: str | None) -> tuple[int, int] | None:
    """Tell which file is at a path, if any; abstract sockets have none."""
    if path is None or path.startswith("\0"):
        return None
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def bound_to(sock: socket.socket) -> tuple[int, str | None]:
    """Return the TCP port and the path of the Unix socket, whichever there is."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return 0, name if isinstance(name, str) else name.decode()
    return name[1], None
