"""Python 2.7, and an environment of it that has wstest."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

BUILD = Path(__file__).resolve().parent.parent.parent / "build" / "autobahn"
HOW_TO_GET_IT = (
    "wstest needs Python 2.7, and there is none here. Get one with pyenv (`pyenv install 2.7.18`: "
    "it is found there by itself), or where the system still has it with "
    "`apt-get install python2.7`, or name one: PYTHON2=/path/to/python2.7"
)
# The last ones for Python 2.7; those in C come as wheels.
PACKAGES = (
    "autobahntestsuite==0.8.2",
    "autobahn==0.10.9",
    "twisted==20.3.0",
    "pyOpenSSL==20.0.1",
    "cryptography==3.3.2",
)
# In C what wstest else does in Python: masks, and the check of UTF-8. It has to be compiled.
ACCELERATOR = "wsaccel==0.6.6"


class NoPython2Error(Exception):
    """There is no Python 2.7; the message says how to get one."""


def find_python2() -> str:
    """Return the path of a Python 2.7: the variable PYTHON2, the PATH, what pyenv has.

    Raises:
        NoPython2Error: there is none.
    """
    named = os.environ.get("PYTHON2")
    if named:
        if not _is_python2(named):
            raise NoPython2Error(f"PYTHON2={named} is no Python 2.7. {HOW_TO_GET_IT}")
        return named
    for path in _candidates():
        if _is_python2(path):
            return path
    raise NoPython2Error(HOW_TO_GET_IT)


def _candidates() -> Iterator[str]:
    for name in ("python2.7", "python2"):
        path = shutil.which(name)
        if path is not None:
            yield path
    for root in _pyenv_roots():
        yield from map(str, sorted(root.glob("versions/2.7*/bin/python2.7"), reverse=True))


def _pyenv_roots() -> Iterator[Path]:
    if shutil.which("pyenv") is not None:
        asked = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=False)
        if asked.returncode == 0:
            yield Path(asked.stdout.strip())
    yield Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()


def _is_python2(path: str) -> bool:
    """Tell by running it: a shim of pyenv's has the name whether or not there is a Python."""
    command = [path, "-c", "import sys; sys.exit(sys.version_info[:2] != (2, 7))"]
    try:
        done = subprocess.run(command, capture_output=True, env=its_environ(), check=False)
    except OSError:
        return False
    return done.returncode == 0


def environment() -> Path:
    """Return the interpreter of the environment with wstest, which is made when first asked for.

    Raises:
        NoPython2Error: there is no Python 2.7 to make it with.
        subprocess.CalledProcessError: virtualenv or pip failed.
    """
    BUILD.mkdir(parents=True, exist_ok=True)
    python = BUILD / "python2" / "bin" / "python"
    stamp = BUILD / "python2" / "packages.txt"
    wanted = "\n".join((*PACKAGES, ACCELERATOR))
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests may run in several processes
        if not (stamp.exists() and stamp.read_text() == wanted and _is_python2(str(python))):
            _make(python)
            stamp.write_text(wanted)
    return python


def _make(python: Path) -> None:
    base = find_python2()
    home = python.parent.parent
    shutil.rmtree(home, ignore_errors=True)
    # python -m venv knows no Python 2, and virtualenv's last version to know it is 20.21.
    _run(sys.executable, "-m", "virtualenv", "--quiet", "--python", base, str(home))
    install = (str(python), "-m", "pip", "--disable-pip-version-check", "install", "-q")
    _run(*install, *PACKAGES)
    try:
        _run(*install, ACCELERATOR)
    except subprocess.CalledProcessError:
        print(f"{ACCELERATOR} could not be built: wstest takes longer without.", file=sys.stderr)


def its_environ() -> dict[str, str]:
    """Return the environment for a process of Python 2.7: without a preloaded sanitizer."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env=its_environ(), check=False)
    if done.returncode != 0:
        sys.stderr.write(done.stdout + done.stderr)
        done.check_returncode()


if __name__ == "__main__":
    try:
        print(environment())
    except NoPython2Error as error:
        sys.exit(str(error))
