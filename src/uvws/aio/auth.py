"""HTTP Basic Authentication of clients, for `process_request`."""

from __future__ import annotations

import base64
import binascii
import hmac
import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from .http import Request, Response

Check = Callable[[str, str], "bool | Awaitable[bool]"]


def basic_auth(
    realm: str = "",
    credentials: tuple[str, str] | Iterable[tuple[str, str]] | None = None,
    check_credentials: Check | None = None,
) -> Callable[[Any, Request], Awaitable[Response | None]]:
    """Make a `process_request` that lets in only who has a user name and its password.

    The connection has the attribute `username` then. Others get 401 (RFC 7617).

    Args:
        realm: what the password is for, in ASCII.
        credentials: a user name and a password, or several such pairs.
        check_credentials: called with both instead, returns whether they are right; a coroutine
            function may be given that does not wait for anything.

    Raises:
        TypeError: `credentials` is neither.
        ValueError: both are given, or neither.
    """
    if (credentials is None) == (check_credentials is None):
        raise ValueError("provide either credentials or check_credentials")
    check = check_credentials or _check_of(credentials)

    async def process_request(connection: Any, request: Request) -> Response | None:
        given = request.headers.get("Authorization")
        if given is None:
            return _unauthorized("Missing credentials\n", realm)
        pair = _parse(given)
        if pair is None:
            return _unauthorized("Unsupported credentials\n", realm)
        verdict = check(*pair)
        if inspect.isawaitable(verdict):
            verdict = await verdict
        if not verdict:
            return _unauthorized("Invalid credentials\n", realm)
        connection.username = pair[0]
        return None

    return process_request


def _check_of(credentials: Any) -> Check:
    if _is_pair(credentials):
        known = dict([credentials])
    elif isinstance(credentials, Iterable):
        pairs = list(credentials)
        if not all(map(_is_pair, pairs)):
            raise TypeError("credentials must be a pair of str, or several")
        known = dict(pairs)
    else:
        raise TypeError("credentials must be a pair of str, or several")

    def check(username: str, password: str) -> bool:
        right = known.get(username)
        return right is not None and hmac.compare_digest(_bytes(right), _bytes(password))

    return check


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _is_pair(value: object) -> bool:
    return (
        isinstance(value, (tuple, list))
        and len(value) == 2
        and all(isinstance(each, str) for each in value)
    )


def _parse(authorization: str) -> tuple[str, str] | None:
    """Return user name and password, None where it is something else."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        pair = base64.b64decode(token.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    username, colon, password = pair.partition(":")
    return (username, password) if colon else None


def _unauthorized(text: str, realm: str) -> Response:
    response = Response.text(401, text)
    quoted = realm.replace("\\", "\\\\").replace('"', '\\"')
    response.headers["WWW-Authenticate"] = f'Basic realm="{quoted}", charset="UTF-8"'
    return response
