"""What is said about TLS, in place of an `ssl.SSLContext`."""

from __future__ import annotations

from dataclasses import dataclass

from .. import options
from ..options import PEM, TLSFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS:
    """Options of TLS, for the argument `ssl` of `connect` and `serve`.

    Attributes:
        cert: the own certificate with the rest of its chain: a path, or PEM as bytes. A server
            needs one.
        key: its private key.
        ca: the authorities to trust: instead of the system's on a client; on a server, one of them
            must have signed the client's certificate.
        verify: whether a client checks the server's certificate and its name.
    """

    cert: PEM | None = None
    key: PEM | None = None
    ca: PEM | None = None
    verify: bool = True

    def files(self) -> TLSFiles:
        """Read what is named by a path.

        Raises:
            TypeError, ValueError, OSError: something is wrong with it.
        """
        return options.tls_files(self.cert, self.key, self.ca)


def client_tls(value: object, *, secure: bool) -> TLS:
    """Return what `connect(ssl=...)` asks for.

    Raises:
        TypeError: it is nothing that `ssl` can be.
        ValueError: the URI is not one for TLS.
    """
    if value is None or (value is True and secure):
        return TLS()
    if value is not True and not isinstance(value, TLS):
        raise TypeError(_wrong(value, "True"))
    if not secure:
        raise ValueError("ssl argument is incompatible with a ws:// URI")
    assert isinstance(value, TLS)
    return value


def server_tls(value: object) -> TLS:
    """Return what `serve(ssl=...)` asks for.

    Raises:
        TypeError: it is nothing that `ssl` can be.
        ValueError: the certificate or the key is missing.
    """
    if value is None:
        return TLS()
    if not isinstance(value, TLS):
        raise TypeError(_wrong(value, "None"))
    if value.cert is None or value.key is None:
        raise ValueError("ssl must have cert and key, on a server")
    return value


def _wrong(value: object, other: str) -> str:
    message = f"ssl must be uvws.aio.TLS or {other}, not {type(value).__name__}"
    if type(value).__name__ == "SSLContext":
        message += (
            ": TLS is OpenSSL's in C here, where a context of Python's cannot be used; give "
            "uvws.aio.TLS(cert=..., key=..., ca=...) the files that were loaded into it"
        )
    return message
