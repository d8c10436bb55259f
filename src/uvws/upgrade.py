"""A server's decision on an upgrade: accept it, with which headers and subprotocol, or refuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ._core import lib
from .compression import Agreed, Deflate, answer
from .headers import Headers, encode_headers
from .responses import Reject, Report


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
        except BaseException as error:
            report("Exception in on_handshake", error)
            return Reject(500).encode()
        if isinstance(more, Reject):
            return more.encode()
        protocol = self._choose(headers)
        ours = [("Sec-WebSocket-Protocol", protocol)] if protocol is not None else []
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
            name.strip()
            for value in headers.get_all("Sec-WebSocket-Protocol")
            for name in value.split(",")
        }
        return next((name for name in self.protocols if name in offered), None)


MAX_HEADERS = 8192
"""Bytes of headers that `headers=` and `on_handshake` may each add to a response."""


def _check_size(lines: bytes) -> None:
    if len(lines) > MAX_HEADERS:
        raise ValueError(
            f"on_handshake: {len(lines)} bytes of headers; at most {MAX_HEADERS} are allowed"
        )


def response_headers(headers: object) -> list[tuple[str, str]]:
    """Check `headers=` of a listener.

    Raises:
        TypeError, ValueError: they cannot be sent; the message says why.
    """
    pairs = encode_headers(headers or (), "headers")  # type: ignore[arg-type]
    size = len(_lines(pairs))
    if size > MAX_HEADERS - 1024:  # the rest is for Sec-WebSocket-Protocol and -Extensions
        raise ValueError(f"headers: {size} bytes; at most {MAX_HEADERS - 1024} are allowed")
    return pairs


def _lines(pairs: list[tuple[str, str]]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in pairs).encode("latin-1")


def accept(c: Any, answer: Accept, compression: Deflate | None) -> None:
    """Have C accept the upgrade."""
    lib.uvws_handshake_headers(c, answer.lines, len(answer.lines))
    if compression is not None and answer.compression is not None:
        answer.compression.apply(c, compression, is_client=False)
