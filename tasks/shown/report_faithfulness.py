"""The report's section on faithfulness: relative RMSE per layer, how many directions Δ has, how strong it is, how readable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import pyarrow as pa

from tasks.shown.drawing import Axis, Line, Mark, Panel
from tasks.shown.order import Names, Row, by_method, grouped, short
from tasks.shown.tables import Table, table

PARAPHRASE = "paraphrase"
KINDS = {"acc": "Δ_acc", "loc": "Δ_loc"}
SEEN = {"acc": "plain", "loc": "below"}  # the activation that a gate sees
LEVELS = {"p99": "m0", "p75": "m1", "p50": "m3", "p25": "m1", "p01": "m0"}
FIGURES = {  # table -> what names a figure, and the columns that are averaged over seeds
    "faithfulness": (["attribute", "method", "layer"], ["alpha", "relative_rmse"]),
    "delta": (["attribute", "kind", "layer", "r"], ["energy_share"]),
    "delta_strengths": (["attribute", "kind", "layer"], [*LEVELS, "spread"]),
    "readability": (["attribute", "kind", "reads", "reader", "layer"], ["r_squared"]),
}


def faithfulness(tables: Mapping[str, Sequence[Row]], names: Names, style: Names) -> dict[str, Any] | None:
    """Panels by figure, legends as (name, style), and the readability table; None where nothing was measured."""
    methods = {row["id"]: row["method"] for row in tables["modules"]} | {PARAPHRASE: PARAPHRASE}
    errors = [{**row, "method": methods[row["method"]]} for row in shown(tables["faithfulness"])]
    if not errors:
        return None
    rows, delta, strengths, readable = (
        over_seeds(name, errors if name == "faithfulness" else tables[name]) for name in FIGURES
    )
    names, style = {**names, PARAPHRASE: "prompt paraphrased (floor)"}, {**style, PARAPHRASE: "prompt"}
    layers = sorted({row["layer"] for row in rows})
    ranks = {r: f"m{i}" for i, (r, _) in enumerate(grouped(delta, "r"))}
    return {
        "errors": _errors(rows, names, style),
        "methods": [(names[slug], style[slug]) for slug, _ in by_method(rows)],
        "shares": _shares(delta, ranks),
        "ranks": [(f"r = {r}", look) for r, look in ranks.items()],
        "strengths": _strengths(strengths),
        "readable": _readable(readable, layers),
        "n": rows[0]["n"],
        "seeds": rows[0]["seeds"],
    }


def shown(rows: Sequence[Row]) -> list[Row]:
    """The rows at the alpha chosen at the prompt's coherence; at alpha 1 of the modules for which that is 0."""
    fitted = itemgetter("method", "seed")
    silent = {fitted(row) for row in rows if row["chosen"] and row["alpha"] == 0 and row["method"] != PARAPHRASE}
    drawn = [row for row in rows if (row["alpha"] == 1 if fitted(row) in silent else row["chosen"])]
    return [row for row in drawn if row["relative_rmse"] is not None]


def over_seeds(table: str, rows: Sequence[Row]) -> list[Row]:
    """A row for the rows of all seeds: the means of what is known, from the lowest end of their intervals to the highest
    (the draws behind them are not kept), n and `seeds` in all. One seed's rows keep their figures."""
    if not rows:
        return []
    keys, averaged = FIGURES[table]
    ends = [name for name in rows[0] if name.endswith(("low", "high"))]
    aggregations = [("n", "sum"), ("seed", "count"), *((name, "mean") for name in averaged)]
    aggregations += [(name, "min" if name.endswith("low") else "max") for name in ends]
    merged = pa.Table.from_pylist(rows).group_by(keys, use_threads=False).aggregate(aggregations)
    merged = merged.rename_columns([*keys, "n", "seeds", *averaged, *ends])
    return merged.sort_by([(key, "ascending") for key in keys]).to_pylist()  # type: ignore[no-any-return]


def _errors(rows: list[Row], names: Names, style: Names) -> list[Panel]:
    y = Axis("error", 0, min(2.0, max(1.0, *(row["relative_rmse"] for row in rows))))
    x = _layers(rows)

    def line(slug: str, own: list[Row]) -> Line:
        words = "{}" if slug == PARAPHRASE else "{}, alpha {alpha:.3g}"
        marks = [_mark(row, "relative_rmse", words.format(names[slug], **row)) for row in own]
        return Line(names[slug], style[slug], marks)

    panels = grouped(rows, "attribute")
    return [Panel(short(key), [line(*group) for group in by_method(own)], x, y) for key, own in panels]


def _shares(rows: list[Row], ranks: Mapping[int, str]) -> list[Panel]:
    x, y = _layers(rows), Axis("share", 0, 1)

    def line(r: int, here: list[Row]) -> Line:
        marks = [_mark(row, "energy_share", f"first {r}") for row in here if row["r"] == r]
        return Line(str(r), ranks[r], marks)

    panels = _by_kind(row for row in rows if row["energy_share"] is not None)
    return [Panel(title, [line(r, here) for r in ranks], x, y) for title, here in panels]


def _strengths(rows: list[Row]) -> list[Panel]:
    """Quantiles of token strengths per layer on a logarithmic scale; each dot's words say the spread."""
    low, high = min((row["p01"] for row in rows), default=1), max((row["p99"] for row in rows), default=1)
    x, y = _layers(rows), Axis("‖Δ‖", max(low, high / 1e5), high, log=True)

    def mark(row: Row, level: str) -> Mark:
        words = f"{level}, layer {row['layer']}: {row[level]:.3g}"
        if row["spread"] is not None:
            interval = _interval(row, row["spread_low"], row["spread_high"], ".0f")
            words += f"; 99th over 1st percentile {row['spread']:.0f}{interval}"
        return Mark(row["layer"], row[level], words)

    def line(level: str, here: list[Row]) -> Line:
        return Line(level, LEVELS[level], [mark(row, level) for row in here])

    return [Panel(title, [line(level, here) for level in LEVELS], x, y) for title, here in _by_kind(rows)]


def _readable(rows: list[Row], layers: list[int]) -> Table:
    """A row an attribute and kind: what a gate reads off the activation that it sees, layer by layer."""
    gates = [row for row in rows if row["reader"] == "gate" and row["reads"] == SEEN[row["kind"]]]
    lines = []
    for title, own in _by_kind(gates):
        cells = {row["layer"]: row for row in own}
        lines.append([title, *(_r_squared(cells.get(layer)) for layer in layers)])
    return table(("", *(f"layer {layer}" for layer in layers)), lines)


def _r_squared(row: Row | None) -> str:
    if row is None or row["r_squared"] is None:
        return "–"
    ends = "" if row["low"] is None else f"\n{row['low']:.2f} to {row['high']:.2f}"
    return f"{row['r_squared']:.2f}{ends}"


def _layers(rows: list[Row]) -> Axis:
    return Axis("layer", 0, max((row["layer"] for row in rows), default=0))


def _mark(row: Row, column: str, words: str) -> Mark:
    """A dot with its interval, where the row has one."""
    title = f"{words}, layer {row['layer']}: {row[column]:.3g}{_interval(row, row['low'], row['high'], '.3g')}"
    return Mark(row["layer"], row[column], title, row["low"], row["high"])


def _interval(row: Row, low: float | None, high: float | None, form: str) -> str:
    kind = "95 % interval" if row["seeds"] == 1 else f"95 % intervals of {row['seeds']} seeds:"
    return "" if low is None else f" ({kind} {low:{form}} to {high:{form}})"


def _by_kind(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    """(title, rows by layer) of each attribute and kind of Δ."""
    return [
        (f"{short(attribute)}, {KINDS[kind]}", here) for (attribute, kind), here in grouped(rows, "attribute", "kind")
    ]
