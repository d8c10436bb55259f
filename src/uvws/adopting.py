"""Sockets that other code has accepted: checks, and who owns the descriptor."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import sys
from dataclasses import dataclass
from typing import Any

from ._core import ffi, lib
from .connection import Callbacks, Connection
from .core import Core
from .headers import Headers
from .limits import Limits
from .upgrade import Accept, Upgrades, accept

_Identity = tuple[int, int]


class Adopting:
    """Stands where a client has its attempts (see connecting.py): there is nothing to try again."""

    def __init__(self, upgrades: Upgrades) -> None:
        self.failure: Exception | None = None  # what is known better than C says
        self.protocol: str | None = None
        self._upgrades = upgrades

    @property
    def need_asking(self) -> bool:
        """Whether an upgrade needs more than libwebsockets' own answer."""
        return self._upgrades.need_asking

    def upgrade(self, c: Any, headers: Headers) -> bool:
        """Accept the upgrade."""
        answer = self._upgrades.decide(headers, _no_report)
        assert isinstance(answer, Accept)  # there is nobody to ask
        self.protocol = answer.protocol
        try:
            accept(c, answer, self._upgrades.compression)
        except MemoryError as error:
            self.failure = error
            return False
        return True

    def has_more(self) -> bool:
        """Tell whether another address can be tried."""
        return False

    def cancel(self) -> None:
        """Give up; C does what there is to do."""


@dataclass(frozen=True, slots=True)
class AdoptOptions:
    """How a connection is made of a socket."""

    callbacks: Callbacks
    data: bytes
    limits: Limits
    upgrades: Upgrades


def adopt(core: Core, sock: Any, adopt_options: AdoptOptions) -> Connection:
    """Make a connection of a socket.

    C gets a duplicate of the descriptor, so that the caller's object is as it was if anything
    fails. On success a `socket.socket` is detached and the original closed; any other object is
    kept until the connection ends.

    Raises:
        TypeError: `sock` has no fileno(), or is one whose TLS Python handles.
        ValueError: it is no connected stream socket, or was adopted already.
        OSError: the system has no descriptor left.
    """
    fd = _descriptor(sock)
    identity = _check(core, fd)
    duplicate = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0)
    connection = _hand_over(core, duplicate, adopt_options)
    connection.call_at_end(lambda: core.adopted.pop(identity, None))
    core.adopted[identity] = sock
    if isinstance(sock, socket.socket):
        os.close(sock.detach())
    return connection


def _no_report(_message: str, error: BaseException) -> None:
    raise error


def _hand_over(core: Core, fd: int, adopt_options: AdoptOptions) -> Connection:
    slot = ffi.new("uint32_t *")
    adopting = Adopting(adopt_options.upgrades)
    callbacks, data = adopt_options.callbacks, adopt_options.data
    limits = adopt_options.limits.for_c()
    struct = ffi.new(
        "uvws_adopt_options *",
        {
            "limits": limits,
            "want_drain": callbacks.on_drain is not None,
            "want_handshake": adopting.need_asking,
        },
    )
    c = lib.uvws_adopted_new(core.c, struct, slot)
    if c == ffi.NULL:
        os.close(fd)
        raise MemoryError
    connection = Connection(core, c, slot[0], callbacks)
    connection.start_adopting(adopting)
    result = lib.uvws_adopt(c, fd, data, len(data))
    if result != lib.UVWS_OK:
        connection.discard()
        if result == lib.UVWS_FAILED:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        raise MemoryError
    return connection


def _descriptor(sock: Any) -> int:
    # Not imported here: that would initialise OpenSSL, and there are Pythons without it.
    ssl = sys.modules.get("ssl")
    if ssl is not None and isinstance(sock, ssl.SSLSocket):
        raise TypeError("sock must be a plain socket; TLS that Python handles cannot be adopted")
    fileno = getattr(sock, "fileno", None)
    if not callable(fileno):
        raise TypeError(f"sock must be a socket or have fileno(), not {type(sock).__name__}")
    fd = fileno()
    if isinstance(fd, bool) or not isinstance(fd, int):
        raise TypeError(f"sock.fileno() must return an int, not {type(fd).__name__}")
    return fd


def _check(core: Core, fd: int) -> _Identity:
    """Refuse what cannot carry a WebSocket; return what tells the socket from all others."""
    try:
        status = os.fstat(fd)
    except (OSError, OverflowError):
        raise ValueError("sock is closed") from None
    if not stat.S_ISSOCK(status.st_mode):
        raise ValueError("sock is not a socket")
    identity = status.st_dev, status.st_ino
    if core.is_adopted(identity):
        raise ValueError("sock has been adopted already")
    was_blocking = os.get_blocking(fd)
    probe = socket.socket(fileno=fd)
    try:
        _check_stream(probe)
    finally:
        probe.detach()
        if socket.getdefaulttimeout() is not None:  # which was put on it
            os.set_blocking(fd, was_blocking)
    return identity


def _check_stream(probe: socket.socket) -> None:
    families = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    if probe.family not in families or probe.type != socket.SOCK_STREAM:
        raise ValueError("sock must be a TCP or Unix stream socket")
    if probe.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ValueError("sock is listening; adopt what accept() returns")
    try:
        probe.getpeername()
    except OSError:
        raise ValueError("sock is not connected") from None
