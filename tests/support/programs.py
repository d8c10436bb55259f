"""Programs that run in a Python of their own: how a process ends, and what happens only once."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from .deadlines import time_limit

_TESTS = Path(__file__).resolve().parent.parent


def run_program(
    source: str,
    *arguments: str,
    options: tuple[str, ...] = (),
    timeout: float = 20.0,
    returncode: int = 0,
) -> subprocess.CompletedProcess[str]:
    """Run a program; the test fails if it hangs, crashes or ends with another exit code.

    Args:
        source: the program, indented or not; it can import `support`.
        arguments: its sys.argv[1:].
        options: for the interpreter, such as `-W` and `error`.
        timeout: in seconds, before scaling.
        returncode: what it must end with.
    """
    # faulthandler says where a program was that crashed; -X dev would change what is tested.
    command = [sys.executable, "-X", "faulthandler", *options, "-c", textwrap.dedent(source)]
    environment = {**os.environ, "PYTHONPATH": str(_TESTS)}
    if "ASAN_OPTIONS" in environment:
        # These end with things open, on purpose. Leaks are looked for in the process of the tests.
        environment["ASAN_OPTIONS"] += ":detect_leaks=0"
    done = subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        timeout=time_limit(timeout),
        env=environment,
        check=False,
    )
    assert done.returncode == returncode, (
        f"exit code {done.returncode}, not {returncode}\n{done.stdout}{done.stderr}"
    )
    return done
