"""Build pyuv for a given Python and run pyuv's own test-suite: `run_pyuv_suite.py PYTHON`.

The source distribution is fetched by pip, built in a virtual environment in a temporary directory
(with the header `src/uvws/pyuv_compat.h` on CPython 3.10 and later, and without it before that),
and its tests are run one file after the other. The summary ends with the name of every case that
did not pass. The exit code is 0 when the suite could be built and run, whatever its cases say: the
cases that fail for reasons of their own are explained in `docs/pyuv.md`. With `--expect CASE...`
it is 1 unless exactly those cases fail (`--expect` alone: none).

The suite uses fixed ports: run one at a time. It needs a C compiler and the headers of PYTHON.
Only the standard library is used here, and nothing newer than Python 3.9: the same file is run
again, as the test runner, by the Python under test.
"""

from __future__ import annotations

import argparse
import collections
import io
import os
import pathlib
import pty
import re
import shlex
import subprocess
import sys
import tarfile
import tempfile
import tokenize
import unittest
from typing import Any

PYUV = "pyuv==1.4.0"
HEADER = pathlib.Path(__file__).resolve().parents[1] / "src" / "uvws" / "pyuv_compat.h"
FILE_TIMEOUT = 120  # seconds for one test file; the slowest takes two
MARK = "@case "
BAD = ("FAIL", "ERROR", "CRASH", "TIMEOUT")

# ---------------------------------------------------------------- run by the Python under test


class ReportingResult(unittest.TestResult):
    """Prints every case before it starts and when it ends, so that a crash has a name.

    The names of the overridden methods are unittest's.
    """

    def report(self, outcome: str, test: unittest.TestCase) -> None:
        """Print one line `@case OUTCOME module.Class.method`."""
        print(f"{MARK}{outcome} {test.id()}", flush=True)

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().startTest(test)
        self.report("START", test)

    def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().addSuccess(test)
        self.report("ok", test)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
        super().addSkip(test, reason)
        self.report("skip", test)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addFailure(test, err)
        self.report("FAIL", test)

    def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addError(test, err)
        self.report("ERROR", test)


def run_one_file(module: str) -> None:
    """Run the cases of one test module of the current directory, reporting each."""
    sys.path.insert(0, str(pathlib.Path.cwd()))
    suite = unittest.defaultTestLoader.loadTestsFromName(module)
    result = ReportingResult()
    suite.run(result)
    for test, details in result.failures + result.errors:
        print(f"{'=' * 70}\n{test}\n{details}")


# ---------------------------------------------------------------- build


def run(command: list[str], **options: Any) -> None:
    """Run a build step quietly; on failure show what it printed and give up."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\nfailed ({done.returncode}): {shlex.join(command)}")


def fetch(python: str, sdist: str | None, into: pathlib.Path) -> pathlib.Path:
    """Get and unpack the source distribution.

    Args:
        python: the interpreter whose pip does it.
        sdist: path of a `pyuv-*.tar.gz` that is there already, or None to download it.
        into: an empty directory.

    Returns:
        The unpacked source tree.
    """
    if sdist is None:
        options = ["--no-deps", "--no-binary", "pyuv", "--dest", str(into)]
        run([python, "-m", "pip", "download", *options, PYUV])
        (archive,) = into.glob("pyuv-*.tar.gz")
    else:
        archive = pathlib.Path(sdist)
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):  # Python 3.12, and security releases before it
            tar.extraction_filter = tarfile.data_filter
        tar.extractall(into / "source")
    (tree,) = (into / "source").iterdir()
    return tree


def build(python: str, tree: pathlib.Path, with_header: bool) -> None:
    """Install pyuv from `tree` into the environment of `python`."""
    env = dict(os.environ)
    if with_header:
        flags = f"-O2 -DNDEBUG -include {shlex.quote(str(HEADER))}"
        env["CFLAGS"] = f"{env.get('CFLAGS', '')} {flags}".strip()
    run([python, "-m", "pip", "install", "--no-cache-dir", "--no-deps", str(tree)], env=env)


# ---------------------------------------------------------------- the tests' own age


def rename_async(source: str) -> str:
    """Rename the identifier `async`, a keyword since Python 3.7, to `async_`."""
    # By token, so that strings stay; from the end, so that the positions stay valid.
    lines = source.splitlines(keepends=True)
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    for token in reversed(tokens):
        if token.string == "async":
            row, column = token.start
            line = lines[row - 1]
            lines[row - 1] = f"{line[:column]}async_{line[column + 5 :]}"
    return "".join(lines)


def modernise(tests: pathlib.Path) -> None:
    """Make the test files of 2017 importable; without this three of them fail as a whole."""
    for path in sorted(tests.glob("test_*.py")):
        old = path.read_text(encoding="utf-8")
        new = rename_async(old)
        # Removed in Python 3.7. It made os.stat() give whole seconds.
        new = re.sub(r"(?m)^os\.stat_float_times\(False\)$", "", new)
        if new != old:
            path.write_text(new, encoding="utf-8")
            print(f"  mended for Python 3.7+: {path.name}")


# ---------------------------------------------------------------- run


def parse(output: str, module: str, ending: str | None) -> dict[str, str]:
    """Read the runner's report lines.

    Args:
        output: what the runner printed.
        module: the test module, the name to blame when no case had started.
        ending: "CRASH" or "TIMEOUT" when the runner did not end by itself.

    Returns:
        Outcome by case name.
    """
    outcomes: dict[str, str] = {}
    for line in output.splitlines():
        if line.startswith(MARK):
            outcome, case = line[len(MARK) :].split(" ", 1)
            outcomes[case] = outcome
    for case, outcome in outcomes.items():
        if outcome == "START":
            outcomes[case] = ending or "CRASH"
    if ending and not any(outcome == ending for outcome in outcomes.values()):
        outcomes[module] = ending
    return outcomes


def run_file(python: str, path: pathlib.Path, log: Any) -> dict[str, str]:
    """Run one test file in a process of its own and return the outcome of each case."""
    # Unbuffered, print() is two writes; test_process closes the pipe after the first.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    env["PATH"] = f"{pathlib.Path(python).parent}{os.pathsep}{env.get('PATH', os.defpath)}"
    env["PYUV_INSIDE_TOX"] = "1"  # test the installed pyuv, not one beside the tests
    command = [python, str(pathlib.Path(__file__).resolve()), "--run-file", path.stem]
    ending = None
    controller, terminal = pty.openpty()  # test_tty wants a terminal on stdin
    try:
        done = subprocess.run(
            command,
            cwd=path.parent,
            env=env,
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=FILE_TIMEOUT,
            check=False,
        )
        output = done.stdout.decode("utf-8", "replace")
        if done.returncode:
            ending = "CRASH"
    except subprocess.TimeoutExpired as expired:
        output = (expired.stdout or b"").decode("utf-8", "replace")
        ending = "TIMEOUT"
    finally:
        os.close(controller)
        os.close(terminal)
    log.write(f"==== {path.name}\n{output}\n")
    return parse(output, path.stem, ending)


def version_of(python: str) -> tuple[int, int]:
    """Ask an interpreter for its (major, minor) version."""
    code = "import sys; print(*sys.version_info[:2])"
    major, minor = subprocess.run(
        [python, "-c", code], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split()
    return int(major), int(minor)


def summarise(outcomes: dict[str, str]) -> list[str]:
    """Print the figures and the cases that did not pass; return those cases' names."""
    bad = sorted(case for case, outcome in outcomes.items() if outcome in BAD)
    counts = collections.Counter(outcomes.values())
    figures = ", ".join(f"{counts[word]} {word}" for word in ("ok", "skip", *BAD) if counts[word])
    print(f"{len(outcomes)} cases: {figures}")
    for case in bad:
        print(f"  {outcomes[case]:7} {case}")
    return bad


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("python", nargs="?", default=sys.executable, help="interpreter to test")
    parser.add_argument("--sdist", help="use this pyuv-1.4.0.tar.gz instead of downloading it")
    parser.add_argument("--log", help="write everything that the tests print to this file")
    parser.add_argument(
        "--expect", nargs="*", metavar="CASE", help="exit with 1 unless just these cases fail"
    )
    parser.add_argument("--run-file", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Build, run, report."""
    arguments = parse_arguments()
    if arguments.run_file:
        run_one_file(arguments.run_file)
        return 0
    version = version_of(arguments.python)
    with_header = version >= (3, 10)
    with tempfile.TemporaryDirectory(prefix="pyuv-suite-") as name:
        work = pathlib.Path(name)
        work.chmod(0o755)  # as root, test_process starts the interpreter as user `nobody`
        run([arguments.python, "-m", "venv", str(work / "venv")])
        python = str(work / "venv" / "bin" / "python")
        how = "with the header" if with_header else "without the header"
        print(f"{PYUV} on Python {version[0]}.{version[1]}, built {how}", flush=True)
        tree = fetch(python, arguments.sdist, work)
        build(python, tree, with_header)
        modernise(tree / "tests")
        outcomes: dict[str, str] = {}
        with pathlib.Path(arguments.log or os.devnull).open("w", encoding="utf-8") as log:
            for path in sorted((tree / "tests").glob("test_*.py")):
                outcomes.update(run_file(python, path, log))
    bad = summarise(outcomes)
    if arguments.expect is not None and bad != sorted(arguments.expect):
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
