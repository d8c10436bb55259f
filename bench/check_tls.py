"""Is the load generator's TLS right? Part of `check_loadgen.py`."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from programs import make_certificate
from wire import Handler, attempt, verdict


def server_context(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """A server's context with the certificate of the benchmark."""
    made = make_certificate()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = version
    context.load_cert_chain(made.certificate, made.key)
    return context


async def refusing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer whatever comes the way that a server without TLS does."""
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()


async def check_tls(binary: Path, honest: Handler) -> list[str]:
    """TLS 1.3 with the certificate asked for, and nothing else; sizes around those of records."""
    failures = []
    trusted = f"--tls={make_certificate().certificate}"
    for size in (0, 64, 16383, 16384, 16385, 131072, 300001, 5 << 20):
        for in_flight in (1, 5):
            options = (trusted, f"--size={size}", f"--in-flight={in_flight}", "--connections=3")
            got = await attempt(binary, honest, *options, tls=server_context())
            failures += verdict(f"TLS {options}", "", got)
    old = server_context(ssl.TLSVersion.TLSv1_2)
    failures += verdict(
        "TLS 1.2", "the TLS handshake", await attempt(binary, honest, trusted, tls=old)
    )
    failures += verdict("no TLS", "the TLS handshake", await attempt(binary, refusing, trusted))
    return failures
