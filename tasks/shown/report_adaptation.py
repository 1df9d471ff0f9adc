"""The report's section on adaptation: what flows.adapt compared, one table; nothing when it never ran.

Only flows.adapt hands its rows to the page, not the report stage: what DVC calls reproducible has no seconds in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.studies.adaptation.table import COLUMNS, cells


def adaptation_section(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The rows by attribute, each with its cells as text; None without rows."""
    if not rows:
        return None
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["attribute"], []).append({"name": row["name"], "cells": cells(dict(row))})
    return {
        "columns": COLUMNS,
        "groups": list(groups.items()),
        "first": rows[0],
        "triplets": sorted({row["triplets"] for row in rows}),
        "answers": sorted({row["drift_answers"] for row in rows}),
    }
