"""docs/ev-websockets.md: every promise has its tests, and they are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

_TESTS = Path(__file__).resolve().parent
_TABLE = _TESTS.parent / "docs" / "ev-websockets.md"
_REFERENCE = re.compile(r"`(test_\w+\.py)::(test_\w+)`")
_CELL = re.compile(r"(?<!\\)\|")


def rows() -> list[list[str]]:
    """Return the cells of each row, without the heads of the tables."""
    lines = [line for line in _TABLE.read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in _CELL.split(line)[1:-1]] for line in lines]
    return [each for each in cells if each[0] != "EV::Websockets" and set(each[0]) != {"-"}]


def functions(file: str) -> set[str]:
    """Return the names of the functions in a file of tests; none where there is no such file."""
    path = _TESTS / file
    if not path.exists():
        return set()
    tree = ast.parse(path.read_text())
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


def test_every_test_that_is_named_exists() -> None:
    named = {match.groups() for match in _REFERENCE.finditer(_TABLE.read_text())}
    assert len(named) > 50
    assert sorted(f"{file}::{name}" for file, name in named if name not in functions(file)) == []


def test_every_row_has_three_cells_and_a_test_or_a_reason() -> None:
    assert len(rows()) > 50
    for cells in rows():
        assert len(cells) == 3, cells
        assert cells[1], cells
        assert _REFERENCE.search(cells[2]) or re.match(r"none: \w", cells[2])


def test_nothing_that_looks_like_a_test_is_left_unchecked() -> None:
    rest = _REFERENCE.sub("", "\n".join(cells[2] for cells in rows()))
    assert "test_" not in rest
