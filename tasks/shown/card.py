"""The card of a module that the pipeline fitted: what the profile's tables have of it, one repetition's, as facts.

A strength is recommended as the search chose it: at the prompt's coherence, or where only 0 is that coherent at the next of its
points. The range is by the rule of `psr.distill`, from the means along the curve.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from psr.artefact.facts import MODULE, CardData, CardFacts, CardFigure
from psr.errors import PsrError
from psr.evaluation.alpha_search import Scores
from psr.from_prompt.strength import Unsteered, choose_strength
from psr.lm.hub import named
from psr.plugs import nearest
from psr.steering.module import SteeringModule, load_module
from psr.types import PARAPHRASE, ModelName
from tasks.engine.checkout import commit
from tasks.engine.files import parse_yaml
from tasks.engine.lockfiles import SETTINGS
from tasks.shown.index import profile_index
from tasks.shown.query import Question
from tasks.tables.modules import candidate_rows, module_rows
from tasks.tables.parquet import read_table

NEEDED = ("distill/modules.parquet", "search/candidates.parquet", "results/figures_seeds.parquet")
TABLES = ("pairs", "completions", "judgements", "calibrations", "triplets", "dropped", "modules", "draws", "curve", "benchmarks",
          "figures_seeds", "measures", "faithfulness")  # fmt: skip
CHOSEN = {  # the points of the search that a strength is taken from first, and what they are
    "Cp": "answers are as coherent as the prompt's there, give or take a standard error",
    "Cp2": "answers are at most 2 points less coherent than the prompt's there",
    "C80": "coherence is 80 of 100 there",
}
LAYERS = 8  # of faithfulness that are shown

FIGURES = """SELECT f.slug, m.label, f.value, f.low, f.high, f.n, f.n_unscored, f.alpha, f.coherence, f.reached, m.position
    FROM figures_seeds f JOIN measures m USING (profile, benchmark, figure)
    WHERE f.attribute = $1 AND f.seed = $2 AND (f.slug IN ('plain', 'prompt') OR f.module = $3 AND NOT suffix(f.slug, '+prompt'))
    ORDER BY m.position, f.position"""
JUDGES = """SELECT DISTINCT judge, rubric FROM judgements WHERE stage = 'judge' AND attribute = $1 ORDER BY ALL"""
CALIBRATION = """SELECT judge, auc, agreement, spoilt, hardest FROM calibrations WHERE attribute = $1"""
QUESTIONS = """SELECT question_set, count(DISTINCT question) AS n FROM stg_pairs
    WHERE attribute = $1 AND stage IN ('complete', 'search', 'steer') GROUP BY ALL ORDER BY ALL"""
INSTRUCTIONS = """SELECT DISTINCT instruction FROM stg_pairs WHERE attribute = $1 AND stage = 'complete' ORDER BY ALL"""
DROPPED = """SELECT reason, count(*) AS n FROM dropped WHERE attribute = $1 GROUP BY ALL ORDER BY ALL"""
CURVE = """SELECT method, alpha, trait, coherence, n FROM trait_coherence
    WHERE attribute = $1 AND seed = $2 AND (module = $3 OR method IN ('plain', 'prompt')) ORDER BY alpha"""
FAITHFUL = """SELECT method, layer, relative_rmse, low, high, n, alpha FROM faithfulness
    WHERE attribute = $1 AND seed = $2 AND chosen AND (module = $3 OR method = $4) ORDER BY layer, method DESC"""
Row = Mapping[str, Any]


def chosen_row(data: Path, attribute: str, method: str, seed: int | None) -> dict[str, Any]:
    """The row of the one module that is meant; seed: None: the first. Raises PsrError where there is none."""
    rows = module_rows(data / "distill")
    own = [row for row in rows if (row["attribute"], row["method"]) == (attribute, method)]
    for one in own:
        if seed is None or one["seed"] in (None, seed):
            return one
    known = sorted({f"{row['attribute']} {row['method']}" for row in rows})
    wanted = f"{attribute} {method}"
    if own:
        known = [f"--seed {row['seed']}" for row in own]
        wanted = f"--seed {seed}"
    raise PsrError("no such module in this profile", where=data.name, expected=f"one of {', '.join(nearest(wanted, known)[:4])}, …",
                   got=wanted)  # fmt: skip


def carded(root: Path, profile: str, row: Row, seed: int | None) -> tuple[SteeringModule, CardFacts]:
    """The module of a row of modules.parquet, with its strength in its origin, and the facts of its card.

    seed: the repetition, of a module without one of its own; None: the first.
    Raises PsrError for outputs that are missing or damaged.
    """
    data = root / "data" / profile
    module = load_module(data / "distill" / row["folder"])
    repetition = min(
        one["seed"]
        for one in read_table(data / "results" / "figures_seeds.parquet", "figures_seeds")
        if one["attribute"] == row["attribute"] and seed in (None, one["seed"])
    ) if row["seed"] is None else row["seed"]  # fmt: skip
    settings = _settings(root, profile)
    key = (row["attribute"], repetition, row["id"])
    with profile_index(data, TABLES) as ask:
        judge = ", ".join(f"{one['judge']} (rubric {one['rubric']})" for one in ask(JUDGES, key[:1]).dicts())
        curve = ask(CURVE, key).dicts()
        facts = CardFacts(
            attribute=row["attribute"],
            instructions=tuple(one["instruction"] for one in ask(INSTRUCTIONS, key[:1]).dicts()),
            data=_data(ask, root, profile, row, module, settings),
            figures=tuple(_figures(ask(FIGURES, key).dicts(), judge)),
            judged=_judged(ask(CALIBRATION, key[:1]).dicts()),
            curve=tuple(_curve(curve, judge)),
            side_effects=tuple(_side_effects(data, row, judge)),
            faithfulness=tuple(_faithfulness(ask(FAITHFUL, [*key, PARAPHRASE]).dicts())),
            reproduce=(_commands(root, profile, row, repetition),),
        )
    point, alpha = recommended(candidate_rows(data / "search", repetition, row["id"]))
    origin: dict[str, Any] = {**module.origin, "profile": profile, "repetition": repetition}
    if alpha is not None:
        origin["recommended_alpha"] = alpha
    if (safe := safe_range(curve)) is not None:
        origin["safe_alpha"] = safe
    model = settings.get("model", {})
    base = ModelName(model["path"], model["revision"]) if model.get("revision") else named(model.get("path", ""))
    return replace(module, origin=origin, base=base), replace(facts, chosen=CHOSEN.get(point, point))


def recommended(rows: Iterable[Row]) -> tuple[str, float | None]:
    """The point of the search and the strength to use: of those that were chosen the first of CHOSEN above 0, else any; None where
    none is above 0."""
    chosen = {row["point"]: row["alpha"] for row in rows if row["chosen"] and row["alpha"] > 0}
    for point in (*CHOSEN, *sorted(chosen)):
        if point in chosen:
            return point, chosen[point]
    return "", None


def safe_range(curve: Sequence[Row]) -> list[float] | None:
    """From where to where answers keep making sense on the search questions; None where plain or prompted ones were not rated."""
    means = {row["method"]: row for row in curve if row["alpha"] is None}
    steered = [row for row in curve if row["alpha"] is not None and None not in (row["trait"], row["coherence"])]
    if not {"plain", "prompt"} <= means.keys() or not steered or steered[0]["alpha"] != 0:
        return None
    columns = [np.array([[row[name]] for row in steered]) for name in ("trait", "coherence")]
    plain, prompt = (
        [np.array([float(means[side][name])]) for name in ("trait", "coherence")] for side in ("plain", "prompt")
    )
    scores = Scores(tuple(row["alpha"] for row in steered), columns[0], columns[1])
    return list(choose_strength(scores, Unsteered((plain[0], plain[1]), (prompt[0], prompt[1])), resamples=1).safe)


def _figures(rows: Sequence[Row], judge: str) -> Iterable[CardFigure]:
    for row in rows:
        of, alpha = (row["slug"], None) if row["slug"] in ("plain", "prompt") else (MODULE, row["alpha"])
        counts = (row["n"], row["n_unscored"], alpha, judge)
        label = row["label"] if row["reached"] else f"{row['label']} (not reached: only α = 0 is as coherent)"
        yield CardFigure(of, label, row["value"], row["low"], row["high"], *counts)
        if row["position"] == 0 and row["coherence"] is not None:
            yield CardFigure(of, "coherence there", row["coherence"], None, None, *counts)


def _judged(rows: Sequence[Row]) -> str:
    return " ".join(
        f"The judge by likelihoods tells prompted answers from plain ones with an AUC of {row['auc']:.3f}, sound from spoilt ones "
        f"({row['hardest']}) with one of {row['spoilt']:.3f}; agreement with a rule: "
        + ("there is none." if row["agreement"] is None else f"{row['agreement']:.3f}.")
        for row in rows
    )


def _curve(rows: Sequence[Row], judge: str) -> Iterable[CardFigure]:
    for row in rows:
        of = MODULE if row["alpha"] is not None else row["method"]
        for name in ("trait", "coherence"):
            yield CardFigure(of, name, row[name], None, None, row["n"], 0, row["alpha"], judge)


def _faithfulness(rows: Sequence[Row]) -> Iterable[CardFigure]:
    layers = sorted({row["layer"] for row in rows})
    shown = {layers[round(i)] for i in np.linspace(0, len(layers) - 1, min(LAYERS, len(layers)))} if layers else set()
    for row in rows:
        if row["layer"] in shown:
            whose, alpha = (
                ("the prompt in other words", None) if row["method"] == PARAPHRASE else (MODULE, row["alpha"])
            )
            yield CardFigure(
                whose, f"layer {row['layer']}", row["relative_rmse"], row["low"], row["high"], row["n"], 0, alpha
            )


def _side_effects(data: Path, row: Row, judge: str) -> Iterable[CardFigure]:
    """What python -m flows.side_effects stored, of conversations the first and the last turn; nothing where it was not run."""
    file = data / "side_effects" / "side_effects.parquet"
    if not file.is_file():
        return
    names = {
        "plain": "plain",
        "prompt": "prompt",
        row["method"]: MODULE,
        f"{row['method']}+signs": "the signs of its directions randomised",
    }
    rows = [
        one
        for one in read_table(file, "side_effects")
        if one["attribute"] == row["attribute"] and one["method"] in names
    ]
    shown = {0, 1, max((one["turn"] for one in rows), default=0)}
    for one in (one for one in rows if one["turn"] in shown):
        of, many = names[one["method"]], one["seeds"] > 1 and one["alpha"] is not None
        of = f"{of.replace(MODULE, 'this method')}, over {one['seeds']} seeds" if many else of
        turn = f", turn {one['turn']}" if one["turn"] else ""
        why = f" ({one['note']})" if one["note"] else ""
        by = judge if one["measure"] in ("effect", "coherence") else ""
        yield CardFigure(of, f"{one['measure']}{turn}{why}", one["value"], one["low"], one["high"],
                         one["n"], one["n_unscored"] or 0, one["alpha"], by)  # fmt: skip


def _data(
    ask: Question, root: Path, profile: str, row: Row, module: SteeringModule, settings: Mapping[str, Any]
) -> tuple[CardData, ...]:
    inputs = settings.get("inputs", {})
    name = row["attribute"].partition("/")[0]
    dropped = ", ".join(f"{one['n']} {one['reason']}" for one in ask(DROPPED, [row["attribute"]]).dicts())
    fitted = "triplets fitted on, answers of the model itself" + (f" (dropped: {dropped})" if dropped else "")
    questions = {one["question_set"]: one["n"] for one in ask(QUESTIONS, [row["attribute"]]).dicts()}
    file = root / SETTINGS.format(profile=profile)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16] if file.is_file() else ""
    return (
        CardData(fitted, row["triplets"], str(module.origin.get("triplets", ""))),
        *(CardData(f"questions to {side}", n, "") for side, n in questions.items()),
        CardData(f"files of the benchmark {name}", None, str(inputs.get("benchmarks", {}).get(name, ""))),
        CardData("files of the model", None, str(inputs.get("model") or "")),
        CardData(f"settings of the run, data/{profile}/settings.yaml", None, digest),
    )


def _settings(root: Path, profile: str) -> dict[str, Any]:
    """What the profile's outputs were made with, resolved; empty where that is not there."""
    file = root / SETTINGS.format(profile=profile)
    return (parse_yaml(file.read_text(encoding="utf-8")) or {}) if file.is_file() else {}


def _commands(root: Path, profile: str, row: Row, seed: int) -> str:
    return "\n".join(
        [
            f"# the repository: {commit(root)}",
            "pip install -e '.[pipeline]' -c constraints.txt",
            f"python -m flows.reproduce --profile {profile}",
            f"python -m flows.card --profile {profile} --attribute {row['attribute']} --method {row['method']} --seed {seed} --out module",
        ]
    )
