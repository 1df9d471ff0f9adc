"""Section 5, evaluation: the plain model, the prompted one and every module answer unseen questions."""

from __future__ import annotations

from typing import Any

from flows.sections import Benchmark, Model, Sampling, Steer
from psr.answers.pairs import sampling_seeds
from tasks.asking.answers import Answerer
from tasks.asking.models import ModelSettings
from tasks.benchmarks.catalogue import attributes_of
from tasks.engine.context import StepContext
from tasks.steps.steer import answer_steered, answer_unsteered
from tasks.tables.gather import gather
from tasks.tables.modules import rows_of_seed


def steer(
    context: StepContext,
    model: Model,
    benchmarks: tuple[Benchmark, ...],
    seeds: tuple[int, ...],
    sampling: Sampling,
    steer: Steer,
) -> None:
    """A' = A + alpha · lambda(A) · z (Eq. 7) at every candidate alpha, and lambda per token for a few answers."""
    lm, distilled = ModelSettings(**model.model_dump()), context.output_of("distill")
    answerer = Answerer(lm, context.cells, **sampling.model_dump(), batch_size=steer.batch_size)
    module_arguments = {
        "search": context.output_of("search"),
        "strengths": steer.strengths,
        "with_prompt": steer.with_prompt,
    }
    unsteered: dict[str, dict[str, Any]] = {}
    modules: dict[str, dict[str, Any]] = {}
    order = []
    for attribute in attributes_of(benchmarks):
        for seed, sampled in sampling_seeds(seeds, steer.seed, steer.samples).items():
            arguments = {
                "attribute": attribute, "seed": seed, "sampled": sampled, "answerer": answerer, "questions": steer.questions
            }  # fmt: skip
            own = {
                f"{attribute.key} {row['method']} seed {seed}": {
                    **arguments,
                    "folder": distilled / row["folder"],
                    **module_arguments,
                }
                for row in rows_of_seed(distilled, attribute.key, seed)
            }
            unsteered[name := f"{attribute.key} seed {seed}"] = arguments
            modules |= own
            order += [name, *own]
    both = [*context.map(answer_unsteered, unsteered), *context.map(answer_steered, modules)]
    cells = dict(zip([*unsteered, *modules], both, strict=True))
    gather([cells[name] for name in order], context.out, ["pairs", "completions", "strengths", "draws"])
