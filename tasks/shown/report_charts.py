"""The report's three charts out of the rows of the tables: trait alignment by method, trait against coherence, training."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tasks.shown.charts import Axis, Line, Mark, Panel, Tick, polyline, rank

Row = Mapping[str, Any]
Names = Mapping[str, str]
SHARES = (0, 20, 40, 60, 80, 100)
ROW, PLOT = 26, (10.0, 230.0)  # the height of a method's row; the ends of the x axis of the alignment chart
BOX = (38.0, 292.0, 190.0, 12.0)  # left, right, bottom, top of the other charts


def attributes(rows: Iterable[Row]) -> list[str]:
    """Attribute keys, sorted: as everywhere in the report."""
    return sorted({row["attribute"] for row in rows})


def alignment(headline: Sequence[Row], style: Names) -> list[Panel]:
    """Per attribute, a row a method: TA@Cp with its interval, and where the prompt stands."""
    slugs = sorted({row["method"] for row in headline}, key=rank)
    x = Axis(0, 100, *PLOT)
    panels = []
    for attribute in attributes(headline):
        here = {row["method"]: row for row in headline if row["attribute"] == attribute and row["ta_cp"] is not None}
        lines = tuple(
            Line(here[slug]["name"], style[slug], "", (_dot(here[slug], x, i),))
            for i, slug in enumerate(slugs)
            if slug in here
        )
        guides = (Tick(x(here["prompt"]["ta_cp"]), "prompt"),) if "prompt" in here else ()
        panels.append(Panel(attribute.partition("/")[2] or attribute, lines, x.ticks((0, 25, 50, 75, 100)), (), guides))
    return panels


def _dot(row: Row, x: Axis, i: int) -> Mark:
    low, high = row["ta_cp_low"], row["ta_cp_high"]
    interval = "" if low is None or high is None else f" (95 % interval {low:.1f} to {high:.1f})"
    return Mark(
        x(row["ta_cp"]),
        ROW * i + ROW / 2,
        f"{row['name']}: {row['ta_cp']:.1f}{interval}",
        None if low is None else x(low),
        None if high is None else x(high),
    )


def coherence(curve: Sequence[Row], names: Names, style: Names) -> list[Panel]:
    """Per attribute: trait against coherence, a line a method along alpha, the prompt and the plain model as dots."""
    left, right, bottom, top = BOX
    known = [row for row in curve if None not in (row["trait"], row["coherence"])]
    lowest = min((int(row["coherence"] // 20 * 20) for row in known), default=0)
    x, y = Axis(min(lowest, 60), 100, left, right), Axis(0, 100, bottom, top)
    panels = []
    for attribute in attributes(known):
        here = [row for row in known if row["attribute"] == attribute]
        lines = []
        for slug in sorted({row["method"] for row in here}, key=rank):
            points = sorted((row for row in here if row["method"] == slug), key=lambda row: row["alpha"] or 0)
            marks = tuple(Mark(x(p["coherence"]), y(p["trait"]), _point(p, names)) for p in points)
            lines.append(Line(names[slug], style[slug], polyline([(m.x, m.y) for m in marks]), marks))
        panels.append(
            Panel(
                attribute.partition("/")[2] or attribute,
                tuple(lines),
                x.ticks(range(int(x.low), 101, 20)),
                y.ticks(SHARES),
                (Tick(x(80), "80"),),
            )
        )
    return panels


def _point(row: Row, names: Names) -> str:
    at = "" if row["alpha"] is None else f", alpha {row['alpha']:g}"
    return f"{names[row['method']]}{at}: trait {row['trait']:.1f}, coherence {row['coherence']:.1f} (n {row['n']})"


def training(curves: Sequence[Row], modules: Sequence[Row], names: Names, style: Names) -> list[Panel]:
    """Per attribute: the loss of every fitted module over its epochs, relative to its first, on a log scale."""
    left, right, bottom, top = BOX
    points: dict[str, list[Row]] = {}
    for row in curves:
        points.setdefault(row["module"], []).append(row)
    fitted = {key: sorted(rows, key=lambda r: r["epoch"]) for key, rows in points.items()}
    fitted = {key: rows for key, rows in fitted.items() if rows[0]["loss"] > 0}
    if not fitted:
        return []
    relative = {key: [row["loss"] / rows[0]["loss"] for row in rows] for key, rows in fitted.items()}
    lowest = min(0.1, *(min(values) for values in relative.values()))
    y = Axis(max(lowest, 1e-4), max(1.0, *(max(values) for values in relative.values())), bottom, top, log=True)
    last = max(row["epoch"] for rows in fitted.values() for row in rows)
    x = Axis(1, last, left, right)
    panels = []
    for attribute in attributes(modules):
        here = [module for module in modules if module["attribute"] == attribute and module["id"] in fitted]
        lines = []
        for module in sorted(here, key=lambda m: rank(m["method"])):
            pairs = zip(fitted[module["id"]], relative[module["id"]], strict=True)
            marks = tuple(Mark(x(row["epoch"]), y(value), _epoch(names[module["method"]], row)) for row, value in pairs)
            lines.append(
                Line(names[module["method"]], style[module["method"]], polyline([(m.x, m.y) for m in marks]), marks)
            )
        panels.append(
            Panel(
                attribute.partition("/")[2] or attribute,
                tuple(lines),
                x.ticks(_epochs(last)),
                y.ticks(v for v in (1, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001) if v >= y.low),
            )
        )
    return panels


def _epoch(name: str, row: Row) -> str:
    return f"{name}, epoch {row['epoch']}: loss {row['loss']:.4g}, dead gates {100 * row['dead']:.0f} %"


def _epochs(last: int) -> list[int]:
    return sorted({1, *range(last, 0, -max(1, last // 5))})
