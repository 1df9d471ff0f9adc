"""Steered generation: plain, instructed and every module at its candidate strengths, on questions nothing was fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from psr.answers.pairs import held_out_pairs
from psr.types import INSTRUCTED, PLAIN, Attribute, Completion, PromptPair
from tasks.asking.answers import complete_once
from tasks.asking.models import ModelPlace, open_model
from tasks.asking.repetition import write_draws
from tasks.engine.gather import part
from tasks.engine.progress import progress
from tasks.engine.scratch import Scratch
from tasks.tables.modules import modules_of
from tasks.tables.parquet import read_table, write_completions, write_pairs, write_table

if TYPE_CHECKING:
    from psr.answers.completions import Ask
    from psr.lm.models import LanguageModel
    from psr.steering.module import SteeringModule


@task(cache_policy=NO_CACHE)
def steer_attribute(
    attribute: Attribute,
    seed: int,
    sampled: Sequence[int],
    distill: Path,
    search: Path,
    model: ModelPlace,
    scratch: Scratch,
    *,
    questions: int | None,
    temperature: float,
    max_new_tokens: int,
    batch_size: int,
    strengths: int,
    with_prompt: Sequence[str],
) -> Path:
    """Answer the evaluation questions by every method, for one repetition: its fit seed and its sampling seeds.

    Returns the part: pairs, completions, and the token strengths of the first `strengths` answers of each gated module
    at its chosen alpha. Modules of the methods `with_prompt` answer on top of the prompt too, at alpha 1.
    """
    from psr.answers.sampling import Sampling

    pairs = held_out_pairs(attribute, "evaluate", questions)
    name = f"{attribute.benchmark}-{attribute.name}-seed-{seed}"
    modules = modules_of(distill, attribute.key, seed)
    prompted = [module for module in modules if module.origin["method"] in with_prompt]

    def write(folder: Path) -> None:
        lm = open_model(model)
        asks = evaluation_asks(pairs, modules, candidate_alphas(search, seed), sampled)
        asks += prompted_asks(pairs, prompted, sampled)
        made = complete_once(
            lm,
            asks,
            Sampling(max_new_tokens, temperature),
            scratch.within(name),
            batch_size=batch_size,
            label=f"steer {attribute.key}",
        )
        write_pairs(folder / "pairs.parquet", pairs, "evaluate", "held_out")
        write_completions(folder / "completions.parquet", made)
        write_draws(folder, attribute.key, seed, sampled)
        chosen = chosen_alphas(search, seed)
        rows = strength_rows(lm, pairs, modules, made, chosen, strengths, f"strengths {attribute.key}")
        write_table(folder / "strengths.parquet", "strengths", rows)

    return part(scratch, f"part-{name}", write)


def candidate_rows(search: Path, seed: int) -> list[dict[str, Any]]:
    """What the search found for one repetition."""
    return [row for row in read_table(search / "candidates.parquet", "candidates") if row["seed"] == seed]


def candidate_alphas(search: Path, seed: int) -> dict[str, tuple[float, ...]]:
    """module id -> the alphas that some resample of the search questions would choose, ascending."""
    found: dict[str, set[float]] = {}
    for row in candidate_rows(search, seed):
        found.setdefault(row["module"], set()).add(row["alpha"])
    return {module: tuple(sorted(alphas)) for module, alphas in found.items()}


def chosen_alphas(search: Path, seed: int) -> dict[str, float]:
    """module id -> the chosen alpha; of persona's two points the prompt's coherence, or coherence 80 where the first is 0."""
    chosen = {(row["point"], row["module"]): row["alpha"] for row in candidate_rows(search, seed) if row["chosen"]}
    return {module: alpha or chosen["C80", module] for (point, module), alpha in chosen.items() if point != "C80"}


def evaluation_asks(
    pairs: Sequence[PromptPair],
    modules: Sequence[SteeringModule],
    wanted: Mapping[str, Sequence[float]],
    sampled: Sequence[int],
) -> list[Ask]:
    """Plain, instructed, and each module at each wanted alpha but 0, which is plain."""
    from psr.answers.completions import Ask

    methods: list[tuple[str, Any, float]] = [(PLAIN, None, 0.0), (INSTRUCTED, None, 0.0)]
    methods += [(module.id, module, alpha) for module in modules for alpha in wanted[module.id] if alpha != 0]
    return [
        Ask(pair, method, seed, module, alpha)
        for method, module, alpha in methods
        for pair in pairs
        for seed in sampled
    ]


def prompted_asks(pairs: Sequence[PromptPair], modules: Sequence[SteeringModule], sampled: Sequence[int]) -> list[Ask]:
    """Each module on top of the prompt, at alpha 1."""
    from psr.answers.completions import Ask

    return [
        Ask(pair, module.id, seed, module, 1.0, instructed=True)
        for module in modules
        for pair in pairs
        for seed in sampled
    ]


def strength_rows(
    lm: LanguageModel,
    pairs: Sequence[PromptPair],
    modules: Sequence[SteeringModule],
    completions: Sequence[Completion],
    chosen: Mapping[str, float],
    count: int,
    label: str,
) -> list[dict[str, Any]]:
    """λ per layer and token for the first answers of each gated module at its chosen alpha."""
    from psr.lm.chats import encode_chat
    from psr.steering.strengths import token_strengths

    by_id = {pair.id: pair for pair in pairs}
    gated = {module.id: module for module in modules if "w" in module.tensors}
    rows: list[dict[str, Any]] = []
    shown = [[c for c in completions if c.method == id and c.alpha == chosen[id]][:count] for id in gated]
    with progress(label, sum(map(len, shown)), "answers") as advance:
        for module, answers in zip(gated.values(), shown, strict=True):
            for answer in answers:
                prompt = encode_chat(lm.tokenizer, by_id[answer.pair].plain)
                lam = token_strengths(lm, module, prompt, answer.token_ids, answer.alpha)
                rows += _rows(lm, module, answer, (*prompt.ids, *answer.token_ids), prompt.start(module.span), lam)
                advance(1)
    return rows


def _rows(
    lm: LanguageModel, module: SteeringModule, answer: Completion, ids: Sequence[int], start: int, lam: Any
) -> list[dict[str, Any]]:
    tokens = [lm.tokenizer.decode([token]) for token in ids[start:]]
    return [
        {"completion": answer.id, "layer": layer, "position": start + i, "token": token, "strength": float(lam[at, i])}
        for at, layer in enumerate(module.layers)
        for i, token in enumerate(tokens)
    ]
