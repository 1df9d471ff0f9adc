"""The report's charts: trait alignment by method, trait against coherence, training, turns. drawing.py draws them."""

from collections.abc import Iterable, Sequence
from operator import itemgetter

from tasks.shown.drawing import Axis, Line, Mark, Panel
from tasks.shown.order import Names, Row, by_method, grouped, short


def alignment(figures: Sequence[Row], style: Names) -> list[Panel]:
    """Per attribute, a row a method: its figure (value) with its interval, and where the prompt stands."""
    place = {slug: i for i, (slug, _) in enumerate(by_method(figures))}
    x = trait_axis("", (row[name] for row in figures for name in ("value", "low", "high")))
    y = Axis("", -0.5, len(place) - 0.5)

    def line(row: Row) -> Line:
        low, high = row["low"], row["high"]
        interval = "" if low is None or high is None else f" (95 % interval {low:.1f} to {high:.1f})"
        words = f"{row['name']}: {row['value']:.1f}{interval}"
        return Line(row["name"], style[row["method"]], [Mark(row["value"], place[row["method"]], words, low, high)])

    panels = []
    for attribute, own in grouped(figures, "attribute"):
        measured = [row for _, (row, *_) in by_method(own) if row["value"] is not None]
        prompt = next((row["value"] for row in measured if row["method"] == "prompt"), None)
        panels.append(Panel(short(attribute), [line(row) for row in measured], x, y, prompt))
    return panels


def trait_axis(label: str, values: Iterable[float | None]) -> Axis:
    """0 to 100; where a judge without ends went beyond, as far as that, and at most half as far again."""
    known = [value for value in values if value is not None]
    return Axis(label, max(-50, min([0, *known])), min(150, max([100, *known])))


def coherence(curve: Sequence[Row], names: Names, style: Names) -> list[Panel]:
    """Per attribute: trait against coherence, a line a method along alpha, the prompt and the plain model as dots."""
    measured = [row for row in curve if None not in (row["trait"], row["coherence"])]
    lowest = min((row["coherence"] // 20 * 20 for row in measured), default=0)
    x, y = Axis("coherence", min(lowest, 60), 100), trait_axis("trait", (row["trait"] for row in measured))

    def mark(row: Row) -> Mark:
        alpha = "" if row["alpha"] is None else f", alpha {row['alpha']:g}"
        figures = f"trait {row['trait']:.1f}, coherence {row['coherence']:.1f} (n {row['n']})"
        return Mark(row["coherence"], row["trait"], f"{names[row['method']]}{alpha}: {figures}")

    def line(slug: str, rows: list[Row]) -> Line:
        return Line(names[slug], style[slug], [mark(row) for row in sorted(rows, key=lambda row: row["alpha"] or 0)])

    return [
        Panel(short(attribute), [line(*group) for group in by_method(own)], x, y, 80)
        for attribute, own in grouped(measured, "attribute")
    ]


def training(curves: Sequence[Row], modules: Sequence[Row], names: Names, style: Names) -> list[Panel]:
    """Per attribute: the loss of every fitted module over its epochs, relative to its first, on a log scale."""
    of_module = dict(grouped(sorted(curves, key=itemgetter("epoch")), "module"))
    fitted = {
        module: [{**row, "relative": row["loss"] / rows[0]["loss"]} for row in rows]
        for module, rows in of_module.items()
        if rows[0]["loss"] > 0
    }
    if not fitted:
        return []
    points = [row for rows in fitted.values() for row in rows]
    losses, last = [row["relative"] for row in points], max(row["epoch"] for row in points)
    x = Axis("epoch", 1, last)
    y = Axis("loss", max(min(0.1, *losses), 1e-4), max(1.0, *losses), log=True)

    def line(module: Row) -> Line:
        name = names[module["method"]]
        words = "{}, epoch {epoch}: loss {loss:.4g}, dead gates {percent:.0f} %"
        marks = [
            Mark(row["epoch"], row["relative"], words.format(name, percent=100 * row["dead"], **row))
            for row in fitted[module["id"]]
        ]
        return Line(name, style[module["method"]], marks)

    panels = []
    for attribute, own in grouped(modules, "attribute"):
        drawn = [line(row) for _, of_method in by_method(own) for row in of_method if row["id"] in fitted]
        panels.append(Panel(short(attribute), drawn, x, y))
    return panels


def turns(rows: Sequence[Row], style: Names) -> list[Panel]:
    """Per attribute, effect and coherence in each turn of a conversation: a line a method of the table side_effects."""
    known = [row for row in rows if row["turn"] and row["value"] is not None]
    x = Axis("turn", 1, max((row["turn"] for row in known), default=1))

    def line(slug: str, own: list[Row]) -> Line:
        words = "{name}, turn {turn}: {value:.1f} (95 % interval {low:.1f} to {high:.1f}, n {n})"
        ordered = sorted(own, key=itemgetter("turn"))
        marks = [Mark(row["turn"], row["value"], words.format(**row), row["low"], row["high"]) for row in ordered]
        return Line(own[0]["name"], style[slug], marks)

    panels = []
    for (attribute, measure), own in grouped(known, "attribute", "measure"):
        y = trait_axis(measure, (row[name] for row in own for name in ("value", "low", "high")))
        panels.append(Panel(f"{short(attribute)}: {measure}", [line(*group) for group in by_method(own)], x, y))
    return sorted(panels, key=lambda panel: (panel.title.partition(":")[0], panel.y.label != "effect"))
