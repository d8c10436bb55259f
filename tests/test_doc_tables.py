"""The tables in docs: what each of them promises has its tests, and they are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

_TESTS = Path(__file__).resolve().parent
_DOCS = _TESTS.parent / "docs"
_REFERENCE = re.compile(r"`(test_\w+\.py)::(test_\w+)`")
_CELL = re.compile(r"(?<!\\)\|")

# The first cells of the tables' heads, and how many cells their rows have; the last is the proof.
PAGES = {"ev-websockets.md": ("EV::Websockets", 3), "conformance.md": ("requirement", 4)}

by_page = pytest.mark.parametrize("page", PAGES)


def rows(page: str) -> list[list[str]]:
    """Return the cells of each row, without the heads of the tables."""
    head, _ = PAGES[page]
    lines = [line for line in (_DOCS / page).read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in _CELL.split(line)[1:-1]] for line in lines]
    return [each for each in cells if each[0] != head and set(each[0]) != {"-"}]


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


@pytest.mark.parametrize("page", [path.name for path in sorted(_DOCS.glob("*.md"))])
def test_every_test_that_a_page_names_exists(page: str) -> None:
    named = {match.groups() for match in _REFERENCE.finditer((_DOCS / page).read_text())}
    assert sorted(f"{file}::{name}" for file, name in named if name not in functions(file)) == []


@by_page
def test_every_row_has_all_its_cells_and_a_test_or_a_reason(page: str) -> None:
    assert len(rows(page)) > 50
    for cells in rows(page):
        assert len(cells) == PAGES[page][1], cells
        assert all(cells[1:]), cells
        assert _REFERENCE.search(cells[-1]) or re.match(r"none: \w", cells[-1]), cells


@by_page
def test_nothing_that_looks_like_a_test_is_left_unchecked(page: str) -> None:
    rest = _REFERENCE.sub("", "\n".join(cells[-1] for cells in rows(page)))
    assert "test_" not in rest


def test_every_requirement_has_a_level() -> None:
    assert {cells[1] for cells in rows("conformance.md")} == {"MUST", "SHOULD"}


def test_every_patch_that_is_named_exists() -> None:
    patches = {path.name[:4] for path in _TESTS.parent.glob("csrc/lws-patches/*.patch")}
    named = re.findall(r"\b00\d\d\b", (_DOCS / "conformance.md").read_text())
    assert named
    assert sorted(set(named) - patches) == []
