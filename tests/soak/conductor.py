"""Starts the processes of a run, watches their memory, ends them, and judges."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import trustme

from support.deadlines import time_limit

from .ledger import Books
from .settings import Settings

_TESTS = Path(__file__).resolve().parent.parent
_PAGE = os.sysconf("SC_PAGE_SIZE")
MIB = 1 << 20

# Of all connections: those of the process that is killed, those of other libraries; the rest is of
# uvws, of which so many go through the relay.
_KILLED, _FOREIGN, _RELAYED = 0.05, 0.20, 0.20
_SAMPLE_EVERY = 1.0
# Memory at the end against memory after the warm-up, both as medians over a fifth of what lies
# between. What is alive differs from one time to another: queues, and zlib's streams of the
# connections that happen to be compressed.
_GROWTH = 0.10
_GROWTH_ANYWAY = 16 * MIB


@dataclass
class Outcome:
    """What came of a run.

    Attributes:
        faults: what is wrong, in words; empty is good.
        lines: the figures.
    """

    faults: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


class Process:
    """One of the processes."""

    def __init__(self, name: str, module: str, settings: Settings, *arguments: object) -> None:
        self.name = name
        self.samples: list[int] = []
        self.finished: dict[str, Any] | None = None
        self.faults: list[str] = []
        self.status: dict[str, Any] = {}
        command = [sys.executable, "-X", "faulthandler", "-m", f"soak.{module}"]
        self._popen = subprocess.Popen(
            [*command, settings.to_json(), *(str(each) for each in arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(_TESTS)},
        )
        self._said: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            content = json.loads(line)
            if "final" in content:
                self.finished = content
            elif "reported" in content:
                self.faults.extend(content["reported"])
            elif "live" in content:
                self.status = content
            else:
                self._said.put(content)

    def hear(self) -> dict[str, Any]:
        """Return what it says before it begins."""
        return self._said.get(timeout=time_limit(20))

    def sample(self) -> None:
        """Take its resident memory down."""
        with contextlib.suppress(OSError, IndexError):
            statm = Path(f"/proc/{self._popen.pid}/statm").read_text()
            self.samples.append(int(statm.split()[1]) * _PAGE)

    def has_ended(self) -> bool:
        """Tell whether it is gone, which it should not be unasked."""
        return self._popen.poll() is not None

    def stop(self) -> None:
        """Have it end its connections and report."""
        assert self._popen.stdin is not None
        with contextlib.suppress(OSError):
            self._popen.stdin.write("stop\n")
            self._popen.stdin.flush()
        try:
            code = self._popen.wait(time_limit(90))
        except subprocess.TimeoutExpired:
            self.faults.append("did not stop")
            self.kill()
            return
        self._reader.join(time_limit(5))
        self._check(code)

    def _check(self, code: int) -> None:
        if code or self.finished is None:
            self.faults.append(f"ended with {code}, final words: {self.finished}")
            return
        for what, left in self.finished.items():
            if what != "final" and left:
                self.faults.append(f"{what} left: {left}")

    def kill(self) -> None:
        """Kill it, if it is not over."""
        self._popen.kill()
        self._popen.wait()
        self._reader.join(time_limit(5))
        for pipe in (self._popen.stdin, self._popen.stdout):
            with contextlib.suppress(OSError):
                pipe.close()


class _Run:
    def __init__(self, settings: Settings, say: Callable[[str], object]) -> None:
        self._settings = settings
        self._say = say
        self._processes: list[Process] = []
        self._victim: Process | None = None
        self._victims = 0
        self._outcome = Outcome()

    def run(self) -> Outcome:
        settings = self._settings
        say = self._say
        say(
            f"soak on {settings.loop}: {settings.connections} connections, "
            f"{settings.seconds:g} s, seed {settings.seed}"
        )
        _make_certificates(Path(settings.directory))
        try:
            self._start()
            self._await_connections()
            self._wait()
            self._stop()
        finally:
            for each in (*self._processes, *([self._victim] if self._victim else [])):
                each.kill()
        self._judge()
        return self._outcome

    def _start(self) -> None:
        server = self._add(Process("server", "server", self._settings))
        self._settings = replace(self._settings, **server.hear())
        relay = self._add(Process("relay", "relay", self._settings))
        self._settings = settings = replace(self._settings, **relay.hear())
        killed, foreign = (int(settings.connections * share) for share in (_KILLED, _FOREIGN))
        rest = settings.connections - killed - foreign
        self._killed = killed
        self._add(Process("clients", "clients", settings, "uvws", rest, 1 << 40, _RELAYED))
        self._add(Process("foreign", "foreign", settings, foreign, 2 << 40))
        self._start_victim()

    def _add(self, process: Process) -> Process:
        self._processes.append(process)
        return process

    def _start_victim(self) -> None:
        """A process of clients that is killed, and another one in its place."""
        if self._victim is not None:
            self._victim.kill()
        self._victims += 1
        first = (3 << 40) + (self._victims << 20)
        self._victim = Process(
            "killed", "clients", self._settings, "killed", self._killed, first, 0.0
        )

    def _await_connections(self) -> None:
        """The time counts from when most of them are there, however busy the machine is."""
        server = self._processes[0]
        until = time.monotonic() + time_limit(60)
        while server.status.get("live", 0) < 0.8 * self._settings.connections:
            time.sleep(0.1)
            if time.monotonic() > until:
                self._outcome.faults.append(f"there are not enough connections: {server.status}")
                return

    def _wait(self) -> None:
        began = time.monotonic()
        next_kill, next_word = began + self._settings.kill_every, began + 60
        while (now := time.monotonic()) < began + self._settings.seconds:
            time.sleep(_SAMPLE_EVERY)
            for each in self._processes:
                each.sample()
                if each.has_ended():
                    self._outcome.faults.append(f"the process {each.name} ended by itself")
                    return
            if now >= next_kill:
                next_kill += self._settings.kill_every
                self._start_victim()
            if now >= next_word:
                next_word += 60
                self._say(f"{now - began:6.0f} s  {self._status()}")

    def _status(self) -> str:
        memory = ", ".join(
            f"{each.name} {each.samples[-1] / MIB:.0f} MiB"
            for each in self._processes
            if each.samples
        )
        status = self._processes[0].status
        return f"{status.get('live')} connections, {status.get('ended')} ended; {memory}"

    def _stop(self) -> None:
        """Clients first, so that all they say reaches the server; then those that are between."""
        if self._victim is not None:
            self._victim.kill()
            self._victim = None
        server, relay, *clients = self._processes
        threads = [threading.Thread(target=each.stop) for each in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        relay.stop()
        server.stop()

    def _judge(self) -> None:
        outcome = self._outcome
        for each in self._processes:
            outcome.faults.extend(f"{each.name}: {what}" for what in each.faults)
        books = Books(sorted(Path(self._settings.directory).glob("*.ledger")))
        outcome.faults.extend(books.faults)
        seconds = self._settings.seconds
        outcome.lines.append(f"{'killed processes':42} {self._victims:12,}")
        for what, count in sorted(books.counts.items()):
            outcome.lines.append(f"{what:42} {count:12,} {count / seconds:12,.1f}/s")
        if not books.counts["messages delivered"]:
            outcome.faults.append("no message was delivered")
        self._judge_memory()
        for line in outcome.lines:
            self._say(line)
        for fault in outcome.faults[:50]:
            self._say(f"FAULT: {fault}")
        self._say(f"{len(outcome.faults)} faults")

    def _judge_memory(self) -> None:
        for each in self._processes:
            samples = each.samples[int(self._settings.warm_up / _SAMPLE_EVERY) :]
            fifth = len(samples) // 5
            if not fifth or not self._settings.warm_up:
                continue
            first = statistics.median(samples[:fifth])
            last = statistics.median(samples[-fifth:])
            self._outcome.lines.append(
                f"resident memory of {each.name:10} {first / MIB:8.1f} MiB after the warm-up, "
                f"{last / MIB:.1f} MiB at the end, {max(samples) / MIB:.1f} MiB at most"
            )
            ours = each.name in ("server", "clients")
            if ours and last > first * (1 + _GROWTH) + _GROWTH_ANYWAY:
                self._outcome.faults.append(f"the memory of {each.name} grew")


def _make_certificates(directory: Path) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    leaf.private_key_pem.write_to_path(str(directory / "key.pem"))
    for blob in leaf.cert_chain_pems:
        blob.write_to_path(str(directory / "cert.pem"), append=True)


@contextlib.contextmanager
def _directory() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        yield name


def conduct(settings: Settings, *, say: Callable[[str], object]) -> Outcome:
    """Run the traffic and return what came of it."""
    with _directory() as directory:
        return _Run(replace(settings, directory=directory), say).run()
