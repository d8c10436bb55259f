"""A client connection on its way: name look-up, then one address after the other."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import logs
from ._core import ffi, lib
from .compression import Deflate, NegotiationError, check_answer, offer
from .core import Core
from .errors import HandshakeError
from .headers import Headers
from .loops.adapter import Address
from .proxies import Proxy
from .tunnels import tunnel_options
from .url import URL

if TYPE_CHECKING:
    from .connection import Connection


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """What is the same for every address that is tried."""

    url: URL
    proxy: Proxy | None
    protocols: list[str]
    headers: list[tuple[str, str]]
    verify: bool
    compression: Deflate | None
    wants_drain: bool
    address: Address | None = None  # where to connect to, if not where the URL says


class Connecting:
    """The attempts of one connection."""

    def __init__(
        self, core: Core, connection: Connection, c: Any, connect_options: ConnectOptions
    ) -> None:
        self._core = core
        self._connection = connection
        self._c = c
        self._options = connect_options
        self._addresses: list[Address] = []
        self._cancel_resolve: Callable[[], None] | None = None
        self._cancelled = False
        self.failure: Exception | None = None  # what is known better than libwebsockets says

    def start(self) -> None:
        """Look the name up, or go ahead where there is none.

        Behind a proxy it is the proxy's own: that of the server is for the proxy to look up.
        """
        url = self._options.url
        host, port = self._nearest()
        if logs.enabled:
            # Not the rest of the URL, nor headers or credentials: there are secrets in them.
            scheme = "wss" if url.secure else "ws"
            where = url.unix_path or f"{url.host} port {url.port}"
            if self._options.proxy is not None:
                where += f" through the proxy {host} port {port}"
            logs.log.debug("%s: connecting by %s to %s", self._connection.label, scheme, where)
        if url.unix_path is not None or _is_address(host):
            self._addresses = [(host, port)]
            self.try_next()
            return
        self._cancel_resolve = self._core.adapter.resolve(host, port, self._resolved)

    def _nearest(self) -> Address:
        """Return the host, or its address, and the port that TCP connects to."""
        if self._options.proxy is not None:
            return self._options.proxy.host, self._options.proxy.port
        return self._options.address or (self._options.url.host, self._options.url.port)

    def _resolved(self, answer: list[Address] | OSError) -> None:
        if self._cancel_resolve is None:
            return  # cancelled, timed out, or the context is closed
        self._cancel_resolve = None
        if isinstance(answer, OSError):
            self._report(_without_descriptors() or answer)
            return
        if not answer:
            self._report(OSError(f"no address for {self._nearest()[0]}"))
            return
        self._addresses = list(dict.fromkeys(answer))
        self.go_on()

    def _report(self, failure: Exception) -> None:
        """Outside of dispatch(), so under a guard of its own."""
        try:
            self._connection.connect_failed(failure)
        except BaseException as error:
            self._core.report("Exception in a uvws callback", error)

    def has_more(self) -> bool:
        """Tell whether there is an address that was not tried."""
        return bool(self._addresses)

    def try_next(self) -> None:
        """Start an attempt at the next address; how it goes comes as an event."""
        if self._cancelled:
            return
        if self._core.asking:
            # Where that is connected at once, libwebsockets puts our request together in the buffer
            # that it reads the other one from.
            self._core.put_off(self.go_on)
            return
        address, port = self._addresses.pop(0)
        if logs.enabled and self._options.url.unix_path is None:
            logs.log.debug("%s: trying %s port %d", self._connection.label, address, port)
        struct, kept = self._struct(address, port)
        if lib.uvws_connect(self._c, struct) != lib.UVWS_OK:
            raise MemoryError
        del kept

    def go_on(self) -> None:
        """Start an attempt where no caller is there to be told that it cannot even begin."""
        try:
            self.try_next()
        except MemoryError as failure:
            self._report(failure)

    def negotiate(self, headers: Headers) -> bool:
        """Check the server's choice of extensions, and turn compression on."""
        compression = self._options.compression
        try:
            agreed = check_answer(compression, headers)
            if agreed is not None and compression is not None:
                agreed.apply(self._c, compression, is_client=True)
        except NegotiationError as error:
            self.failure = HandshakeError(str(error), status=101, headers=headers)
            return False
        except MemoryError as error:
            self.failure = error
            return False
        return True

    def cancel(self) -> None:
        """Forget a look-up that is under way, and an attempt that was put off."""
        self._cancelled = True
        cancel, self._cancel_resolve = self._cancel_resolve, None
        if cancel is not None:
            cancel()

    def _struct(self, address: str, port: int) -> tuple[Any, list[Any]]:
        options, url = self._options, self._options.url
        hosts = [value for name, value in options.headers if name.lower() == "host"]
        lines = "".join(
            f"{name}: {value}\r\n" for name, value in options.headers if name.lower() != "host"
        )
        if options.compression is not None:
            lines += f"Sec-WebSocket-Extensions: {offer(options.compression)}\r\n"
        host_header = hosts[0] if hosts else url.host_header
        messages: list[Any] = []
        kept = {
            "address": ffi.new("char[]", address.encode()),
            "host_header": ffi.new("char[]", host_header.encode("latin-1")),
            "server_name": ffi.new("char[]", url.host.encode()),
            "path": ffi.new("char[]", url.path.encode()),
            "extra_headers": ffi.new("char[]", lines.encode("latin-1")),
        }
        if url.unix_path is not None:
            kept["unix_path"] = ffi.new("char[]", os.fsencode(url.unix_path))
        if options.proxy is not None:
            kept["tunnel"], messages = tunnel_options(options.proxy, url.host, url.port)
        if options.protocols:
            kept["protocols"] = ffi.new("char[]", ", ".join(options.protocols).encode())
        struct = ffi.new(
            "uvws_connect_options *",
            {
                **kept,
                "port": port,
                "secure": url.secure,
                "verify": options.verify,
                "want_drain": options.wants_drain,
            },
        )
        return struct, [*kept.values(), *messages]


def _without_descriptors() -> OSError | None:
    """Tell whether nothing can be opened: the system then calls every name unknown."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return OSError(error.errno, error.strerror)
    return None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
