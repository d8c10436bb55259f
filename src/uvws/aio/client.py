"""Clients: `connect`, awaited, as a context manager, or to reconnect for ever."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import traceback
import urllib.parse
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal

from .. import errors, options
from ..compression import Deflate
from ..connecting import ConnectOptions
from ..errors import InvalidURL
from ..headers import encode_headers
from ..proxies import ProxyOptions
from ..url import URL, parse_url
from .contexts import shared_core
from .exceptions import (
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    SecurityError,
    TLSError,
)
from .headers import HeadersLike, pairs_of
from .http import USER_AGENT
from .opening import ClientConnection, Opening
from .settings import Logger, Marks, checked_settings, subprotocol_list
from .tls import TLS, client_tls

MAX_REDIRECTS = 10
_REDIRECTS = (300, 301, 302, 303, 307, 308)
_WORTH_ANOTHER_TRY = (500, 502, 503, 504)
_CREDENTIALS = ("authorization", "cookie", "proxy-authorization")
_SOCKS_PORT = 1080


def process_exception(error: Exception) -> Exception | None:
    """Tell whether an error is worth another try: None if so, else what to raise.

    Network errors and time limits are, a server that closes the connection before it has answered,
    and the statuses 500, 502, 503 and 504.
    """
    if isinstance(error, (OSError, TimeoutError, asyncio.TimeoutError)):
        return None
    if isinstance(error, InvalidMessage) and isinstance(error.__cause__, EOFError):
        return None
    if isinstance(error, InvalidStatus) and error.response.status_code in _WORTH_ANOTHER_TRY:
        return None
    return error


def backoff(
    initial_delay: float = 5.0,
    min_delay: float = 3.1,
    max_delay: float = 90.0,
    factor: float = 1.618,
) -> Generator[float, None, None]:
    """Yield how many seconds to wait before each next attempt.

    Args:
        initial_delay: the first is a random part of this, so that the clients of a server that
            restarts do not all come at once.
        min_delay: the second.
        max_delay: the longest.
        factor: by which they grow.
    """
    yield random.random() * initial_delay
    delay = min_delay
    while delay < max_delay:
        yield delay
        delay *= factor
    while True:
        yield max_delay


class connect:  # noqa: N801  (called like a function, as in the `websockets` package)
    """Open a client connection.

    - `connection = await connect(uri)`;
    - `async with connect(uri) as connection`, which closes it in the end;
    - `async for connection in connect(uri)`, which comes back after each loss, and tries again
      after errors that `process_exception` finds worth it.

    Args:
        uri: `ws://`, `wss://`, `ws+unix:` or `wss+unix:`.
        origin: the Origin header.
        subprotocols: to offer, in order of preference.
        compression: "deflate", a `uvws.Deflate`, or None.
        additional_headers: more headers for the request.
        user_agent_header: the User-Agent header; None for none.
        proxy: True for what the environment says, None for none, or the URL of one.
        process_exception: see the function of that name.
        open_timeout: seconds until the connection is open; None for 15 for each address.
        ping_interval: seconds without a byte from the server after which it is sent a Ping; None
            for no pings.
        ping_timeout: seconds after that without a byte after which the connection is ended.
        close_timeout: seconds for the closing handshake; at most five without progress.
        reconnect_delays: makes the delays between attempts.
        max_size: largest message to receive, in bytes; None for no limit.
        max_queue: messages received that wait for `recv` before reading stops, or that and the
            number at which it goes on (a quarter by default); None for no limit.
        write_limit: bytes queued from which on `send` waits.
        logger: `logging.getLogger("uvws.aio.client")` by default.
        create_connection: a subclass of `ClientConnection`.
        ssl: certificates, or what else there is to say about TLS.
        host: where to connect to instead of the host in `uri`, which goes on to stand for the
            server in the Host header and its certificate.
        port: likewise.
        path: see `unix_connect`.
        server_hostname: the name in the server's certificate, if not the host in `uri`.

    Raises:
        InvalidURI: `uri` is malformed.
        InvalidProxy: `proxy` is.
        TypeError, ValueError: another argument is wrong; the message names it.
    """

    def __init__(
        self,
        uri: str,
        *,
        origin: str | None = None,
        subprotocols: Sequence[str] | None = None,
        compression: str | Deflate | None = "deflate",
        additional_headers: HeadersLike | None = None,
        user_agent_header: str | None = USER_AGENT,
        proxy: str | Literal[True] | None = True,
        process_exception: Callable[[Exception], Exception | None] = process_exception,
        open_timeout: float | None = 10,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
        close_timeout: float | None = 10,
        reconnect_delays: Callable[[], Generator[float, None, None]] = backoff,
        max_size: int | tuple[int | None, int | None] | None = 2**20,
        max_queue: Marks = 16,
        write_limit: Marks = 2**15,
        logger: Logger | None = None,
        create_connection: type[ClientConnection] | None = None,
        ssl: TLS | Literal[True] | None = None,
        host: str | None = None,
        port: int | None = None,
        path: str | os.PathLike[str] | None = None,
        server_hostname: str | None = None,
    ) -> None:
        self.logger = logger or logging.getLogger("uvws.aio.client")
        self._uri = uri
        self._unix_path = None if path is None else os.fspath(path)
        self._url = _parsed(uri)
        self._host, self._port = host, port
        self._server_hostname = server_hostname
        self._tls = client_tls(ssl, secure=self._url.secure)
        self._proxy = _proxy_options(proxy)
        self._protocols = subprotocol_list(subprotocols) or []
        self._headers = encode_headers(
            _request_headers(pairs_of(additional_headers), origin, user_agent_header),
            "additional_headers",
        )
        self._open_timeout = options.timeout("open_timeout", open_timeout)
        self._process_exception = process_exception
        self._reconnect_delays = reconnect_delays
        self._create_connection = create_connection or ClientConnection
        self._settings = checked_settings(
            compression=compression,
            open_timeout=None,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            close_timeout=close_timeout,
            max_size=max_size,
            max_queue=max_queue,
            write_limit=write_limit,
            logger=self.logger,
        )
        self._connection: ClientConnection | None = None

    def __await__(self) -> Generator[Any, None, ClientConnection]:
        return self._connect().__await__()

    async def __aenter__(self) -> ClientConnection:
        if self._connection is not None:
            raise RuntimeError("connect() isn't reentrant")
        self._connection = await self
        return self._connection

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._connection is not None  # __aenter__ has returned
        try:
            await self._connection.__aexit__(kind, error, traceback)
        finally:
            self._connection = None

    async def __aiter__(self) -> AsyncIterator[ClientConnection]:
        delays: Generator[float, None, None] | None = None
        while True:
            try:
                async with self as connection:
                    yield connection
            except Exception as error:  # noqa: PERF203
                self._raise_if_fatal(error)
                delays = delays or self._reconnect_delays()
                delay = next(delays)
                self.logger.info(
                    "connect failed; reconnecting in %.1f seconds: %s",
                    delay,
                    traceback.format_exception_only(type(error), error)[0].strip(),
                )
                await asyncio.sleep(delay)
            else:
                delays = None

    def _raise_if_fatal(self, error: Exception) -> None:
        verdict = self._process_exception(error)
        if verdict is error:
            raise error
        if verdict is not None:
            raise verdict from error

    async def _connect(self) -> ClientConnection:
        loop = asyncio.get_running_loop()
        deadline = None if self._open_timeout is None else loop.time() + self._open_timeout
        for _ in range(MAX_REDIRECTS):
            left = None if deadline is None else deadline - loop.time()
            try:
                return await self._attempt(loop, left)
            except InvalidStatus as error:
                self._follow(error)
        raise SecurityError(f"more than {MAX_REDIRECTS} redirects")

    async def _attempt(
        self, loop: asyncio.AbstractEventLoop, timeout: float | None
    ) -> ClientConnection:
        if timeout is not None and timeout <= 0:
            raise TimeoutError("timed out during opening handshake")
        # The context is named, so that it stays until there is something on it.
        context, core = shared_core(self._tls.files())
        if self._url.secure:
            try:
                context.set_up_client_tls()
            except errors.TLSError as error:
                raise TLSError(str(error)) from None
        connection = self._create_connection(loop, self._settings)
        opening = Opening(core, self._connect_options(), connection, timeout)
        return await opening.wait()

    def _connect_options(self) -> ConnectOptions:
        url, headers = self._url, self._headers
        elsewhere = self._host or self._port or self._server_hostname
        if self._server_hostname:
            headers = [("Host", url.host_header), *headers]
        return ConnectOptions(
            url=replace(
                url,
                host=self._server_hostname or url.host,
                unix_path=self._unix_path or url.unix_path,
            ),
            proxy=None if self._unix_path else self._proxy.choose(url),
            protocols=self._protocols,
            headers=headers,
            verify=self._tls.verify,
            compression=self._settings.compression,
            wants_drain=False,
            address=(self._host or url.host, self._port or url.port) if elsewhere else None,
        )

    def _follow(self, error: InvalidStatus) -> None:
        """Go where a redirect leads, or raise."""
        response = error.response
        if response.status_code not in _REDIRECTS or "Location" not in response.headers:
            raise error
        old = self._url
        uri = urllib.parse.urljoin(self._uri, response.headers["Location"])
        new = _parsed(uri)
        if old.secure and not new.secure:
            raise SecurityError(f"cannot follow redirect to non-secure URI {uri}") from error
        if (old.secure, old.host, old.port) != (new.secure, new.host, new.port):
            self._leave_origin(uri, error)
        self._uri, self._url = uri, new

    def _leave_origin(self, uri: str, error: InvalidStatus) -> None:
        if self._unix_path or self._url.unix_path:
            raise ValueError(
                f"cannot follow cross-origin redirect to {uri} with a Unix socket"
            ) from error
        if self._host or self._port:
            raise ValueError(
                f"cannot follow cross-origin redirect to {uri} with an explicit host or port"
            ) from error
        self._headers = [pair for pair in self._headers if pair[0].lower() not in _CREDENTIALS]


def unix_connect(
    path: str | os.PathLike[str] | None = None, uri: str | None = None, **kwargs: Any
) -> connect:
    """Open a client connection to a Unix socket.

    Args:
        path: of the socket.
        uri: stands for the server in the request and its certificate; `ws://localhost/` by default,
            `wss://localhost/` with `ssl`.
        kwargs: the other arguments of `connect`.

    Raises:
        ValueError: there is no path.
    """
    if path is None:
        raise ValueError("path was not specified, and no sock specified")
    if uri is None:
        uri = "ws://localhost/" if kwargs.get("ssl") is None else "wss://localhost/"
    return connect(uri, path=path, **kwargs)


def _parsed(uri: str) -> URL:
    try:
        return parse_url(uri)
    except InvalidURL as error:
        raise InvalidURI(uri, str(error)) from None


def _proxy_options(proxy: object) -> ProxyOptions:
    if proxy is not None and proxy is not True and not isinstance(proxy, str):
        raise TypeError(f"proxy must be True, a str or None, not {type(proxy).__name__}")
    try:
        return ProxyOptions.checked(None if proxy is True else proxy or "", _SOCKS_PORT)
    except ValueError as error:
        raise InvalidProxy(str(proxy), str(error)) from None


def _request_headers(
    headers: list[tuple[str, str]], origin: str | None, user_agent: str | None
) -> list[tuple[str, str]]:
    given = {name.lower() for name, _ in headers}
    if origin is not None:
        headers = [("Origin", origin), *headers]
    if user_agent is not None and "user-agent" not in given:
        headers = [*headers, ("User-Agent", user_agent)]
    return headers
