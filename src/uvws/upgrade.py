"""A server's decision on an upgrade: accept it, with which headers and subprotocol, or refuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ._core import lib
from .compression import Agreed, Deflate, answer
from .exact import exact_bytes
from .headers import Headers, encode_headers
from .responses import Reject, Report

MAX_HEADERS = 8192
"""Bytes that a listener's own headers, its subprotocol among them, may have, and those that
`on_handshake` adds as well; C has room for both."""

_ALLOWED = f"at most {MAX_HEADERS} are allowed"
_PROTOCOL = "Sec-WebSocket-Protocol"


@dataclass(frozen=True, slots=True)
class Accept:
    """The upgrade is accepted.

    Attributes:
        lines: header lines for the response.
        protocol: the subprotocol that was chosen, if any.
        compression: what was agreed on, if anything.
    """

    lines: bytes
    protocol: str | None
    compression: Agreed | None


@dataclass(frozen=True, slots=True)
class Upgrades:
    """What a listener offers, and whom it asks.

    Attributes:
        protocols: subprotocols, in the server's order of preference.
        headers: for every response.
        compression: as the user wants it, or None.
        on_handshake: the user's.
    """

    protocols: list[str]
    headers: list[tuple[str, str]]
    compression: Deflate | None
    on_handshake: Callable[[Headers], object] | None

    @property
    def need_asking(self) -> bool:
        """Whether an upgrade needs more than libwebsockets' own answer."""
        return bool(
            self.protocols
            or self.headers
            or self.compression is not None
            or self.on_handshake is not None
        )

    def decide(self, headers: Headers, report: Report) -> Accept | bytes:
        """Decide on one upgrade.

        Returns:
            `Accept`, or the whole response that refuses it.
        """
        try:
            more = self._ask(headers)
            if isinstance(more, Reject):
                return exact_bytes(more.encode())  # of a subclass, this may be anything
        except BaseException as error:
            report("Exception in on_handshake", error)
            return Reject(500).encode()
        protocol = self._choose(headers)
        ours = [(_PROTOCOL, protocol)] if protocol is not None else []
        agreed = None
        if self.compression is not None and (found := answer(self.compression, headers)):
            text, agreed = found
            ours.append(("Sec-WebSocket-Extensions", text))
        return Accept(_lines(ours + self.headers + more), protocol, agreed)

    def _ask(self, headers: Headers) -> Reject | list[tuple[str, str]]:
        answer: object = True if self.on_handshake is None else self.on_handshake(headers)
        if answer is True:
            return []
        if answer is False or answer is None:
            return Reject(403)
        if isinstance(answer, Reject):
            return answer
        if isinstance(answer, Mapping):
            more = encode_headers(answer, "on_handshake")
            _check_size(_lines(more))
            return more
        raise TypeError(
            "on_handshake must return a bool, None, a mapping of headers or a uvws.Reject, not "
            f"{type(answer).__name__}"
        )

    def _choose(self, headers: Headers) -> str | None:
        """Return our first subprotocol that the client offers (RFC 6455, section 4.2.2)."""
        offered = {
            name.strip() for value in headers.get_all(_PROTOCOL) for name in value.split(",")
        }
        return next((name for name in self.protocols if name in offered), None)


def checked_upgrades(
    protocols: list[str],
    headers: object,
    compression: Deflate | None,
    on_handshake: Callable[[Headers], object] | None,
) -> Upgrades:
    """Make `Upgrades` of a listener's arguments, `protocols` being checked by themselves already.

    Raises:
        TypeError, ValueError: the headers cannot be sent; the message says why.
    """
    longest = max((len(_lines([(_PROTOCOL, name)])) for name in protocols), default=0)
    if longest > MAX_HEADERS:
        raise ValueError(f"protocol: a name makes a header of {longest} bytes; {_ALLOWED}")
    pairs = encode_headers(() if headers is None else headers, "headers")  # type: ignore[arg-type]
    size = len(_lines(pairs)) + longest
    if size > MAX_HEADERS:
        raise ValueError(f"headers: {size} bytes, with the longest subprotocol; {_ALLOWED}")
    return Upgrades(protocols, pairs, compression, on_handshake)


def _check_size(lines: bytes) -> None:
    if len(lines) > MAX_HEADERS:
        raise ValueError(f"on_handshake: {len(lines)} bytes of headers; {_ALLOWED}")


def _lines(pairs: list[tuple[str, str]]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in pairs).encode("latin-1")


def accept(c: Any, answer: Accept, compression: Deflate | None) -> None:
    """Have C accept the upgrade."""
    if lib.uvws_handshake_headers(c, answer.lines, len(answer.lines)) != lib.UVWS_OK:
        raise MemoryError
    if compression is not None and answer.compression is not None:
        answer.compression.apply(c, compression, is_client=False)
