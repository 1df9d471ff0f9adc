"""What DVC and git keep of the figures: the README's table, a screenful of metrics, and two plots.

headline.json                  traits at matched coherence, every method with its intervals: committed, the README's table
metrics.json                   means of a benchmark's main figure for plain, prompt and the best method: `dvc metrics show|diff`
plots/trait_coherence.csv      trait against coherence along α, on the search questions: `dvc plots show|diff`
plots/training.csv             the loss of every module over its epochs, relative to its first
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.figures.entries import FACTS
from tasks.tables.modules import module_rows
from tasks.tables.parquet import read_curves, read_table

Row = dict[str, Any]
MATCHED = ("ta_cp", "ta_cp2", "ta_c80")  # persona's figures, each at its own strength
COLUMNS = ("value", "low", "high", "coherence", "alpha")
UNSTEERED = ("plain", "prompt")


def write_summaries(results: Path, distill: Path, out: Path) -> None:
    """Write all of them into the profile's folder `out`."""
    figures = read_table(results / "figures.parquet", "figures")
    measures = read_table(results / "measures.parquet", "measures")
    for name, content in (("headline", headline(figures)), ("metrics", metrics(figures, measures))):
        (out / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    points = read_table(results / "curve.parquet", "curve")
    _write_csv(out / "plots/trait_coherence.csv", ("attribute", "method", "step", "coherence", "trait"), along(points))
    _write_csv(out / "plots/training.csv", ("attribute", "method", "step", "epoch", "loss"), training(distill))


def headline(figures: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """attribute -> method -> persona's figures, rounded to what their intervals can carry."""
    tree: dict[str, dict[str, Row]] = {}
    for row in figures:
        if row["benchmark"] == "persona":
            empty = {key: None for figure in MATCHED for key in _keys(figure).values()}
            own = tree.setdefault(row["attribute"], {}).setdefault(row["method"], {"name": row["name"], **empty})
            own |= {key: _rounded(row[column]) for column, key in _keys(row["figure"]).items()}
            if row["favoured"]:
                own["favoured"] = True
            if row["figure"] == "ta_cp":
                own |= {name: row[name] for name in ("n", "n_unscored")}
    return tree


def figures_of_headline(tree: Mapping[str, Mapping[str, Row]]) -> Iterator[Row]:
    """The rows of `figures` that `headline` wrote down: what it left out is empty."""
    for attribute, methods in tree.items():
        for position, (method, row) in enumerate(methods.items()):
            whose = {"benchmark": "persona", "model": "", "attribute": attribute, "method": method, "name": row["name"]}
            for figure in (key for key in row if f"{key}_low" in row):
                values = {column: row[key] for column, key in _keys(figure).items()}
                counts = {name: row[name] for name in ("n", "n_unscored")}
                facts = {**dict.fromkeys((*FACTS, "module")), "position": position, "reached": True, "seeds": 1,
                         "favoured": row.get("favoured", False)}  # fmt: skip
                yield {**whose, **facts, "figure": figure, **values, **counts}


def _keys(figure: str) -> dict[str, str]:
    """column of `figures` -> its key in the headline: ta_cp, ta_cp_low, ta_cp_high, coherence_cp, alpha_cp."""
    suffix = figure.removeprefix("ta_")
    return dict(
        zip(COLUMNS, (figure, f"{figure}_low", f"{figure}_high", f"coherence_{suffix}", f"alpha_{suffix}"), strict=True)
    )


def metrics(figures: Sequence[Row], measures: Sequence[Row]) -> dict[str, float]:
    """The main figure of each benchmark and ta_cp2 beside ta_cp, means over attributes: of plain, of the prompt, and of the
    method that is best without the prompt."""
    values: dict[str, float] = {}
    shown = [row for row in measures if row["position"] == 0 or row["figure"] == "ta_cp2"]
    for benchmark, figure in ((row["benchmark"], row["figure"]) for row in shown):
        own = [row for row in figures if (row["benchmark"], row["figure"]) == (benchmark, figure)]
        attributes = {row["attribute"] for row in own}
        by_method: dict[str, list[float]] = {}
        for row in own:
            if row["value"] is not None:
                by_method.setdefault(row["method"], []).append(row["value"])
        means = {slug: sum(found) / len(found) for slug, found in by_method.items() if len(found) == len(attributes)}
        steered = [mean for slug, mean in means.items() if slug not in UNSTEERED and not slug.endswith("+prompt")]
        known = {slug: means[slug] for slug in UNSTEERED if slug in means} | ({"best": max(steered)} if steered else {})
        values |= {f"{benchmark} {figure} {name}": round(mean, 3) for name, mean in known.items()}
    return values


def along(points: Sequence[Row]) -> Iterator[Row]:
    """The curves of the first repetition; step: α."""
    first = min((row["seed"] for row in points), default=None)
    for row in points:
        if row["seed"] == first and row["alpha"] is not None:
            yield {**row, "step": row["alpha"]}


def training(distill: Path) -> Iterator[Row]:
    """The losses of the modules of the first seed; step: the epoch."""
    modules = [row for row in module_rows(distill) if row["seed"] is not None]
    first = min((row["seed"] for row in modules), default=None)
    curves = read_curves(distill / "curves.parquet")
    for module in (row for row in modules if row["seed"] == first):
        points = curves.get(module["id"], ())
        for point in points:
            if points[0].loss > 0:
                yield {**module, "step": point.epoch, "epoch": point.epoch, "loss": point.loss / points[0].loss}


def _write_csv(path: Path, columns: Sequence[str], rows: Iterator[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _rounded(row[name], 4) for name in columns} for row in rows)


def _rounded(value: Any, digits: int = 2) -> Any:
    return round(value, digits) if isinstance(value, float) else value
