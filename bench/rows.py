"""All that can be measured, by name, in the order of the tables."""

from __future__ import annotations

import aiorows
import asgirows
import clientrows
import echo
import idle
import memory
import roundtriprows
import serverrows

ROWS = {
    row.name: row
    for module in (echo, clientrows, roundtriprows, serverrows, aiorows, asgirows)
    for row in module.ROWS
}
SURVEYS = {survey.name: survey for survey in (*idle.SURVEYS, *memory.SURVEYS)}
NAMES = (*ROWS, *SURVEYS)
# One row of each kind: with one round of all peers, two minutes.
QUICK = (
    *("64B-1", "64B-32", "16K", "1M", "tls-64B-32", "tls-64K", "deflate-1K", "client-64B"),
    *("client-64K", "roundtrip", "opening", "broadcast"),
)
