"""Checks of the arguments that Context, connect and listen share."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._core import ffi
from .exact import exact_bytes, exact_str
from .overflow import SendOverflow

PEM = str | os.PathLike[str] | bytes
"""A path, or the contents of a PEM file."""

# RFC 6455, section 4.1: a subprotocol's name is a token of RFC 9110.
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PORT_MAX = 65535
_SMALLEST_HEAD = 256  # bytes; less than what a browser sends
LARGEST_HEAD = 16384
_LONGEST_TIMEOUT = 366 * 24 * 3600  # seconds; libwebsockets counts microseconds
_MAX_REASON = 123  # bytes: a control frame's 125 less the close code (RFC 6455, section 5.5)


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """Certificates and keys in PEM format, as bytes; None where not given."""

    cert: bytes | None
    key: bytes | None
    ca: bytes | None

    def for_c(self) -> tuple[Any, list[Any]]:
        """Return the struct for C and what must stay alive as long as C reads it."""
        pem = ffi.new("uvws_tls_pem *")
        kept = []
        for name in ("cert", "key", "ca"):
            value = getattr(self, name)
            if value is not None:
                memory = ffi.from_buffer("char[]", value)
                kept.append(memory)
                setattr(pem, name, memory)
                setattr(pem, f"{name}_size", len(value))
        return pem, kept


def tls_files(ssl_cert: PEM | None, ssl_key: PEM | None, ssl_ca: PEM | None) -> TLSFiles:
    """Read certificates and keys.

    Raises:
        TypeError: an argument is neither a path nor bytes.
        ValueError: a certificate without a key, or the other way round.
        OSError: a file cannot be read.
    """
    if (ssl_cert is None) != (ssl_key is None):
        given, missing = ("ssl_cert", "ssl_key") if ssl_key is None else ("ssl_key", "ssl_cert")
        raise ValueError(f"{given} needs {missing} as well")
    return TLSFiles(_pem("ssl_cert", ssl_cert), _pem("ssl_key", ssl_key), _pem("ssl_ca", ssl_ca))


def server_tls_files(ssl_cert: PEM | None, ssl_key: PEM | None, ssl_ca: PEM | None) -> TLSFiles:
    """Read those of a listener, which cannot do with authorities alone.

    Raises:
        TypeError, OSError: as for `tls_files`.
        ValueError: there is a key or there are authorities, and no certificate.
    """
    files = tls_files(ssl_cert, ssl_key, ssl_ca)
    if files.ca is not None and files.cert is None:
        raise ValueError("ssl_ca needs ssl_cert and ssl_key as well")
    return files


def _pem(name: str, value: PEM | None) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, bytes):
        return exact_bytes(value)
    if isinstance(value, (str, os.PathLike)):
        return Path(value).read_bytes()
    raise TypeError(f"{name} must be a path or bytes in PEM format, not {type(value).__name__}")


def callback(name: str, value: object) -> Any:
    """Return a callback that is callable or None, else raise TypeError."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be callable or None, not {type(value).__name__}")
    return value


def initial_data(value: object) -> bytes:
    """Return what was already read from a socket.

    Raises:
        TypeError: it is neither bytes-like nor None.
    """
    if value is None:
        return b""
    try:
        return exact_bytes(value)
    except TypeError:
        raise TypeError(
            f"initial_data must be bytes-like or None, not {type(value).__name__}"
        ) from None


def flag(name: str, value: object, *, default: bool) -> bool:
    """Return a bool, the default for None."""
    if value is None:
        return default
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool or None, not {type(value).__name__}")
    return value


def verify(value: object) -> bool:
    """Return `ssl_verify`: what is no bool must not turn it off by being false."""
    if not isinstance(value, bool):
        raise TypeError(f"ssl_verify must be a bool, not {type(value).__name__}")
    return value


def message_limit(value: object) -> int:
    """Return `max_message_size` in bytes, 0 meaning no limit."""
    number = _integer("max_message_size", value)
    if not 0 <= number < 1 << 63:
        raise ValueError("max_message_size must be 0 (no limit) or a positive number of bytes")
    return number


def header_limit(value: object) -> int:
    """Return `max_header_size` in bytes; for more than the largest there is no room."""
    number = _integer("max_header_size", value)
    if not _SMALLEST_HEAD <= number <= LARGEST_HEAD:
        raise ValueError(
            f"max_header_size must be {_SMALLEST_HEAD} to {LARGEST_HEAD} bytes, not {number}"
        )
    return number


def count_limit(name: str, value: object) -> int:
    """Return a number of something, 0 meaning no limit."""
    number = _integer(name, value)
    if not 0 <= number < 1 << 63:
        raise ValueError(f"{name} must be 0 (no limit) or a positive number")
    return number


def overflow(value: object) -> SendOverflow:
    """Return `on_send_overflow`."""
    if not isinstance(value, str):
        raise TypeError(f"on_send_overflow must be a uvws.SendOverflow, not {type(value).__name__}")
    try:
        return SendOverflow(exact_str(value))
    except ValueError:
        allowed = ", ".join(repr(each.value) for each in SendOverflow)
        raise ValueError(f"on_send_overflow must be one of {allowed}, not {value!r}") from None


def listen_port(value: object) -> int:
    """Return a TCP port to listen on, 0 meaning that the system chooses."""
    number = _integer("port", value)
    if not 0 <= number <= _PORT_MAX:
        raise ValueError(f"port must be 0 to {_PORT_MAX}, not {number}")
    return number


def timeout(name: str, value: object) -> float | None:
    """Return a time limit in seconds, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds or None, not {type(value).__name__}")
    if not 0 < value <= _LONGEST_TIMEOUT:
        raise ValueError(f"{name} must be a number of seconds above 0 and up to a year")
    return float(value)


def protocols(value: object) -> list[str]:
    """Return subprotocols in order of preference."""
    if value is None:
        return []
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, Sequence) or isinstance(given, (bytes, bytearray)):
        raise TypeError("protocol must be a str, a sequence of str, or None")
    names = [_protocol(name) for name in given]
    for name in names:
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"protocol {name!r} is not a token (RFC 6455, section 4.1)")
    if len(set(names)) != len(names):
        raise ValueError("protocol names must not repeat")
    return names


def _protocol(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError("protocol must be a str, a sequence of str, or None")
    return exact_str(name)


def close_code(value: object) -> int:
    """Return a close code that an endpoint may send (RFC 6455, section 7.4).

    Raises:
        TypeError: it is no int.
        ValueError: it is not 1000 to 1003, 1007 to 1014 or 3000 to 4999.
    """
    number = _integer("code", value)
    if 1000 <= number <= 1003 or 1007 <= number <= 1014 or 3000 <= number <= 4999:
        return number
    raise ValueError(f"code must be 1000-1003, 1007-1014 or 3000-4999, not {number}")


def close_reason(value: object) -> bytes:
    """Return a close reason as UTF-8, cut at a character to what a Close frame holds."""
    if not isinstance(value, str):
        raise TypeError(f"reason must be str, not {type(value).__name__}")
    encoded = str.encode(value)
    if len(encoded) <= _MAX_REASON:
        return encoded
    return encoded[:_MAX_REASON].decode("utf-8", "ignore").encode()


def _integer(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    return int.__index__(value)
