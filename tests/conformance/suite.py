"""One run of wstest: a role of uvws, a transport, a loop, some cases."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

from .python2 import its_environ

_HERE = Path(__file__).resolve().parent
ROLES = ("server", "client")
TRANSPORTS = ("plain", "tls")
GOOD = ("OK", "NON-STRICT", "INFORMATIONAL")
_AGENT = "uvws"
_START_SECONDS = 30.0


class SuiteError(Exception):
    """wstest or what it tests did not do what it should; the message ends with what it printed."""


@dataclass(frozen=True, order=True)
class Verdict:
    """What wstest says of one case.

    Attributes:
        case: its number, as numbers: they sort.
        behavior: about the messages.
        closing: about how the connection was closed.
        reason: wstest's words, for either that is not OK.
    """

    case: tuple[int, ...]
    behavior: str
    closing: str
    reason: str

    @property
    def name(self) -> str:
        """The number as it is written."""
        return ".".join(map(str, self.case))

    @property
    def is_good(self) -> bool:
        """Whether both are among those that do no harm."""
        return self.behavior in GOOD and self.closing in GOOD

    @property
    def is_ok(self) -> bool:
        """Whether both are OK."""
        return self.behavior == self.closing == "OK"


@dataclass(frozen=True)
class Run:
    """What is tested.

    Attributes:
        role: what uvws is, "server" or "client".
        transport: "plain" or "tls".
        loop: "uvloop", "pyuv" or "asyncio".
    """

    role: str
    transport: str
    loop: str

    @property
    def name(self) -> str:
        """For directories and tables."""
        return f"{self.role}-{self.transport}-{self.loop}"


@dataclass(frozen=True)
class Outcome:
    """How a run went.

    Attributes:
        run: what was tested.
        wanted: the cases that wstest said it would run.
        verdicts: of the cases that it ran, in order.
        seconds: how long it took.
    """

    run: Run
    wanted: frozenset[str]
    verdicts: tuple[Verdict, ...]
    seconds: float

    @property
    def missing(self) -> list[str]:
        """The cases without a verdict."""
        return sorted(self.wanted - {verdict.name for verdict in self.verdicts})

    @property
    def bad(self) -> list[Verdict]:
        """The verdicts that are failures."""
        return [verdict for verdict in self.verdicts if not verdict.is_good]

    @property
    def is_good(self) -> bool:
        """Whether every case was run, at least one, and none failed."""
        return bool(self.wanted) and not self.missing and not self.bad


def run_suite(
    run: Run,
    *,
    python2: Path,
    cases: Sequence[str],
    directory: Path,
    timeout: float,
) -> Outcome:
    """Run cases.

    Args:
        run: what to test.
        python2: the Python 2.7 that has wstest.
        cases: numbers of cases, or patterns such as "1.*".
        directory: for reports and logs; what is there is removed.
        timeout: in seconds, for all of it.

    Raises:
        SuiteError: it did not come to an end, or not to a good one.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(directory / "server.pem"))

    started = time.monotonic()
    test = _test_server if run.role == "server" else _test_client
    test(run, python2, list(cases), directory, timeout)
    seconds = time.monotonic() - started
    return Outcome(run, _wanted(directory), _verdicts(directory), seconds)


def _test_server(
    run: Run, python2: Path, cases: list[str], directory: Path, timeout: float
) -> None:
    options = []
    if run.transport == "tls":
        options += ["--cert", str(directory / "server.pem")]
    with _testee("echo_server.py", run, options, directory) as server:
        url = f"{_scheme(run)}://127.0.0.1:{server.port()}"
        spec = {"servers": [{"agent": _AGENT, "url": url}]}
        with _wstest(python2, "fuzzingclient", spec, cases, directory) as wstest:
            wstest.wait(timeout)


def _test_client(
    run: Run, python2: Path, cases: list[str], directory: Path, timeout: float
) -> None:
    # The port is another one: see wstest.py.
    spec = {"url": f"{_scheme(run)}://127.0.0.1:9001"}
    options = []
    if run.transport == "tls":
        spec.update(key=str(directory / "server.pem"), cert=str(directory / "server.pem"))
        options += ["--ca", str(directory / "ca.pem")]
    with _wstest(python2, "fuzzingserver", spec, cases, directory) as wstest:
        options.append(f"{_scheme(run)}://127.0.0.1:{wstest.port()}")
        with _testee("echo_client.py", run, options, directory) as client:
            client.wait(timeout)


def _scheme(run: Run) -> str:
    return "wss" if run.transport == "tls" else "ws"


def _testee(
    script: str, run: Run, options: list[str], directory: Path
) -> contextlib.AbstractContextManager[_Process]:
    environ = dict(os.environ)
    if "ASAN_OPTIONS" in environ:
        environ["ASAN_OPTIONS"] += ":detect_leaks=0"  # leaks of Python's, at the end
    command = [sys.executable, str(_HERE / script), "--loop", run.loop, *options]
    return _process(command, environ, directory, "uvws")


def _wstest(
    python2: Path, mode: str, spec: dict[str, Any], cases: list[str], directory: Path
) -> contextlib.AbstractContextManager[_Process]:
    path = directory / "spec.json"
    path.write_text(json.dumps({**spec, "outdir": str(directory / "reports"), "cases": cases}))
    command = [
        # cryptography says that Python 2 is no longer supported.
        *(str(python2), "-W", "ignore", "-u", str(_HERE / "wstest.py")),
        *("--mode", mode, "--spec", str(path), "--webport", "0"),
    ]
    return _process(command, its_environ(), directory, "wstest")


class _Process:
    """A process whose output goes to a file."""

    def __init__(self, command: list[str], environ: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("w") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environ,
            )

    def port(self) -> int:
        """Wait for the port that it says it listens on."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            ended = self._process.poll() is not None
            found = re.search(r"^PORT (\d+)$", self._log.read_text(errors="replace"), re.MULTILINE)
            if found:
                return int(found[1])
            if ended:
                break
            time.sleep(0.05)
        raise self._failure("did not say where it listens")

    def wait(self, timeout: float) -> None:
        """Wait until it ends by itself, well."""
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self._failure(f"took longer than {timeout:g} s") from None
        if status != 0:
            raise self._failure(f"ended with exit status {status}")

    def kill(self) -> None:
        """End it, if it has not ended."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def _failure(self, what: str) -> SuiteError:
        lines = self._log.read_text(errors="replace").splitlines()[-20:]
        end = "\n".join(line[:500] for line in lines)
        return SuiteError(f"{self._log.stem} {what}; the end of {self._log}:\n{end}")


@contextlib.contextmanager
def _process(
    command: list[str], environ: dict[str, str], directory: Path, name: str
) -> Iterator[_Process]:
    process = _Process(command, environ, directory / f"{name}.log")
    try:
        yield process
    finally:
        process.kill()


def _wanted(directory: Path) -> frozenset[str]:
    log = (directory / "wstest.log").read_text(errors="replace")
    found = re.search(r"^Cases = (\[.*\])$", log, re.MULTILINE)
    if found is None:
        raise SuiteError(f"wstest did not say which cases it would run:\n{log[-2000:]}")
    return frozenset(ast.literal_eval(found[1]))


def _verdicts(directory: Path) -> tuple[Verdict, ...]:
    reports = directory / "reports"
    index = reports / "index.json"
    if not index.exists():
        raise SuiteError(f"wstest wrote no report to {reports}")
    agents = json.loads(index.read_text())
    return tuple(
        sorted(_verdict(name, found, reports) for name, found in agents.get(_AGENT, {}).items())
    )


def _verdict(name: str, found: dict[str, Any], reports: Path) -> Verdict:
    behavior, closing = found["behavior"], found["behaviorClose"]
    detail = json.loads((reports / found["reportfile"]).read_text(errors="replace"))
    reasons = []
    if behavior != "OK":
        reasons.append(detail["result"])
    if closing != "OK":
        reasons.append(detail["resultClose"])
    case = tuple(int(part) for part in name.split("."))
    return Verdict(case, behavior, closing, " ".join(reasons))
