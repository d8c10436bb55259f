"""Certificates, made when they are first asked for."""

from __future__ import annotations

import functools
import ssl
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

import trustme


class Certificate(NamedTuple):
    """A certificate with its chain, and its key, as PEM."""

    cert: bytes
    key: bytes

    @property
    def server_options(self) -> dict[str, Any]:
        """Options for listen()."""
        return {"ssl_cert": self.cert, "ssl_key": self.key}


@functools.cache
def authority(name: str) -> trustme.CA:
    """Return an authority that nobody trusts unless told to."""
    return trustme.CA(organization_name=f"{name} authority of the tests")


def ca_of(name: str = "first") -> bytes:
    """Return an authority's own certificate."""
    return authority(name).cert_pem.bytes()


@functools.cache
def certificate(*names: str, by: str = "first", expired: bool = False) -> Certificate:
    """Return a certificate for names or addresses."""
    now = datetime.now(timezone.utc)
    options = {"not_before": now - timedelta(9), "not_after": now - timedelta(1)} if expired else {}
    return _leaf(authority(by), *(names or ("localhost", "127.0.0.1", "::1")), **options)


@functools.cache
def certificate_with_chain() -> Certificate:
    """Return a certificate by an authority between it and the first one."""
    return _leaf(authority("first").create_child_ca(), "localhost", "127.0.0.1")


def _leaf(issuer: trustme.CA, *names: str, **options: Any) -> Certificate:
    leaf = issuer.issue_cert(*names, **options)
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    return Certificate(chain, leaf.private_key_pem.bytes())


def server_context() -> ssl.SSLContext:
    """Return a context for a server of the standard library."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    load(context, certificate())
    return context


def client_context() -> ssl.SSLContext:
    """Return a context for a client of the standard library, which trusts the first authority."""
    return ssl.create_default_context(cadata=ca_of().decode())


def load(context: ssl.SSLContext, made: Certificate) -> None:
    """Have a context show a certificate; the standard library takes it from files only."""
    with trustme.Blob(made.key + made.cert).tempfile() as path:
        context.load_cert_chain(path)
