"""Certificates, made when they are first asked for."""

from __future__ import annotations

import functools
import ipaddress
import ssl
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID


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


class Maker:
    """Makes certificates that nobody ought to have, or that nobody ought to take.

    An authority of its own, named like the tests want it, issues what `issue` is told.
    """

    def __init__(self, issuer: Maker | None = None, **options: Any) -> None:
        """Create an authority, signed by another one or by itself.

        Args:
            issuer: who signs it; None for itself.
            options: as for `issue`.
        """
        self.key = options.pop("key", None) or ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {id(self)}")])
        options = {"ca": True, "subject": self.name, "names": (), **options}
        made = (issuer or self)._certificate(self.key.public_key(), **options)
        self.cert = made.public_bytes(serialization.Encoding.PEM)

    def issue(self, *names: str, key: Any = None, **options: Any) -> Certificate:
        """Return a certificate without its chain, and its key.

        Args:
            names: what it is for: host names and addresses; "localhost" if there is none.
            key: its private key; None makes one.
            options: `not_before` and `not_after` in days from now, `ca` for the basic constraint
                (None leaves it out), `usage` for the extended key usage, `common_name`.
        """
        key = key or ec.generate_private_key(ec.SECP256R1())
        made = self._certificate(key.public_key(), names=names or ("localhost",), **options)
        return Certificate(made.public_bytes(serialization.Encoding.PEM), pem_of(key))

    def _certificate(
        self,
        public_key: Any,
        *,
        names: tuple[str, ...],
        subject: x509.Name | None = None,
        common_name: str = "made for a test",
        not_before: float = -1,
        not_after: float = 1,
        ca: bool | None = False,
        usage: x509.ObjectIdentifier | None = None,
    ) -> x509.Certificate:
        now = datetime.now(timezone.utc)
        own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = x509.CertificateBuilder(
            self.name,
            subject or own,
            public_key,
            x509.random_serial_number(),
            now + timedelta(not_before),
            now + timedelta(not_after),
        )
        if ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
        if names != ("",) and names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(list(map(_general_name, names))), critical=False
            )
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        return builder.sign(self.key, hashes.SHA256())


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def pem_of(key: Any) -> bytes:
    """Return a private key as PEM."""
    encoded: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return encoded


@functools.cache
def rsa_key(bits: int) -> Any:
    """Return a private key of the older kind."""
    return rsa.generate_private_key(65537, bits)
