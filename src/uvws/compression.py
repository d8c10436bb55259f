"""Compression: the options of permessage-deflate and their negotiation (RFC 7692)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ._core import ffi, lib
from .headers import Headers

_NAME = "permessage-deflate"
_LARGEST_WINDOW = 15
_SERVER_NO_TAKEOVER = "server_no_context_takeover"
_CLIENT_NO_TAKEOVER = "client_no_context_takeover"
_SERVER_BITS = "server_max_window_bits"
_CLIENT_BITS = "client_max_window_bits"
_PARAMETERS = {_SERVER_NO_TAKEOVER, _CLIENT_NO_TAKEOVER, _SERVER_BITS, _CLIENT_BITS}

# RFC 6455, section 9.1: an extension's name or parameter; a value may stand in quotes.
_PART = re.compile(r"""\s*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)\s*(?:=\s*("?)([0-9A-Za-z._-]*)\2\s*)?""")

Parameters = dict[str, str | None]


class NegotiationError(Exception):
    """The server's answer does not fit the offer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deflate:
    """How messages are compressed, for `compression=`; the string "deflate" means the defaults.

    Without context takeover each message is compressed by itself: worse, with less memory for each
    connection. A window is what a compressor looks back at; both ends keep as much memory.

    Attributes:
        server_no_context_takeover: whether the server compresses each message by itself.
        client_no_context_takeover: whether the client does.
        server_max_window_bits: the server's window, as a power of two: 9 to 15.
        client_max_window_bits: the client's.
        level: zlib's level for what this end sends, 0 to 9.
        memory_level: how much memory zlib takes for that, 1 to 9.
        threshold: messages of fewer bytes are sent uncompressed.
    """

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = _LARGEST_WINDOW
    client_max_window_bits: int = _LARGEST_WINDOW
    level: int = 6
    memory_level: int = 8
    threshold: int = 0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            TypeError, ValueError: one is wrong; the message names it.
        """
        for name in (_SERVER_NO_TAKEOVER, _CLIENT_NO_TAKEOVER):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be a bool")
        limits = {
            _SERVER_BITS: (9, _LARGEST_WINDOW),
            _CLIENT_BITS: (9, _LARGEST_WINDOW),
            "level": (0, 9),
            "memory_level": (1, 9),
            "threshold": (0, 1 << 62),
        }
        for name, (lowest, highest) in limits.items():
            _check_integer(name, getattr(self, name), lowest, highest)


@dataclass(frozen=True, slots=True)
class Agreed:
    """What both ends agreed on, from the server's point of view."""

    server_takeover: bool
    client_takeover: bool
    server_bits: int
    client_bits: int

    def apply(self, c: Any, deflate: Deflate, *, is_client: bool) -> None:
        """Turn compression on for a connection whose handshake is ending."""
        server = self.server_bits, self.server_takeover
        client = self.client_bits, self.client_takeover
        (out_bits, out_takeover), (in_bits, in_takeover) = (
            (client, server) if is_client else (server, client)
        )
        struct = ffi.new(
            "uvws_deflate_options *",
            {
                "level": deflate.level,
                "memory_level": deflate.memory_level,
                "out_bits": out_bits,
                "in_bits": in_bits,
                "out_takeover": out_takeover,
                "in_takeover": in_takeover,
                "threshold": deflate.threshold,
            },
        )
        if lib.uvws_deflate_negotiated(c, struct) != lib.UVWS_OK:
            raise MemoryError


def compression_option(value: object) -> Deflate | None:
    """Check `compression=`.

    Raises:
        TypeError: it is neither None, "deflate" nor a `Deflate`.
        ValueError: it is another string, or this libwebsockets does not let compression through.
    """
    if value is None:
        return None
    if not isinstance(value, (str, Deflate)):
        raise TypeError(
            f'compression must be None, "deflate" or uvws.Deflate, not {type(value).__name__}'
        )
    if isinstance(value, str) and value != "deflate":
        raise ValueError(f'compression must be None, "deflate" or uvws.Deflate, not {value!r}')
    if not lib.uvws_has_deflate():
        raise ValueError("compression needs the libwebsockets that comes with uvws")
    return value if isinstance(value, Deflate) else Deflate()


def offer(deflate: Deflate) -> str:
    """Return a client's offer: the value of Sec-WebSocket-Extensions."""
    parts = [_NAME]
    if deflate.server_no_context_takeover:
        parts.append(_SERVER_NO_TAKEOVER)
    if deflate.client_no_context_takeover:
        parts.append(_CLIENT_NO_TAKEOVER)
    if deflate.server_max_window_bits < _LARGEST_WINDOW:
        parts.append(f"{_SERVER_BITS}={deflate.server_max_window_bits}")
    # Says that the server may ask for a smaller one (section 7.1.2.2).
    bits = deflate.client_max_window_bits
    parts.append(_CLIENT_BITS if bits == _LARGEST_WINDOW else f"{_CLIENT_BITS}={bits}")
    return "; ".join(parts)


def answer(deflate: Deflate, headers: Headers) -> tuple[str, Agreed] | None:
    """Return a server's answer to the first offer that it can take, None if there is none."""
    for name, parameters in _extensions(headers):
        if name != _NAME or parameters is None:
            continue
        agreed = _agree(deflate, parameters)
        if agreed is not None:
            return _answer_text(agreed, parameters), agreed
    return None


def check_answer(deflate: Deflate | None, headers: Headers) -> Agreed | None:
    """Check a server's answer.

    Raises:
        NegotiationError: it is not an answer to what was offered.
    """
    found = list(_extensions(headers))
    if not found:
        return None
    if deflate is None or len(found) > 1 or found[0][0] != _NAME:
        raise NegotiationError(
            f"server chose the extension {found[-1][0]!r}, which was not offered"
        )
    parameters = found[0][1]
    if parameters is None:
        raise NegotiationError(f"server answered {_NAME} with malformed parameters")
    return _check_parameters(deflate, parameters)


def _check_parameters(deflate: Deflate, parameters: Parameters) -> Agreed:
    server_bits = _bits(parameters, _SERVER_BITS)
    client_bits = _bits(parameters, _CLIENT_BITS)
    if server_bits is None or client_bits is None or server_bits > deflate.server_max_window_bits:
        raise NegotiationError(f"server answered {_NAME} with a window that was not offered")
    server_takeover = _SERVER_NO_TAKEOVER not in parameters
    if server_takeover and deflate.server_no_context_takeover:
        raise NegotiationError(f"server did not agree to {_SERVER_NO_TAKEOVER}")
    return Agreed(
        server_takeover=server_takeover,
        client_takeover=not (
            _CLIENT_NO_TAKEOVER in parameters or deflate.client_no_context_takeover
        ),
        server_bits=server_bits,
        client_bits=min(client_bits, deflate.client_max_window_bits),
    )


def _agree(deflate: Deflate, parameters: Parameters) -> Agreed | None:
    """Return what a server makes of an offer, None if it cannot take it."""
    server_bits = _bits(parameters, _SERVER_BITS)
    says_no_size = parameters.get(_CLIENT_BITS, "") is None  # it may, in an offer
    client_bits = _LARGEST_WINDOW if says_no_size else _bits(parameters, _CLIENT_BITS)
    if server_bits is None or client_bits is None or server_bits == 8:
        return None  # zlib does not write raw deflate with that window
    if _CLIENT_BITS in parameters:  # only then may the answer ask for a smaller one
        client_bits = min(client_bits, deflate.client_max_window_bits)
    return Agreed(
        server_takeover=not (
            _SERVER_NO_TAKEOVER in parameters or deflate.server_no_context_takeover
        ),
        client_takeover=not (
            _CLIENT_NO_TAKEOVER in parameters or deflate.client_no_context_takeover
        ),
        server_bits=min(server_bits, deflate.server_max_window_bits),
        client_bits=client_bits,
    )


def _answer_text(agreed: Agreed, parameters: Parameters) -> str:
    parts = [_NAME]
    if not agreed.server_takeover:
        parts.append(_SERVER_NO_TAKEOVER)
    if not agreed.client_takeover:
        parts.append(_CLIENT_NO_TAKEOVER)
    if _SERVER_BITS in parameters:
        parts.append(f"{_SERVER_BITS}={agreed.server_bits}")
    if _CLIENT_BITS in parameters and agreed.client_bits < _LARGEST_WINDOW:
        parts.append(f"{_CLIENT_BITS}={agreed.client_bits}")
    return "; ".join(parts)


def _bits(parameters: Parameters, name: str) -> int | None:
    """Return a window's size: 15 where nothing is said, None where it is no number from 8 to 15."""
    if name not in parameters:
        return _LARGEST_WINDOW
    value = parameters[name] or ""
    return int(value) if re.fullmatch("[89]|1[0-5]", value) else None


def _extensions(headers: Headers) -> Iterator[tuple[str, Parameters | None]]:
    """Yield the name and the parameters of each extension; None for parameters that are wrong."""
    for value in headers.get_all("Sec-WebSocket-Extensions"):
        for each in filter(str.strip, value.split(",")):  # a list may have empty elements
            name, *rest = each.split(";")
            yield name.strip(), _parameters(rest)


def _parameters(parts: list[str]) -> Parameters | None:
    parameters: Parameters = {}
    for part in parts:
        found = _PART.fullmatch(part)
        if found is None or found[1] not in _PARAMETERS or found[1] in parameters:
            return None
        has_value = found[3] is not None
        if has_value and found[1] in (_SERVER_NO_TAKEOVER, _CLIENT_NO_TAKEOVER):
            return None
        parameters[found[1]] = found[3]
    return parameters


def _check_integer(name: str, value: object, lowest: int, highest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not lowest <= value <= highest:
        raise ValueError(f"{name} must be {lowest} to {highest}, not {value}")
