"""Steered generation: plain, instructed and every module at its candidate strengths, on questions nothing was fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psr.answers.pairs import held_out_pairs
from psr.types import INSTRUCTED, PLAIN, Attribute, Completion, PromptPair
from tasks.asking.answers import Answerer, write_questions
from tasks.asking.models import open_model
from tasks.asking.modules import digest
from tasks.engine.progress import progress
from tasks.tables.modules import candidate_rows, chosen_alpha
from tasks.tables.parquet import write_completions, write_table

if TYPE_CHECKING:
    from psr.answers.completions import Ask
    from psr.lm.models import LanguageModel
    from psr.steering.module import SteeringModule


def answer_unsteered(
    attribute: Attribute, seed: int, sampled: Sequence[int], answerer: Answerer, questions: int | None
) -> Path:
    """The plain model and the prompted one, for one repetition: its fit seed and its sampling seeds.

    Returns the cell: pairs, which sampling seeds belong to the fit seed, completions.
    """
    from psr.answers.completions import Ask

    pairs = held_out_pairs(attribute, "evaluate", questions)
    asks = [Ask(pair, method, at) for method in (PLAIN, INSTRUCTED) for pair in pairs for at in sampled]

    def write(folder: Path) -> None:
        write_questions(folder, attribute.key, pairs, "evaluate", seed, sampled)
        write_completions(folder / "completions.parquet", answerer.answer(asks, f"steer {attribute.key}"))

    reads = (answerer.reads, attribute.key, seed, sampled, [pair.id for pair in pairs])
    return answerer.cells.keep("steer", ("unsteered", reads), write)


def answer_steered(
    attribute: Attribute,
    seed: int,
    sampled: Sequence[int],
    answerer: Answerer,
    questions: int | None,
    folder: Path,
    search: Path,
    strengths: int,
    with_prompt: Sequence[str],
) -> Path:
    """The module in `folder` at every candidate alpha, for one repetition; of the methods `with_prompt` on top of the prompt
    too, at alpha 1.

    Returns the cell: completions, and the token strengths of the first `strengths` answers at the chosen alpha.
    """
    from psr.steering.module import load_module

    module, pairs = load_module(folder), held_out_pairs(attribute, "evaluate", questions)
    rows = candidate_rows(search, seed, module.id)
    alphas, chosen = sorted({row["alpha"] for row in rows}), shown_alpha(rows)
    prompted = module.origin["method"] in with_prompt

    def write(folder: Path) -> None:
        label = f"steer {attribute.key} {module.origin['method']}"
        made = answerer.answer(module_asks(pairs, module, alphas, sampled, prompted=prompted), label)
        write_completions(folder / "completions.parquet", made)
        shown = [c for c in made if c.method == module.id and c.alpha == chosen][:strengths]
        rows = strength_rows(open_model(answerer.model), pairs, module, shown, f"strengths {attribute.key}")
        write_table(folder / "strengths.parquet", "strengths", rows)

    asked = (answerer.reads, seed, sampled, [pair.id for pair in pairs])
    return answerer.cells.keep("steer", (asked, digest(module), alphas, chosen, strengths, prompted), write)


def module_asks(
    pairs: Sequence[PromptPair],
    module: SteeringModule,
    alphas: Sequence[float],
    sampled: Sequence[int],
    *,
    prompted: bool,
) -> list[Ask]:
    """The module at each alpha but 0, which is plain; prompted: on top of the prompt at alpha 1 too."""
    from psr.answers.completions import Ask

    wanted = [(alpha, False) for alpha in alphas if alpha] + ([(1.0, True)] if prompted else [])
    return [
        Ask(pair, module.id, at, module, alpha, instructed=on_top)
        for alpha, on_top in wanted
        for pair in pairs
        for at in sampled
    ]


def shown_alpha(rows: Sequence[dict[str, Any]]) -> float:
    """The alpha whose token strengths are kept: the chosen one, or at coherence 80 where at the prompt's it is 0."""
    at_80 = (row["alpha"] for row in rows if row["chosen"] and row["point"] == "C80")
    return chosen_alpha(rows) or next(at_80, 0.0)


def strength_rows(
    lm: LanguageModel, pairs: Sequence[PromptPair], module: SteeringModule, answers: Sequence[Completion], label: str
) -> list[dict[str, Any]]:
    """λ per layer and token of the answers, where the module has a gate."""
    from psr.lm.chats import encode_chat
    from psr.steering.strengths import token_strengths

    by_id = {pair.id: pair for pair in pairs}
    rows: list[dict[str, Any]] = []
    if "w" not in module.tensors:
        return rows
    with progress(label, len(answers), "answers") as advance:
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
