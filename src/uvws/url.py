"""WebSocket URLs: `ws://`, `wss://`, and `ws+unix:` and `wss+unix:` for Unix domain sockets."""

from __future__ import annotations

import ipaddress
import os
import re
import urllib.parse
from dataclasses import dataclass

from .errors import InvalidURL
from .exact import exact_str

_DEFAULT_PORTS = {False: 80, True: 443}
_SCHEMES = {"ws": False, "wss": True, "ws+unix": False, "wss+unix": True}

# sockaddr_un.sun_path has 108 bytes on Linux, one of them for the NUL at the end.
MAX_SOCKET_PATH = 107

# C0, DEL, C1, and the space
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\x9f]")
_LABEL = re.compile(r"[0-9A-Za-z_](?:[0-9A-Za-z_-]{0,61}[0-9A-Za-z_])?")
_ASCII = "".join(map(chr, range(0x21, 0x7F)))
_MAX_HOST = 253  # octets of a domain name in text form, without the final dot


@dataclass(frozen=True, slots=True)
class URL:
    """Where a URL leads, in the form that a connection needs.

    Attributes:
        secure: True for TLS.
        host: host name in lower case and ASCII (IDNA), or an IP address, IPv6 without brackets;
            `"localhost"` with a Unix socket.
        port: TCP port, 1 to 65535; the scheme's default with a Unix socket.
        path: path and query for the request line; ASCII, and starts with `"/"`.
        unix_path: path of the Unix socket in the file system; None for TCP.
    """

    secure: bool
    host: str
    port: int
    path: str
    unix_path: str | None = None

    @property
    def host_header(self) -> str:
        """The value of the Host header (RFC 6455, section 4.1).

        IPv6 addresses stand in brackets; the port is there only if it is not the scheme's default.
        """
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.secure] else f"{host}:{self.port}"


def parse_url(url: str) -> URL:
    """Take a WebSocket URL apart (RFC 6455, section 3; RFC 3986).

    - `ws://host[:port][/path][?query]`, and `wss://` for TLS. Scheme and host compare without
      case. An empty port is the default one. IPv6 addresses stand in brackets; zone ids are
      refused, and so are user and password.
    - `ws+unix:/socket/path[:/path[?query]]`, and `wss+unix:` for TLS; `ws+unix:///socket/path` is
      the same. The socket's path must be absolute, and of at most 107 bytes; `%3A` stands for a
      colon in it, `%3F` for a question mark, `%20` for a space, `%25` for a percent sign.

    A host that is not ASCII is encoded by the standard library's `idna` codec, which is IDNA 2003
    (RFC 3490): it folds case and maps the sharp s to "ss". For IDNA 2008 encode the host before.
    In path and query, characters that are not ASCII are percent-encoded as UTF-8; all others, the
    percent signs of existing escapes among them, are sent as they are.

    Args:
        url: the URL.

    Returns:
        The parts.

    Raises:
        TypeError: `url` is not a str.
        InvalidURL: it is malformed; the message says what is wrong with it.
    """
    if not isinstance(url, str):
        raise TypeError(f"url must be str, not {type(url).__name__}")
    url = exact_str(url)
    _check_characters(url)
    scheme, colon, rest = url.partition(":")
    secure = _SCHEMES.get(scheme.lower()) if colon else None
    if secure is None:
        raise InvalidURL("url must start with ws://, wss://, ws+unix: or wss+unix:")
    if scheme.lower().endswith("+unix"):
        return _parse_unix(secure, rest)
    if not rest.startswith("//"):
        raise InvalidURL(f"url must have // after {scheme}:")
    return _parse_tcp(secure, rest[2:])


def _check_characters(url: str) -> None:
    """Refuse what may stand nowhere in a URL."""
    bad = _UNPRINTABLE.search(url)
    if bad:
        what = "a space" if bad[0] == " " else f"the control character {bad[0]!r}"
        raise InvalidURL(f"url has {what} at position {bad.start()}; percent-encode it")
    if "#" in url:
        # RFC 6455, section 3: a fragment must not be used, "#" must be escaped as %23.
        raise InvalidURL("url must not have a fragment; write %23 for a '#' in the path")


def _parse_tcp(secure: bool, rest: str) -> URL:
    """Parse what follows `ws://`."""
    end = next((at for at, char in enumerate(rest) if char in "/?"), len(rest))
    authority = rest[:end]
    if "@" in authority:
        # Not quoted: it is likely to hold a password.
        raise InvalidURL("url must not have user or password; send an Authorization header")
    host, port = _split_port(authority)
    return URL(
        secure=secure,
        host=parse_ipv6(host) if host.startswith("[") else parse_host(host),
        port=parse_port(port) if port else _DEFAULT_PORTS[secure],
        path=_encode_path(rest[end:]),
    )


def _split_port(authority: str) -> tuple[str, str]:
    """Split `host:port` or `[address]:port`; the brackets stay, the port may be empty."""
    if not authority.startswith("["):
        host, _, port = authority.partition(":")
        if ":" in port:
            raise InvalidURL(f"url has more than one ':' in {authority!r}; IPv6 needs brackets")
        return host, port
    address, bracket, after = authority.partition("]")
    if not bracket:
        raise InvalidURL("url has a '[' without ']' in its host")
    if after and not after.startswith(":"):
        raise InvalidURL(f"url has {after!r} after the ']' of its host; only :port may follow")
    return address + bracket, after[1:]


def parse_port(port: str) -> int:
    """Check a port that is not empty."""
    # isdecimal() alone takes other scripts' digits, and int() refuses thousands of digits.
    digits = port.lstrip("0")
    if not (port.isascii() and port.isdecimal()):
        raise InvalidURL(f"url has the port {port!r}; it must be a number from 1 to 65535")
    if not digits or len(digits) > 5 or int(digits) > 65535:
        raise InvalidURL(f"url has the port {port[:20]}; it must be from 1 to 65535")
    return int(digits)


def parse_ipv6(host: str) -> str:
    """Check a bracketed address; return it without the brackets, in its canonical form."""
    address = host[1:-1]
    if "%" in address:
        raise InvalidURL(f"url has a zone id in {host!r}, which is not supported")
    try:
        return str(ipaddress.IPv6Address(address))
    except ValueError:
        raise InvalidURL(f"url has no valid IPv6 address in the brackets of {host!r}") from None


def parse_host(host: str) -> str:
    """Check a host name or an IPv4 address; return it in ASCII and lower case."""
    if not host:
        raise InvalidURL("url has no host")
    try:
        name = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise InvalidURL(f"url has the host {host!r}, which IDNA cannot encode: {error}") from None
    name = name.lower()
    labels = name.removesuffix(".").split(".")  # one dot at the end marks a name as complete
    if labels[-1].isdecimal():
        return _parse_ipv4(name)
    if len(name.removesuffix(".")) > _MAX_HOST or not all(map(_LABEL.fullmatch, labels)):
        raise InvalidURL(
            f"url has the host {host[:80]!r}; a host name has labels of 1 to 63 letters, digits, "
            "'-' and '_', joined by dots"
        )
    return name


def _parse_ipv4(host: str) -> str:
    """Check a host that ends in a number: no name does, so it must be a dotted quad."""
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        raise InvalidURL(f"url has no valid IPv4 address in {host[:80]!r}") from None


def _encode_path(path: str) -> str:
    """Make path and query fit for the request line."""
    if not path.startswith("/"):
        path = "/" + path
    try:
        # Everything that is ASCII stays; "%" too, for it begins an escape.
        return path if path.isascii() else urllib.parse.quote(path, safe=_ASCII)
    except UnicodeEncodeError:
        raise InvalidURL("url has a lone surrogate in its path") from None


def _parse_unix(secure: bool, rest: str) -> URL:
    """Parse what follows `ws+unix:`."""
    if rest.startswith("//"):
        rest = rest[2:]
        if not rest.startswith("/"):
            raise InvalidURL("url of a Unix socket must not have a host: ws+unix:///socket/path")
    socket, _, path = rest.partition(":")
    if path and path[0] not in "/?":
        raise InvalidURL("url of a Unix socket must have '/' after the ':' of the socket path")
    return URL(
        secure=secure,
        host="localhost",
        port=_DEFAULT_PORTS[secure],
        path=_encode_path(path),
        unix_path=_parse_socket_path(socket),
    )


def _parse_socket_path(socket: str) -> str:
    """Check and unescape the path of the socket itself."""
    if not socket.startswith("/"):
        raise InvalidURL("url of a Unix socket must have an absolute path: ws+unix:/socket/path")
    if socket.endswith("/"):
        raise InvalidURL("url of a Unix socket must name a socket, not a directory")
    if "?" in socket:
        raise InvalidURL(
            "url of a Unix socket must have ':' between socket path and query: "
            "ws+unix:/socket/path:/?query"
        )
    path = urllib.parse.unquote(socket, errors="surrogateescape")
    if "\0" in path:
        raise InvalidURL("url of a Unix socket must not have %00 in the socket path")
    try:
        size = len(os.fsencode(path))
    except UnicodeEncodeError:
        raise InvalidURL("url of a Unix socket has a path that the system cannot encode") from None
    if size > MAX_SOCKET_PATH:
        raise InvalidURL(
            f"url has a socket path of {size} bytes; at most {MAX_SOCKET_PATH} are allowed"
        )
    return path
