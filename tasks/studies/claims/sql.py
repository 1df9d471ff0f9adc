"""The questions of claims.sql beside this file with their places filled, each on one line for `python -m flows.sql "…"`."""

from __future__ import annotations

import re
from pathlib import Path

from psr.evaluation.claims import Contrast

FILE = Path(__file__).with_name("claims.sql")


def question(name: str, **places: object) -> str:
    """The question called `name`, filled, on one line."""
    found = re.search(
        rf"^-- name: {name}\n(.*?)(?=^-- name: |\Z)", FILE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    if found is None:
        raise KeyError(name)
    return " ".join(found[1].format(**places).split())


def contrast_question(contrast: Contrast, view: str, profile: str) -> str:
    """The mean difference of two methods: over seeds, then over attributes, where the prompt is in its range."""
    scale = "" if contrast.scale == 1 else f"{contrast.scale:g} * "
    having = ""
    if contrast.prompt is not None:
        low, high = contrast.prompt
        having = " " + question("having", scale=scale, column=contrast.column, low=f"{low:g}", high=f"{high:g}")
    return question(
        "contrast",
        scale=scale,
        column=contrast.column,
        view=view,
        profile=profile,
        ours=contrast.higher,
        other=contrast.lower,
        having=having,
    )


def method_sql(method: str) -> str:
    """SQL for tasks.studies.claims.faithfulness.slug_on: f.attribute's own span where the method's name ends in none."""
    return f"'{method}'" if method.endswith("r") else f"'{method}-' || if(f.attribute LIKE 'persona/%', 'qr', 'r')"
