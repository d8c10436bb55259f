"""What the scripts of the peers are told on the command line, and the TLS they make of it."""

from __future__ import annotations

import argparse
import os
import ssl

# zlib's, for all: aiohttp has no other level.
LEVEL = 1
MEMORY_LEVEL = 8


def _common() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("loop", nargs="?", default="", help="pyuv, uvloop or asyncio, for uvws")
    parser.add_argument("--certificate", help="PEM; TLS 1.3 with it")
    parser.add_argument("--key", help="PEM")
    parser.add_argument("--binary", action="store_true", help="messages are binary, not text")
    return parser


def server_settings() -> argparse.Namespace:
    """Settings of a server: loop, certificate, key, binary, deflate, broadcast."""
    parser = _common()
    parser.add_argument("--deflate", action="store_true", help="permessage-deflate")
    parser.add_argument("--broadcast", action="store_true", help="send each message to everyone")
    return parser.parse_args()


def client_settings() -> argparse.Namespace:
    """Settings of a client: loop, certificate, url."""
    parser = _common()
    parser.add_argument("--url", required=True)
    settings = parser.parse_args()
    # The path tells the server whose CPU time to look at.
    settings.url += f"/{os.getpid()}"
    return settings


def roundtrip_settings() -> argparse.Namespace:
    """Settings of both ends in one: loop, certificate, key, size, seconds, warmup."""
    parser = _common()
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--warmup", type=float, default=0.5)
    return parser.parse_args()


def server_tls(settings: argparse.Namespace) -> ssl.SSLContext | None:
    """Make a server's TLS context; None for plain TCP."""
    if settings.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(settings.certificate, settings.key)
    return context


def client_tls(settings: argparse.Namespace) -> ssl.SSLContext | None:
    """Make a client's TLS context, which trusts that certificate alone; None for plain TCP."""
    if settings.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(settings.certificate)
    return context
