"""Builds the C programs, and the certificate that all servers show."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness import BENCH, BUILD, BenchError, Peer

COMPILE_FLAGS = ("-O2", "-std=c11", "-Wall", "-Wextra", "-Werror")
SOURCES = {
    "loadgen": (
        *("accept", "channel", "common", "corpus", "histogram", "loadgen", "loop", "modes"),
        *("opening", "options", "payload", "receive"),
    ),
    "echoserver": ("accept", "common", "echoserver"),
    "floodserver": ("accept", "channel", "common", "floodserver"),
    "pingpong": ("common", "histogram", "pingpong"),
}
LIBRARIES = {
    "loadgen": ("-lssl", "-lcrypto", "-lz"),
    "echoserver": (),
    "floodserver": ("-lssl", "-lcrypto"),
    "pingpong": (),
}


@dataclass(frozen=True)
class Certificate:
    """Files in PEM."""

    certificate: Path
    key: Path

    def options(self) -> list[str]:
        """For the scripts of the peers."""
        return [f"--certificate={self.certificate}", f"--key={self.key}"]


def build(name: str) -> Path:
    """Compile a program if any source is newer than it.

    Args:
        name: loadgen, echoserver, floodserver or pingpong.

    Returns:
        The binary.

    Raises:
        BenchError: If there is no compiler, or it refuses a source.
    """
    folder = BENCH / "c"
    binary = BUILD / name
    newest = max(path.stat().st_mtime for path in folder.iterdir())
    if binary.exists() and binary.stat().st_mtime >= newest:
        return binary
    BUILD.mkdir(parents=True, exist_ok=True)
    sources = [str(folder / f"{source}.c") for source in SOURCES[name]]
    command = [os.environ.get("CC", "cc"), *COMPILE_FLAGS, "-o", str(binary), *sources]
    _run([*command, *LIBRARIES[name]], "a C compiler (set CC=), OpenSSL and zlib with headers")
    return binary


class Floor(Peer):
    """A server in C that does no more than it must: what a library takes longer is its own."""

    def command(self, role: str, *options: str) -> list[str]:
        """The command line of the server; it has no other role."""
        assert role == "server", role
        return [str(build("echoserver")), *(each for each in options if each == "--broadcast")]


FLOOR = Floor("C epoll", "", (), ())


def make_certificate() -> Certificate:
    """Make the servers' certificate, unless there is one: ECDSA with P-256, self-signed.

    Raises:
        BenchError: If openssl is not there, or fails.
    """
    made = Certificate(BUILD / "certificate.pem", BUILD / "key.pem")
    if made.certificate.exists() and made.key.exists():
        return made
    BUILD.mkdir(parents=True, exist_ok=True)
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650"
    command += " -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1,DNS:localhost"
    files = ["-out", str(made.certificate), "-keyout", str(made.key)]
    _run([*command.split(), *files], "the openssl command")
    return made


def _run(command: list[str], needs: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise BenchError(f"{command[0]} was not found: {needs} are needed") from None
    if done.returncode != 0:
        raise BenchError(f"{command[0]} failed ({needs} are needed):\n{done.stderr}")
