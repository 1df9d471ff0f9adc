"""Faithfulness: what the prompt does to the residual stream on unseen questions, and how closely each module does it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from psr.answers.pairs import held_out_pairs
from psr.types import INSTRUCTED, Attribute, PromptPair
from tasks.asking.answers import complete_once
from tasks.asking.models import ModelPlace, open_model
from tasks.engine.gather import part
from tasks.engine.progress import progress
from tasks.engine.scratch import Scratch
from tasks.figures.delta import read_rows, share_rows, strength_rows, token_rows
from tasks.figures.study import Study, aligned, interval, study_of
from tasks.tables.modules import modules_of
from tasks.tables.parquet import read_table, write_completions, write_pairs, write_table
from tasks.tables.triplets import triplets_by_attribute

if TYPE_CHECKING:
    from psr.evaluation.resampling import Array
    from psr.steering.module import SteeringModule

Rows = list[dict[str, Any]]
PARAPHRASE = "paraphrase"
TABLES = (
    "pairs",
    "completions",
    "draws",
    "faithfulness",
    "deviations",
    "delta",
    "delta_strengths",
    "delta_tokens",
    "readability",
)


@task(cache_policy=NO_CACHE)
def measure_attribute(
    attribute: Attribute,
    seed: int,
    sampled: int,
    complete: Path,
    select: Path,
    distill: Path,
    search: Path,
    model: ModelPlace,
    scratch: Scratch,
    *,
    questions: int,
    triplets: int,
    drawn: int,
    resamples: int,
    strengths: int,
    temperature: float,
    max_new_tokens: int,
    batch_size: int,
) -> Path:
    """Measure the prompt's Δ on `questions` unseen questions, and every module of one repetition against it: of its fit
    seed, on answers of its sampling seed. Returns the part: TABLES.

    triplets: so many, evenly spread, fit the read-outs of token strengths; strengths: answers kept token by token.
    drawn: seed of the bootstrap, one for all repetitions, so that they are compared on the same draws of questions.
    """
    from psr.answers.sampling import Sampling

    pairs = held_out_pairs(attribute, "evaluate", questions)
    name = f"{attribute.benchmark}-{attribute.name}-seed-{seed}"

    def write(folder: Path) -> None:
        lm = open_model(model)
        made = complete_once(
            lm,
            _asks(pairs, sampled),
            Sampling(max_new_tokens, temperature),
            scratch.within(name),
            batch_size=batch_size,
            label=f"faithfulness {attribute.key}",
        )
        study = study_of(attribute, lm, pairs, made, resamples, drawn)
        known = triplets_by_attribute(complete, select)[attribute.key]
        fitted = known[:: -(-len(known) // triplets)]
        write_pairs(folder / "pairs.parquet", pairs, "evaluate", "held_out")
        write_completions(folder / "completions.parquet", made)
        write_table(folder / "draws.parquet", "draws", [{"attribute": attribute.key, "seed": seed, "sampled": sampled}])
        errors, deviations = deviation_rows(
            study, modules_of(distill, attribute.key, seed), alphas_at_prompt(search, seed)
        )
        found = {
            "faithfulness": errors,
            "deviations": deviations,
            "delta": share_rows(study),
            "delta_strengths": strength_rows(study),
            "delta_tokens": token_rows(study, strengths),
            "readability": read_rows(study, fitted),
        }
        for table, rows in found.items():
            write_table(folder / f"{table}.parquet", table, [{**row, "seed": seed} for row in rows])

    return part(scratch, f"part-{name}", write)


def alphas_at_prompt(search: Path, seed: int) -> dict[str, float]:
    """module id -> the alpha chosen at the prompt's coherence in one repetition, 0 where no other is as coherent; for
    what was not matched in coherence the chosen one."""
    rows = read_table(search / "candidates.parquet", "candidates")
    return {
        row["module"]: row["alpha"] for row in rows if row["seed"] == seed and row["point"] != "C80" and row["chosen"]
    }


def deviation_rows(study: Study, modules: Sequence[SteeringModule], chosen: dict[str, float]) -> tuple[Rows, Rows]:
    """Relative RMSE per layer of every module at its chosen alpha and at 1, beside the paraphrases' (the noise floor);
    and the sums per question that it is made of."""
    from psr.evaluation.delta import steered_run
    from psr.evaluation.faithfulness import squared_errors

    seen = study.seen
    energy, floor = squared_errors(seen.plain, seen.instructed), paraphrase_errors(study)
    runs = [(module, alpha) for module in modules for alpha in sorted({1.0, chosen[module.id]})]
    found = [] if floor is None else [(PARAPHRASE, 0.0, True, floor)]
    with progress(f"faithfulness {study.attribute.key} runs", len(runs), "runs") as advance:
        for module, alpha in runs:
            steered = steered_run(study.lm, study.tokens, module, alpha)
            found.append((module.id, alpha, alpha == chosen[module.id], squared_errors(steered, seen.instructed)))
            advance(1)
    errors: Rows = []
    for method, alpha, at_prompt, error in found:
        named = {"attribute": study.attribute.key, "method": method, "alpha": alpha, "chosen": at_prompt}
        errors += [{**named, **row} for row in error_rows(study, error, energy, floor)]
    return errors, [row for method, alpha, _, error in found for row in _sums(study, method, alpha, error, energy)]


def paraphrase_errors(study: Study) -> Array | None:
    """Σ_i ‖A[· | x'' y'] − A[· | x' y']‖² [layer, question], the mean over the other held-out paraphrases x'' of the
    instruction (the fitting ones where at most one was held out); None where there is no other."""
    from psr.evaluation.delta import instructed_run
    from psr.evaluation.faithfulness import squared_errors

    told = study.attribute.held_out if len(study.attribute.held_out) > 1 else study.attribute.instructions
    shifts = range(1, len(told)) if {pair.instruction for pair in study.pairs} <= set(told) else range(len(told))
    errors = []
    for shift in shifts:
        others = [
            PromptPair(pair.attribute, pair.question, _other(told, pair.instruction, shift)) for pair in study.pairs
        ]
        run = instructed_run(study.lm, aligned(study.lm, others, study.answers))
        errors.append(squared_errors(run, study.seen.instructed))
    return sum(errors) / len(errors) if errors else None  # type: ignore[return-value]


def error_rows(study: Study, errors: Array, energy: Array, floor: Array | None) -> Iterator[dict[str, Any]]:
    """A row a layer: relative RMSE, and how far it is above the floor on the same draws of questions."""
    from psr.evaluation.faithfulness import intervals, relative_rmse
    from psr.evaluation.resampling import once

    def both(counts: Array) -> tuple[Array, Array]:
        own = relative_rmse(errors, energy, counts)
        return own, own - (own + math.nan if floor is None else relative_rmse(floor, energy, counts))

    values, samples = both(once(study.n)), both(study.counts)
    own, above = (intervals(value[0], sample) for value, sample in zip(values, samples, strict=True))
    for layer, (one, other) in enumerate(zip(own, above, strict=True)):
        yield {
            "layer": layer,
            **interval("relative_rmse", one, "low", "high"),
            "n": study.n,
            **interval("above_floor", other, "above_floor_low", "above_floor_high"),
        }


def _sums(study: Study, method: str, alpha: float, errors: Array, energy: Array) -> Iterator[dict[str, Any]]:
    for layer in range(len(errors)):
        for i, pair in enumerate(study.pairs):
            yield {
                "pair": pair.id,
                "method": method,
                "alpha": alpha,
                "layer": layer,
                "squared_error": float(errors[layer, i]),
                "energy": float(energy[layer, i]),
                "tokens": study.offsets[i + 1] - study.offsets[i],
            }


def _asks(pairs: Sequence[PromptPair], seed: int) -> list[Any]:
    from psr.answers.completions import Ask

    return [Ask(pair, INSTRUCTED, seed) for pair in pairs]


def _other(told: Sequence[str], instruction: str, shift: int) -> str:
    """The instruction `shift` places on."""
    at = told.index(instruction) if instruction in told else 0
    return told[(at + shift) % len(told)]
