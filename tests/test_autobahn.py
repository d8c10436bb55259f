"""Autobahn's wstest against both roles: the quick subset of what `make autobahn` runs."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from conformance.plan import QUICK, QUICK_COUNT
from conformance.python2 import NoPython2Error, environment, find_python2
from conformance.suite import Outcome, Run, Verdict, run_suite
from support.deadlines import time_limit

_SECONDS = 300


@pytest.fixture(scope="module")
def python2() -> Path:
    """The interpreter with wstest; without a Python 2.7 the tests are skipped."""
    try:
        return environment()
    except NoPython2Error as error:
        pytest.skip(str(error))


@pytest.mark.timeout(time_limit(2 * _SECONDS))
@pytest.mark.parametrize(("role", "loop"), [("server", "uvloop"), ("client", "asyncio")])
def test_wstest_finds_no_fault(role: str, loop: str, python2: Path, tmp_path: Path) -> None:
    outcome = run_suite(
        Run(role, "plain", loop),
        python2=python2,
        cases=QUICK,
        directory=tmp_path / "wstest",
        timeout=time_limit(_SECONDS),
    )
    assert outcome.bad == []
    assert len(outcome.verdicts) == len(outcome.wanted) == QUICK_COUNT
    assert outcome.missing == []


# --- The tool itself ------------------------------------------------------------------------------

_RUN = Run("server", "plain", "uvloop")
_GOOD = Verdict((1, 1, 1), "NON-STRICT", "OK", "")


@pytest.mark.parametrize(
    ("wanted", "verdicts"),
    [
        ((), ()),
        (("1.1.1", "1.1.2"), (_GOOD,)),
        (("1.1.1",), (dataclasses.replace(_GOOD, behavior="UNIMPLEMENTED"),)),
        (("1.1.1",), (dataclasses.replace(_GOOD, closing="UNCLEAN"),)),
    ],
    ids=["nothing was run", "one was not run", "bad behaviour", "bad closing"],
)
def test_what_is_no_success(wanted: tuple[str, ...], verdicts: tuple[Verdict, ...]) -> None:
    assert not Outcome(_RUN, frozenset(wanted), verdicts, 1.0).is_good


def test_a_success_is_one() -> None:
    assert Outcome(_RUN, frozenset({"1.1.1"}), (_GOOD,), 1.0).is_good


def test_another_python_is_not_taken_for_2_7(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON2", sys.executable)
    with pytest.raises(NoPython2Error, match=r"is no Python 2\.7\. .*pyenv install 2\.7\.18"):
        find_python2()


def test_a_shim_without_a_python_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shim = tmp_path / "python2.7"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.delenv("PYTHON2", raising=False)
    with pytest.raises(NoPython2Error, match="PYTHON2=/path/to"):
        find_python2()
