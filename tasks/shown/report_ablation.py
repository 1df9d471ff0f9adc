"""The report's section on what goes beyond the paper: the ablation's rows, a table a benchmark; nothing when it never ran.

Only flows.ablate hands its rows to the page: it is no stage, and the page of the stages says nothing that they did not make.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.studies.ablation.goal import MARGIN, chosen, mean, variants_of, verdict, within
from tasks.studies.ablation.table import summary

Row = Mapping[str, Any]


def ablation_sections(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A benchmark each: its attributes, and a line a variant, best on the search questions first."""
    return [
        _section([dict(row) for row in rows], name) for name in MARGIN if any(row["benchmark"] == name for row in rows)
    ]


def _section(rows: list[dict[str, Any]], benchmark: str) -> dict[str, Any]:
    found, best = variants_of(rows, benchmark), chosen(rows, benchmark)
    attributes = sorted({row["attribute"] for row in rows if row["benchmark"] == benchmark})
    ordered = sorted(found, key=lambda name: -mean(found[name], "ahead_search"))
    return {
        "benchmark": benchmark,
        "attributes": attributes,
        "summary": summary(rows, benchmark),
        "seeds": max(row["seeds"] for row in rows),
        "measure": "strict accuracy at α = 1" if benchmark == "ifeval" else "trait alignment at the prompt's coherence",
        "lines": [_line(name, found[name], attributes, name == best) for name in ordered],
    }


def _line(name: str, rows: Sequence[Row], attributes: Sequence[str], best: bool) -> dict[str, Any]:
    by_attribute = {row["attribute"]: row for row in rows}
    cells = [{**by_attribute[attribute], "verdict": verdict(by_attribute[attribute])} for attribute in attributes]
    return {
        "variant": name,
        "first": rows[0],
        "best": best,
        "cells": cells,
        "searched": mean(rows, "ahead_search"),
        "mean": mean(rows, "ahead"),
        "coherence": mean(rows, "coherence"),
        "prompt_coherence": mean(rows, "prompt_coherence"),
        "within": sum(map(within, rows)),
        "of": len(rows),
    }
