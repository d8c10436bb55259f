"""TLS as OpenSSL's own tools see it: versions, ciphers, renegotiation, sessions, alerts."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import uvws
from support import Recorder, Runner, loop_kinds
from support.certificates import Certificate, Maker, pem_of, rsa_key
from support.openssl import OLD, OpenSSLServer, s_client

HOST = "127.0.0.1"

pytestmark = [
    pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl"),
]


@functools.cache
def root() -> Maker:
    return Maker()


@functools.cache
def elliptic() -> Certificate:
    return root().issue("localhost", HOST)


@functools.cache
def older() -> Certificate:
    """Return one with a key that ciphers without forward secrecy need."""
    return root().issue("localhost", HOST, key=rsa_key(2048))


def listen(runner: Runner, shown: Certificate | None = None, **options: Any) -> Any:
    return runner.context().listen(host=HOST, **(shown or elliptic()).server_options, **options)


def connect(runner: Runner, server: OpenSSLServer, **context: Any) -> Recorder:
    recorder = Recorder()
    made = runner.context(**{"ssl_ca": root().cert, **context})
    made.connect(f"wss://localhost:{server.port}/", **recorder.callbacks)
    return recorder


def error_of(runner: Runner, recorder: Recorder) -> uvws.TLSError:
    runner.run(recorder.saw("error"))
    error = recorder.events[0][1]
    assert type(error) is uvws.TLSError, repr(error)
    return error


def serve(runner: Runner, directory: Path, *arguments: str, **files: bytes) -> OpenSSLServer:
    pem = {"cert": elliptic().cert, "key": elliptic().key, **files}
    return OpenSSLServer(runner, directory, *arguments, **pem)


# A listener


@loop_kinds("asyncio")
@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_a_listener_refuses_versions_below_1_2(runner: Runner, version: str) -> None:
    output = s_client(runner, listen(runner), version, "-cipher", OLD)
    assert "alert protocol version" in output
    assert "Cipher is (NONE)" in output


@loop_kinds("asyncio")
def test_a_listener_prefers_1_3(runner: Runner) -> None:
    output = s_client(runner, listen(runner))
    assert "New, TLSv1.3, Cipher is TLS_" in output
    assert "Compression: NONE" in output
    assert "No ALPN negotiated" in output


@loop_kinds("asyncio")
@pytest.mark.parametrize(
    ("kind", "cipher"),
    [
        ("elliptic", "ECDHE-ECDSA-AES128-SHA"),
        ("elliptic", "ECDHE-ECDSA-AES256-SHA384"),
        ("elliptic", "ECDHE-ECDSA-NULL-SHA"),
        ("elliptic", "AECDH-AES256-SHA"),
        ("older", "AES128-GCM-SHA256"),
        ("older", "AES256-SHA"),
        ("older", "ECDHE-RSA-AES128-SHA256"),
        ("older", "DHE-RSA-AES128-GCM-SHA256"),
    ],
)
def test_a_listener_refuses_weak_ciphers(runner: Runner, kind: str, cipher: str) -> None:
    shown = elliptic() if kind == "elliptic" else older()
    output = s_client(runner, listen(runner, shown), "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0")
    assert "alert handshake failure" in output
    assert "Cipher is (NONE)" in output


@loop_kinds("asyncio")
@pytest.mark.parametrize("kind", ["elliptic", "older"])
def test_a_listener_speaks_good_ciphers_of_1_2(runner: Runner, kind: str) -> None:
    shown = elliptic() if kind == "elliptic" else older()
    output = s_client(runner, listen(runner, shown), "-tls1_2")
    assert re.search(r"New, TLSv1.2, Cipher is ECDHE-(ECDSA|RSA)-\S+(GCM|POLY1305)", output)


@loop_kinds("asyncio")
def test_a_listener_never_renegotiates(runner: Runner) -> None:
    output = s_client(runner, listen(runner), "-tls1_2", said="R\n")
    assert "RENEGOTIATING" in output
    assert "no renegotiation" in output


@loop_kinds("asyncio")
@pytest.mark.parametrize("offered", ["h2,http/1.1", "h2", "http/1.1"])
def test_a_listener_never_agrees_on_http_2(runner: Runner, offered: str) -> None:
    output = s_client(runner, listen(runner), "-alpn", offered)
    expected = "ALPN protocol: http/1.1" if "1.1" in offered else "No ALPN negotiated"
    assert expected in output


def session_of(runner: Runner, listener: Any, path: Path, version: str, *more: str) -> None:
    """Have a client keep what is needed to come back."""
    asked = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
    s_client(runner, listener, version, "-ign_eof", "-sess_out", str(path), *more, said=asked)


@loop_kinds("asyncio")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_sessions_are_resumed_without_early_data(
    runner: Runner, tmp_path: Path, version: str
) -> None:
    listener = listen(runner)
    session = tmp_path / "session"
    session_of(runner, listener, session, version)
    assert "Max Early Data: 0" in described(session)
    assert "Reused, TLSv1" in s_client(runner, listener, version, "-sess_in", str(session))


@loop_kinds("asyncio")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_who_has_to_show_a_certificate_shows_it_every_time(
    runner: Runner, tmp_path: Path, version: str
) -> None:
    listener = listen(runner, ssl_ca=root().cert)
    mine = tmp_path / "mine.pem"
    mine.write_bytes(elliptic().cert + elliptic().key)
    shown = ("-cert", str(mine), "-key", str(mine))
    session = tmp_path / "session"
    session_of(runner, listener, session, version, *shown)
    back = ("-sess_in", str(session)) if session.exists() else ()
    assert "New, TLSv1" in s_client(runner, listener, version, *back, *shown)
    # Without a certificate, a session of before is none either.
    asked = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
    output = s_client(runner, listener, version, *back, "-ign_eof", said=asked)
    assert "426" not in output
    assert re.search(r"alert (certificate required|handshake failure)|alert number 116", output)


def test_sessions_of_before_a_reload_are_not_resumed(runner: Runner, tmp_path: Path) -> None:
    listener = listen(runner)
    session = tmp_path / "session"
    session_of(runner, listener, session, "-tls1_3")
    listener.reload_tls(ssl_cert=elliptic().cert, ssl_key=elliptic().key)
    output = s_client(runner, listener, "-tls1_3", "-sess_in", str(session))
    assert "New, TLSv1.3" in output


def described(session: Path) -> str:
    """Return what a client keeps of a session, in words."""
    command = ["openssl", "sess_id", "-in", str(session), "-text", "-noout"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return text if "Early" in text else text + "Max Early Data: 0"


# A client


@loop_kinds("asyncio")
@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_a_client_refuses_versions_below_1_2(runner: Runner, tmp_path: Path, version: str) -> None:
    server = serve(runner, tmp_path, version, "-cipher", OLD)
    error = error_of(runner, connect(runner, server))
    assert (error.alert, error.reason) == (70, "protocol version")


@loop_kinds("asyncio")
@pytest.mark.parametrize("cipher", ["ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384"])
def test_a_client_refuses_weak_ciphers(runner: Runner, tmp_path: Path, cipher: str) -> None:
    server = serve(runner, tmp_path, "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0")
    error = error_of(runner, connect(runner, server))
    assert (error.alert, error.reason) == (40, "handshake failure")


def signed_with(digest: str, directory: Path) -> tuple[bytes, dict[str, bytes]]:
    """Return an authority, and a certificate of its that is signed the old way."""
    authority = Maker(key=rsa_key(2048))
    paths = {name: directory / f"{name}.in" for name in ("ca", "ca-key", "key", "request", "ext")}
    paths["ca"].write_bytes(authority.cert)
    paths["ca-key"].write_bytes(pem_of(authority.key))
    paths["key"].write_bytes(elliptic().key)
    paths["ext"].write_text("subjectAltName=DNS:localhost\n")
    ask = ["req", "-new", "-key", str(paths["key"]), "-subj", "/CN=weak"]
    request = subprocess.run(["openssl", *ask], capture_output=True, check=True).stdout
    paths["request"].write_bytes(request)
    sign = ["x509", "-req", "-in", str(paths["request"]), "-CA", str(paths["ca"]), f"-{digest}"]
    sign += ["-CAkey", str(paths["ca-key"]), "-extfile", str(paths["ext"]), "-set_serial", "7"]
    done = subprocess.run(["openssl", *sign], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"this OpenSSL does not sign with {digest}")
    return authority.cert, {"cert": done.stdout, "key": elliptic().key}


@loop_kinds("asyncio")
@pytest.mark.parametrize("digest", ["sha1", "md5"])
def test_a_client_refuses_old_signatures(runner: Runner, tmp_path: Path, digest: str) -> None:
    authority, shown = signed_with(digest, tmp_path)
    server = serve(runner, tmp_path, "-cipher", OLD, **shown)
    error = error_of(runner, connect(runner, server, ssl_ca=authority))
    assert error.verify_code == 68
    assert error.reason == "CA signature digest algorithm too weak"


@loop_kinds("asyncio")
def test_a_client_refuses_a_short_key(runner: Runner, tmp_path: Path) -> None:
    short = root().issue(key=rsa_key(1024))
    server = serve(runner, tmp_path, "-cipher", OLD, cert=short.cert, key=short.key)
    error = error_of(runner, connect(runner, server))
    assert (error.verify_code, error.reason) == (66, "EE certificate key too weak")


@loop_kinds("asyncio")
def test_a_client_offers_nothing_beyond_http_1(runner: Runner, tmp_path: Path) -> None:
    server = serve(runner, tmp_path, "-alpn", "h2,http/1.1")
    connect(runner, server)
    runner.run(lambda: server.printed("GET / HTTP/1.1"))
    assert not server.printed("h2")


@loop_kinds("asyncio")
def test_a_client_never_renegotiates(runner: Runner, tmp_path: Path) -> None:
    server = serve(runner, tmp_path, "-tls1_2")
    connect(runner, server)
    runner.run(lambda: server.printed("GET / HTTP/1.1"))
    server.type("R\n")
    runner.run(lambda: server.printed("no renegotiation"))


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("kind", ["none", "another authority's"])
def test_a_client_is_told_that_its_certificate_is_refused(
    runner: Runner, tmp_path: Path, version: str, kind: str
) -> None:
    shown = Maker().issue().server_options if kind != "none" else {}
    demands = ("-Verify", "2", "-verify_return_error", version)
    server = serve(runner, tmp_path, *demands, CAfile=root().cert)
    error = error_of(runner, connect(runner, server, **shown))
    none = 40 if version == "-tls1_2" else 116
    assert error.alert == (none if kind == "none" else 48)
    assert str(error) == f"server refused TLS: {error.reason} (alert {error.alert})"
