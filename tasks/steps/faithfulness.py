"""Faithfulness: what the prompt does to the residual stream on unseen questions, and how closely each module does it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psr.answers.pairs import held_out_pairs
from psr.types import INSTRUCTED, PARAPHRASE, Attribute, PromptPair
from tasks.asking.answers import Answerer, write_questions
from tasks.asking.models import open_model
from tasks.asking.modules import digest
from tasks.engine.cells import remembered
from tasks.figures.delta import read_rows, share_rows, strength_rows, token_rows
from tasks.figures.study import Study, aligned, interval, study_of
from tasks.tables.modules import candidate_rows, chosen_alpha
from tasks.tables.parquet import write_completions, write_table
from tasks.tables.triplets import triplets_by_attribute

if TYPE_CHECKING:
    from psr.evaluation.resampling import Array
    from psr.steering.module import SteeringModule

Rows = list[dict[str, Any]]
Run = tuple[str, float, bool, "Array"]  # method, alpha, whether it is the chosen one, squared errors [layer, question]
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


@dataclass(frozen=True)
class Measured:
    """One repetition of one attribute: so many questions, answered under `sampled`, for modules of fit seed `seed`.

    drawn: seed of the bootstrap, one for all repetitions, so that they are compared on the same draws of questions.
    """

    attribute: Attribute
    seed: int
    sampled: int
    answerer: Answerer
    questions: int
    resamples: int
    drawn: int

    @property
    def pairs(self) -> tuple[PromptPair, ...]:
        return held_out_pairs(self.attribute, "evaluate", self.questions)

    @property
    def reads(self) -> tuple[object, ...]:
        """What every table of it depends on."""
        pairs = [pair.id for pair in self.pairs]
        texts = self.attribute.key, self.attribute.instructions, self.attribute.held_out
        return self.answerer.reads, *texts, self.seed, self.sampled, pairs, self.resamples, self.drawn


@remembered(1)
def studied(measured: Measured) -> Study:
    """Its answers, run both ways; kept for the modules of one repetition, which are measured one after the other."""
    from psr.answers.completions import Ask

    asks = [Ask(pair, INSTRUCTED, measured.sampled) for pair in measured.pairs]
    answers = measured.answerer.answer(asks, f"faithfulness {measured.attribute.key}")
    lm = open_model(measured.answerer.model)
    return study_of(measured.attribute, lm, measured.pairs, answers, measured.resamples, measured.drawn)


@remembered(1)
def noise_floor(measured: Measured) -> Array | None:
    """What paraphrases of the prompt change; kept as the study is."""
    return paraphrase_errors(studied(measured))


def measure(
    measured: Measured,
    complete: Path,
    select: Path,
    triplets: int,
    strengths: int,
    folders: Sequence[Path],
    search: Path,
) -> list[Path]:
    """One repetition: its cells, the prompt's first, then those of the modules in `folders`. They share the prompt's runs,
    so one worker measures them all."""
    prompt = measure_prompt(measured, complete, select, triplets, strengths)
    return [prompt, *(measure_module(measured, folder, search) for folder in folders)]


def measure_prompt(measured: Measured, complete: Path, select: Path, triplets: int, strengths: int) -> Path:
    """The prompt's Δ, and what paraphrases do instead of it. Returns the cell: TABLES.

    triplets: so many, evenly spread, fit the read-outs of token strengths; strengths: answers kept token by token.
    """
    known = triplets_by_attribute(complete, select, measured.attribute.key)[measured.attribute.key]
    fitted = known[:: -(-len(known) // triplets)]

    def write(folder: Path) -> None:
        study, floor = studied(measured), noise_floor(measured)
        write_questions(
            folder, measured.attribute.key, measured.pairs, "evaluate", measured.seed, (measured.sampled,)
        )  # fmt: skip
        write_completions(folder / "completions.parquet", study.answers)
        tables = {
            "delta": share_rows(study),
            "delta_strengths": strength_rows(study),
            "delta_tokens": token_rows(study, strengths),
            "readability": read_rows(study, fitted),
        }
        _write(folder, measured.seed, tables)
        runs: list[Run] = [] if floor is None else [(PARAPHRASE, 0.0, True, floor)]
        _write(folder, measured.seed, deviation_rows(study, runs, floor))

    learnt = [(t.pair.id, t.completion.token_ids) for t in fitted]
    return measured.answerer.cells.keep("faithfulness", ("prompt", measured.reads, learnt, strengths), write)


def measure_module(measured: Measured, folder: Path, search: Path) -> Path:
    """Relative RMSE per layer of the module in `folder` at its chosen alpha and at 1, beside the paraphrases' (the noise
    floor). Returns the cell: the errors, and the sums per question that they are made of."""
    from psr.steering.module import load_module

    module = load_module(folder)
    chosen = chosen_alpha(candidate_rows(search, measured.seed, module.id))

    def write(folder: Path) -> None:
        study = studied(measured)
        _write(folder, measured.seed, deviation_rows(study, module_runs(study, module, chosen), noise_floor(measured)))

    return measured.answerer.cells.keep("faithfulness", (measured.reads, digest(module), chosen), write)


def module_runs(study: Study, module: SteeringModule, chosen: float) -> list[Run]:
    """The module at the chosen alpha and at 1."""
    from psr.evaluation.delta import steered_run
    from psr.evaluation.faithfulness import squared_errors

    return [
        (
            module.id,
            alpha,
            alpha == chosen,
            squared_errors(steered_run(study.lm, study.tokens, module, alpha), study.seen.instructed),
        )
        for alpha in sorted({1.0, chosen})
    ]


def deviation_rows(study: Study, runs: Sequence[Run], floor: Array | None) -> dict[str, Rows]:
    """Relative RMSE per layer of every run, and the sums per question that it is made of."""
    from psr.evaluation.faithfulness import squared_errors

    energy = squared_errors(study.seen.plain, study.seen.instructed)
    errors: Rows = []
    for method, alpha, at_prompt, error in runs:
        named = {"attribute": study.attribute.key, "method": method, "alpha": alpha, "chosen": at_prompt}
        errors += [{**named, **row} for row in error_rows(study, error, energy, floor)]
    sums = [row for method, alpha, _, error in runs for row in _sums(study, method, alpha, error, energy)]
    return {"faithfulness": errors, "deviations": sums}


def _write(folder: Path, seed: int, tables: Mapping[str, Rows]) -> None:
    for table, rows in tables.items():
        write_table(folder / f"{table}.parquet", table, [{**row, "seed": seed} for row in rows])


def paraphrase_errors(study: Study) -> Array | None:
    """Σ_i ‖A[· | x'' y'] − A[· | x' y']‖² [layer, question], the mean over the other held-out paraphrases x'' of the
    instruction (the fitting ones where at most one was held out); None where there is no other."""
    from psr.evaluation.delta import instructed_run
    from psr.evaluation.faithfulness import squared_errors

    texts = study.attribute.held_out if len(study.attribute.held_out) > 1 else study.attribute.instructions
    shifts = range(1, len(texts)) if {pair.instruction for pair in study.pairs} <= set(texts) else range(len(texts))
    errors = []
    for shift in shifts:
        others = [
            PromptPair(pair.attribute, pair.question, _other(texts, pair.instruction, shift)) for pair in study.pairs
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


def _other(texts: Sequence[str], instruction: str, shift: int) -> str:
    """The instruction `shift` places on."""
    at = texts.index(instruction) if instruction in texts else 0
    return texts[(at + shift) % len(texts)]
