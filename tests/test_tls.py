"""TLS: who is trusted, who is refused, and with which certificates."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import websockets

import uvws
from support import Recorder, Runner, echo, loop_kinds
from support.certificates import (
    Certificate,
    ca_of,
    certificate,
    certificate_with_chain,
    client_context,
    load,
    server_context,
)
from support.pairs import SIDES, Pair
from support.payloads import SIZES, of_kind
from support.wire import TEXT, RawServer, dial, frame, upgrade_request

HOST = "127.0.0.1"
MIB = 1 << 20


def secure_echo(runner: Runner, **options: Any) -> Any:
    """Listen with TLS and send everything back."""
    return echo(runner, **{**certificate().server_options, **options})


def url_of(listener: Any, host: str = "localhost") -> str:
    return f"wss://{host}:{listener.port}/"


def attempt(
    runner: Runner, url: str, *, context: dict[str, Any] | None = None, **options: Any
) -> Recorder:
    """Try to connect, with the first authority trusted unless said otherwise."""
    recorder = Recorder()
    made = runner.context(**({"ssl_ca": ca_of()} if context is None else context))
    made.connect(url, **options, **recorder.callbacks)
    runner.run(lambda: recorder.events)
    return recorder


def assert_refused(recorder: Recorder, match: str = "") -> None:
    assert recorder.names == ["error"]
    error = recorder.events[0][1]
    assert type(error) is uvws.TLSError, repr(error)
    assert match in str(error).lower()


# Messages


@pytest.mark.parametrize("sender", SIDES)
@pytest.mark.parametrize("kind", ["text", "binary"])
def test_messages_of_every_size_arrive_in_order(runner: Runner, sender: str, kind: str) -> None:
    context = runner.context(ssl_ca=ca_of())
    pair = Pair(runner, context=context, listen=certificate().server_options)
    connection, receiver = pair.sender(sender)
    messages = [of_kind(kind, size) for size in (*SIZES, 5 * MIB, *SIZES)]
    for message in messages:
        connection.send(message)
    runner.run(receiver.saw("message", len(messages)), timeout=20)
    assert receiver.messages == messages


def test_one_message_after_the_other_arrives(runner: Runner) -> None:
    # Each alone: what TLS has decrypted already raises no event on the descriptor.
    recorder = Recorder(on_connect=lambda connection, _: connection.send(b"x"))
    context = runner.context(ssl_ca=ca_of())
    connection = context.connect(url_of(secure_echo(runner)), **recorder.callbacks)
    runner.run(recorder.saw("message"))
    for size in SIZES:
        recorder.events.clear()
        connection.send(bytes(size))
        runner.run(recorder.saw("message"))
        assert recorder.messages == [bytes(size)]


def test_a_websockets_client(runner: Runner, websockets_client: Any) -> None:
    listener = secure_echo(runner)

    async def talk() -> list[int]:
        wrong = []
        options = {"ssl": client_context(), "max_size": None}
        async with websockets.connect(url_of(listener), **options) as peer:
            for size in (*SIZES, 5 * MIB):
                message = of_kind("text", size)
                await peer.send(message)
                if await peer.recv() != message:
                    wrong.append(size)
        return wrong

    client = websockets_client(talk)
    runner.run(client.done, timeout=10)
    assert client.result() == []


def test_a_websockets_server(runner: Runner, websockets_server: Any) -> None:
    async def give_back(peer: Any) -> None:
        async for message in peer:
            await peer.send(message)

    uri = websockets_server(give_back, ssl=server_context(), max_size=None)
    messages = [of_kind("binary", size) for size in (*SIZES, 5 * MIB)]
    recorder = Recorder(on_connect=lambda connection, _: [connection.send(m) for m in messages])
    runner.context(ssl_ca=ca_of()).connect(uri, **recorder.callbacks)
    runner.run(recorder.saw("message", len(messages)), timeout=10)
    assert recorder.messages == messages


def test_a_hundred_messages_in_one_record_all_arrive(runner: Runner) -> None:
    recorder = Recorder()
    listener = runner.context().listen(
        host=HOST, **certificate().server_options, **recorder.callbacks
    )
    client = TLSByHand(runner, listener)
    client.send(upgrade_request())
    runner.run(recorder.saw("connect"))
    client.send(b"".join(frame(TEXT, b"%d" % n, mask=b"abcd") for n in range(100)))
    runner.run(recorder.saw("message", 100))
    assert recorder.messages == [str(n) for n in range(100)]


def test_a_message_in_the_record_of_the_response_arrives(runner: Runner) -> None:
    recorder = Recorder()
    greeting = Recorder(on_connect=lambda connection, _: connection.send("welcome"))
    listener = runner.context().listen(
        host=HOST, **certificate().server_options, **greeting.callbacks
    )
    runner.context(ssl_ca=ca_of()).connect(url_of(listener), **recorder.callbacks)
    runner.run(recorder.saw("message"))
    assert recorder.messages == ["welcome"]


@pytest.mark.parametrize("side", SIDES)
def test_codes_and_reasons_of_a_close(runner: Runner, side: str) -> None:
    context = runner.context(ssl_ca=ca_of())
    pair = Pair(runner, context=context, listen=certificate().server_options)
    pair.connection(side).close(4000, "bye")
    runner.run(lambda: "close" in pair.server.names and "close" in pair.client.names)
    other = pair.client if side == "server" else pair.server
    assert other.events[-1] == ("close", 4000, "bye")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_of_tls(runner: Runner, websockets_client: Any, version: Any) -> None:
    listener = secure_echo(runner)
    trusting = client_context()
    trusting.minimum_version = trusting.maximum_version = version

    async def talk() -> Any:
        async with websockets.connect(url_of(listener), ssl=trusting) as peer:
            await peer.send("hello")
            return await peer.recv()

    client = websockets_client(talk)
    runner.run(client.done)
    assert client.result() == "hello"


# Whom a client trusts


def test_an_authority_may_be_given_as_bytes(runner: Runner) -> None:
    assert attempt(runner, url_of(secure_echo(runner))).names == ["connect"]


@pytest.mark.parametrize("make", [str, Path], ids=["str", "Path"])
def test_an_authority_may_be_given_by_path(runner: Runner, tmp_path: Path, make: Any) -> None:
    (tmp_path / "ca.pem").write_bytes(ca_of())
    recorder = attempt(
        runner, url_of(secure_echo(runner)), context={"ssl_ca": make(tmp_path / "ca.pem")}
    )
    assert recorder.names == ["connect"]


def test_several_authorities_may_be_given(runner: Runner) -> None:
    both = {"ssl_ca": ca_of("second") + ca_of()}
    assert attempt(runner, url_of(secure_echo(runner)), context=both).names == ["connect"]


def test_certificate_and_key_may_be_given_by_path(runner: Runner, tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_bytes(certificate().cert)
    (tmp_path / "key.pem").write_bytes(certificate().key)
    listener = echo(runner, ssl_cert=tmp_path / "cert.pem", ssl_key=str(tmp_path / "key.pem"))
    assert attempt(runner, url_of(listener)).names == ["connect"]


def test_a_server_shows_its_whole_chain(runner: Runner) -> None:
    listener = secure_echo(runner, **certificate_with_chain().server_options)
    assert attempt(runner, url_of(listener)).names == ["connect"]


def test_a_chain_with_a_link_missing_is_refused(runner: Runner) -> None:
    made = certificate_with_chain()
    end = b"-----END CERTIFICATE-----\n"
    only_leaf = made.cert.partition(end)[0] + end
    listener = secure_echo(runner, ssl_cert=only_leaf, ssl_key=made.key)
    assert_refused(attempt(runner, url_of(listener)))


@pytest.mark.parametrize(
    ("host", "name"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("127.0.0.1", "localhost")],
)
def test_names_and_addresses_are_checked_against_the_certificate(
    runner: Runner, host: str, name: str
) -> None:
    listener = secure_echo(runner, host=host, **certificate(name).server_options)
    url = url_of(listener, f"[{name}]" if ":" in name else name)
    assert attempt(runner, url).names == ["connect"]


@pytest.mark.parametrize(
    ("host", "name", "shown"),
    [
        ("127.0.0.1", "localhost", "other.example"),
        ("127.0.0.1", "127.0.0.1", "localhost"),
        ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
        ("::1", "::1", "::2"),
        ("127.0.0.1", "localhost", "127.0.0.1"),
    ],
)
def test_a_certificate_for_something_else_is_refused(
    runner: Runner, host: str, name: str, shown: str
) -> None:
    listener = secure_echo(runner, host=host, **certificate(shown).server_options)
    url = url_of(listener, f"[{name}]" if ":" in name else name)
    assert_refused(attempt(runner, url), "mismatch")


def test_a_certificate_by_an_unknown_authority_is_refused(runner: Runner) -> None:
    listener = secure_echo(runner, **certificate(by="second").server_options)
    assert_refused(attempt(runner, url_of(listener)), "certificate")


def test_the_systems_authorities_do_not_know_the_tests(runner: Runner) -> None:
    assert_refused(attempt(runner, url_of(secure_echo(runner)), context={}), "certificate")


def test_an_expired_certificate_is_refused(runner: Runner) -> None:
    listener = secure_echo(runner, **certificate(expired=True).server_options)
    assert_refused(attempt(runner, url_of(listener)), "expired")


@pytest.mark.parametrize(
    "shown",
    [
        {"by": "second"},
        {"expired": True},
        {"names": ("other.example",)},
    ],
    ids=["unknown authority", "expired", "another name"],
)
def test_without_verification_every_certificate_does(runner: Runner, shown: dict[str, Any]) -> None:
    made = certificate(*shown.pop("names", ()), **shown)
    listener = secure_echo(runner, **made.server_options)
    recorder = attempt(runner, url_of(listener), ssl_verify=False)
    assert recorder.names == ["connect"]


def test_verification_is_decided_for_each_connection(runner: Runner) -> None:
    listener = secure_echo(runner, **certificate(by="second").server_options)
    context = runner.context(ssl_ca=ca_of())
    lax, strict = Recorder(), Recorder()
    context.connect(url_of(listener), ssl_verify=False, **lax.callbacks)
    context.connect(url_of(listener), **strict.callbacks)
    runner.run(lambda: lax.events and strict.events)
    assert lax.names == ["connect"]
    assert_refused(strict)


def test_a_refused_server_never_sees_a_connection(runner: Runner) -> None:
    seen = Recorder()
    listener = runner.context().listen(
        host=HOST, **certificate(by="second").server_options, **seen.callbacks
    )
    assert_refused(attempt(runner, url_of(listener)))
    runner.run_for(0.02)
    assert seen.events == []


@pytest.mark.parametrize(("name", "told"), [("localhost", "localhost"), ("127.0.0.1", None)])
def test_the_server_is_told_the_name_that_is_wanted(
    runner: Runner, websockets_server: Any, name: str, told: str | None
) -> None:
    names: list[str | None] = []
    showing = server_context()
    showing.sni_callback = lambda connection, wanted, context: names.append(wanted)

    async def stay(peer: Any) -> None:
        await peer.wait_closed()

    uri = websockets_server(stay, ssl=showing).replace("127.0.0.1", name)
    assert attempt(runner, uri).names == ["connect"]
    assert names == [told]


# Servers


def test_each_listener_shows_its_own_certificate(runner: Runner) -> None:
    context = runner.context()
    for name, by in (("one", "first"), ("two", "second")):
        options = certificate(by=by).server_options
        listener = context.listen(host=HOST, name=name, **options)
        trusted = attempt(runner, url_of(listener), context={"ssl_ca": ca_of(by)})
        assert trusted.names == ["connect"]
        other = {"ssl_ca": ca_of("second" if by == "first" else "first")}
        assert_refused(attempt(runner, url_of(listener), context=other))


def test_plain_and_secure_listeners_live_together(runner: Runner) -> None:
    context = runner.context(ssl_ca=ca_of())
    plain = context.listen(host=HOST, name="plain")
    secure = context.listen(host=HOST, name="secure", **certificate().server_options)
    recorder = Recorder()
    context.connect(f"ws://localhost:{plain.port}/", **recorder.callbacks)
    context.connect(url_of(secure), **recorder.callbacks)
    runner.run(recorder.saw("connect", 2))


def test_a_closed_listener_keeps_its_secure_connections(runner: Runner) -> None:
    context = runner.context(ssl_ca=ca_of())
    pair = Pair(runner, context=context, listen=certificate().server_options)
    pair.listener.close()
    runner.turns(3)
    pair.connection("client").send("still here")
    pair.connection("server").send("here too")
    runner.run(lambda: pair.server.messages and pair.client.messages)
    pair.connection("client").close()
    runner.run(lambda: "close" in pair.server.names and "close" in pair.client.names)


def test_tls_works_in_a_context_made_after_the_last_one_closed(runner: Runner) -> None:
    for _ in range(3):
        context = runner.context(ssl_ca=ca_of())
        pair = Pair(runner, context=context, listen=certificate().server_options)
        pair.connection("client").send("hello")
        runner.run(pair.server.saw("message"))
        context.close()


def test_a_plain_client_of_a_secure_listener_is_hung_up_on(runner: Runner) -> None:
    seen = Recorder()
    listener = runner.context().listen(host=HOST, **certificate().server_options, **seen.callbacks)
    peer = dial(runner, listener)
    peer.send(upgrade_request())
    runner.run(peer.ended)
    assert b"101" not in peer.take()[:20]
    assert seen.events == []


def test_a_secure_client_of_a_plain_listener_is_told(runner: Runner) -> None:
    listener = echo(runner)
    recorder = attempt(runner, url_of(listener))
    assert recorder.names == ["error"]
    assert isinstance(recorder.events[0][1], (uvws.TLSError, ConnectionError))


def test_a_server_that_hangs_up_during_the_handshake_is_told(runner: Runner) -> None:
    server = RawServer(runner)
    recorder = Recorder()
    runner.context().connect(f"wss://127.0.0.1:{server.port}/", **recorder.callbacks)
    runner.run(server.accepted)
    server.peers[0].finish()
    runner.run(recorder.saw("error"))
    assert isinstance(recorder.events[0][1], (uvws.TLSError, ConnectionError))


def test_a_half_tls_handshake_does_not_keep_others_waiting(runner: Runner) -> None:
    listener = secure_echo(runner)
    for _ in range(5):
        dial(runner, listener).send(b"\x16\x03\x01\x02\x00\x01")
    assert attempt(runner, url_of(listener)).names == ["connect"]


# Certificates that cannot be used


PROBLEMS = {
    "a certificate that is none": ({"ssl_cert": b"garbage"}, "ssl_cert"),
    "a key that is none": ({"ssl_key": b"garbage"}, "ssl_key"),
    "an empty certificate": ({"ssl_cert": b""}, "ssl_cert"),
    "an authority that is none": ({"ssl_ca": b"garbage"}, "ssl_ca"),
    "another certificate's key": ({"ssl_key": certificate(by="second").key}, "ssl_key"),
    "certificate and key exchanged": (
        {"ssl_cert": certificate().key, "ssl_key": certificate().cert},
        "ssl_cert",
    ),
}


@pytest.mark.parametrize(("change", "named"), PROBLEMS.values(), ids=PROBLEMS)
def test_a_listener_refuses_what_it_cannot_use_at_once(
    runner: Runner, change: dict[str, bytes], named: str
) -> None:
    context = runner.context()
    for _ in range(2):  # the second time nothing is in the way
        with pytest.raises(uvws.TLSError, match=named):
            context.listen(host=HOST, **{**certificate().server_options, **change})
    assert context.listen(host=HOST).is_open


@pytest.mark.parametrize(("change", "named"), PROBLEMS.values(), ids=PROBLEMS)
def test_a_client_refuses_what_it_cannot_use_at_once(
    runner: Runner, change: dict[str, bytes], named: str
) -> None:
    context = runner.context(**{**certificate().server_options, **change})
    for _ in range(2):
        with pytest.raises(uvws.TLSError, match=named):
            context.connect("wss://127.0.0.1:1/")
    assert context.connections == []


@loop_kinds("asyncio")
@pytest.mark.parametrize("method", ["context", "listen"])
@pytest.mark.parametrize(("given", "missing"), [("ssl_cert", "ssl_key"), ("ssl_key", "ssl_cert")])
def test_a_certificate_without_its_key_is_refused(
    runner: Runner, method: str, given: str, missing: str
) -> None:
    make = runner.context().listen if method == "listen" else runner.context
    with pytest.raises(ValueError, match=f"^{given} needs {missing} as well$"):
        make(**{given: certificate().cert})


def test_a_file_that_is_not_there_is_refused(runner: Runner, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        runner.context().listen(ssl_cert=tmp_path / "missing.pem", ssl_key=certificate().key)


def test_an_encrypted_key_is_refused_without_asking_for_a_password(runner: Runner) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(certificate().key, None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    with pytest.raises(uvws.TLSError, match="ssl_key"):
        runner.context().listen(ssl_cert=certificate().cert, ssl_key=encrypted)


# Clients that have to show a certificate


def demanding(runner: Runner, recorder: Recorder) -> Any:
    """Listen for clients whose certificate is by the second authority."""
    return runner.context().listen(
        host=HOST, ssl_ca=ca_of("second"), **certificate().server_options, **recorder.callbacks
    )


def test_a_client_with_the_certificate_that_is_demanded_gets_in(runner: Runner) -> None:
    seen = Recorder()
    shown = certificate("client", by="second").server_options
    recorder = attempt(
        runner, url_of(demanding(runner, seen)), context={"ssl_ca": ca_of(), **shown}
    )
    assert recorder.names == ["connect"]
    runner.run(seen.saw("connect"))


def test_certificates_of_both_sides_may_be_given_by_path(runner: Runner, tmp_path: Path) -> None:
    def written(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    def pair(name: str, made: Certificate) -> dict[str, Any]:
        return {
            "ssl_cert": written(f"{name}.pem", made.cert),
            "ssl_key": str(written(f"{name}-key.pem", made.key)),
        }

    server = pair("server", certificate())
    client = pair("client", certificate("client", by="second"))
    listener = echo(runner, ssl_ca=written("second.pem", ca_of("second")), **server)
    trusted = {"ssl_ca": str(written("first.pem", ca_of()))}
    assert attempt(runner, url_of(listener), context={**trusted, **client}).names == ["connect"]
    assert_refused(attempt(runner, url_of(listener), context=trusted))


@pytest.mark.parametrize("by", ["nobody", "first"])
def test_a_client_without_the_certificate_that_is_demanded_stays_out(
    runner: Runner, by: str
) -> None:
    seen = Recorder()
    shown = {} if by == "nobody" else certificate("client", by=by).server_options
    recorder = attempt(
        runner, url_of(demanding(runner, seen)), context={"ssl_ca": ca_of(), **shown}
    )
    assert recorder.names == ["error"]
    assert isinstance(recorder.events[0][1], uvws.TLSError)
    assert seen.events == []


def test_a_websockets_server_that_demands_a_certificate(
    runner: Runner, websockets_server: Any
) -> None:
    demands = server_context()
    demands.verify_mode = ssl.CERT_REQUIRED
    demands.load_verify_locations(cadata=ca_of("second").decode())

    async def greet(peer: Any) -> None:
        await peer.send("welcome")
        await peer.wait_closed()

    uri = websockets_server(greet, ssl=demands)
    recorder = Recorder()
    shown = certificate("client", by="second").server_options
    runner.context(ssl_ca=ca_of(), **shown).connect(uri, **recorder.callbacks)
    runner.run(recorder.saw("message"))


def test_a_websockets_client_that_has_to_show_a_certificate(
    runner: Runner, websockets_client: Any
) -> None:
    seen = Recorder()
    listener = demanding(runner, seen)
    showing = client_context()
    load(showing, certificate("client", by="second"))

    async def talk() -> None:
        async with websockets.connect(url_of(listener), ssl=showing):
            pass

    client = websockets_client(talk)
    runner.run(lambda: client.done() and "close" in seen.names)
    client.result()


class TLSByHand:
    """A TLS client whose records are the test's to cut."""

    def __init__(self, runner: Runner, listener: Any) -> None:
        self._peer = dial(runner, listener)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = client_context().wrap_bio(self._in, self._out, server_hostname="localhost")
        runner.run(self._is_ready)

    def _is_ready(self) -> bool:
        self._in.write(self._peer.take())
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self._flush()
        return True

    def _flush(self) -> None:
        self._peer.send(self._out.read())

    def send(self, data: bytes) -> None:
        """Send all of it in as few records as TLS allows."""
        self._tls.write(data)
        self._flush()
