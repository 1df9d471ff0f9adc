"""The report's section on speed: what flows.bench measured, a table a device; nothing when it never ran.

Only flows.bench hands its rows to the page, not the report stage: what DVC calls reproducible has no timings in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def speed_sections(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the table bench by device, each with what it ran on and how many of its goals are met."""
    devices = list(dict.fromkeys(row["device"] for row in rows))
    return [_section([row for row in rows if row["device"] == device]) for device in devices]


def _section(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    judged = [row["verdict"] for row in rows if row["verdict"]]
    return {"rows": rows, "machine": rows[0], "met": judged.count("met"), "judged": len(judged)}
