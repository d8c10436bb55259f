"""The inputs that fuzzing kept, replayed through the C core under the sanitizers.

What the harnesses in tests/fuzz check is in docs/fuzzing.md. They are linked with the libwebsockets
that the extension was built with, by whatever compiler there is.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.patches import is_patched

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "tests" / "fuzz"
CORPUS = SOURCES / "corpus"
TARGETS = sorted(path.name for path in CORPUS.iterdir()) if CORPUS.is_dir() else []


def build_of_the_extension() -> Path | None:
    """Return the newest build directory of the kind that is being tested."""
    kind = "sanitize-cp3*" if os.environ.get("UVWS_SANITIZE") else "cp3*"
    archives = (ROOT / "build").glob(f"{kind}/lws/lib/libwebsockets.a")
    newest = max(archives, key=lambda path: path.stat().st_mtime, default=None)
    return newest.parent.parent.parent if newest else None


def run(*command: object) -> subprocess.CompletedProcess[str]:
    # The run as a whole may be under a sanitizer: the programs here bring their own.
    env = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    env["ASAN_OPTIONS"] = "detect_leaks=1"
    return subprocess.run(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=env,
        check=False,
    )


@pytest.fixture(scope="module")
def programs() -> Path:
    """Build the harnesses as programs that replay files; the directory they are in."""
    build = build_of_the_extension()
    if build is None or not is_patched():
        pytest.skip("needs a build directory with the bundled libwebsockets")
    if shutil.which("cmake") is None:
        pytest.skip("needs cmake")
    directory = ROOT / "build" / f"fuzz-replay-{build.name}"
    directory.mkdir(exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (
            ["-S", SOURCES, "-B", directory, f"-DUVWS_BUILD={build}", "-DUVWS_ENGINE=replay"],
            ["--build", directory, "--parallel", os.cpu_count() or 1],
        ):
            done = run("cmake", *command)
            assert done.returncode == 0, done.stdout
    return directory


@pytest.mark.timeout(300)
@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_replays_without_a_fault(programs: Path, target: str) -> None:
    done = run(programs / target, CORPUS / target)
    assert done.returncode == 0, done.stdout[-4000:]
    assert done.stdout.splitlines()[-1] == f"{len(list((CORPUS / target).iterdir()))} inputs"
