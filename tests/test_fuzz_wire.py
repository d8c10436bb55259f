"""A short run of the fuzzing over the wire, always the same (`make fuzz-wire` is the long one)."""

from __future__ import annotations

import pytest

from fuzz.wire import ROLES, Settings, wage
from support import KINDS, time_limit

CONNECTIONS = 200


@pytest.mark.timeout(time_limit(60))
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", KINDS)
def test_hostile_bytes_harm_nobody_else(kind: str, role: str) -> None:
    if kind != "asyncio":
        pytest.importorskip(kind)
    said: list[str] = []
    settings = Settings(kind, role, seed=KINDS.index(kind), connections=CONNECTIONS, every=100)
    outcome = wage(settings, said.append)
    assert not outcome.faults, "\n".join(said)
    assert outcome.opened > CONNECTIONS // 10  # or little was tried
