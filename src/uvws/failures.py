"""What a connect that failed is called."""

from __future__ import annotations

import os
import re

from ._core import ffi, lib
from .errors import ConnectTimeout, HandshakeError, TLSError
from .headers import Headers, parse_headers
from .tunnels import http_refusal, socks_refusal

# How libwebsockets words the failure of a connect(): the number is errno.
_CONNECT_ERRNO = re.compile(r"conn fail:.*?(\d+)")

# The same of a TLS handshake: an error of OpenSSL's, or errno.
_OPENSSL_REASON = re.compile(r"error:[0-9A-F]+:[^:]*:[^:]*:(.+)")
_TLS_ERRNO = re.compile(r"connect SYSCALL (\d+)")
# What OpenSSL calls "unknown".
_ALERTS = {109: "missing extension", 116: "certificate required"}

# Its words for what is wrong with a response of status 101; for some, the header that shows it.
_RESPONSES = {
    "HS: ACCEPT missing": ("response has no Sec-WebSocket-Accept", ""),
    "HS: Accept hash wrong": ("Sec-WebSocket-Accept is wrong", "Sec-WebSocket-Accept"),
    "HS: UPGRADE missing": ("response has no Upgrade", ""),
    "HS: Upgrade to something other than websocket": ("Upgrade is not websocket", "Upgrade"),
    "HS: UPGRADE malformed": ("Connection is not Upgrade", "Connection"),
    "HS: PROTOCOL malformed": (
        "server chose a subprotocol that was not offered",
        "Sec-WebSocket-Protocol",
    ),
}
# Its words, and ours, for a connection that ended before the response was whole.
_ENDS = frozenset({"read failed", "Peer hung up", "closed before the handshake was done"})
_SEES_HEADS = bool(ffi.string(lib.uvws_lws_patches()))


def connect_error(failure: int, status: int, payload: bytes) -> Exception:
    """Make the exception for `on_error`.

    Args:
        failure: one of UVWS_FAILURE_...
        status: of the response, or 0; with UVWS_FAILURE_TLS, what csrc/api.h says.
        payload: a reason; of a handshake that failed, a NUL and the raw headers follow if there is
            a status, else the beginning of what came.
    """
    raw_reason, separator, came = payload.partition(b"\0")
    reason = raw_reason.decode("utf-8", "replace")
    if failure in (lib.UVWS_FAILURE_TIMEOUT, lib.UVWS_FAILURE_SLOW):
        return ConnectTimeout("connect timeout")
    if failure == lib.UVWS_FAILURE_MEMORY:
        return MemoryError("out of memory while connecting")
    if failure == lib.UVWS_FAILURE_TLS:
        return _tls_error(status, reason)
    if failure == lib.UVWS_FAILURE_HANDSHAKE:
        if not status:
            return HandshakeError(_without_status(reason, came))
        headers = parse_headers(came) if separator else None
        return HandshakeError(_with_status(reason, status, headers), status=status, headers=headers)
    if failure == lib.UVWS_FAILURE_PROXY:
        return http_refusal(status, reason)
    if failure == lib.UVWS_FAILURE_SOCKS:
        return socks_refusal(status)
    found = _CONNECT_ERRNO.match(reason)
    if found:
        number = int(found.group(1))
        return OSError(number, os.strerror(number))
    return ConnectionError(reason)


def _tls_error(status: int, reason: str) -> TLSError:
    verify_code, depth, alert = status & 0xFFF, status >> 12 & 0xFF, status >> 20
    if alert:
        reason = _ALERTS.get(alert, reason)
        return TLSError(f"server refused TLS: {reason} (alert {alert})", reason=reason, alert=alert)
    if verify_code:
        whose = "the server" if not depth else f"number {depth} in the server's chain"
        message = f"certificate of {whose} refused: {reason}"
        return TLSError(message, reason=reason, verify_code=verify_code)
    found = _OPENSSL_REASON.search(reason)
    if found:
        reason = found.group(1)
        return TLSError(f"TLS handshake failed: {reason}", reason=reason)
    found = _TLS_ERRNO.match(reason)
    if found:
        number = int(found.group(1))
        reason = os.strerror(number) if number else "server closed the connection"
    return TLSError(f"TLS handshake failed: {reason}")


def _without_status(reason: str, came: bytes) -> str:
    if reason in _ENDS:
        if not _SEES_HEADS:
            return "server closed the connection during the handshake"
        if not came:
            return "server closed the connection before the response"
        reason = "server closed the connection within the head of the response"
    line = came.split(b"\r\n", 1)[0] or came
    return f"{reason}: {line!r}" if line else reason


def _with_status(reason: str, status: int, headers: Headers | None) -> str:
    if status != 101 and reason.startswith("HS: "):
        return f"server answered {status}"
    words, name = _RESPONSES.get(reason, (reason, ""))
    value = headers.get(name) if headers is not None and name else None
    return words if value is None else f"{words}: {value!r}"
