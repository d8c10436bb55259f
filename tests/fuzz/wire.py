"""Fuzzes over the wire: hostile peers against a server and a client in Python (`make fuzz-wire`).

    python -m fuzz.wire [--seconds N | --connections N] [--seed N] [--loop KIND] [--role ROLE]

What the peers say is a conversation in good order that is spoilt before, in or behind the
handshake or inside frames (fuzz.conversations), plainly and over TLS, some of it below TLS. The
uvws that they attack is a process of its own (fuzz.victim). Every so often all of them leave, and
then a good peer must be served, no exception may have been reported through the loop, no connection
or descriptor be left, and memory not have grown. What uvws says is looked at as well: HTTP first,
then frames without fault, none behind a Close frame.

A fault comes with the seed and the number of the connection with which the round began: give both
(`--seed S --first N`) to have the round again. What OpenSSL adds is its own, and so is the time
that all of it takes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import secrets
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from support.certificates import ca_of, certificate, client_context, server_context
from support.deadlines import time_limit
from support.runners import KINDS
from support.wire import (
    CLOSE,
    PONG,
    TEXT,
    Frame,
    close_payload,
    frame,
    parse_frames,
    upgrade_request,
    upgrade_response,
)

from .conversations import Script, client_script, noise_script, server_script

ROLES = ("server", "client")
_TESTS = Path(__file__).resolve().parent.parent
MIB = 1 << 20
# So many at a time, taking turns.
AT_ONCE = 8
EVERY = 200
# What memory may grow by after the first rounds: what the allocators and OpenSSL keep.
GROWTH = 24 * MIB
WARM_UP = 1000
_LONGEST = 10.0
_GLANCE = 0.02
_MASK = b"\x01\x02\x03\x04"
_RESET = struct.pack("ii", 1, 0)
_READ_SIZE = 1 << 18


class Fault(Exception):  # noqa: N818 - what it is called everywhere here
    """What should not have happened."""


@dataclass
class Settings:
    """What is run.

    Attributes:
        kind: of the victim's loop.
        role: what the victim is, "server" or "client".
        seed: of all that is random.
        first: the number of the first connection.
        connections: how many there are, or None for as many as there is time for.
        seconds: how long it takes, where `connections` does not say.
        every: after so many connections all is looked at.
    """

    kind: str
    role: str
    seed: int
    first: int = 0
    connections: int | None = None
    seconds: float = 60.0
    every: int = EVERY


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        connections: how many there were.
        opened: how many of them got through the handshake.
        faults: in words; empty is good.
        growth: of the victim's memory since it was warm, in bytes.
    """

    connections: int = 0
    opened: int = 0
    faults: list[str] = field(default_factory=list)
    growth: int = 0


# --- The victim ---------------------------------------------------------------------------------


class Victim:
    """The process that is attacked.

    Attributes:
        ports: where a server listens, plainly and with TLS.
    """

    def __init__(self, kind: str, role: str) -> None:
        made = certificate()
        settings = {
            "kind": kind,
            "role": role,
            "authority": ca_of().decode(),
            "ssl_cert": made.cert.decode(),
            "ssl_key": made.key.decode(),
        }
        self._popen = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", "fuzz.victim", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(_TESTS)},
        )
        self._said: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.ports: tuple[int, int] = tuple(self.hear()["ports"]) or (0, 0)

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self._said.put(json.loads(line))
        self._said.put(None)

    def hear(self) -> dict[str, Any]:
        """Return the next thing that it says."""
        try:
            said = self._said.get(timeout=time_limit(60))
        except queue.Empty:
            raise Fault("the victim hangs") from None
        if said is None:
            raise Fault(f"the victim died: {self._popen.wait(time_limit(10))}")
        return said

    def tell(self, what: str, **more: object) -> None:
        """Have it do something."""
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(json.dumps({"do": what, **more}) + "\n")
            self._popen.stdin.flush()
        except OSError:
            raise Fault(f"the victim died: {self._popen.wait(time_limit(10))}") from None

    def stop(self) -> None:
        """Have it end in good order."""
        self.tell("stop")
        try:
            code = self._popen.wait(time_limit(20))
        except subprocess.TimeoutExpired:
            raise Fault("the victim does not end") from None
        if code:
            raise Fault(f"the victim ended with {code}")

    def kill(self) -> None:
        """End it, if it has not ended."""
        self._popen.kill()
        self._popen.wait()
        self._reader.join(time_limit(5))
        for pipe in (self._popen.stdin, self._popen.stdout):
            with contextlib.suppress(OSError):
                assert pipe is not None
                pipe.close()


# --- A connection -------------------------------------------------------------------------------


def _flights() -> tuple[bytes, bytes]:
    """Return what a client and a server of TLS say first."""
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context().wrap_bio(theirs, ours, server_hostname="localhost")
    server = server_context().wrap_bio(ours, theirs, server_side=True)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    hello = ours.read()
    ours.write(hello)
    with contextlib.suppress(ssl.SSLWantReadError):
        server.do_handshake()
    return hello, theirs.read()


class Line:
    """A hostile end of a connection, which keeps what it is told."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._is_over = False
        self.heard = b""
        sock.settimeout(time_limit(_LONGEST))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        """Send something, through TLS if there is any."""
        with self._until_over():
            self._sock.sendall(data)

    def send_below(self, data: bytes) -> None:
        """Send something past TLS."""
        with self._until_over():
            socket.socket.sendall(self._sock, data)

    def listen(self, seconds: float = _GLANCE) -> bool:
        """Take what comes within a time; tells whether there was something."""
        got = b""
        self._sock.settimeout(seconds)
        with self._until_over(), contextlib.suppress(TimeoutError):
            got = self._sock.recv(_READ_SIZE)
            self._is_over = not got
        if not self._is_over:
            self._sock.settimeout(time_limit(_LONGEST))
        self.heard += got
        return bool(got)

    def end(self, how: str) -> None:
        """Leave, in one of the ways of a Script."""
        if how == "reset":
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        elif how == "finish":
            self._read_to_end()
        self._sock.close()

    def _read_to_end(self) -> None:
        is_secure = isinstance(self._sock, ssl.SSLSocket)
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
        try:
            while got := self._sock.recv(_READ_SIZE):
                # From the shutdown on it is not decrypted any more.
                self.heard += b"" if is_secure else got
        except TimeoutError:
            raise Fault("a connection does not end when its peer does") from None
        except OSError:
            pass  # as it is reset

    @contextlib.contextmanager
    def _until_over(self) -> Iterator[None]:
        """What fails because the victim has ended the connection is as good."""
        try:
            yield
        except TimeoutError:
            raise Fault("the victim does not read") from None
        except OSError:
            self._is_over = True


def check_said(said: bytes, *, by_server: bool) -> bool:
    """Look at what uvws said on one connection; tells whether there was a WebSocket."""
    first = b"HTTP/1.1 " if by_server else b"GET / HTTP/1.1\r\n"
    if not first.startswith(said[: len(first)]):
        raise Fault(f"not HTTP: {said[:80]!r}")
    head, separator, rest = said.partition(b"\r\n\r\n")
    if not separator or (by_server and not head.startswith(b"HTTP/1.1 101 ")):
        return False
    found, unfinished = parse_frames(rest)
    closes = [n for n, each in enumerate(found) if each.opcode == CLOSE]
    if closes and (closes[0] != len(found) - 1 or unfinished):
        raise Fault("something follows a Close frame")
    for each in found:
        is_control = each.opcode >= CLOSE
        if (
            each.masked == by_server
            or (each.opcode > 2 and not CLOSE <= each.opcode <= PONG)
            or each.reserved & 3
            or (is_control and (not each.final or len(each.payload) > 125 or each.reserved))
        ):
            raise Fault(f"a frame that breaks the rules: {each}")
    return True


# --- The attack ---------------------------------------------------------------------------------


class _Attack:
    def __init__(self, settings: Settings, say: Callable[[str], object]) -> None:
        self._settings = settings
        self._say = say
        self._outcome = Outcome()
        self._flights = _flights()
        self._client_tls = client_context()
        self._server_tls = server_context()
        self._listening: list[socket.socket] = []
        self._warm = 0
        self._victim = Victim(settings.kind, settings.role)

    def run(self) -> Outcome:
        settings = self._settings
        began = time.monotonic()
        at = settings.first
        try:
            self._listen()
            self._look_around()
            while self._goes_on(began):
                try:
                    self._round(at, self._next_round())
                    self._look_around()
                except Fault as fault:
                    raise Fault(f"--seed {settings.seed} --first {at}: {fault}") from fault
                at = settings.first + self._outcome.connections
            self._victim.stop()
        except Fault as fault:
            self._outcome.faults.append(f"{settings.role} on {settings.kind}: {fault}")
        finally:
            self._victim.kill()
            for sock in self._listening:
                sock.close()
        return self._outcome

    def _goes_on(self, began: float) -> bool:
        wanted = self._settings.connections
        if wanted is not None:
            return self._outcome.connections < wanted
        return time.monotonic() < began + self._settings.seconds

    def _next_round(self) -> int:
        wanted = self._settings.connections
        left = self._settings.every if wanted is None else wanted - self._outcome.connections
        return min(left, self._settings.every)

    def _listen(self) -> None:
        """Where a client is told to connect to, plainly and with TLS."""
        if self._settings.role == "client":
            self._listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
            for sock in self._listening:
                sock.settimeout(time_limit(_LONGEST))

    def _round(self, first: int, count: int) -> None:
        """Have so many connections, some at a time, take turns."""
        turns = Random(f"{self._settings.seed} {first}")
        waiting = iter(range(first, first + count))
        under_way: list[Iterator[None]] = []
        while True:
            while len(under_way) < AT_ONCE and (number := next(waiting, None)) is not None:
                under_way.append(self._connection(Random(f"{self._settings.seed}/{number}")))
            if not under_way:
                return
            each = turns.choice(under_way)
            try:
                next(each)
            except StopIteration:
                under_way.remove(each)
                self._outcome.connections += 1

    def _connection(self, rng: Random) -> Iterator[None]:
        """One connection, a piece of what it says at each turn."""
        is_server = self._settings.role == "server"
        transport = rng.choice(("plain", "plain", "TLS", "broken TLS", "no TLS"))
        secure = transport != "plain"
        sock = self._dial(secure) if is_server else self._accept(secure)
        try:
            if transport in ("TLS", "broken TLS"):
                sock = self._shake_hands(sock)
            line = Line(sock)
            if transport == "no TLS":
                script = noise_script(rng, self._flights[not is_server])
            elif is_server:
                script = client_script(rng)
            else:
                script = server_script(rng, self._asked(line))
            breaks_at = rng.randrange(len(script.pieces) + 1) if "broken" in transport else None
            yield from _perform(line, script, breaks_at)
        finally:
            sock.close()
        if transport != "no TLS":
            self._outcome.opened += check_said(line.heard, by_server=is_server)

    def _dial(self, secure: bool) -> socket.socket:
        try:
            return socket.create_connection(
                ("127.0.0.1", self._victim.ports[secure]), time_limit(_LONGEST)
            )
        except OSError as error:
            raise Fault(f"the server does not accept: {error}") from None

    def _accept(self, secure: bool) -> socket.socket:
        """Have the client connect."""
        listening = self._listening[secure]
        scheme = "wss" if secure else "ws"
        self._victim.tell("connect", url=f"{scheme}://127.0.0.1:{listening.getsockname()[1]}/")
        try:
            return listening.accept()[0]
        except TimeoutError:
            raise Fault("the client does not connect") from None

    def _shake_hands(self, sock: socket.socket) -> socket.socket:
        sock.settimeout(time_limit(_LONGEST))
        try:
            if self._settings.role == "server":
                return self._client_tls.wrap_socket(sock, server_hostname="localhost")
            return self._server_tls.wrap_socket(sock, server_side=True)
        except OSError as error:
            raise Fault(f"no TLS with a peer in good order: {error!r}") from None

    def _asked(self, line: Line) -> bytes:
        while b"\r\n\r\n" not in line.heard:
            if not line.listen(time_limit(_LONGEST)):
                raise Fault(f"the client does not ask: {line.heard!r}")
        return line.heard

    # What must hold in between

    def _look_around(self) -> None:
        for secure in (False, True):
            if self._settings.role == "server":
                self._good_client(secure)
            else:
                self._good_server(secure)
        self._victim.tell("report")
        report = self._victim.hear()
        for what in ("reported", "left"):
            if report[what]:
                raise Fault(f"{what}: " + "\n".join(report[what]))
        self._weigh(report["resident"])

    def _weigh(self, resident: int) -> None:
        if self._outcome.connections < WARM_UP or not self._warm:
            self._warm = resident
        self._outcome.growth = resident - self._warm
        instruments = time_limit(1) > 4
        if self._outcome.growth > GROWTH and not instruments:
            raise Fault(f"memory has grown by {self._outcome.growth / MIB:.0f} MiB")

    def _good_client(self, secure: bool) -> None:
        sock = self._dial(secure)
        line = Line(self._shake_hands(sock) if secure else sock)
        line.send(upgrade_request())
        line.send(frame(TEXT, b"good!", mask=_MASK))
        self._until_heard(line, b"good!")
        line.send(frame(CLOSE, close_payload(1000), mask=_MASK))
        self._until_closed(line)

    def _good_server(self, secure: bool) -> None:
        sock = self._accept(secure)
        line = Line(self._shake_hands(sock) if secure else sock)
        line.send(upgrade_response(self._asked(line)) + frame(TEXT, b"good!"))
        self._until_heard(line, b"good!")
        line.send(frame(CLOSE, close_payload(1000)))
        self._until_closed(line)

    def _until_heard(self, line: Line, wanted: bytes) -> None:
        while wanted not in (each.payload for each in _frames_of(line)):
            if not line.listen(time_limit(_LONGEST)):
                raise Fault(f"a good peer was not served: {line.heard[-200:]!r}")

    def _until_closed(self, line: Line) -> None:
        while line.listen(time_limit(_LONGEST)):
            pass
        line.end("close")
        last = _frames_of(line)[-1]
        if (last.opcode, last.payload) != (CLOSE, close_payload(1000)):
            raise Fault(f"a good peer's Close frame was not answered: {last}")


def _frames_of(line: Line) -> list[Frame]:
    return parse_frames(line.heard.partition(b"\r\n\r\n")[2])[0]


def _perform(line: Line, script: Script, breaks_at: int | None) -> Iterator[None]:
    for number, piece in enumerate(script.pieces):
        if number == breaks_at:
            line.send_below(piece[:100] or b"\x17\x03\x03\x00\x01x")
        line.send(piece)
        if number in script.waits:
            line.listen()
        yield
    line.end(script.ending)


def wage(settings: Settings, say: Callable[[str], object] = print) -> Outcome:
    """Run it."""
    began = time.monotonic()
    outcome = _Attack(settings, say).run()
    say(
        f"{settings.role} on {settings.kind}: {outcome.connections:,} connections in "
        f"{time.monotonic() - began:.0f} s, {outcome.opened:,} of them opened, "
        f"memory {outcome.growth / MIB:+.1f} MiB, seed {settings.seed}"
    )
    for fault in outcome.faults:
        say(f"FAULT: {fault}")
    return outcome


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="for each loop and role")
    parser.add_argument("--connections", type=int, help="for each instead of seconds")
    parser.add_argument("--seed", type=int, help="of all that is random; printed")
    parser.add_argument("--first", type=int, default=0, help="number of the first connection")
    parser.add_argument("--loop", choices=KINDS, help="one of them only")
    parser.add_argument("--role", choices=ROLES, help="of uvws; one of them only")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else secrets.randbelow(1 << 32)
    faults = 0
    for kind in [given.loop] if given.loop else KINDS:
        for role in [given.role] if given.role else ROLES:
            settings = Settings(kind, role, seed, given.first, given.connections, given.seconds)
            faults += len(wage(settings, lambda line: print(line, flush=True)).faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
