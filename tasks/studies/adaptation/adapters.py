"""LoRA and full fine-tuning of one attribute: fitting, the choice of their strength like a module's α, and answers.

    W0 + a · ΔW        a chosen on the search questions from ALPHAS by the rule of psr/evaluation/alpha_search.py

Scaling a learned change of weights is task arithmetic (Ilharco et al. 2023, arXiv:2212.04089); a = 0 is the untouched
model, whose answers are stored. Questions, sampling and seeds are the profile's: answers use the same random numbers as
those of prompt and modules.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from psr.evaluation.alpha_search import Scores, candidates, search
from psr.fitting.presets import FAST_ADAPTER, FitSettings
from psr.judges.judging import judge_all
from psr.types import INSTRUCTED, PLAIN, Completion, JudgeItem, Method
from tasks.engine.progress import progress
from tasks.figures.scores import scores_of, values_of
from tasks.figures.sides import Side
from tasks.studies.adaptation.material import Case

if TYPE_CHECKING:
    from psr.steering.adapter import Adapter

# 7 epochs in batches of 32 are the fast preset's for -log p(y'|x), the paper's number of epochs for that loss. The presets'
# rates leave adapters underfitted in that time: these were the best of up to three tried each (LoRA 1e-3 to 1e-2, full
# 1e-4 to 1e-3) by trait alignment at a = 1 on the search questions of quick's gloomy, at the prompt's coherence there.
SETTINGS: dict[str, FitSettings] = {
    "lora1-ll": replace(FAST_ADAPTER, lr=1e-2),  # a module's own rank
    "lora8-ll": replace(FAST_ADAPTER, lr=3e-3),  # peft's default rank
    "full-ll": replace(FAST_ADAPTER, lr=3e-4),
}
ALPHAS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)


def timed_fit(
    case: Case, method: Method, layers: Sequence[int], settings: FitSettings | None, id: str
) -> tuple[Any, float]:
    """(module or adapter, seconds) of fitting the method to the attribute's triplets."""
    from psr.fitting.learning import learn

    examples = case.material.examples(method)
    total = (settings.epochs if settings else 0) * len(examples)
    with progress(f"adapt {case.attribute.key} {method.name}", total, "examples") as advance:
        began = time.perf_counter()
        fitted = learn(case.lm, examples, method, layers, settings, module_id=id, progress=advance)
        return fitted.module, time.perf_counter() - began


def scores_of_adapter(case: Case, adapter: Adapter) -> tuple[Scores, Scores]:
    """Scores on the search questions at every strength of ALPHAS, and on the evaluation questions at the strengths that
    the search or one of its resamples chooses at the prompt's coherence."""
    prompt = case.search.mean(INSTRUCTED, "coherence")

    def evaluate(alphas: Sequence[float]) -> Scores:
        return scored(case, adapter, alphas, case.search, case.sampled("search"))

    search_scores = search(evaluate, prompt, coarse=ALPHAS, alpha_max=max(ALPHAS), refine=())
    resamples = case.settings["search"]["resamples"]
    options = candidates(search_scores, prompt, resamples=resamples, seed=case.sampled("search")[0])
    alphas = sorted({0.0, *(one.alpha for one in options if one.point == "Cp")})
    return search_scores, scored(case, adapter, alphas, case.evaluation, case.sampled("steer"))


def scored(case: Case, adapter: Adapter, alphas: Sequence[float], side: Side, sampled: Sequence[int]) -> Scores:
    """Trait and coherence at `alphas` on the side's questions; at alpha 0 the side's plain answers."""
    completions = [c for alpha in alphas if alpha for c in answers(case, adapter, alpha, side, sampled)]
    pairs = {pair.id: pair for pair in side.pairs}
    judged = values_of(judge_all(case.judge, [JudgeItem.of(c, pairs[c.pair]) for c in completions]).judgements)
    plain = side.of(PLAIN) if 0 in alphas else []
    return scores_of([*plain, *completions], {**side.values, **judged}, side.pairs)


def answers(case: Case, adapter: Adapter, alpha: float, side: Side, sampled: Sequence[int]) -> list[Completion]:
    """Answers of the adapted model to plain questions, as completions with the adapter's id and alpha."""
    from psr.answers.completions import Ask, complete
    from psr.answers.sampling import Sampling
    from psr.fitting.lora import adapted

    asks = [Ask(pair, PLAIN, seed) for pair in side.pairs for seed in sampled]
    settings = case.settings
    sampling = Sampling(settings["sampling"]["max_new_tokens"], settings["sampling"]["temperature"])
    label = f"adapt {case.attribute.key} {adapter.form} at {alpha:g}"
    with adapted(case.lm, adapter, alpha), progress(label, len(asks), "completions") as advance:
        completions = complete(case.lm, asks, sampling, batch_size=settings["steer"]["batch_size"], progress=advance)
    return [replace(completion, method=adapter.id, alpha=alpha) for completion in completions]
