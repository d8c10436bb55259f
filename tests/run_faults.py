"""Has each allocation fail in turn and looks at what comes of it: `make faults`.

The program needs a build with UVWS_FAULTS=1 (csrc/faults/faults.c). It runs each scenario once to
count the allocations, and then once for each of them, which fails: one alone, or with `--lasting`
all that follow as well. What may come of that is a MemoryError, an on_error, a connection that
closes, or nothing at all where the memory was not needed. What may not:

- a crash, or a report of the sanitizers;
- a scenario that neither ends well nor says that something is wrong: data lost in silence, a hang;
- a connection that does not end exactly once, in on_close or on_error;
- a listener that serves nobody from then on, though there is memory again;
- a block or a descriptor that is not given back.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import gc
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

PARTIES = ("core", "lws", "zlib", "openssl")
LASTING = 2**62
# Beyond this it goes from one allocation to the next in longer steps.
EVERY = 2000
STUCK = 60.0


def load_faults() -> Any:
    """Load the module before anything that uses OpenSSL is: its allocator cannot be set later."""
    found = importlib.util.find_spec("uvws")
    assert found is not None, "uvws is not installed"
    (place,) = {
        str(path)
        for directory in (found.submodule_search_locations or [])
        for path in Path(directory).glob("_core*.so")
    } or {_editable()}
    faults = ctypes.PyDLL(place)
    assert hasattr(faults, "uvws_faults_arm"), "this is no build with UVWS_FAULTS=1"
    faults.uvws_faults_arm.argtypes = [ctypes.c_int, ctypes.c_long, ctypes.c_long, ctypes.c_int]
    for name in ("seen", "failed", "live"):
        getattr(faults, f"uvws_faults_{name}").restype = ctypes.c_long
    return faults


def _editable() -> str:
    """Where an editable installation has the module."""
    found = importlib.util.find_spec("uvws._core")
    assert found is not None
    assert found.origin is not None
    return found.origin


# --- Scenarios ------------------------------------------------------------------------------------


class TroubleError(Exception):
    """Something was said to be wrong, which is how it should be."""


class Scene:
    """A loop, what runs on it, and what was heard of it."""

    def __init__(self, kind: str) -> None:
        from support.runners import make_runner

        self.runner = make_runner(kind)
        self.contexts: list[Any] = []
        self.recorders: list[Any] = []
        self.connections: list[Any] = []
        self.listeners: list[tuple[Any, bool]] = []
        self.sockets: list[Any] = []

    def context(self, **options: Any) -> Any:
        import uvws

        context = uvws.Context(self.runner.loop, proxy=options.pop("proxy", ""), **options)
        self.contexts.append(context)
        return context

    def recorder(self, **hooks: Any) -> Any:
        from support.recorder import Recorder

        recorder = Recorder(**hooks)
        self.recorders.append(recorder)
        return recorder

    def listen(self, context: Any, recorder: Any, **options: Any) -> Any:
        listener = context.listen(host="127.0.0.1", **options, **recorder.callbacks)
        self.listeners.append((listener, "ssl_cert" in options))
        return listener

    def connect(self, context: Any, url: str, recorder: Any, **options: Any) -> Any:
        connection = context.connect(url, **options, **recorder.callbacks)
        self.connections.append(connection)
        return connection

    def socketpair(self) -> tuple[Any, Any]:
        import socket

        pair = socket.socketpair()
        self.sockets += pair
        return pair

    def trouble(self) -> str:
        """Say what was said to be wrong, if anything."""
        if self.runner.reported:
            return f"reported: {self.runner.reported[0]!r}"
        for recorder in self.recorders:
            for event in recorder.events:
                if event[0] == "error":
                    return f"on_error: {event[1]!r}"
                if event[0] == "close" and event[1] not in (1000, 1001):
                    return f"on_close: {event[1]}"
        return ""

    def run(self, until: Callable[[], object]) -> None:
        """Run until a condition holds, or there is trouble."""
        self.runner.run(lambda: until() or self.trouble(), 10)
        if trouble := self.trouble():
            raise TroubleError(trouble)

    def afterlife(self) -> None:
        """See that what is left still serves, now that there is memory."""
        for listener, secure in self.listeners:
            if listener.is_open and not secure:
                context = self.context()
                client = self.recorder(on_connect=lambda connection, _: connection.send("alive"))
                connection = self.connect(context, f"ws://127.0.0.1:{listener.port}/", client)
                self.runner.run(lambda client=client: client.messages == ["alive"], 10)
                connection.close()
                self.runner.run(client.saw("close"), 10)

    def end(self) -> None:
        """Close everything."""
        for context in self.contexts:
            context.close()
        for sock in self.sockets:
            sock.close()
        self.runner.turns(3)

    def check_ends(self) -> None:
        """See that every connection ended exactly once."""
        ends: dict[int, list[str]] = {id(connection): [] for connection in self.connections}
        for recorder in self.recorders:
            for connection, name in zip(recorder.connections, recorder.names, strict=True):
                ends.setdefault(id(connection), []).append(name)
        for names in ends.values():
            ending = [name for name in names if name in ("close", "error")]
            whole = "close" if "connect" in names else "error"
            assert ending == [whole], f"a connection ended with {ending}, after {names}"

    def finish(self) -> None:
        """Give the loop back."""
        self.runner.finish()


def echo(
    scene: Scene,
    payloads: list[Any],
    *,
    context: Any = None,
    listen: dict[str, Any] | None = None,
    connect: dict[str, Any] | None = None,
    url: str = "ws://127.0.0.1:{}/path?query",
    more: Callable[[Any, Any], object] = lambda _server, _client: None,
) -> None:
    """Send messages there and back, and close."""
    context = context or scene.context()
    server = scene.recorder(on_message=lambda connection, data: connection.send(data))
    client = scene.recorder(
        on_connect=lambda connection, _: [connection.send(each) for each in payloads]
    )
    listener = scene.listen(context, server, **(listen or {}))
    connection = scene.connect(context, url.format(listener.port), client, **(connect or {}))
    scene.run(lambda: len(client.messages) >= len(payloads) and client.saw("connect")())
    assert client.messages == payloads
    assert server.messages == payloads
    more(server.connections[0], connection)
    connection.close(1000, "done")
    scene.run(lambda: server.saw("close")() and client.saw("close")())
    assert client.events[-1] == server.events[-1] == ("close", 1000, "done")
    listener.close()


def context_alone(scene: Scene) -> None:
    """Make a context."""
    scene.context()
    scene.runner.turns(2)


def small(scene: Scene) -> None:
    """Texts and binary messages, so many that queues grow."""
    echo(scene, ["a", "é" * 100, b"", b"x" * 1000] * 40)


def large(scene: Scene) -> None:
    """Messages that are received into memory of their own, and sent from the user's."""
    echo(scene, [b"b" * 20_000, b"x" * 200_000, "t" * 100_000, "ü" * 40_000, b"y" * 1_500_000])


def fragments(scene: Scene) -> None:
    """A message in fragments, with pings between them, and on_drain."""

    def more(server: Any, client: Any) -> None:
        sender, receiver = scene.recorders[1], scene.recorders[0]
        client.send_fragment("begin", final=False)
        client.send_ping(b"ping")
        client.send_fragment("x" * 30_000, final=False)
        server.send_ping(b"other")
        client.send_fragment("end", final=True)
        scene.run(
            lambda: (
                receiver.messages[-1:] == ["begin" + "x" * 30_000 + "end"]
                and sender.count("pong") == receiver.count("pong") == 1
            )
        )
        scene.run(lambda: sender.count("drain") and receiver.count("drain"))

    echo(scene, ["first"], more=more)


def compressed(scene: Scene) -> None:
    """permessage-deflate with context takeover."""
    payloads = ["text " * 100, b"bytes" * 30_000, "short"] * 2
    echo(scene, payloads, listen={"compression": "deflate"}, connect={"compression": "deflate"})


def compressed_anew(scene: Scene) -> None:
    """permessage-deflate without."""
    import uvws

    deflate = uvws.Deflate(server_no_context_takeover=True, client_no_context_takeover=True)
    payloads = ["text " * 100, b"bytes" * 30_000] * 2
    echo(scene, payloads, listen={"compression": deflate}, connect={"compression": deflate})


def tls(scene: Scene) -> None:
    """Over TLS."""
    from support.certificates import ca_of, certificate

    echo(
        scene,
        ["text", b"x" * 100_000],
        context=scene.context(ssl_ca=ca_of()),
        listen=certificate().server_options,
        url="wss://localhost:{}/",
    )


def named(scene: Scene) -> None:
    """A name with two addresses, of which the first may refuse."""
    echo(scene, ["text"], url="ws://localhost:{}/")


class _Nobody:
    """Stands where a runner is, for a proxy that outlives them."""

    def wake(self) -> None:
        pass

    def add_peer(self, peer: Any) -> None:
        import atexit

        atexit.register(peer.stop)


_proxies: list[Any] = []


def _proxy() -> Any:
    from support.proxies import RealProxy

    if not _proxies:
        _proxies.append(RealProxy(_Nobody(), credentials="user:password"))  # type: ignore[arg-type]
    return _proxies[0]


def http_proxy(scene: Scene) -> None:
    """Through a proxy, by CONNECT."""
    context = scene.context(proxy=_proxy().url("http", "user:password"))
    echo(scene, ["text"], context=context)


def socks_proxy(scene: Scene) -> None:
    """Through a proxy, by SOCKS5."""
    context = scene.context(proxy=_proxy().url("socks5", "user:password"))
    echo(scene, ["text"], context=context)


def adopted(scene: Scene) -> None:
    """A socket that somebody else accepted, with compression; half of the request was read."""
    from support.wire import BINARY, frame, upgrade_request

    context = scene.context()
    server = scene.recorder(on_message=lambda connection, data: connection.send(data))
    ours, theirs = scene.socketpair()
    request = upgrade_request() + frame(BINARY, b"hello", mask=b"abcd")
    theirs.send(request[50:])
    connection = context.adopt(
        ours, initial_data=request[:50], compression="deflate", **server.callbacks
    )
    scene.connections.append(connection)
    scene.run(lambda: server.messages == [b"hello"])
    scene.run(lambda: connection.send_queue_size == 0)
    theirs.settimeout(5)
    received = b""
    while not received.endswith(b"hello"):
        received += theirs.recv(65536)
    connection.close()
    scene.run(lambda: connection.send_queue_size == 0)


def refused(scene: Scene) -> None:
    """Handshakes that are refused, with what says why."""
    import uvws

    context = scene.context()
    server = scene.recorder()
    reject = uvws.Reject(401, {"WWW-Authenticate": "Basic"}, b"no" * 5000)
    listener = scene.listen(context, server, on_handshake=lambda _headers: reject)
    scene.listeners.clear()
    client = scene.recorder()
    scene.connect(context, f"ws://127.0.0.1:{listener.port}/", client)
    scene.runner.run(lambda: client.events or scene.runner.reported, 10)
    listener.close()
    error = client.events[0][1] if client.events else None
    if not (isinstance(error, uvws.HandshakeError) and error.status == 401):
        raise TroubleError(scene.trouble())
    client.events.clear()
    client.connections.clear()
    scene.connections.clear()


def handshakes(scene: Scene) -> None:
    """Handshakes about which the user is asked, with headers and subprotocols."""
    echo(
        scene,
        ["text"],
        listen={
            "on_handshake": lambda headers: {"X-Path": headers["Path"]},
            "protocol": ["chat", "super"],
            "headers": {"X-Long": "x" * 2000},
        },
        connect={"protocol": "super", "headers": {"Cookie": "c" * 3000, "X-Other": "y"}},
    )


def requests(scene: Scene) -> None:
    """Requests for no upgrade."""
    import socket

    import uvws

    body = b"body" * 20_000
    context = scene.context()
    listener = scene.listen(
        context, scene.recorder(), on_request=lambda _request: uvws.Response(200, {"A": "b"}, body)
    )
    sock = socket.create_connection(("127.0.0.1", listener.port))
    scene.sockets.append(sock)
    sock.sendall(b"POST /x HTTP/1.1\r\nHost: me\r\nContent-Length: 5\r\n\r\nhello")
    sock.setblocking(False)
    received = [b""]

    def ended() -> bool:
        scene.runner.wake()
        try:
            data = sock.recv(65536)
        except BlockingIOError:
            return False
        except OSError:
            return True
        received[0] += data
        return not data

    scene.run(ended)
    listener.close()
    if not received[0].endswith(body):
        raise TroubleError(f"the connection closed after {len(received[0])} bytes")


def paused(scene: Scene) -> None:
    """Reading is paused and resumed, with messages held back in between."""

    def more(server: Any, client: Any) -> None:
        receiver = scene.recorders[0]
        server.pause_recv()
        for number in range(50):
            client.send(f"{number}")
        scene.runner.turns(3)
        server.resume_recv()
        server.pause_recv()
        scene.runner.turns(3)
        server.resume_recv()
        scene.run(lambda: receiver.messages[1:] == [f"{number}" for number in range(50)])

    echo(scene, ["first"], more=more)


def closed_with_context(scene: Scene) -> None:
    """The context is closed with everything under way."""

    def more(server: Any, client: Any) -> None:
        server.send(b"x" * 3_000_000)
        client.send(b"y" * 3_000_000)
        scene.connect(scene.contexts[0], "ws://127.0.0.1:1/", scene.recorder())
        scene.connect(scene.contexts[0], "ws://localhost:1/", scene.recorder())
        scene.contexts[0].close()
        raise TroubleError("as it should")

    echo(scene, ["first"], more=more)


def too_big(scene: Scene) -> None:
    """A message over the limit, and then the peer's Close frame."""
    context = scene.context()
    server = scene.recorder(on_message=lambda connection, data: connection.send(data))
    client = scene.recorder()
    listener = scene.listen(context, server, max_message_size=100_000)
    connection = scene.connect(context, f"ws://127.0.0.1:{listener.port}/", client)
    scene.run(lambda: server.saw("connect")() and client.saw("connect")())
    connection.send(b"x" * 200_000)
    listener.close()
    scene.runner.run(lambda: server.saw("close")() and client.saw("close")(), 10)
    told = server.names == ["connect", "error", "close"] and server.events[-1][1] == 1009
    assert told or server.names == ["connect", "close"], server.events
    server.events[:] = [event for event in server.events if event[0] != "error"]
    server.connections[:] = server.connections[: len(server.events)]
    raise TroubleError("as it should")


SCENARIOS: tuple[Callable[[Scene], None], ...] = (
    context_alone,
    small,
    large,
    fragments,
    compressed,
    compressed_anew,
    tls,
    named,
    http_proxy,
    socks_proxy,
    adopted,
    refused,
    handshakes,
    requests,
    paused,
    closed_with_context,
    too_big,
)


# --- One process: a scenario, allocation by allocation --------------------------------------------


class Child:
    """Runs one scenario on one kind of loop again and again."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.faults = load_faults()
        self.options = options
        self.party = PARTIES.index(options.party)
        self.scenario = {each.__name__: each for each in SCENARIOS}[options.scenario]
        self.log = os.open(options.log, os.O_WRONLY | os.O_APPEND)

    def say(self, line: str) -> None:
        os.write(self.log, f"{line}\n".encode())

    def live(self) -> list[int]:
        """Return how many blocks each party has. OpenSSL keeps some for later."""
        gc.collect()
        return [self.faults.uvws_faults_live(party) for party in range(3)]

    def descriptors(self) -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    def play(self, first: int) -> tuple[str, bool]:
        """Run the scenario; returns what came of it, and whether memory ran out."""
        import uvws

        scene = Scene(self.options.loop)
        outcome = "fine"
        last = LASTING if self.options.lasting else first
        self.faults.uvws_faults_arm(self.party, first, last, self.log)
        try:
            self.scenario(scene)
        except (MemoryError, TroubleError, OSError, uvws.Error) as error:
            outcome = f"{type(error).__name__}: {error}"
        finally:
            self.faults.uvws_faults_disarm()
        failed = self.faults.uvws_faults_failed() > 0
        try:
            scene.afterlife()
        finally:
            scene.end()
        scene.check_ends()
        scene.runner.reported.clear()
        scene.finish()
        return outcome, failed

    def run(self) -> None:
        """Run it with nothing failing, then with each allocation failing."""
        for _ in range(2):
            outcome, _ = self.play(LASTING)
            assert outcome == "fine" or "as it should" in outcome, outcome
        gc.collect()
        gc.freeze()  # what there is by now need not be looked at each time
        if self.party == PARTIES.index("openssl"):
            assert ctypes.c_int.in_dll(self.faults, "uvws_faults_openssl").value, "too late"
        before, open_before = self.live(), self.descriptors()
        number = self.options.first
        while True:
            self.say(f"try {number}")
            problem = ""
            outcome, failed = "", True
            try:
                outcome, failed = self.play(number)
            except BaseException:
                problem = traceback.format_exc()
            gc.collect()
            left = [now - then for now, then in zip(self.live(), before, strict=True)]
            more = self.descriptors() - open_before
            if not problem and (any(left) or more):
                problem = f"left behind: {left} blocks, {more} descriptors ({outcome})"
                before, open_before = self.live(), self.descriptors()
            if problem:
                self.say("problem " + problem.replace("\n", "\n  "))
                gc.collect()
                before, open_before = self.live(), self.descriptors()
            else:
                self.say(f"outcome {outcome}")
            if not failed:
                self.say("end")
                return
            number += 1 if number < EVERY else 7


# --- All of them ----------------------------------------------------------------------------------


class Results:
    """What came of one scenario."""

    def __init__(self) -> None:
        self.tried = 0
        self.outcomes: dict[str, int] = {}
        self.problems: list[str] = []


def _play_on(command: list[str], results: Results, first: int) -> int:
    """Run a child until it ends or dies; returns where to go on, or 0."""
    with tempfile.NamedTemporaryFile("r", suffix=".log") as log:
        process = subprocess.Popen(
            [*command, "--first", str(first), "--log", log.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said, size = "", -1
        while True:
            try:
                said = process.communicate(timeout=STUCK)[0]
                break
            except subprocess.TimeoutExpired:
                if Path(log.name).stat().st_size == size:
                    process.kill()
                    said = "stuck\n" + process.communicate()[0]
                    break
                size = Path(log.name).stat().st_size
        return _read_log(log.read(), said, process.returncode, results)


def _named(frame: str) -> str:
    """Return the function and the line of an address in the module."""
    found = re.match(r"(.*)\(\+(0x[0-9a-f]+)\)", frame)
    if found is None:
        return frame
    command = ["addr2line", "-f", "-s", "-e", found[1], found[2]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return " ".join(done.stdout.split())


def _read_log(text: str, said: str, status: int, results: Results) -> int:
    number, where, problem = 0, "", ""
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "try":
            number, where, problem = int(rest), "", ""
        elif kind == "outcome":
            results.tried += 1
            results.outcomes[rest.split(":")[0]] = results.outcomes.get(rest.split(":")[0], 0) + 1
        elif kind == "problem":
            results.tried += 1
            results.problems.append(f"{number}: {rest}\n{where}")
            problem = rest
        elif kind == "end":
            if status:
                results.problems.append(f"at the end: status {status}\n{said[-8000:]}")
            return 0
        elif problem:
            results.problems[-1] += f"{line}\n"
        elif "_core" in line:
            where += f"    {_named(line)}\n"
    results.problems.append(f"{number}: died with {status}\n{where}{said[-6000:]}")
    return number + 1 if number else 0


def main() -> int:
    """Run what the arguments say; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loops", nargs="*", default=["pyuv", "asyncio"])
    parser.add_argument("--parties", nargs="*", default=["core", "lws", "zlib"])
    parser.add_argument("--scenarios", nargs="*", default=[each.__name__ for each in SCENARIOS])
    parser.add_argument("--lasting", action="store_true", help="everything fails from then on")
    for name in ("--loop", "--party", "--scenario", "--log"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.log:
        faulthandler.enable()
        Child(options).run()
        return 0
    tried, problems = 0, 0
    for party in options.parties:
        for loop in options.loops:
            for scenario in options.scenarios:
                results = Results()
                command = [sys.executable, __file__, "--loop", loop, "--party", party]
                command += ["--scenario", scenario] + ["--lasting"] * options.lasting
                first = 1
                while first and len(results.problems) < 50:
                    first = _play_on(command, results, first)
                tried += results.tried
                problems += len(results.problems)
                print(
                    f"{party} {loop} {scenario}: {results.tried} tried, {results.outcomes}, "
                    f"{len(results.problems)} problems",
                    flush=True,
                )
                for problem in results.problems:
                    print(f"  {problem}", flush=True)
    print(f"{tried} allocations tried, {problems} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
