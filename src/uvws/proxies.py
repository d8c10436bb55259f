"""Proxies for client connections: what `proxy=` may be, and what the environment asks for."""

from __future__ import annotations

import urllib.request
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes

from .exact import exact_str
from .url import URL, parse_host, parse_ipv6, parse_port

HTTP: Final = "http"
SOCKS5: Final = "socks5"

_KINDS = {"http": HTTP, "https": HTTP, "socks5": SOCKS5, "socks5h": SOCKS5}
_SOCKS_MAX = 255  # bytes of a user or a password: RFC 1929, section 2
_PORT_MAX = 65535


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, taken apart.

    Attributes:
        kind: `HTTP` (CONNECT) or `SOCKS5`.
        host: its name in lower case and ASCII, or its IP address, IPv6 without brackets.
        port: its TCP port.
        user: the user, percent-decoded; None without credentials.
        password: the password, percent-decoded; empty where none is given.
    """

    kind: str
    host: str
    port: int
    user: bytes | None = field(default=None, repr=False)
    password: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class ProxyOptions:
    """What a context was told about proxies.

    Attributes:
        proxy: the one for every connection; None for none, or for what the environment says.
        from_environment: whether the environment decides.
        default_port: the port of a proxy that is given without one.
    """

    proxy: Proxy | None
    from_environment: bool
    default_port: int

    @classmethod
    def checked(cls, proxy: object, proxy_port: object) -> ProxyOptions:
        """Make it from the arguments of `Context`.

        Raises:
            TypeError: one is of the wrong type.
            ValueError: one is malformed. The message never quotes it: there may be a password.
        """
        port = _default_port(proxy_port)
        if proxy is None:
            return cls(None, from_environment=True, default_port=port)
        if not isinstance(proxy, str):
            raise TypeError(f"proxy must be str or None, not {type(proxy).__name__}")
        proxy = exact_str(proxy)
        parsed = parse_proxy(proxy, port) if proxy else None
        return cls(parsed, from_environment=False, default_port=port)

    def choose(self, url: URL) -> Proxy | None:
        """Return the proxy for a connection, or None.

        Raises:
            ValueError: the environment names one that is malformed.
        """
        if url.unix_path is not None:
            return None
        return _environment_proxy(url, self.default_port) if self.from_environment else self.proxy


def parse_proxy(value: str, default_port: int, name: str = "proxy") -> Proxy:
    """Take a proxy apart: `[scheme://][user:password@]host[:port][/]`.

    Without a scheme it speaks HTTP, and so it does with `https://`: in clear. IPv6 addresses stand
    in brackets; in user and password, whatever has a meaning in a URL is percent-encoded.

    Args:
        value: the proxy.
        default_port: its port where none is given.
        name: what to call it in errors.

    Raises:
        ValueError: it is malformed; the message does not quote it.
    """
    scheme, separator, rest = value.partition("://")
    kind = _KINDS.get(scheme.lower()) if separator else HTTP
    if kind is None:
        raise ValueError(
            f"{name} must begin with http://, https://, socks5:// or socks5h://, or have no scheme"
        )
    authority, _, path = (rest if separator else value).partition("/")
    if path or any(char in authority for char in "?#"):
        raise ValueError(
            f"{name} must end with its host or port; percent-encode '/', '?' and '#' in a password"
        )
    credentials, at, address = authority.rpartition("@")
    host, port = _split_port(address, name)
    user, password = _parse_credentials(credentials, kind, name) if at else (None, b"")
    return Proxy(kind, host, port or default_port, user, password)


def _split_port(address: str, name: str) -> tuple[str, int | None]:
    """Check and split `host[:port]`; the port may be missing or empty."""
    if address.startswith("["):
        host, bracket, rest = address.partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{name} must have ']' behind its address, then at most :port")
        host, port = host + bracket, rest[1:]
    else:
        host, _, port = address.partition(":")
        if ":" in port:
            raise ValueError(f"{name} has more than one ':' in its host; IPv6 needs brackets")
    try:
        host = parse_ipv6(host) if host.startswith("[") else parse_host(host)
    except ValueError:
        raise ValueError(f"{name} must have a host name or an address as its host") from None
    try:
        return host, parse_port(port) if port else None
    except ValueError:
        raise ValueError(f"{name} must have a number from 1 to {_PORT_MAX} as its port") from None


def _parse_credentials(credentials: str, kind: str, name: str) -> tuple[bytes, bytes]:
    try:
        raw = credentials.encode("utf-8", "surrogateescape")  # as the environment has them
    except UnicodeEncodeError:
        raise ValueError(f"{name} has a lone surrogate in its user or password") from None
    user, _, password = (unquote_to_bytes(part) for part in raw.partition(b":"))
    if kind == SOCKS5 and not (0 < len(user) <= _SOCKS_MAX and len(password) <= _SOCKS_MAX):
        raise ValueError(
            f"{name} must have a user of 1 to {_SOCKS_MAX} bytes and a password of at most "
            f"{_SOCKS_MAX}: SOCKS5 has no room for others"
        )
    if kind == HTTP and b":" in user:
        raise ValueError(f"{name} must not have ':' in its user: HTTP could not tell where it ends")
    if kind == HTTP and any(byte < 0x20 or byte == 0x7F for byte in user + password):
        raise ValueError(f"{name} must not have control characters in its user or password")
    return user, password


def _environment_proxy(url: URL, default_port: int) -> Proxy | None:
    # Lower case before upper case, and no HTTP_PROXY in a CGI program, where a client could set it.
    proxies = urllib.request.getproxies_environment()
    scheme = "https" if url.secure else "http"
    name = scheme if scheme in proxies else "all"
    if name not in proxies or _is_bypassed(url, proxies):
        return None
    return parse_proxy(proxies[name], default_port, f"the environment variable {name}_proxy")


def _is_bypassed(url: URL, proxies: dict[str, str]) -> bool:
    host = url.host.removesuffix(".")
    # The standard library looks for a port behind the last colon.
    forms = [f"[{host}]:{url.port}", f"[{host}]", host] if ":" in host else [f"{host}:{url.port}"]
    bypass = urllib.request.proxy_bypass_environment  # type: ignore[attr-defined]
    return any(bypass(form, proxies) for form in forms)


def _default_port(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"proxy_port must be an int, not {type(value).__name__}")
    if not 1 <= value <= _PORT_MAX:
        raise ValueError(f"proxy_port must be 1 to {_PORT_MAX}, not {value}")
    return value
