"""The server's side of the opening handshake."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import logs
from .. import responses as plain
from .._core import lib
from ..compression import Agreed, Deflate, answer
from ..connection import Callbacks
from ..connection import Connection as Wire
from ..core import Core
from ..headers import Headers as ReceivedHeaders
from ..headers import encode_headers
from ..listener import Listener, ListenOptions
from ..responses import Report
from ..upgrade import MAX_HEADERS, Accept, Upgrades
from .exceptions import InvalidHandshake, InvalidHeader, InvalidOrigin, NegotiationError
from .http import Request, Response
from .synchronous import finish

if TYPE_CHECKING:
    import socket

    from .server import Server, ServerConnection

_FAILED = "Failed to open a WebSocket connection.\nSee server log for more information.\n"
_NO_UPGRADE = (
    "Failed to open a WebSocket connection: missing or invalid Upgrade header.\n\n"
    "You cannot access a WebSocket server directly with a browser. "
    "You need a WebSocket client.\n"
)
_PROTOCOL = "Sec-WebSocket-Protocol"
_EXTENSIONS = "Sec-WebSocket-Extensions"


@dataclass(frozen=True, slots=True)
class AcceptConnection(Accept):
    """The upgrade is accepted, for that connection."""

    connection: Any  # a ServerConnection, waiting for its wire


class AcceptingListener(Listener):
    """A listener whose connections each have callbacks of their own."""

    def __init__(
        self,
        core: Core,
        name: str,
        sock: socket.socket,
        listen_options: ListenOptions,
        on_accepted: Callable[[Any], None],
    ) -> None:
        super().__init__(core, name, sock, listen_options)
        self._on_accepted = on_accepted

    def accepted(self, slot: int, raw: bytes) -> None:  # noqa: ARG002
        """A handshake is done."""
        headers, answer = self._accepting.pop(slot)
        assert isinstance(answer, AcceptConnection)
        connection: ServerConnection = answer.connection
        c = lib.uvws_connection_at(self._core.c, slot)
        wire = Wire(self._core, c, slot, connection.callbacks())
        if logs.enabled:
            logs.log.debug("%s: accepted by %s", wire.label, self.name)
        wire.connected(headers, answer.protocol)
        connection.attach(wire)
        self._on_accepted(connection)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshakes:
    """How a server answers requests: the arguments of `serve` that are about that."""

    origins: Sequence[str | re.Pattern[str] | None] | None
    subprotocols: list[str] | None
    select_subprotocol: Callable[[Any, Sequence[str]], str | None] | None
    process_request: Callable[[Any, Request], Any] | None
    process_response: Callable[[Any, Request, Response], Any] | None
    server_header: str | None
    compression: Deflate | None

    def of(self, server: Server) -> ServerUpgrades:
        """Return what decides for that server."""
        return ServerUpgrades(self.subprotocols or [], [], self.compression, None, self, server)


@dataclass(frozen=True, slots=True)
class ServerUpgrades(Upgrades):
    """Decides on the requests to one server."""

    handshakes: Handshakes
    server: Server

    @property
    def nobody(self) -> Callbacks:
        """The callbacks of the listener itself: each connection has its own."""
        return Callbacks(None, None, None, None, None, None)

    @property
    def need_asking(self) -> bool:
        """Whether an upgrade needs more than libwebsockets' own answer."""
        return True

    def decide(self, headers: ReceivedHeaders, report: Report) -> Accept | bytes:
        """Decide on one upgrade."""
        connection = self.server.new_connection()
        request = connection.request = Request.received(headers)
        try:
            response, agreed = self._response(connection, request, headers)
            response = self._process_response(connection, request, response)
            if response.status_code == 101:
                if self.server.is_serving():
                    return _accept(connection, response, agreed)
                response = Response.text(503, "Server is shutting down.\n")
            return _encode(response)
        except Exception as error:
            report("Exception in the opening handshake", error)
            return _encode(Response.text(500, _FAILED))

    def plain_request(self, request: plain.Request) -> plain.Response:
        """Answer a request that is for no upgrade."""
        connection = self.server.new_connection()
        asked = connection.request = Request.received(request.headers, request.method)
        response = self._process_request(connection, asked)
        if response is None:
            response = Response.text(426, _NO_UPGRADE)
            response.headers["Upgrade"] = "websocket"
        response = self._process_response(connection, asked, self._signed(response))
        return plain.Response(response.status_code, _sendable(response), response.body)

    def _response(
        self, connection: ServerConnection, request: Request, headers: ReceivedHeaders
    ) -> tuple[Response, Agreed | None]:
        agreed = None
        response = self._process_request(connection, request)
        if response is None:
            try:
                response, agreed = self._accepting(connection, headers)
            except InvalidOrigin as error:
                response = Response.text(403, f"Failed to open a WebSocket connection: {error}.\n")
            except InvalidHandshake as error:
                response = Response.text(400, f"Failed to open a WebSocket connection: {error}.\n")
            except Exception:
                connection.logger.error("opening handshake failed", exc_info=True)
                response = Response.text(500, _FAILED)
        return self._signed(response), agreed

    def _signed(self, response: Response) -> Response:
        name = self.handshakes.server_header
        if name is not None:
            response.headers.update({"Server": name})
        return response

    def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        hook = self.handshakes.process_request
        if hook is None:
            return None
        try:
            return _response_or_none(finish(hook(connection, request), "process_request"))
        except Exception:
            connection.logger.error("process_request failed", exc_info=True)
            return Response.text(500, _FAILED)

    def _process_response(
        self, connection: ServerConnection, request: Request, response: Response
    ) -> Response:
        hook = self.handshakes.process_response
        connection.response = response
        if hook is not None:
            try:
                answer = finish(hook(connection, request, response), "process_response")
                connection.response = _response_or_none(answer) or response
            except Exception:
                connection.logger.error("process_response failed", exc_info=True)
                connection.response = Response.text(500, _FAILED)
        return connection.response

    def _accepting(
        self, connection: ServerConnection, headers: ReceivedHeaders
    ) -> tuple[Response, Agreed | None]:
        self._check_origin(headers)
        lines: list[tuple[str, str]] = []
        agreed = None
        if self.compression is not None and (found := answer(self.compression, headers)):
            text, agreed = found
            lines.append((_EXTENSIONS, text))
        protocol = self._subprotocol(connection, headers)
        if protocol is not None:
            lines.append((_PROTOCOL, protocol))
        return Response.switching(headers.get("Sec-WebSocket-Key", ""), lines), agreed

    def _check_origin(self, headers: ReceivedHeaders) -> None:
        allowed = self.handshakes.origins
        given = headers.get_all("Origin")
        if len(given) > 1:
            raise InvalidHeader("Origin", "multiple values")
        origin = given[0] if given else None
        if allowed is None:
            return
        for each in allowed:
            if each == origin:
                return
            if isinstance(each, re.Pattern) and origin is not None and each.fullmatch(origin):
                return
        raise InvalidOrigin(origin)

    def _subprotocol(self, connection: ServerConnection, headers: ReceivedHeaders) -> str | None:
        offered = [
            name.strip() for value in headers.get_all(_PROTOCOL) for name in value.split(",")
        ]
        select = self.handshakes.select_subprotocol
        if select is not None:
            return select(connection, offered)
        ours = self.handshakes.subprotocols
        if ours is None:
            return None
        if not offered:
            raise NegotiationError("missing subprotocol")
        chosen = next((name for name in ours if name in offered), None)
        if chosen is None:
            raise NegotiationError(f"invalid subprotocol; expected one of {', '.join(ours)}")
        return chosen


def process_hook(name: str, value: object) -> Any:
    """Return `process_request` or `process_response`.

    Raises:
        TypeError: it is neither callable nor None.
    """
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be callable or None, not {type(value).__name__}")
    return value


def _response_or_none(value: object) -> Response | None:
    if value is None or isinstance(value, Response):
        return value
    raise TypeError(f"the response must be a uvws.aio.Response, not {type(value).__name__}")


def _sendable(response: Response) -> list[tuple[str, str]]:
    """Return the headers that are not written for it anyhow."""
    pairs = encode_headers(response.own_headers(), "headers", handshake=False)
    # Of a response other than 101: what the client should ask for.
    return pairs + [pair for pair in response.headers.raw_items() if pair[0].lower() == "upgrade"]


def _encode(response: Response) -> bytes:
    return plain.Response(response.status_code, _sendable(response), response.body).encode()


def _accept(
    connection: ServerConnection, response: Response, agreed: Agreed | None
) -> AcceptConnection:
    pairs = response.own_headers()
    ours = [pair for pair in pairs if pair[0].lower() in (_PROTOCOL.lower(), _EXTENSIONS.lower())]
    more = [pair for pair in pairs if pair not in ours]
    lines = "".join(
        f"{name}: {value}\r\n" for name, value in ours + encode_headers(more, "headers")
    ).encode("latin-1")
    if len(lines) > MAX_HEADERS:
        raise ValueError(f"{len(lines)} bytes of headers; at most {MAX_HEADERS} are allowed")
    protocol = next((value for name, value in ours if name.lower() == _PROTOCOL.lower()), None)
    return AcceptConnection(lines, protocol, agreed, connection)
