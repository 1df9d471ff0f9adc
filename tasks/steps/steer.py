"""Steered generation: plain, instructed and every module at its candidate strengths, on questions nothing was fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psr.answers.pairs import held_out_pairs
from psr.types import INSTRUCTED, PLAIN, Attribute, Completion, PromptPair
from tasks.asking.answers import Answerer, write_questions
from tasks.asking.models import open_model
from tasks.asking.modules import digest
from tasks.engine.progress import progress
from tasks.tables.modules import candidate_rows
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


@dataclass(frozen=True, eq=False)
class Steered:
    """A module at its candidate alphas; chosen: the one that the search chose; prompted: at alpha 1 on top of the prompt too."""

    module: SteeringModule
    alphas: tuple[float, ...]
    chosen: float
    prompted: bool

    def asks(self, pairs: Sequence[PromptPair], sampled: Sequence[int]) -> list[Ask]:
        """At each alpha but 0, which is plain, then on top of the prompt."""
        from psr.answers.completions import Ask

        alphas = [(alpha, False) for alpha in self.alphas if alpha] + ([(1.0, True)] if self.prompted else [])
        return [
            Ask(pair, self.module.id, at, self.module, alpha, instructed=on_top)
            for alpha, on_top in alphas
            for pair in pairs
            for at in sampled
        ]

    @property
    def reads(self) -> tuple[object, ...]:
        return digest(self.module), self.alphas, self.chosen, self.prompted


def answer_steered(
    attribute: Attribute,
    seed: int,
    sampled: Sequence[int],
    answerer: Answerer,
    questions: int | None,
    folders: Sequence[Path],
    search: Path,
    strengths: int,
    with_prompt: Sequence[str],
) -> list[Path]:
    """The modules in `folders` for one repetition, in common batches; of the methods `with_prompt` on top of the prompt too.

    Returns a cell a module: completions, and the token strengths of the first `strengths` answers at the chosen alpha.
    """
    from psr.answers.completions import WITH_PROMPT

    pairs, cells = held_out_pairs(attribute, "evaluate", questions), answerer.cells
    asked = (answerer.reads, seed, sampled, [pair.id for pair in pairs], strengths)
    steered = [steered_of(folder, search, seed, with_prompt) for folder in folders]
    todo = [one for one in steered if cells.find("steer", (asked, one.reads)) is None]
    answers = answerer.answer([ask for one in todo for ask in one.asks(pairs, sampled)], f"steer {attribute.key}")

    def write(folder: Path, one: Steered) -> None:
        made = [c for c in answers if c.method.removesuffix(WITH_PROMPT) == one.module.id]
        write_completions(folder / "completions.parquet", made)
        shown = [c for c in made if c.method == one.module.id and c.alpha == one.chosen][:strengths]
        rows = strength_rows(open_model(answerer.model), pairs, one.module, shown, f"strengths {attribute.key}")
        write_table(folder / "strengths.parquet", "strengths", rows)

    return [cells.keep("steer", (asked, one.reads), partial(write, one=one)) for one in steered]


def steered_of(folder: Path, search: Path, seed: int, with_prompt: Sequence[str]) -> Steered:
    """The module in `folder`, with what the search found for it in one repetition."""
    from psr.steering.module import load_module

    module = load_module(folder)
    rows = candidate_rows(search, seed, module.id)
    alphas = tuple(sorted({row["alpha"] for row in rows}))
    return Steered(module, alphas, chosen_alpha(rows), module.origin["method"] in with_prompt)


def chosen_alpha(rows: Sequence[dict[str, Any]]) -> float:
    """The chosen alpha; of persona's two points the prompt's coherence, or coherence 80 where the first is 0."""
    chosen = {row["point"]: row["alpha"] for row in rows if row["chosen"]}
    return next(alpha or chosen["C80"] for point, alpha in chosen.items() if point != "C80")


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
