"""The JSON file of results: rows measured at different times stand beside each other in it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness import YARDSTICK, BenchError
from measuring import Measured, Plan, Sample

# Raised when the file changes its form: an older one is then not merged with.
FORM = 2


def _comparable(environment: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in environment.items() if name != "date"}


class Results:
    """What has been measured: of each row the last run, with what that depended on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, dict[str, Any]] = {}
        self._surveys: dict[str, dict[str, Any]] = {}
        if path.exists():
            self._load()

    def _load(self) -> None:
        try:
            content = json.loads(self.path.read_text())
            if content["form"] == FORM:
                self._rows, self._surveys = content["rows"], content["surveys"]
                return
        except (ValueError, KeyError, TypeError):
            pass
        raise BenchError(f"{self.path} is no file of results of this version; take it away")

    def save(self) -> None:
        """Write the file; whoever reads it meanwhile sees the old one."""
        content = {
            "form": FORM,
            "yardstick": YARDSTICK,
            "rows": self._rows,
            "surveys": self._surveys,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(content, indent=1) + "\n")
        new.replace(self.path)

    def begin_row(
        self, name: str, environment: dict[str, Any], plan: dict[str, Any], *, resume: bool
    ) -> None:
        """Forget what is known of a row.

        Args:
            name: The row's.
            environment: What the figures depend on.
            plan: How much is to be measured.
            resume: Keep what was measured under the same conditions.
        """
        old = self._rows.get(name)
        same = (
            old is not None
            and old["plan"] == plan
            and _comparable(old["environment"]) == _comparable(environment)
        )
        if old is not None and resume and same:
            old["failures"] = []
        else:
            self._rows[name] = {
                "environment": environment,
                "plan": plan,
                "samples": [],
                "failures": [],
            }

    def add(self, sample: Sample) -> None:
        """Take in a measurement of a row that was begun."""
        self._rows[sample.row]["samples"].append(sample.as_json())

    def fail(self, row: str, why: str) -> None:
        """Take in that one failed."""
        self._rows[row]["failures"].append(why)

    def begin_survey(self, name: str, environment: dict[str, Any], *, resume: bool) -> None:
        """Forget what is known of a survey; see `begin_row`."""
        old = self._surveys.get(name)
        same = old is not None and _comparable(old["environment"]) == _comparable(environment)
        if old is not None and resume and same:
            old["failures"] = []
        else:
            self._surveys[name] = {"environment": environment, "results": [], "failures": []}

    def add_survey(self, name: str, found: Iterable[dict[str, Any]]) -> None:
        """Take in what one peer's part of a survey found."""
        self._surveys[name]["results"].extend(found)

    def fail_survey(self, name: str, why: str) -> None:
        """Take in that one failed."""
        self._surveys[name]["failures"].append(why)

    def has_row(self, name: str) -> bool:
        """Whether anything was measured in a row."""
        return name in self._rows and bool(self._rows[name]["samples"])

    def plan(self, row: str) -> Plan:
        """How much was measured in a row."""
        known = self._rows[row]["plan"]
        return Plan(**{name: known[name] for name in Plan.__dataclass_fields__})

    def samples(self) -> list[Sample]:
        """Everything measured in rows."""
        return [
            Sample(
                each["round"],
                each["row"],
                each["peer"],
                Measured(**{name: each[name] for name in Measured.__dataclass_fields__}),
            )
            for row in self._rows.values()
            for each in row["samples"]
        ]

    def survey(self, name: str) -> list[dict[str, Any]]:
        """What a survey found, nothing if it was not made."""
        found: list[dict[str, Any]] = self._surveys.get(name, {}).get("results", [])
        return found

    def environments(self) -> list[dict[str, Any]]:
        """The different ones in which it all was measured; the date of each is its last."""
        found: list[dict[str, Any]] = []
        for entry in (*self._rows.values(), *self._surveys.values()):
            new = entry["environment"]
            for index, old in enumerate(found):
                if _comparable(old) == _comparable(new):
                    found[index] = max(old, new, key=lambda each: str(each["date"]))
                    break
            else:
                found.append(new)
        return found

    def failures(self) -> list[str]:
        """All that went wrong in what is kept."""
        return [
            why
            for entry in (*self._rows.values(), *self._surveys.values())
            for why in entry["failures"]
        ]
