"""uvws with other implementations, in either role: what they agree on is what the RFCs mean.

Each peer sends everything back, or what it is asked for: see support/interop. What is tested is the
protocol, which does not know of loops: a peer is met in all tests on one loop (LOOPS), and on the
other two in one test. How they compress is looked at more closely in test_compression_peers.py.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import KINDS, Recorder, Runner, loop_kinds, time_limit
from support.certificates import ca_of, certificate
from support.examples import DIRECTORY, Example
from support.interop import FRAGMENTS, Closed, Peer, missing
from support.interop.browser import BrowserPage, BrowserPeer
from support.interop.node import NodePeer, NodeProcess
from support.interop.python import Aiohttp, Picows, Websockets
from support.patches import compresses
from support.payloads import binary, of_kind, text
from support.peers import ClientThread
from support.wire import KEY, accept_key, frame, upgrade_request

MIB = 1 << 20
PYTHON = {"websockets": Websockets, "aiohttp": Aiohttp, "picows": Picows}
# What the peer is, and the loop that we are on.
LOOPS = {
    "websockets server": "pyuv",
    "websockets client": "asyncio",
    "aiohttp server": "uvloop",
    "aiohttp client": "pyuv",
    "picows server": "asyncio",
    "picows client": "uvloop",
    "node server": "uvloop",
    "node client": "asyncio",
    "chromium client": "pyuv",
}
CODES = [(1000, ""), (1000, "bye"), (3000, "é€😀"), (4999, "x" * 123)]


def on_loops(pairs: Iterable[tuple[str, str]]) -> pytest.MarkDecorator:
    """Have a test run with these loops and peers."""
    return pytest.mark.parametrize(("runner", "end"), list(pairs), indirect=["runner"])


def ends_but(*without: str) -> pytest.MarkDecorator:
    """Have a test run with all peers but those that cannot do what it is about."""
    return on_loops((LOOPS[end], end) for end in LOOPS if end.partition(" ")[0] not in without)


every_end = ends_but()
only_a_browser = ends_but(*PYTHON, "node")
the_other_loops = on_loops((kind, end) for kind in KINDS for end in LOOPS if kind != LOOPS[end])


@pytest.fixture(scope="session")
def node() -> Iterator[NodeProcess]:
    """Node, for all tests."""
    process = NodeProcess()
    yield process
    process.stop()


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserPage]:
    """A page in Chromium, for all tests."""
    opened = BrowserPage(tmp_path_factory.mktemp("chromium"))
    yield opened
    opened.stop()


class Talk:
    """A connection with a peer, from our end.

    Attributes:
        peer: the other end.
        recorder: what our end was told.
        connection: our end.
        context: what it belongs to.
    """

    def __init__(self, runner: Runner, peer: Peer, role: str, **options: Any) -> None:
        """Connect.

        Args:
            role: what the peer is, "server" or "client".
            options: `tls`, `deflate` and `protocol`; what is left is for the peer alone.
        """
        self.runner = runner
        self.peer = peer
        self.recorder = Recorder()
        options = {"tls": False, "deflate": False, "protocol": None, **options}
        ours = {
            "compression": "deflate" if options["deflate"] else None,
            "protocol": options["protocol"],
            **self.recorder.callbacks,
        }
        context = runner.context(
            **({"ssl_ca": ca_of()} if options["tls"] and role == "server" else {})
        )
        self.context = context
        if role == "server":
            context.connect(peer.serve(**options), **ours)
        else:
            shown = certificate().server_options if options["tls"] else {}
            listener = context.listen(host="127.0.0.1", **shown, **ours)
            place = "wss://localhost" if options["tls"] else "ws://127.0.0.1"
            peer.connect(f"{place}:{listener.port}/", **options)
        runner.run(lambda: self.recorder.events, timeout=10)
        assert self.recorder.names == ["connect"], self.recorder.events
        self.connection = self.recorder.connections[0]

    def hear(self) -> Any:
        """Return the next message."""
        self.runner.run(self.recorder.saw("message"), timeout=10)
        (message,) = self.recorder.messages
        self.recorder.events.clear()
        return message

    def ask(self, what: str) -> Any:
        """Return the answer to a request."""
        self.connection.send(f"please {what}")
        return self.hear()

    def ended(self) -> None:
        """Run until both ends know of the end."""
        self.runner.run(lambda: self.recorder.saw("close")() and self.peer.closed is not None)


@pytest.fixture
def program_of_peer(request: pytest.FixtureRequest) -> Any:
    """The process that the peer is in, if any; there before open descriptors are counted."""
    name = request.node.callspec.params["end"].split()[0]
    wanted = {"node": "node", "chromium": "page"}.get(name)
    return request.getfixturevalue(wanted) if wanted else None


@pytest.fixture
def talk(program_of_peer: Any, runner: Runner) -> Any:
    """Connect with a peer: talk(end, **options) -> Talk."""

    def begin(end: str, **options: Any) -> Talk:
        name, role = end.split()
        if name == "node":
            peer: Peer = NodePeer(program_of_peer, runner)
        elif name == "chromium":
            peer = BrowserPeer(program_of_peer, runner)
        else:
            peer = PYTHON[name](runner)
        return Talk(runner, peer, role, **options)

    return begin


@the_other_loops
def test_a_conversation_from_beginning_to_end(talk: Any, end: str) -> None:
    talking = talk(end, protocol="chat")
    assert talking.connection.protocol == "chat"
    for message in ("Hello", b"", text(70_000), binary(MIB)):
        talking.connection.send(message)
        assert talking.hear() == message
    talking.connection.send_ping(b"ping")
    talking.runner.run(talking.recorder.saw("pong"))
    talking.connection.close(4000, "bye")
    talking.ended()
    assert talking.peer.closed == Closed(4000, "bye")


# --- Messages -------------------------------------------------------------------------------------


@every_end
def test_messages_of_both_kinds_come_back(talk: Any, end: str) -> None:
    talking = talk(end)
    for size in (0, 1, 125, 126, 65535, 65536, MIB):
        for kind in ("text", "binary"):
            message = of_kind(kind, size)
            talking.connection.send(message)
            assert talking.hear() == message, (kind, size)


@every_end
def test_many_messages_at_once_come_back_in_order(talk: Any, end: str) -> None:
    talking = talk(end)
    messages = [f"message {number}" for number in range(500)]
    for message in messages:
        talking.connection.send(message)
    talking.runner.run(talking.recorder.saw("message", 500), timeout=10)
    assert talking.recorder.messages == messages


@every_end
def test_messages_come_back_through_tls(talk: Any, end: str) -> None:
    talking = talk(end, tls=True)
    for message in ("Hello", b"", text(70_000), binary(MIB)):
        talking.connection.send(message)
        assert talking.hear() == message


@compresses
@ends_but("picows")
def test_messages_come_back_compressed(talk: Any, end: str) -> None:
    talking = talk(end, deflate=True)
    assert json.loads(talking.ask("report"))["deflate"]
    for message in ("Hello", "", b"", "words " * 50_000, binary(MIB), text(70_000), "Hello"):
        talking.connection.send(message)
        assert talking.hear() == message


@ends_but("picows")
def test_nothing_is_compressed_unless_asked_for(talk: Any, end: str) -> None:
    assert not json.loads(talk(end).ask("report"))["deflate"]


@every_end
@pytest.mark.parametrize("deflate", [False, pytest.param(True, marks=compresses)])
def test_our_fragments_arrive_as_one_message(talk: Any, end: str, deflate: bool) -> None:
    talking = talk(end, deflate=deflate and not end.startswith("picows"))
    for kind in ("text", "binary"):
        parts = [of_kind(kind, size) for size in (10, 0, 70_000, 1)]
        for number, part in enumerate(parts):
            talking.connection.send_fragment(part, binary=kind == "binary", final=number == 3)
            talking.connection.send_ping(b"between")
        talking.connection.send(b"")
        talking.runner.run(talking.recorder.saw("message", 2))
        assert talking.recorder.messages == [parts[0][:0].join(parts), b""]
        talking.recorder.events.clear()


@ends_but("aiohttp", "chromium")  # these send whole messages only
def test_their_fragments_arrive_as_one_message(talk: Any, end: str) -> None:
    assert talk(end).ask("fragment") == "".join(FRAGMENTS)


@only_a_browser
def test_a_browser_sends_and_receives_blobs(talk: Any, end: str) -> None:
    talking = talk(end, binary_type="blob")
    for size in (0, 10, MIB):
        talking.connection.send(binary(size))
        assert talking.hear() == binary(size)
    talking.runner.run(lambda: len(talking.peer.reports) == 3)
    assert {report["kind"] for report in talking.peer.reports} == {"Blob"}


# --- Pings ----------------------------------------------------------------------------------------


@every_end
def test_our_pings_are_answered(talk: Any, end: str) -> None:
    talking = talk(end)
    for payload in (b"", b"ping", bytes(range(125))):
        talking.recorder.events.clear()
        talking.connection.send_ping(payload)
        talking.runner.run(talking.recorder.saw("pong"))
        assert ("pong", payload) in talking.recorder.events


@ends_but("chromium")  # a page cannot ping
def test_their_pings_are_answered(talk: Any, end: str) -> None:
    assert talk(end).ask("ping payload") == "pong payload"


# --- The end --------------------------------------------------------------------------------------


@every_end
@pytest.mark.parametrize(("code", "reason"), CODES)
def test_they_hear_why_we_close(talk: Any, end: str, code: int, reason: str) -> None:
    talking = talk(end)
    talking.connection.close(code, reason)
    talking.ended()
    assert talking.peer.closed == Closed(code, reason)
    # Told is the answer; that of aiohttp is 1000, whatever it was told.
    answer = 1000 if end.startswith("aiohttp") else code
    assert talking.recorder.events[-1][:2] == ("close", answer)


@every_end
@pytest.mark.parametrize(("code", "reason"), CODES)
def test_we_hear_why_they_close(talk: Any, end: str, code: int, reason: str) -> None:
    talking = talk(end)
    talking.connection.send(f"please close {code} {reason}")
    talking.runner.run(talking.recorder.saw("close"))
    assert talking.recorder.events[-1] == ("close", code, reason)


@every_end
def test_they_hear_1001_from_a_context_that_closes(talk: Any, end: str) -> None:
    talking = talk(end)
    talking.context.close()
    talking.ended()
    assert talking.peer.closed == Closed(1001, "")


@only_a_browser
def test_a_browser_refuses_codes_that_are_not_a_pages_to_send(talk: Any, end: str) -> None:
    talking = talk(end)
    assert [talking.ask(f"close {code}") for code in (1001, 2999, 5000)] == [
        "InvalidAccessError"
    ] * 3


# --- The handshake --------------------------------------------------------------------------------


@every_end
def test_both_ends_know_the_subprotocol(talk: Any, end: str) -> None:
    talking = talk(end, protocol="chat")
    assert json.loads(talking.ask("report"))["protocol"] == "chat"
    assert talking.connection.protocol == "chat"


@loop_kinds(LOOPS["chromium client"])
@pytest.mark.parametrize("answer", [False, {"X-Own": "1"}])
def test_a_browser_is_told_whether_it_may_come_in(
    runner: Runner, page: BrowserPage, answer: Any
) -> None:
    recorder = Recorder()
    peer = BrowserPeer(page, runner)
    listener = runner.context().listen(
        host="127.0.0.1", on_handshake=lambda _: answer, **recorder.callbacks
    )
    peer.connect(f"ws://127.0.0.1:{listener.port}/", protocol=None)
    runner.run(lambda: recorder.events or peer.closed, timeout=10)
    if answer is False:
        assert peer.closed == Closed(1006, "")
        assert peer.reports[0] == {"error": True}
        assert recorder.events == []
    else:
        assert recorder.names == ["connect"]
        assert recorder.events[0][1]["Origin"]


@loop_kinds(LOOPS["chromium client"])
def test_a_browser_does_not_trust_a_certificate_it_does_not_know(
    runner: Runner, page: BrowserPage
) -> None:
    peer = BrowserPeer(page, runner)
    other = certificate("localhost", by="second").server_options
    listener = runner.context().listen(host="127.0.0.1", **other)
    peer.connect(f"wss://localhost:{listener.port}/", protocol=None)
    runner.run(lambda: peer.closed, timeout=10)
    assert peer.closed == Closed(1006, "")


def program(name: str) -> str:
    """Return a program's path; the test is skipped where there is none."""
    return shutil.which(name) or missing(f"there is no {name}")


def upgraded(head: bytes) -> bool:
    """Tell whether a response is a good answer to the handshake of support.wire."""
    accepted = f"Sec-WebSocket-Accept: {accept_key(KEY)}\r\n".lower().encode()
    return head.startswith(b"HTTP/1.1 101 ") and accepted in head.lower()


@loop_kinds("pyuv")
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_curl_gets_an_upgrade(
    runner: Runner, websockets_client: Any, tmp_path: Path, tls: bool
) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_bytes(ca_of())

    listener = runner.context().listen(
        host="127.0.0.1",
        on_connect=lambda connection, _: connection.send("Hello"),
        **(certificate().server_options if tls else {}),
    )
    url = f"{'https' if tls else 'http'}://localhost:{listener.port}/"
    lines = upgrade_request().decode().split("\r\n")[2:-2]
    command = [program("curl"), "-4", "-isSN", "--http1.1", "--max-time", "10", "--noproxy", "*"]
    command += ["--cacert", str(authority), *(word for line in lines for word in ("-H", line)), url]

    hello = frame(1, b"Hello")
    client: ClientThread = websockets_client(lambda: output_up_to(hello, command))
    runner.run(client.done, timeout=15)
    head, _, rest = client.result().partition(b"\r\n\r\n")
    assert upgraded(head + b"\r\n")
    assert rest == hello


@loop_kinds("uvloop")
def test_openssl_gets_an_upgrade(runner: Runner, websockets_client: Any, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_bytes(ca_of())
    options = certificate().server_options
    listener = runner.context().listen(
        host="127.0.0.1", on_connect=lambda connection, _: connection.close(), **options
    )
    command = [
        *(program("openssl"), "s_client", "-quiet", "-verify_return_error", "-servername"),
        *("localhost", "-CAfile", str(authority), "-connect", f"127.0.0.1:{listener.port}"),
    ]
    answer = frame(8, b"\x03\xe8", mask=b"abcd")
    client = websockets_client(lambda: output_of(command, upgrade_request() + answer))
    runner.run(client.done, timeout=10)
    head, _, rest = client.result().partition(b"\r\n\r\n")
    assert upgraded(head + b"\r\n")
    assert rest == frame(8, b"\x03\xe8")


async def output_up_to(end: bytes, command: list[str]) -> bytes:
    """Run a program until it printed something that ends so, or ended; returns what it printed."""
    printed = b""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while not printed.endswith(end) and (more := process.stdout.read1()):
            printed += more
        process.kill()
    return printed


async def output_of(command: list[str], given: bytes = b"") -> bytes:
    """Run a program to its end; returns what it printed."""
    done = subprocess.run(
        command, input=given, capture_output=True, timeout=time_limit(15), check=False
    )
    assert done.stdout, done.stderr
    return done.stdout


# --- A page ---------------------------------------------------------------------------------------


def test_two_windows_chat_with_each_other(page: BrowserPage) -> None:
    chat = Example(DIRECTORY / "chat.py", "0")
    try:
        url = f"http://127.0.0.1:{chat.port}/"
        browser = page.browser
        ann, bob = (_chat_window(browser, url, name) for name in ("Ann", "Bob"))
        _wait_for_line(browser, ann, "Bob came in.")
        browser.run(ann, "entry.value = 'Hello, Bob'; form.requestSubmit()")
        _wait_for_line(browser, bob, "Ann: Hello, Bob")
        browser.run(bob, "entry.value = 'Hello, Ann'; form.requestSubmit()")
        _wait_for_line(browser, ann, "Bob: Hello, Ann")
        chat.interrupt()
        _wait_for_line(browser, ann, "Disconnected (1001).")
    finally:
        chat.kill()


def _chat_window(browser: Any, url: str, name: str) -> str:
    """Open the chat's page in a window of its own, with a name to give when asked for it."""
    session: str = browser.page()
    browser.ask("Page.enable", session)
    given = f"window.prompt = () => {json.dumps(name)}"
    browser.ask("Page.addScriptToEvaluateOnNewDocument", session, source=given)
    browser.ask("Page.navigate", session, url=url)
    _wait_for_line(browser, session, f"{name} came in.")
    return session


def _wait_for_line(browser: Any, session: str, line: str) -> None:
    """Wait in the page until the chat shows a line."""
    source = f"""new Promise((found, failed) => {{
        setTimeout(() => failed(new Error("not shown: " + document.body.innerText)),
                   {time_limit(10) * 1000});
        setInterval(() => document.body.innerText.includes({json.dumps(line)}) && found(), 20);
    }})"""
    answer = browser.ask("Runtime.evaluate", session, expression=source, awaitPromise=True)
    assert "exceptionDetails" not in answer, answer
