"""`Listener.reload_tls`: other certificates, and nobody is cut off."""

from __future__ import annotations

import functools
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

import uvws
from support import Recorder, Runner, echo, loop_kinds
from support.certificates import Certificate, Maker, ca_of, certificate
from support.memory import allocated
from support.openssl import s_client
from support.pairs import Pair
from support.wire import dial, upgrade_request

HOST = "127.0.0.1"


def secure(runner: Runner, **options: Any) -> Any:
    return echo(runner, **{**certificate().server_options, **options})


@functools.cache
def renewed() -> Certificate:
    """Return another certificate for the same, by the second authority."""
    return certificate(by="second")


def attempt(runner: Runner, listener: Any, **context: Any) -> Recorder:
    recorder = Recorder()
    made = runner.context(**context)
    made.connect(f"wss://localhost:{listener.port}/", **recorder.callbacks)
    runner.run(lambda: recorder.events)
    return recorder


def trusts(runner: Runner, listener: Any, authority: str, **context: Any) -> bool:
    """Tell whether a client that trusts an authority gets through."""
    return attempt(runner, listener, ssl_ca=ca_of(authority), **context).names == ["connect"]


class HalfWay:
    """A client that has begun its TLS handshake, and goes on when it is told to."""

    def __init__(self, runner: Runner, listener: Any) -> None:
        self._runner = runner
        self._peer = dial(runner, listener)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            self._tls.do_handshake()
        self._hello = self._out.read()
        self._peer.send(self._hello[:20])

    def finish(self) -> x509.Certificate:
        """Send the rest, and return the certificate that is shown."""
        self._peer.send(self._hello[20:])
        self._runner.run(self._is_ready)
        shown = self._tls.getpeercert(binary_form=True)
        assert shown is not None
        return x509.load_der_x509_certificate(shown)

    def upgrade(self) -> None:
        """Become a WebSocket."""
        self._tls.write(upgrade_request())
        self._peer.send(self._out.read())

    def _is_ready(self) -> bool:
        self._in.write(self._peer.take())
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self._peer.send(self._out.read())
        return True


def test_who_connects_after_it_is_shown_the_new_certificate(runner: Runner) -> None:
    listener = secure(runner)
    assert trusts(runner, listener, "first")
    listener.reload_tls(ssl_cert=renewed().cert, ssl_key=renewed().key)
    assert trusts(runner, listener, "second")
    assert not trusts(runner, listener, "first")


def test_certificates_may_be_given_by_path(runner: Runner, tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_bytes(renewed().cert)
    (tmp_path / "key.pem").write_bytes(renewed().key)
    listener = secure(runner)
    listener.reload_tls(ssl_cert=tmp_path / "cert.pem", ssl_key=str(tmp_path / "key.pem"))
    assert trusts(runner, listener, "second")


def test_connections_go_on(runner: Runner) -> None:
    context = runner.context(ssl_ca=ca_of())
    pair = Pair(runner, context=context, listen=certificate().server_options)
    for _ in range(3):
        pair.listener.reload_tls(ssl_cert=renewed().cert, ssl_key=renewed().key)
        runner.turns(3)
    for side in ("client", "server"):
        connection, receiver = pair.sender(side)
        connection.send("still here")
        runner.run(receiver.saw("message"))
    pair.connection("client").close()
    runner.run(lambda: "close" in pair.server.names and "close" in pair.client.names)
    assert pair.client.events[-1] == ("close", 1000, "")


def test_handshakes_under_way_go_on_with_the_old_certificate(runner: Runner) -> None:
    seen = Recorder()
    listener = runner.context().listen(host=HOST, **certificate().server_options, **seen.callbacks)
    client = HalfWay(runner, listener)
    runner.run_for(0.02)
    listener.reload_tls(ssl_cert=renewed().cert, ssl_key=renewed().key)
    runner.turns(3)
    assert client.finish() == x509.load_pem_x509_certificate(certificate().cert)
    client.upgrade()
    runner.run(seen.saw("connect"))


def test_an_old_certificate_is_forgotten_with_its_last_connection(runner: Runner) -> None:
    context = runner.context(ssl_ca=ca_of())
    pair = Pair(runner, context=context, listen=certificate().server_options)
    pair.listener.reload_tls(ssl_cert=renewed().cert, ssl_key=renewed().key)
    pair.connection("server").close()
    runner.run(lambda: "close" in pair.server.names and "close" in pair.client.names)
    assert trusts(runner, pair.listener, "second")


def test_closing_the_listener_and_the_context_after_it(runner: Runner) -> None:
    context = runner.context(ssl_ca=ca_of())
    pair = Pair(runner, context=context, listen=certificate().server_options)
    pair.listener.reload_tls(ssl_cert=renewed().cert, ssl_key=renewed().key)
    pair.listener.close()
    runner.turns(3)
    pair.connection("client").send("still here")
    runner.run(pair.server.saw("message"))
    context.close()
    assert pair.server.events[-1] == ("close", 1001, "")


def test_it_may_be_done_in_a_callback_of_a_connection_of_the_listeners(runner: Runner) -> None:
    seen = Recorder(
        on_message=lambda connection, _: (
            listeners[0].reload_tls(ssl_cert=renewed().cert, ssl_key=renewed().key),
            connection.send("done"),
        )
    )
    options = certificate().server_options
    listeners = [runner.context().listen(host=HOST, **options, **seen.callbacks)]
    client = Recorder(on_connect=lambda connection, _: connection.send("now"))
    runner.context(ssl_ca=ca_of()).connect(
        f"wss://localhost:{listeners[0].port}/", **client.callbacks
    )
    runner.run(client.saw("message"))
    assert trusts(runner, listeners[0], "second")


def test_it_may_be_done_in_on_handshake(runner: Runner) -> None:
    def reload(headers: Any) -> bool:
        listeners[0].reload_tls(ssl_cert=renewed().cert, ssl_key=renewed().key)
        return True

    options = certificate().server_options
    listeners = [runner.context().listen(host=HOST, on_handshake=reload, **options)]
    assert trusts(runner, listeners[0], "first")
    assert trusts(runner, listeners[0], "second")


# What cannot be used


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "a certificate that is none": ({"ssl_cert": b"garbage"}, uvws.TLSError, "ssl_cert"),
    "another certificate's key": ({"ssl_key": certificate().key}, uvws.TLSError, "ssl_key"),
    "an authority that is none": ({"ssl_ca": b"garbage"}, uvws.TLSError, "ssl_ca"),
    "a file that is not there": ({"ssl_cert": "/missing.pem"}, FileNotFoundError, "missing"),
    "no certificate": ({"ssl_cert": None}, ValueError, "ssl_key needs ssl_cert"),
    "no key": ({"ssl_key": None}, ValueError, "ssl_cert needs ssl_key"),
    "neither": ({"ssl_cert": None, "ssl_key": None}, TypeError, "ssl_cert must be"),
    "the wrong type": ({"ssl_cert": 1}, TypeError, "ssl_cert must be"),
}


@pytest.mark.parametrize(("change", "kind", "words"), BAD.values(), ids=BAD)
def test_what_cannot_be_used_leaves_all_as_it_was(
    runner: Runner, change: dict[str, Any], kind: type[Exception], words: str
) -> None:
    listener = secure(runner)
    given = {"ssl_cert": renewed().cert, "ssl_key": renewed().key, **change}
    for _ in range(2):
        with pytest.raises(kind, match=words):
            listener.reload_tls(**given)
    assert trusts(runner, listener, "first")
    listener.reload_tls(ssl_cert=renewed().cert, ssl_key=renewed().key)
    assert trusts(runner, listener, "second")


def test_a_listener_without_tls_has_none_to_reload(runner: Runner) -> None:
    listener = echo(runner)
    with pytest.raises(uvws.InvalidState, match=r"^Listener has no TLS$"):
        listener.reload_tls(ssl_cert=renewed().cert, ssl_key=renewed().key)


@pytest.mark.parametrize("closed", ["listener", "context"])
def test_a_closed_listener_has_none_to_reload(runner: Runner, closed: str) -> None:
    context = runner.context()
    listener = context.listen(host=HOST, **certificate().server_options)
    (listener if closed == "listener" else context).close()
    with pytest.raises(uvws.InvalidState, match=r"^Listener is closed$"):
        listener.reload_tls(ssl_cert=renewed().cert, ssl_key=renewed().key)


# Clients that have to show a certificate


@functools.cache
def members() -> Maker:
    return Maker()


def demanding(runner: Runner) -> Any:
    return secure(runner, ssl_ca=members().cert)


def test_what_was_demanded_of_clients_stays_demanded(runner: Runner) -> None:
    listener = demanding(runner)
    for _ in range(2):
        listener.reload_tls(ssl_cert=renewed().cert, ssl_key=renewed().key)
    assert not trusts(runner, listener, "second")
    member = members().issue().server_options
    assert trusts(runner, listener, "second", **member)


def test_authorities_may_be_replaced(runner: Runner) -> None:
    listener = demanding(runner)
    others = Maker()
    listener.reload_tls(ssl_ca=others.cert, **certificate().server_options)
    assert not trusts(runner, listener, "first", **members().issue().server_options)
    assert trusts(runner, listener, "first", **others.issue().server_options)


def test_authorities_may_come_with_it(runner: Runner) -> None:
    listener = secure(runner)
    listener.reload_tls(ssl_ca=members().cert, **certificate().server_options)
    assert not trusts(runner, listener, "first")
    assert trusts(runner, listener, "first", **members().issue().server_options)


@loop_kinds("asyncio")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_who_is_not_trusted_any_more_does_not_resume_a_session(
    runner: Runner, tmp_path: Path, version: str
) -> None:
    listener = demanding(runner)
    made = members().issue()
    mine, session = tmp_path / "mine.pem", tmp_path / "session"
    mine.write_bytes(made.key + made.cert)
    asked = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
    shown = (version, "-ign_eof", "-cert", str(mine), "-key", str(mine))
    assert " 426 " in s_client(runner, listener, *shown, "-sess_out", str(session), said=asked)
    listener.reload_tls(ssl_ca=Maker().cert, **certificate().server_options)
    back = ("-sess_in", str(session)) if session.exists() else ()
    output = s_client(runner, listener, *shown, *back, said=asked)
    assert " 426 " not in output
    assert "alert unknown ca" in output


# Again and again


@loop_kinds("pyuv")
def test_hundreds_of_reloads_leave_nothing_behind(runner: Runner) -> None:
    listener = secure(runner)

    def reload(times: int) -> None:
        for _ in range(times):
            listener.reload_tls(ssl_cert=renewed().cert, ssl_key=renewed().key)
            runner.turns(1)

    reload(50)
    before = allocated()
    reload(300)
    assert allocated() - before < 50_000
    assert trusts(runner, listener, "second")


@loop_kinds("pyuv")
def test_reloads_that_fail_leave_nothing_behind(runner: Runner) -> None:
    listener = secure(runner)

    def reload(times: int) -> None:
        for _ in range(times):
            with pytest.raises(uvws.TLSError):
                listener.reload_tls(ssl_cert=renewed().cert, ssl_key=certificate().key)
            runner.turns(1)

    reload(50)
    before = allocated()
    reload(150)
    assert allocated() - before < 30_000
