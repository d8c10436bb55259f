"""What is said to a proxy, and words for what it answers; csrc/tunnel.c does the talking."""

from __future__ import annotations

import base64
import http
import ipaddress
from typing import Any

from ._core import ffi, lib
from .errors import HandshakeError
from .proxies import SOCKS5, Proxy

_VERSION = 5
_NO_AUTHENTICATION, _USER_AND_PASSWORD = 0, 2
_PASSWORD_VERSION = 1
_CONNECT = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4

# RFC 1928, section 6.
_SOCKS_REPLIES = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "command not supported",
    8: "address type not supported",
}


def tunnel_options(proxy: Proxy, host: str, port: int) -> tuple[Any, list[Any]]:
    """Return the struct for C and what must stay alive as long as C reads it.

    Args:
        proxy: whom to speak to.
        host: where the proxy is to connect to: a name, which it looks up, or an address.
        port: and at which port.
    """
    messages = {}
    if proxy.kind == SOCKS5:
        messages["hello"] = _socks_hello(proxy)
        messages["request"] = _socks_request(host, port)
        if proxy.user is not None:
            messages["credentials"] = _socks_credentials(proxy.user, proxy.password)
    else:
        messages["hello"] = _connect_request(proxy, host, port)
    struct = ffi.new("uvws_tunnel_options *")
    struct.kind = lib.UVWS_TUNNEL_SOCKS if proxy.kind == SOCKS5 else lib.UVWS_TUNNEL_HTTP
    kept = []
    for name, message in messages.items():
        memory = ffi.from_buffer("char[]", message)
        kept.append(memory)
        setattr(struct, name, memory)
        setattr(struct, f"{name}_size", len(message))
    return struct, kept


def _connect_request(proxy: Proxy, host: str, port: int) -> bytes:
    """RFC 9110, section 9.3.6."""
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.user is not None:
        token = base64.b64encode(proxy.user + b":" + proxy.password).decode()
        lines.append(f"Proxy-Authorization: Basic {token}")
    return "\r\n".join([*lines, "", ""]).encode()


def _socks_hello(proxy: Proxy) -> bytes:
    methods = [_NO_AUTHENTICATION]
    if proxy.user is not None:
        methods.append(_USER_AND_PASSWORD)
    return bytes([_VERSION, len(methods), *methods])


def _socks_credentials(user: bytes, password: bytes) -> bytes:
    """RFC 1929, section 2."""
    return bytes([_PASSWORD_VERSION, len(user)]) + user + bytes([len(password)]) + password


def _socks_request(host: str, port: int) -> bytes:
    """RFC 1928, section 4."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        target = bytes([_NAME, len(host)]) + host.encode()
    else:
        target = bytes([_IPV4 if address.version == 4 else _IPV6]) + address.packed
    return bytes([_VERSION, _CONNECT, 0]) + target + port.to_bytes(2, "big")


def http_refusal(status: int, reason: str) -> HandshakeError:
    """Return the error for an HTTP proxy's answer, or for none (status 0, and the reason)."""
    if not status:
        return HandshakeError(f"no connection through the proxy: {reason}")
    try:
        phrase = f" {http.HTTPStatus(status).phrase}"
    except ValueError:
        phrase = ""
    return HandshakeError(f"the proxy refused with {status}{phrase}", status=status)


def socks_refusal(code: int) -> HandshakeError:
    """Return the error for a SOCKS5 proxy's reply code."""
    words = _SOCKS_REPLIES.get(code, "unknown reply")
    return HandshakeError(f"the proxy refused: {words} (SOCKS5 reply {code})")
