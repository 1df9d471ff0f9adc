"""The tables of what is measured beside the pipeline: adaptation, one layer, side effects, agreement of judges, speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.shown.order import grouped, short
from tasks.shown.tables import Table, table
from tasks.studies.ablation.goal import chosen, mean, spares, verdict, within
from tasks.studies.ablation.table import best_first

Row = dict[str, Any]
SIDE_EFFECTS = {  # measure -> its column and decimals
    "effect": ("effect", 1), "coherence": ("coherence", 1), "drift": ("drift, nats a token", 2), "formats": ("formats obeyed", 0),
    "english": ("in English", 0), "length": ("tokens", 0), "ended": ("ended", 0),
}  # fmt: skip


def adaptation_table(rows: Sequence[Row]) -> Table:
    """A line a way of adapting, attribute after attribute."""
    head = (
        "at the prompt's coherence", "trait alignment", "coherence", "α", "drift, nats a token", "numbers", "fit", "to ship",
        "tokens a request", "per row",
    )  # fmt: skip
    lines: list[tuple[str, ...]] = []
    strong = []
    for at, row in enumerate(rows):
        if at == 0 or rows[at - 1]["attribute"] != row["attribute"]:
            strong.append(len(lines))
            lines.append((short(row["attribute"]), *("",) * (len(head) - 1)))
        alpha = "–" if row["alpha"] is None else f"{row['alpha']:.3g}" if row["reached"] else "not reached"
        lines.append((
            row["name"], ranged(row, "trait", 1), ranged(row, "coherence", 1), alpha, ranged(row, "drift", 3),
            f"{row['parameters']:,}", f"{row['fit_seconds']:.1f} s", size(row["bytes"]), f"{row['extra_tokens']:.1f}",
            "yes" if row["per_row"] else "no",
        ))  # fmt: skip
    return table(head, lines, strong=strong)


def ablation_table(rows: Sequence[Row], benchmark: str) -> Table:
    """A variant a line: its difference to the prompt on each attribute, best on the search questions first."""
    attributes = sorted({row["attribute"] for row in rows if row["benchmark"] == benchmark})
    head = (f"{benchmark}: less the prompt", "search", *map(short, attributes), "mean", "coherence", "within")
    lines = []
    for name, own in best_first(rows, benchmark).items():
        every = list(own.values())
        coherent = mean(every, "coherence") - mean(every, "prompt_coherence")
        best = " *" if name == chosen(rows, benchmark) else ""
        lines.append((
            f"{name}{best}\n{every[0]['name']}, {every[0]['numbers']} numbers", f"{mean(every, 'ahead_search'):+.1f}",
            *(_ahead(own[attribute]) for attribute in attributes), f"{mean(every, 'ahead'):+.1f}", f"{coherent:+.1f}",
            f"{sum(map(within, every))} of {len(own)}",
        ))  # fmt: skip
    return table(head, lines)


def spared_table(rows: Sequence[Row], benchmark: str) -> Table:
    """A variant a line: what it does and how far it drifts at the prompt's effect, attribute by attribute."""
    attributes = sorted({row["attribute"] for row in rows if row["benchmark"] == benchmark})
    lines = []
    for name, own in best_first(rows, benchmark).items():
        one = next(iter(own.values()))
        fitted = f"{one['triplets']} triplets" + (f", {one['negatives']} negatives" if one["negatives"] else "")
        lines.append((f"{name}\n{fitted}", *(_spared(own[attribute]) for attribute in attributes)))
    return table((f"{benchmark}: at the prompt's effect", *map(short, attributes)), lines)


def _spared(row: Mapping[str, Any]) -> str:
    short_of = row["seeds"] - row["equal"]
    unreached = f", not reached by {short_of} of {row['seeds']}" if short_of else ""
    effect = "–" if row["ahead_equal"] is None else f"{ranged(row, 'ahead_equal', 1)}"
    coherence = "–" if row["coherence_equal"] is None else f"{row['coherence_equal']:.1f}"
    return (
        f"drift {ranged(row, 'drift', 3)} of {row['prompt_drift']:.3f}\n{ranged(row, 'drift_more', 3)} more: {spares(row)}\n"
        f"effect {effect}, coherence {coherence}, α {row['alpha_equal']:.2f}{unreached}"
    )


def _ahead(row: Mapping[str, Any]) -> str:
    if row["ahead"] is None:
        return "–"
    of = f"{row['value']:.1f} of {row['prompt']:.1f}" + ("" if row["reached"] else ", not reached")
    dead = f", {row['dead']} dead" if row["dead"] else ""
    at_80 = "" if row["value_c80"] is None else f"\nat coherence 80: {ranged(row, 'value_c80', 1)}"
    return f"{row['ahead']:+.1f}\n{row['ahead_low']:.0f} to {row['ahead_high']:.0f}, {verdict(row)}\n{of}{dead}{at_80}"


def side_effects_table(rows: Sequence[Row]) -> Table:
    """A line a subject, attribute after attribute, in the order of the rows; conversations as their first and last turn."""
    in_turns = [f"{measure}, first and last turn" for measure in ("effect", "coherence")]
    head = ("at the prompt's effect", "α", *(name for name, _ in SIDE_EFFECTS.values()), *in_turns)
    lines: list[tuple[str, ...]] = []
    strong = []
    for attribute in dict.fromkeys(row["attribute"] for row in rows):
        strong.append(len(lines))
        lines.append((short(attribute), *("",) * (len(head) - 1)))
        own = [row for row in rows if row["attribute"] == attribute]
        for method in dict.fromkeys(row["method"] for row in own):
            of = {(row["measure"], row["turn"]): row for row in own if row["method"] == method}
            first = next(iter(of.values()))
            alpha = (
                "–"
                if first["alpha"] is None
                else f"{first['alpha']:.2f}" + ("" if first["reached"] else "\nnot reached")
            )
            lines.append((
                first["name"], alpha,
                *(_below(of[measure, 0], digits) for measure, (_, digits) in SIDE_EFFECTS.items()),
                *(_ends([row for (name, turn), row in sorted(of.items()) if name == measure and turn])
                  for measure in ("effect", "coherence")),
            ))  # fmt: skip
    return table(head, lines, strong=strong, below=notes(rows))


def notes(rows: Sequence[Row]) -> str:
    """Why figures are missing, each reason once with the measures and turns that it takes."""
    said = []
    for note, own in grouped((row for row in rows if row["note"]), "note"):
        turns = sorted({row["turn"] for row in own})
        names = " and ".join(dict.fromkeys(row["measure"] for row in own))
        which = f"{names} from turn {turns[0]} on" if turns[0] else names
        said.append(f"No {which}: {note}.")
    return " ".join(said)


def _below(row: Row, digits: int) -> str:
    """A value, and its interval below it."""
    if row["value"] is None:
        return "–"
    low, high = row["low"], row["high"]
    to = " to " if low is not None and low < 0 else "–"
    return f"{row['value']:.{digits}f}" + ("" if low is None else f"\n{low:.{digits}f}{to}{high:.{digits}f}")


def _ends(turns: Sequence[Row]) -> str:
    """The values of the first and the last turn that have one, and which those are."""
    known = [row for row in turns if row["value"] is not None]
    if not known:
        return "–"
    return f"{known[0]['value']:.0f}, {known[-1]['value']:.0f}\nturns {known[0]['turn']}, {known[-1]['turn']}"


def agreement_table(rows: Sequence[Row]) -> Table:
    """A line a pair of judges, attribute and dimension after each other; the AUC in both orders."""
    head = ("what both rated", "answers", "equal verdicts", "κ", "AUC", "ρ", "distance")
    by_pair = {(row["attribute"], row["dimension"], row["judge"], row["other"]): row for row in rows}
    lines: list[tuple[str, ...]] = []
    strong = []
    seen: set[tuple[str, ...]] = set()
    for (attribute, dimension, judge, other), row in by_pair.items():
        if (attribute, dimension, other, judge) in seen:
            continue
        if not any(one[:2] == (attribute, dimension) for one in seen):
            strong.append(len(lines))
            lines.append((f"{short(attribute)}: {dimension}", *("",) * (len(head) - 1)))
        seen.add((attribute, dimension, judge, other))
        lacking = [
            f"{row[name]} without {who}" for name, who in (("missing", judge), ("missing_other", other)) if row[name]
        ]
        back = by_pair[attribute, dimension, other, judge]
        lines.append((
            f"{judge}\n{other}", "\n".join([str(row["n"]), *lacking]),
            *(ranged(row, name, 2) for name in ("equal", "kappa")),
            f"{ranged(row, 'auc', 2)}\n{ranged(back, 'auc', 2)}",
            *(ranged(row, name, 2) for name in ("spearman", "distance")),
        ))  # fmt: skip
    return table(head, lines, strong=strong)


def bench_table(rows: Sequence[Row], *, details: bool = True) -> Table:
    """A line a figure: the ratio's median with its quartiles, and the goal."""
    lines = []
    for row in rows:
        below = f"\n{row['name']}: {row['note']}" if details else ""
        ratio = f"{number(row['median'])} ({number(row['low'])}–{number(row['high'])})"
        goal = f"{row['goal']}: {row['verdict']}" if row["goal"] else "–"
        lines.append((row["measured"] + below, row["against"], ratio, goal))
    return table(("measured", "against", "ratio (quartiles)", "goal"), lines, align="llrl")


def machine_line(row: Row) -> str:
    """What the figures of speed depend on, in one line."""
    return (
        f"{row['device']}, {row['cores']} cores, {row['threads']} torch threads, torch {row['torch']}, {row['dtype']}; "
        f"model {row['model']}. Medians of n pairs (alpha: modules) with their quartiles."
    )


def ranged(row: Mapping[str, Any], name: str, digits: int) -> str:
    """A value with its interval: 95.8 (80.0–99.0)."""
    if row[name] is None:
        return "–"
    low, high = (row[f"{name}_{end}"] for end in ("low", "high"))
    return f"{row[name]:.{digits}f}" + ("" if low is None else f" ({low:.{digits}f}–{high:.{digits}f})")


def size(count: int) -> str:
    """Bytes as people say them: 58 B, 6.4 kB, 5.29 MB."""
    for unit, scale in (("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count} B"


def number(value: float) -> str:
    """Three digits that matter: 0.857, 5.31, 24."""
    return f"{value:.3f}" if value < 1 else f"{value:.3g}"
