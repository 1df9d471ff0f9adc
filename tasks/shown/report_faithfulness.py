"""The report's section on faithfulness: relative RMSE per layer, how many directions Δ has, how strong it is, how readable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from tasks.shown.charts import Axis, Line, Mark, Panel, polyline, rank
from tasks.shown.report_charts import BOX, attributes

Row = Mapping[str, Any]
Names = Mapping[str, str]
PARAPHRASE = "paraphrase"
KINDS = {"acc": "Δ_acc", "loc": "Δ_loc"}
LEVELS = {"p99": "m0", "p75": "m1", "p50": "m3", "p25": "m1", "p01": "m0"}
SHARES = (0, 0.2, 0.4, 0.6, 0.8, 1)
FIGURES = {  # table -> what names a figure, and the columns that are averaged over seeds
    "faithfulness": (("attribute", "method", "layer"), ("alpha", "relative_rmse")),
    "delta": (("attribute", "kind", "layer", "r"), ("energy_share",)),
    "delta_strengths": (("attribute", "kind", "layer"), (*LEVELS, "spread")),
    "readability": (("attribute", "kind", "reads", "reader", "layer"), ("r_squared",)),
}


@dataclass(frozen=True)
class Section:
    """Panels by figure, the legend of the first two (name, style), and the rows of the readability table."""

    errors: tuple[Panel, ...]
    methods: tuple[tuple[str, str], ...]
    shares: tuple[Panel, ...]
    ranks: tuple[tuple[str, str], ...]
    strengths: tuple[Panel, ...]
    layers: tuple[int, ...]
    readable: tuple[tuple[str, tuple[Row | None, ...]], ...]
    n: int
    seeds: int


def faithfulness(tables: Mapping[str, Sequence[Row]], names: Names, style: Names) -> Section | None:
    """The section out of the tables' rows by name; None where nothing was measured."""
    methods = {row["id"]: row["method"] for row in tables["modules"]} | {PARAPHRASE: PARAPHRASE}
    rows = over_seeds(
        "faithfulness", [{**row, "method": methods[row["method"]]} for row in shown(tables["faithfulness"])]
    )
    if not rows:
        return None
    delta, strengths, readable = (
        over_seeds(name, tables[name]) for name in ("delta", "delta_strengths", "readability")
    )
    look = {**style, PARAPHRASE: "prompt"}
    called = {**names, PARAPHRASE: "prompt paraphrased (floor)"}
    drawn = sorted({row["method"] for row in rows}, key=rank)
    layers = tuple(sorted({row["layer"] for row in rows}))
    ranks = sorted({row["r"] for row in delta})
    return Section(
        tuple(_errors(rows, called, look)),
        tuple((called[slug], look[slug]) for slug in drawn),
        tuple(_shares(delta, ranks)),
        tuple((f"r = {r}", f"m{i}") for i, r in enumerate(ranks)),
        tuple(_strengths(strengths)),
        layers,
        tuple(_readable(readable, layers)),
        rows[0]["n"],
        rows[0]["seeds"],
    )


def shown(rows: Sequence[Row]) -> list[Row]:
    """The rows at the alpha chosen at the prompt's coherence; at alpha 1 of the modules for which that is 0."""
    silent = {
        (row["method"], row["seed"])
        for row in rows
        if row["chosen"] and row["alpha"] == 0 and row["method"] != PARAPHRASE
    }
    return [
        row
        for row in rows
        if row["relative_rmse"] is not None
        and (row["alpha"] == 1 if (row["method"], row["seed"]) in silent else row["chosen"])
    ]


def over_seeds(table: str, rows: Sequence[Row]) -> list[Row]:
    """A row for the rows of all seeds: the means of what is known, from the lowest end of their intervals to the highest
    (the draws behind them are not kept), n and `seeds` in all. One seed's rows keep their figures."""
    names, averaged = FIGURES[table]
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    ends = [name for name in rows[0] if name.endswith(("low", "high"))] if rows else []
    return [
        {
            **{name: group[0][name] for name in names},
            "n": sum(row["n"] for row in group),
            "seeds": len(group),
            **{name: _known(fmean, group, name) for name in averaged},
            **{name: _known(min if name.endswith("low") else max, group, name) for name in ends},
        }
        for group in groups.values()
    ]


def _known(of: Callable[[Sequence[float]], float], rows: Sequence[Row], column: str) -> float | None:
    values = [row[column] for row in rows if row[column] is not None]
    return of(values) if values else None


def _axes(rows: Sequence[Row], y: Axis) -> tuple[Axis, Axis]:
    last = max(row["layer"] for row in rows)
    return Axis(0, last, BOX[0] + 8, BOX[1] - 8), y


def _layer_ticks(rows: Sequence[Row]) -> list[int]:
    last = max(row["layer"] for row in rows)
    return list(range(0, last + 1, max(1, -(-last // 8))))


def _line(name: str, style: str, marks: Sequence[Mark]) -> Line:
    return Line(name, style, polyline([(mark.x, mark.y) for mark in marks]), tuple(marks))


def _mark(row: Row, column: str, x: Axis, y: Axis, words: str) -> Mark:
    """A dot with its interval, where the row has one."""
    low, high = row["low"], row["high"]
    told = "" if low is None else f" ({_kind(row)} {low:.3g} to {high:.3g})"
    return Mark(
        x(row["layer"]),
        y(row[column]),
        f"{words}, layer {row['layer']}: {row[column]:.3g}{told}",
        None if low is None else y(low),
        None if high is None else y(high),
    )


def _kind(row: Row) -> str:
    """What its ends are."""
    return "95 % interval" if row["seeds"] == 1 else f"95 % intervals of {row['seeds']} seeds:"


def _errors(rows: Sequence[Row], names: Names, style: Names) -> list[Panel]:
    top = min(2.0, max(1.0, *(row["relative_rmse"] for row in rows)) + 0.05)
    x, y = _axes(rows, Axis(0, top, BOX[2], BOX[3]))
    panels = []
    for attribute in attributes(rows):
        here = [row for row in rows if row["attribute"] == attribute]
        lines = []
        for slug in sorted({row["method"] for row in here}, key=rank):
            marks = [
                _mark(
                    row,
                    "relative_rmse",
                    x,
                    y,
                    names[slug] if slug == PARAPHRASE else f"{names[slug]}, alpha {row['alpha']:.3g}",
                )
                for row in here
                if row["method"] == slug
            ]
            lines.append(_line(names[slug], style[slug], marks))
        ticks = y.ticks(value for value in (0, 0.25, 0.5, 0.75, 1, 1.5, 2) if value <= top)
        panels.append(Panel(_short(attribute), tuple(lines), x.ticks(_layer_ticks(rows)), ticks))
    return panels


def _shares(rows: Sequence[Row], ranks: Sequence[int]) -> list[Panel]:
    panels = []
    for attribute, kind, here in _by_kind([row for row in rows if row["energy_share"] is not None]):
        x, y = _axes(rows, Axis(0, 1, BOX[2], BOX[3]))
        lines = [
            _line(str(r), f"m{i}", [_mark(row, "energy_share", x, y, f"first {r}") for row in here if row["r"] == r])
            for i, r in enumerate(ranks)
        ]
        panels.append(
            Panel(f"{_short(attribute)}, {KINDS[kind]}", tuple(lines), x.ticks(_layer_ticks(rows)), y.ticks(SHARES))
        )
    return panels


def _strengths(rows: Sequence[Row]) -> list[Panel]:
    """Quantiles of token strengths per layer on a logarithmic scale; the median's words say the spread."""
    low, high = min((row["p01"] for row in rows), default=1), max((row["p99"] for row in rows), default=1)
    panels = []
    for attribute, kind, here in _by_kind(rows):
        x, y = _axes(rows, Axis(max(low, high / 1e5), high, BOX[2], BOX[3], log=True))
        lines = [
            _line(name, style, [Mark(x(row["layer"]), y(row[name]), _strength(row, name)) for row in here])
            for name, style in LEVELS.items()
        ]
        ticks = y.ticks(value for value in (0.001, 0.01, 0.1, 1, 10, 100, 1000, 1e4) if y.low <= value <= high)
        panels.append(Panel(f"{_short(attribute)}, {KINDS[kind]}", tuple(lines), x.ticks(_layer_ticks(rows)), ticks))
    return panels


def _strength(row: Row, name: str) -> str:
    words = f"{name}, layer {row['layer']}: {row[name]:.3g}"
    if row["spread"] is None:
        return words
    interval = (
        "" if row["spread_low"] is None else f" ({_kind(row)} {row['spread_low']:.0f} to {row['spread_high']:.0f})"
    )
    return f"{words}; 99th over 1st percentile {row['spread']:.0f}{interval}"


def _readable(rows: Sequence[Row], layers: Sequence[int]) -> list[tuple[str, tuple[Row | None, ...]]]:
    """A row an attribute and kind: what a gate reads off the activation that it sees, layer by layer."""
    seen = {"acc": "plain", "loc": "below"}
    found = []
    for attribute, kind, here in _by_kind(
        [row for row in rows if row["reader"] == "gate" and seen[row["kind"]] == row["reads"]]
    ):
        by_layer = {row["layer"]: row for row in here}
        found.append((f"{_short(attribute)}, {KINDS[kind]}", tuple(by_layer.get(layer) for layer in layers)))
    return found


def _by_kind(rows: Sequence[Row]) -> list[tuple[str, str, list[Row]]]:
    """(attribute, kind, its rows by layer), sorted."""
    keys = sorted({(row["attribute"], row["kind"]) for row in rows})
    return [
        (
            attribute,
            kind,
            sorted(
                (row for row in rows if (row["attribute"], row["kind"]) == (attribute, kind)),
                key=lambda row: row["layer"],
            ),
        )
        for attribute, kind in keys
    ]


def _short(attribute: str) -> str:
    return attribute.partition("/")[2] or attribute
