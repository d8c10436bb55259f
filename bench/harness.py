"""What the benchmarks share: the load generator's build, the servers, pinning, statistics."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
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
COMPILE_FLAGS = ("-O2", "-std=c11", "-Wall", "-Wextra", "-Werror")

# Plenty for 10 000 connections; a hard limit of 2^30, as some containers have it, is not copied.
MOST_DESCRIPTORS = 65536
START_SECONDS = 20.0


class BenchError(Exception):
    """A step that failed, with what is needed to see why."""


@dataclass(frozen=True)
class Peer:
    """One echo server.

    Attributes:
        name: What the tables call it.
        script: The file in `servers/`.
        arguments: Its command line.
        needs: The modules without which it cannot run.
    """

    name: str
    script: str
    arguments: tuple[str, ...]
    needs: tuple[str, ...]

    def missing(self) -> list[str]:
        """The modules that this Python lacks."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


YARDSTICK = "picows"
PEERS = {
    peer.name: peer
    for peer in (
        Peer("uvws-pyuv", "uvws_server.py", ("pyuv",), ("uvws", "pyuv")),
        Peer("uvws-uvloop", "uvws_server.py", ("uvloop",), ("uvws", "uvloop")),
        Peer("uvws-asyncio", "uvws_server.py", ("asyncio",), ("uvws",)),
        Peer("picows", "picows_server.py", (), ("picows", "uvloop")),
        Peer("websockets", "websockets_server.py", (), ("websockets", "uvloop")),
        Peer("aiohttp", "aiohttp_server.py", (), ("aiohttp", "uvloop")),
    )
}
DEFAULT_PEERS = ("uvws-pyuv", "uvws-uvloop", "picows", "websockets", "aiohttp")


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


def build_loadgen() -> Path:
    """Compile the load generator if its source is newer than the binary.

    Returns:
        The binary.

    Raises:
        BenchError: If there is no compiler, or it refuses the source.
    """
    source = BENCH / "loadgen.c"
    binary = BUILD / "loadgen"
    if binary.exists() and binary.stat().st_mtime >= source.stat().st_mtime:
        return binary
    BUILD.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CC", "cc")
    command = [compiler, *COMPILE_FLAGS, "-o", str(binary), str(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise BenchError(f"no C compiler: {compiler} was not found (set CC=)") from None
    if done.returncode != 0:
        raise BenchError(f"the load generator does not compile:\n{done.stderr}")
    return binary


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


def read_port(process: subprocess.Popen[str], name: str) -> int:
    """Wait for a server's `PORT n` line.

    Args:
        process: The server, its stdout a pipe.
        name: What to call it in errors.

    Returns:
        The port.

    Raises:
        BenchError: If the line does not come.
    """
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], START_SECONDS)
    line = process.stdout.readline() if ready else ""
    words = line.split()
    if len(words) != 2 or words[0] != "PORT":
        raise BenchError(f"{name} did not start: it said {line!r}")
    return int(words[1])


@contextlib.contextmanager
def running(peer: Peer, cpu: int) -> Iterator[Server]:
    """Run a server on one CPU for as long as the block lasts.

    Args:
        peer: Which.
        cpu: Where.

    Yields:
        The server, listening.
    """
    command = [sys.executable, str(BENCH / "servers" / peer.script), *peer.arguments]
    # Pinned from its first instruction, so that no thread of it escapes.
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
    finally:
        os.sched_setaffinity(0, before)
    with process:
        try:
            yield Server(process.pid, read_port(process, peer.name))
            if process.poll() is not None:
                raise BenchError(f"{peer.name} ended with status {process.returncode}")
        finally:
            process.kill()


def median(values: Sequence[float]) -> float:
    """The median, NaN of nothing."""
    return statistics.median(values) if values else float("nan")


def version_of(distribution: str) -> str | None:
    """The installed version of a distribution, None if there is none."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def environment() -> dict[str, Any]:
    """What the figures depend on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    names = ("uvws", "pyuv", "uvloop", "picows", "aiofastnet", "websockets", "aiohttp")
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
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
        f"Python {where['python']}; {versions}."
    )


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; every column but the first two is set to the right."""
    rule = ["---" if i < 2 else "---:" for i in range(len(headings))]
    lines = [headings, rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
