"""The search for alpha: each module on search questions, bracketed where its coherence crosses 80 or the prompt's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from psr.alpha_search import Scores, candidates, search
from psr.judging import Judge
from psr.pairs import held_out_pairs
from psr.types import INSTRUCTED, PLAIN, Attribute, Completion, Judgement, PromptPair
from tasks.answers import complete_once, judge_once
from tasks.gather import part
from tasks.models import ModelPlace, open_model
from tasks.modules import modules_of
from tasks.scores import by_question, scores_of, values_of
from tasks.scratch import Scratch
from tasks.tables import write_completions, write_judgements, write_pairs, write_table

if TYPE_CHECKING:
    from psr.complete import Ask
    from psr.module import SteeringModule


@dataclass
class Bench:
    """What answers and judges for one attribute: asks in, completions and judgements out, each made once."""

    model: ModelPlace
    judge: Judge
    scratch: Scratch
    label: str
    temperature: float
    max_new_tokens: int
    batch_size: int

    def __call__(self, asks: Sequence[Ask]) -> tuple[list[Completion], list[Judgement]]:
        from psr.sampling import Sampling

        pairs = {ask.pair.id: ask.pair for ask in asks}
        made = complete_once(open_model(self.model), asks, Sampling(self.max_new_tokens, self.temperature), self.scratch,
                             batch_size=self.batch_size, label=self.label)
        return made, judge_once(self.judge, made, pairs, self.scratch, label=self.label)


@task(cache_policy=NO_CACHE)
def search_attribute(
    attribute: Attribute, distill: Path, model: ModelPlace, judge: Judge, scratch: Scratch, *, questions: int,
    samples: int, alphas: Sequence[float], alpha_max: float, rounds: int, points: int, resamples: int, seed: int,
    temperature: float, max_new_tokens: int, batch_size: int,
) -> Path:
    """Search alpha for every module of the attribute.

    Returns the part: pairs, completions, judgements, and the candidates that the evaluation has to generate.
    """
    pairs = held_out_pairs(attribute, "search", questions)
    coarse = (*(alpha for alpha in alphas if alpha < alpha_max), alpha_max)

    def write(folder: Path) -> None:
        bench = Bench(model, judge, scratch, f"search {attribute.key}", temperature, max_new_tokens, batch_size)
        completions, judgements = bench(_unsteered(pairs, samples, seed))
        prompted = [c for c in completions if c.method == INSTRUCTED]
        prompt = by_question(prompted, values_of(judgements), "coherence", pairs)
        rows: list[dict[str, Any]] = []
        for module in modules_of(distill, attribute.key):
            bench.label = f"search {attribute.key} {module.origin['method']}"
            steered = Steered(bench, module, pairs, samples, seed, completions, judgements)
            scores = search(steered, prompt, coarse=coarse, rounds=rounds, inside=points)
            rows += [{"module": module.id, **vars(c)} for c in candidates(scores, prompt, resamples=resamples, seed=seed)]
        write_pairs(folder / "pairs.parquet", pairs, "search", "held_out")
        write_completions(folder / "completions.parquet", completions)
        write_judgements(folder / "judgements.parquet", judgements)
        write_table(folder / "candidates.parquet", "candidates", rows)

    return part(scratch, f"part-{attribute.benchmark}-{attribute.name}", write)


@dataclass
class Steered:
    """alphas -> Scores of one module, in one batched call; adds what it made to `completions` and `judgements`.

    alpha 0 is the unsteered model, bit-exact: its completions are the plain ones that are there already.
    """

    bench: Bench
    module: SteeringModule
    pairs: Sequence[PromptPair]
    samples: int
    seed: int
    completions: list[Completion]
    judgements: list[Judgement]

    def __call__(self, alphas: Sequence[float]) -> Scores:
        from psr.complete import Ask

        asks = [Ask(pair, self.module.id, self.seed + sample, self.module, alpha)
                for alpha in alphas if alpha != 0 for pair in self.pairs for sample in range(self.samples)]
        made, judged = self.bench(asks)
        self.completions += made
        self.judgements += judged
        plain = [c for c in self.completions if c.method == PLAIN and 0 in alphas]
        return scores_of([*plain, *made], values_of(self.judgements), self.pairs)


def _unsteered(pairs: Sequence[PromptPair], samples: int, seed: int) -> list[Ask]:
    from psr.complete import Ask

    return [Ask(pair, method, seed + sample) for method in (PLAIN, INSTRUCTED) for pair in pairs for sample in range(samples)]
