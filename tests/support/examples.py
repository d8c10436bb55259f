"""The programs in examples/, run as a reader of the documentation would run them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from .deadlines import time_limit

DIRECTORY = Path(__file__).resolve().parent.parent.parent / "examples"
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
# What asyncio's debug mode says of a callback on a slow machine.
_SLOW = re.compile(r"^(?:poll .*|Executing .*) took \d+\.\d+ (?:ms|seconds).*\n", re.MULTILINE)
# Runs a program as if packages were not installed.
_WITHOUT = """
import runpy, sys
path, *packages = sys.argv.pop(1).split(",")
sys.modules.update(dict.fromkeys(packages))
sys.argv[0] = path
sys.path[0] = path.rpartition("/")[0]
runpy.run_path(path, run_name="__main__")
"""


class Example:
    """A Python program in a process of its own, with what it prints.

    Warnings are errors there, and asyncio's debug mode is on.
    """

    def __init__(
        self,
        path: Path,
        *arguments: str,
        without: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        """Start it.

        Args:
            path: the program.
            arguments: its arguments.
            without: packages that are not to be found.
            environment: variables to add. Those that name proxies are dropped.
        """
        command = [sys.executable, "-X", "dev", "-W", "error"]
        if without:
            command += ["-c", _WITHOUT, ",".join((str(path), *without))]
        else:
            command.append(str(path))
        self._process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**_clean_environment(), **(environment or {})},
        )
        self._changed = threading.Condition()
        self._output = {"stdout": "", "stderr": ""}
        self._readers = [
            threading.Thread(target=self._read, args=(name,), daemon=True) for name in self._output
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str) -> None:
        with getattr(self._process, name) as stream:
            for line in stream:
                with self._changed:
                    self._output[name] += line
                    self._changed.notify_all()

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return self._output["stdout"]

    @property
    def stderr(self) -> str:
        """What it has printed there so far, but for how long asyncio's callbacks took."""
        return _SLOW.sub("", self._output["stderr"])

    @property
    def port(self) -> int:
        """The port that it says it listens on."""
        return int(self.wait_for(r"(?:ws|wss|http)://[\w.]+:(\d+)")[1])

    def wait_for(
        self, pattern: str, *, count: int = 1, stream: str = "stdout", timeout: float = 15.0
    ) -> re.Match[str]:
        """Wait until it has printed what matches a pattern, and return the match.

        Args:
            pattern: a regular expression.
            count: how many times; the last one is returned.
            stream: "stdout" or "stderr".
            timeout: in seconds, before scaling.
        """
        deadline = time.monotonic() + time_limit(timeout)
        with self._changed:
            while True:
                found = list(re.finditer(pattern, self._output[stream]))
                if len(found) >= count:
                    return found[count - 1]
                left = deadline - time.monotonic()
                alive = any(reader.is_alive() for reader in self._readers)
                assert left > 0, f"{pattern!r} was not printed\n{self}"
                assert alive, f"it ended before it printed {pattern!r}\n{self}"
                self._changed.wait(min(left, 0.5))  # the end of a process notifies nobody

    def finish(self, returncode: int = 0, *, timeout: float = 20.0, quiet: bool = True) -> str:
        """Wait until it ends, check how, and return what it printed.

        Args:
            returncode: what it must end with.
            timeout: in seconds, before scaling.
            quiet: whether it must have printed nothing on its standard error.
        """
        try:
            self._process.wait(time_limit(timeout))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end\n{self}") from None
        for reader in self._readers:
            reader.join(time_limit(5))
        assert self._process.returncode == returncode, f"ended badly\n{self}"
        assert not quiet or not self.stderr, f"it complained\n{self}"
        return self.stdout

    def interrupt(self, number: int = signal.SIGINT, *, quiet: bool = True) -> str:
        """Send it a signal, as Ctrl-C does, and see it end with exit code 0."""
        self.send_signal(number)
        return self.finish(quiet=quiet)

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it and the processes that it started, whatever they do."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for reader in self._readers:
            reader.join(time_limit(5))

    def __str__(self) -> str:
        return (
            f"exit code {self._process.poll()}\n--- stdout\n{self.stdout}"
            f"--- stderr\n{self.stderr}---"
        )


def _clean_environment() -> dict[str, str]:
    environment = {
        name: value for name, value in os.environ.items() if name.lower() not in _PROXIES
    }
    if "ASAN_OPTIONS" in environment:
        # As for the programs of run_program: leaks are looked for in the process of the tests.
        environment["ASAN_OPTIONS"] += ":detect_leaks=0"
    return environment
