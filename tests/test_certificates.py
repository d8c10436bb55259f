"""Which certificates are taken, which are refused, and that the error says why."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

import uvws
from support import Recorder, Runner, loop_kinds
from support.certificates import Certificate, Maker, ca_of, certificate, pem_of, rsa_key
from support.proxies import RealProxy

HOST = "127.0.0.1"
X509_V_ERR = {
    "no issuer": 20,
    "not yet valid": 9,
    "expired": 10,
    "self-signed": 18,
    "self-signed in the chain": 19,
    "no authority": 79,
    "purpose": 26,
    "name": 62,
    "address": 64,
}


@functools.cache
def root() -> Maker:
    return Maker()


@functools.cache
def intermediate() -> Maker:
    return Maker(root())


def connect_to(runner: Runner, shown: Certificate, **options: Any) -> Recorder:
    """Have a client that trusts the root look at what a server shows."""
    recorder = Recorder()
    context = runner.context(ssl_ca=options.pop("ssl_ca", root().cert))
    listener = runner.context().listen(host=HOST, **shown.server_options)
    name = options.pop("name", "localhost")
    context.connect(f"wss://{name}:{listener.port}/", **options, **recorder.callbacks)
    runner.run(lambda: recorder.events)
    return recorder


def error_of(recorder: Recorder) -> uvws.TLSError:
    assert recorder.names == ["error"]
    error = recorder.events[0][1]
    assert type(error) is uvws.TLSError, repr(error)
    return error


def self_signed() -> Certificate:
    maker = Maker(ca=False, names=("localhost",))
    return Certificate(maker.cert, pem_of(maker.key))


def chained(*authorities: Maker, **options: Any) -> Certificate:
    """Issue by the first of these, and show all of them behind it."""
    made = authorities[0].issue(**options)
    return Certificate(made.cert + b"".join(each.cert for each in authorities), made.key)


def below_no_authority() -> Certificate:
    return chained(Maker(root(), ca=False))


def below_an_expired_authority() -> Certificate:
    return chained(Maker(root(), not_before=-9, not_after=-1))


# What is shown, the number that OpenSSL has for it, what the message says, and whose it is.
REFUSED: dict[str, tuple[Any, str, str, str]] = {
    "expired": (
        lambda: root().issue(not_before=-9, not_after=-1),
        "expired",
        "certificate has expired",
        "the server",
    ),
    "not yet valid": (
        lambda: root().issue(not_before=1, not_after=9),
        "not yet valid",
        "not yet valid",
        "the server",
    ),
    "another name": (
        lambda: root().issue("other.example"),
        "name",
        "hostname mismatch",
        "the server",
    ),
    "a common name alone": (
        lambda: root().issue("", common_name="localhost"),
        "name",
        "hostname mismatch",
        "the server",
    ),
    "a part of a name": (
        lambda: root().issue("local*"),
        "name",
        "hostname mismatch",
        "the server",
    ),
    "any name": (lambda: root().issue("*"), "name", "hostname mismatch", "the server"),
    "self-signed": (self_signed, "self-signed", "self-signed certificate", "the server"),
    "an unknown authority": (
        lambda: Maker().issue(),
        "no issuer",
        "unable to get local issuer certificate",
        "the server",
    ),
    "an unknown authority that is shown": (
        lambda: chained(Maker()),
        "self-signed in the chain",
        "self-signed certificate in certificate chain",
        "number 1 in the server's chain",
    ),
    "a missing link": (
        lambda: intermediate().issue(),
        "no issuer",
        "unable to get local issuer certificate",
        "the server",
    ),
    "a link that is no authority": (
        below_no_authority,
        "no authority",
        "invalid CA certificate",
        "number 1 in the server's chain",
    ),
    "a link that has expired": (
        below_an_expired_authority,
        "expired",
        "certificate has expired",
        "number 1 in the server's chain",
    ),
    "a purpose other than servers": (
        lambda: root().issue(usage=ExtendedKeyUsageOID.CLIENT_AUTH),
        "purpose",
        "certificate purpose",
        "the server",
    ),
}


@loop_kinds("asyncio")
@pytest.mark.parametrize(("make", "code", "words", "whose"), REFUSED.values(), ids=REFUSED)
def test_a_client_refuses_and_says_why(
    runner: Runner, make: Any, code: str, words: str, whose: str
) -> None:
    error = error_of(connect_to(runner, make()))
    assert str(error) == f"certificate of {whose} refused: {error.reason}"
    assert error.reason is not None
    assert words.lower() in error.reason.lower()
    assert (error.verify_code, error.alert) == (X509_V_ERR[code], None)


@loop_kinds("asyncio")
@pytest.mark.parametrize("make", [made[0] for made in REFUSED.values()], ids=REFUSED)
def test_without_verification_a_client_takes_each_of_them(runner: Runner, make: Any) -> None:
    assert connect_to(runner, make(), ssl_verify=False).names == ["connect"]


@loop_kinds("asyncio")
def test_a_listener_shows_no_certificate_with_a_short_key(runner: Runner) -> None:
    made = root().issue(key=rsa_key(1024))
    with pytest.raises(uvws.TLSError, match=r"^ssl_cert .*: ee key too small$"):
        runner.context().listen(host=HOST, **made.server_options)


@loop_kinds("asyncio")
def test_an_address_other_than_those_in_the_certificate_is_refused(runner: Runner) -> None:
    error = error_of(connect_to(runner, root().issue("127.0.0.2"), name=HOST))
    assert (error.verify_code, error.reason) == (X509_V_ERR["address"], "IP address mismatch")


@loop_kinds("asyncio")
def test_an_address_is_no_name(runner: Runner) -> None:
    # As one that is written out in letters.
    made = root().issue("", common_name=HOST)
    assert error_of(connect_to(runner, made, name=HOST)).verify_code == X509_V_ERR["address"]


@loop_kinds("asyncio")
def test_the_order_of_the_chain_does_not_matter_behind_the_first(runner: Runner) -> None:
    lower = Maker(intermediate())
    made = lower.issue()
    for chain in (
        [lower, intermediate()],
        [intermediate(), lower],
        [root(), intermediate(), lower],
    ):
        shown = Certificate(made.cert + b"".join(each.cert for each in chain), made.key)
        assert connect_to(runner, shown).names == ["connect"]


@loop_kinds("asyncio")
def test_a_chain_that_does_not_begin_with_the_listeners_own_is_refused(runner: Runner) -> None:
    made = intermediate().issue()
    with pytest.raises(uvws.TLSError, match="ssl_key is not the key of the first certificate in"):
        runner.context().listen(ssl_cert=intermediate().cert + made.cert, ssl_key=made.key)


@loop_kinds("asyncio")
@pytest.mark.parametrize("argument", ["ssl_cert", "ssl_ca"])
def test_garbage_behind_a_good_certificate_is_refused(runner: Runner, argument: str) -> None:
    made = root().issue()
    begin = b"-----BEGIN CERTIFICATE-----\n"
    cut = root().cert[: len(root().cert) // 2] + b"\n-----END CERTIFICATE-----\n"
    options = {**made.server_options, "ssl_ca": root().cert}
    options[argument] += cut
    assert begin in cut
    with pytest.raises(uvws.TLSError, match=f"^{argument} holds no usable certificate"):
        runner.context().listen(host=HOST, **options)


WILDCARDS = [
    # name, what the certificate is for, whether it fits
    ("known.test", "*.test", False),  # a whole top-level domain
    ("a.known.test", "*.known.test", True),
    ("a.known.test.", "*.known.test", True),  # the dot marks it as complete
    ("A.known.test", "a.KNOWN.test", True),
    ("known.test", "*.known.test", False),
    ("a.b.known.test", "*.known.test", False),
    ("ab.known.test", "a*.known.test", False),
]


@loop_kinds("asyncio")
def test_wildcards_stand_for_one_whole_label(runner: Runner) -> None:
    # A proxy looks names up that nobody else knows.
    proxy = RealProxy(runner, names=tuple(name.lower() for name, _, _ in WILDCARDS))
    context = runner.context(ssl_ca=root().cert, proxy=proxy.url("http"))
    codes = []
    for name, shown, _ in WILDCARDS:
        recorder = Recorder()
        listener = runner.context().listen(host=HOST, **root().issue(shown).server_options)
        context.connect(f"wss://{name}:{listener.port}/", **recorder.callbacks)
        runner.run(lambda recorder=recorder: recorder.events)
        codes.append(error_of(recorder).verify_code if "error" in recorder.names else None)
    assert codes == [None if fits else X509_V_ERR["name"] for _, _, fits in WILDCARDS]


# Clients' certificates


CLIENTS: dict[str, tuple[Any, int, str]] = {
    "none": (lambda: None, 116, "certificate required"),
    "expired": (lambda: root().issue(not_before=-9, not_after=-1), 45, "certificate expired"),
    "not yet valid": (lambda: root().issue(not_before=1, not_after=9), 42, "bad certificate"),
    "an unknown authority": (lambda: Maker().issue(), 48, "unknown CA"),
    "a server's": (
        lambda: root().issue(usage=ExtendedKeyUsageOID.SERVER_AUTH),
        43,
        "unsupported certificate",
    ),
}


@pytest.mark.parametrize(("make", "alert", "reason"), CLIENTS.values(), ids=CLIENTS)
def test_a_client_that_shows_the_wrong_certificate_is_told_why(
    runner: Runner, make: Any, alert: int, reason: str
) -> None:
    shown = make()
    recorder, seen = Recorder(), Recorder()
    listener = runner.context().listen(
        host=HOST, ssl_ca=root().cert, **certificate().server_options, **seen.callbacks
    )
    options = shown.server_options if shown else {}
    context = runner.context(ssl_ca=ca_of(), **options)
    context.connect(f"wss://localhost:{listener.port}/", **recorder.callbacks)
    runner.run(lambda: recorder.events)
    error = error_of(recorder)
    assert (error.alert, error.reason, error.verify_code) == (alert, reason, None)
    assert str(error) == f"server refused TLS: {reason} (alert {alert})"
    assert seen.events == []


@loop_kinds("asyncio")
def test_a_clients_certificate_for_clients_gets_in(runner: Runner) -> None:
    shown = root().issue(usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    recorder = Recorder()
    listener = runner.context().listen(
        host=HOST, ssl_ca=root().cert, **certificate().server_options
    )
    context = runner.context(ssl_ca=ca_of(), **shown.server_options)
    context.connect(f"wss://localhost:{listener.port}/", **recorder.callbacks)
    runner.run(recorder.saw("connect"))


# What a server tells of it


@pytest.mark.parametrize(
    ("make", "words"),
    [(CLIENTS["none"][0], "did not return a certificate"), (CLIENTS["expired"][0], "has expired")],
    ids=["none", "expired"],
)
def test_a_refused_client_is_in_the_log(
    runner: Runner, caplog: pytest.LogCaptureFixture, make: Any, words: str
) -> None:
    shown = make()
    recorder = Recorder()
    listener = runner.context().listen(
        host=HOST, ssl_ca=root().cert, **certificate().server_options
    )
    options = shown.server_options if shown else {}
    context = runner.context(ssl_ca=ca_of(), **options)
    uvws.set_debug()
    try:
        context.connect(f"wss://localhost:{listener.port}/", **recorder.callbacks)
        runner.run(lambda: recorder.events)
        runner.turns(2)
    finally:
        uvws.set_debug(False)
    (line,) = (each for each in caplog.messages if "TLS handshake" in each and "listener" in each)
    assert line.startswith("listener 'server': TLS handshake with 127.0.0.1 failed: ")
    assert words in line


@loop_kinds("asyncio")
def test_a_server_that_is_not_trusted_has_it_in_the_log(
    runner: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    uvws.set_debug()
    try:
        error_of(connect_to(runner, Maker().issue()))
        runner.run(lambda: any("unknown ca" in each for each in caplog.messages))
    finally:
        uvws.set_debug(False)
