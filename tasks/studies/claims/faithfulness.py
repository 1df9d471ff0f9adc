"""Claims 1, 5 and 6: what the prompt does to every token, and how close modules come to it, at the strength α = 1.

α = 1 is what a module was fitted to imitate the prompt at; nothing is chosen. A seed is a repetition of fit and answers
both: a module is compared on its own repetition's answers, and one that no seed changes on every repetition's.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from psr.evaluation.bootstrap import EVALUATE, Interval
from psr.evaluation.claims import Difference, error_difference, mean_difference
from psr.evaluation.resampling import Array, resample
from psr.types import PARAPHRASE
from tasks.studies.claims.rows import Measured, Part, Row, claim_row
from tasks.studies.claims.sql import method_sql, question
from tasks.tables.modules import module_rows
from tasks.tables.parquet import read_pairs, read_table

Key = tuple[str, str, int]  # attribute, module id or paraphrase, fit seed of the repetition
Sums = tuple[Array, Array]  # squared errors, energies: [layer, question]
Compare = Callable[[Sums, Sums | None, int | None], Difference | None]  # a module's sums, the floor's, its own layer
FLOOR = Part(5, "layers of the upper half", "relative RMSE of paraphrased prompts less A-PSR MSE, at α = 1")
CONSTANTS = {"Const MSE": "s-const-mse", "Const DiM": "s-const-dim-r"}  # without a span: the benchmark's own


def faithfulness_rows(data: Path, profile: str, *, resamples: int, seed: int) -> list[Row]:
    """Rows of claims 1, 5 and 6. resamples, seed: those of the profile's faithfulness."""
    sums, modules = sums_of(data / "faithfulness"), module_rows(data / "distill")
    layers = max((len(errors) for errors, _ in sums.values()), default=0)

    def drawn(errors: Array) -> Array:
        return resample(errors.shape[1], resamples, seed, EVALUATE)

    def below_floor(ours: Sums, floor: Sums | None, own: int | None) -> Difference | None:
        upper = [layer for layer in range(layers) if 2 * layer >= layers]
        return None if floor is None else error_difference(floor, ours, upper, drawn(ours[0]), seed)

    def own_layer(ours: Sums, floor: Sums | None, own: int | None) -> Difference | None:
        return None if own is None else error_difference(ours, None, [own], drawn(ours[0]), seed)

    def later(ours: Sums, floor: Sums | None, own: int | None) -> Difference | None:
        after = range(layers if own is None else own + 1, layers)
        return error_difference(None, ours, after, drawn(ours[0]), seed) if after else None

    def row(part: Part, method: str, name: str, compare: Compare) -> Row:
        sql = question(name, profile=profile, method=method_sql(method), layers=layers)
        return claim_row(part, compared(method, modules, sums, compare, sql))

    return [
        spread_row(data, profile),
        row(FLOOR, "a-psr-mse", "floor", below_floor),
        *(
            row(Part(6, f"{name}, {place}", f"{words}, S-{name} at α = 1"), method, key, compare)
            for name, method in CONSTANTS.items()
            for place, words, key, compare in (
                ("its own layer", "relative RMSE less 1", "own", own_layer),
                ("later layers", "1 less relative RMSE", "later", later),
            )
        ),
    ]


def spread_row(data: Path, profile: str) -> Row:
    """Claim 1: the mean over layers, attributes and seeds. Its ends are the means of the ends, as if all moved together: too
    wide and never too narrow, since the token strengths behind them are not kept. A seed changes nothing but the
    answers, and those already differ from question to question in each seed's own interval."""
    part = Part(
        1,
        "99th over 1st percentile",
        "log10 of the 99th over the 1st percentile of ‖Δ_acc‖ over tokens, mean of layers",
    )
    rows = [
        row
        for row in read_table(data / "faithfulness/delta_strengths.parquet", "delta_strengths")
        if row["kind"] == "acc"
    ]
    known = [row for row in rows if row["spread"] is not None and row["spread_low"] is not None]
    if not known:
        return claim_row(part, "no spread of token strengths in faithfulness/delta_strengths")
    ends = [
        float(np.mean([math.log10(row[name]) for row in known])) for name in ("spread", "spread_low", "spread_high")
    ]
    found = [row["spread"] for row in known]
    note = f"the ratio is {min(found):.0f} to {max(found):.0f} by layer, attribute and seed; nothing is fitted"
    runs = {(row["attribute"], row["seed"]) for row in known}
    seeds = Counter(attribute for attribute, _ in runs)
    sql = question("spread", profile=profile)
    return claim_row(part, Measured(Interval(*ends), min(seeds.values()), sorted(seeds), sql, [note]))


def sums_of(faithfulness: Path) -> dict[Key, Sums]:
    """The sums at α = 1, questions in the order of the table."""
    home = {pair.id: pair.attribute for pair in read_pairs(faithfulness / "pairs.parquet")}
    found: dict[Key, dict[int, list[tuple[float, float]]]] = {}
    for row in read_table(faithfulness / "deviations.parquet", "deviations"):
        if row["alpha"] == 1 or row["method"] == PARAPHRASE:
            by_layer = found.setdefault((home[row["pair"]], row["method"], row["seed"]), {})
            by_layer.setdefault(row["layer"], []).append((row["squared_error"], row["energy"]))
    arrays = {key: np.array([by_layer[layer] for layer in sorted(by_layer)]) for key, by_layer in found.items()}
    return {key: (values[..., 0], values[..., 1]) for key, values in arrays.items()}


def compared(
    method: str, modules: Sequence[Mapping[str, Any]], sums: Mapping[Key, Sums], compare: Compare, sql: str
) -> Measured | str:
    """`compare` on the method's module of every repetition, averaged over seeds and attributes; or what is missing."""
    known = {row["id"]: row for row in modules}
    found: dict[str, list[Difference]] = {}
    fitted: set[int | None] = set()
    for attribute, key, seed in sorted(sums, key=lambda key: (key[0], key[2])):
        row = known.get(key)
        if row is not None and row["method"] == slug_on(method, attribute):
            one = compare(sums[attribute, key, seed], sums.get((attribute, PARAPHRASE, seed)), row["layer"])
            if one is not None:
                found.setdefault(attribute, []).append(one)
                fitted.add(row["seed"])
    if not found:
        return f"no {method} with something to compare it with in faithfulness/deviations"
    notes = ["no fit seed changes this module: its seeds are of sampling"] if fitted == {None} else []
    return Measured(mean_difference(found), min(map(len, found.values())), sorted(found), sql, notes)


def slug_on(method: str, attribute: str) -> str:
    """The method's name with the benchmark's span, where it ends in none: persona steers the question too."""
    return method if method.endswith("r") else f"{method}-{'qr' if attribute.startswith('persona/') else 'r'}"
