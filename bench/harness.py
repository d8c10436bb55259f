"""What the benchmarks share: the peers and their processes, pinning, the environment."""

from __future__ import annotations

import contextlib
import ctypes.util
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
BUILD = BENCH.parent / "build" / "bench"
RESULTS = BENCH / "results"

# Plenty for 10 000 connections; a hard limit of 2^30, as some containers have it, is not copied.
MOST_DESCRIPTORS = 65536
START_SECONDS = 20.0


class BenchError(Exception):
    """A step that failed, with what is needed to see why."""


@dataclass(frozen=True)
class Peer:
    """One library on one loop.

    Attributes:
        name: What the tables call it.
        family: What its scripts are named after: `servers/FAMILY_server.py` and so on.
        arguments: Their command line.
        needs: The modules without which it cannot run.
        ours: Whether it is what the others are measured against.
        libraries: Shared libraries of the system without which it cannot run.
    """

    name: str
    family: str
    arguments: tuple[str, ...]
    needs: tuple[str, ...]
    ours: bool = False
    libraries: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        """The modules that this Python lacks, and the libraries that the system does."""
        modules = [name for name in self.needs if not _is_installed(name)]
        return modules + [f"lib{n}" for n in self.libraries if ctypes.util.find_library(n) is None]

    def command(self, role: str, *options: str) -> list[str]:
        """The command line of its server, client or roundtrip."""
        script = BENCH / f"{role}s" / f"{self.family}_{role}.py"
        return [sys.executable, str(script), *self.arguments, *options]


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it would be in
        return False


YARDSTICK = "picows"
LIBRARIES = {
    peer.name: peer
    for peer in (
        Peer("uvws-pyuv", "uvws", ("pyuv",), ("uvws", "pyuv"), ours=True),
        Peer("uvws-uvloop", "uvws", ("uvloop",), ("uvws", "uvloop"), ours=True),
        Peer("uvws-asyncio", "uvws", ("asyncio",), ("uvws",), ours=True),
        Peer("picows", "picows", (), ("picows", "uvloop")),
        Peer("websockets", "websockets", (), ("websockets", "uvloop")),
        Peer("uvws.aio", "uvws_aio", (), ("uvws", "uvloop"), ours=True),
        Peer("picows.websockets", "picows_websockets", (), ("picows.websockets", "uvloop")),
        Peer("aiohttp", "aiohttp", (), ("aiohttp", "uvloop")),
        Peer("socketify", "socketify", (), ("socketify",), libraries=("uv",)),
    )
}
# What carries the WebSockets of one application, under uvicorn: asgirows.py.
ASGI = {
    peer.name: peer
    for peer in (
        Peer("asgi-uvws", "asgi", ("uvws",), ("uvws", "starlette", "uvicorn"), ours=True),
        Peer("asgi-sansio", "asgi", ("websockets-sansio",), ("starlette", "uvicorn")),
        Peer("asgi-websockets", "asgi", ("websockets",), ("starlette", "uvicorn")),
        Peer("asgi-wsproto", "asgi", ("wsproto",), ("starlette", "uvicorn", "wsproto")),
    )
}
PEERS = {**LIBRARIES, **ASGI}
# With coroutines: two of them are measured in rows of their own, against each other and websockets.
AWAITED = ("uvws.aio", "picows.websockets")
WITH_COROUTINES = (*AWAITED, "websockets")
IN_MOST_ROWS = tuple(name for name in LIBRARIES if name not in AWAITED)
DEFAULT_PEERS = tuple(name for name in PEERS if name != "uvws-asyncio")
# picows has no compression, and socketify's has a level of its own that cannot be set.
COMPRESSING = tuple(name for name in IN_MOST_ROWS if name not in ("picows", "socketify"))
# socketify has no client.
WITH_CLIENTS = tuple(name for name in IN_MOST_ROWS if name != "socketify")


def say(text: str) -> None:
    """Write a line of progress to stderr."""
    print(text, file=sys.stderr, flush=True)


def choose_peers(names: Sequence[str] | None) -> list[Peer]:
    """Pick the servers to run.

    Args:
        names: Those asked for, all of which must be there; None: the default ones that are there.

    Returns:
        The servers, in the order asked for.

    Raises:
        BenchError: If one is unknown or cannot run, or none is left.
    """
    chosen = []
    for name in names if names is not None else DEFAULT_PEERS:
        if name not in PEERS:
            raise BenchError(f"no peer is called {name!r}; known: {', '.join(PEERS)}")
        missing = PEERS[name].missing()
        if not missing:
            chosen.append(PEERS[name])
        elif names is not None:
            raise BenchError(f"{name} needs what is not installed: {', '.join(missing)}")
        else:
            say(f"left out: {name} (not installed: {', '.join(missing)})")
    if not chosen:
        raise BenchError("there is no server to measure")
    return chosen


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open files; child processes inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@dataclass(frozen=True)
class Cores:
    """The CPU of the server and that of the load generator."""

    server: int
    client: int


def choose_cores() -> Cores:
    """Take the first two CPUs that this process may use."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        say("only one CPU: server and load generator share it, and the figures mean little")
    return Cores(allowed[0], allowed[min(1, len(allowed) - 1)])


@dataclass(frozen=True)
class Server:
    """A running echo server."""

    pid: int
    port: int

    def resident_kib(self) -> int:
        """Its resident memory, VmRSS."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise BenchError("the server is gone")


def read_port(process: subprocess.Popen[str], name: str, patience: float = START_SECONDS) -> int:
    """Wait for a server's `PORT n` line.

    Args:
        process: The server, its stdout a pipe.
        name: What to call it in errors.
        patience: For how many seconds.

    Returns:
        The port.

    Raises:
        BenchError: If the line does not come.
    """
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], patience)
    line = process.stdout.readline() if ready else ""
    words = line.split()
    if len(words) != 2 or words[0] != "PORT":
        raise BenchError(f"{name} did not start: it said {line!r}")
    return int(words[1])


@contextlib.contextmanager
def started(command: Sequence[str], cpu: int) -> Iterator[subprocess.Popen[str]]:
    """Run a program on one CPU; it is killed at the end, if it has not ended.

    Args:
        command: Its command line.
        cpu: The CPU.

    Yields:
        The process, its stdout a pipe.
    """
    # Pinned from its first instruction, so that no thread of it escapes.
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(BENCH)},
        )
    finally:
        os.sched_setaffinity(0, before)
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def running(peer: Peer, cpu: int, *options: str) -> Iterator[Server]:
    """Run a fresh server.

    Args:
        peer: Which.
        cpu: The CPU that it gets.
        options: What its script is told besides the peer's own arguments.

    Yields:
        The server.

    Raises:
        BenchError: If it does not start.
    """
    with started(peer.command("server", *options), cpu) as process:
        yield Server(process.pid, read_port(process, peer.name))
        if process.poll() is not None:
            raise BenchError(f"{peer.name} ended with status {process.returncode}")


def result_of(process: subprocess.Popen[str], name: str, limit: float) -> dict[str, Any]:
    """Wait for a program that prints one line of JSON.

    Args:
        process: The program, its stdout a pipe.
        name: What to call it in errors.
        limit: Seconds after which it is taken for stuck.

    Returns:
        What it printed.

    Raises:
        BenchError: If it does not end in time, or ends otherwise.
    """
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{name} did not end within {limit:.0f} s") from None
    if process.returncode != 0 or not output:
        raise BenchError(f"{name} ended with status {process.returncode}")
    result = json.loads(output)
    assert isinstance(result, dict)
    return result


def median(values: Sequence[float]) -> float:
    """The median, NaN of nothing."""
    return statistics.median(values) if values else float("nan")


def version_of(distribution: str) -> str | None:
    """The installed version of a distribution, None if there is none."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def uvws_build() -> str:
    """Which uvws it is: the last commit that changed it, and how it is installed."""
    sources = ["csrc", "src", "build_lws.py", "pyproject.toml"]
    commands = (["log", "-1", "--format=%h"], ["status", "--porcelain"])
    said = []
    for command in commands:
        with contextlib.suppress(FileNotFoundError):
            done = subprocess.run(
                ["git", "-C", str(BENCH.parent), *command, "--", *sources],
                capture_output=True,
                text=True,
                check=False,
            )
            said.append(done.stdout.strip())
    commit, changed = (*said, "", "")[:2]
    found = importlib.util.find_spec("uvws")
    origin = found.origin if found is not None else None
    installed = "a wheel" if "site-packages" in (origin or "") else "an editable build"
    return f"{commit or 'unknown'}{' with changes' if changed else ''}, from {installed}"


def environment() -> dict[str, Any]:
    """What the figures depend on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    names = ("uvws", "pyuv", "uvloop", "picows", "aiofastnet", "websockets", "aiohttp", "socketify")
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "uvws": uvws_build(),
        "cpu": model,
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: version_of(name) for name in names},
    }


def describe(where: dict[str, Any]) -> str:
    """One line on the environment, for under a table."""
    versions = ", ".join(f"{k} {v}" for k, v in where["versions"].items() if v is not None)
    return (
        f"{where['date']}; {where['cpu']}, {where['cpus']} CPUs; Linux {where['kernel']}; "
        f"Python {where['python']}; {versions}. uvws at {where['uvws']}."
    )


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 2) -> str:
    """A Markdown table; every column but the first two, or so many, is set to the right."""
    rule = ["---" if i < left else "---:" for i in range(len(headings))]
    lines = [headings, rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
