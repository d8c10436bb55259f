"""Certificates for the TLS examples, made on the spot by the `openssl` command."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Certificate(NamedTuple):
    """Where a certificate and its private key are, in PEM."""

    cert: Path
    key: Path


def make(directory, name, *extensions, issuer=None):
    """Make a certificate that is good for a day.

    Args:
        directory: where the two files go.
        name: what they are called, and whom the certificate is for.
        extensions: more of what it says, in OpenSSL's words.
        issuer: the Certificate that signs it; without one it signs itself.
    """
    if shutil.which("openssl") is None:
        sys.exit("This example needs the command openssl: apt install openssl")
    made = Certificate(Path(directory, f"{name}.pem"), Path(directory, f"{name}.key"))
    command = ["openssl", "req", "-x509", "-config", "/dev/null", "-nodes", "-days", "1"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", f"/CN={name}"]
    command += ["-out", made.cert, "-keyout", made.key]
    if issuer is not None:
        command += ["-CA", issuer.cert, "-CAkey", issuer.key]
    for extension in extensions:
        command += ["-addext", extension]
    subprocess.run(command, check=True, capture_output=True)
    return made


def make_authority(directory):
    """Make an authority, which signs the certificates of others."""
    return make(
        directory, "ca", "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign"
    )


def make_server(directory, issuer=None):
    """Make a certificate for servers on this machine."""
    return make(
        directory,
        "server",
        "basicConstraints=critical,CA:FALSE",
        "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1",
        "extendedKeyUsage=serverAuth",
        issuer=issuer,
    )


def make_client(directory, issuer):
    """Make a certificate with which a client shows who it is."""
    return make(
        directory,
        "client",
        "basicConstraints=critical,CA:FALSE",
        "extendedKeyUsage=clientAuth",
        issuer=issuer,
    )
