"""What a frozen model's likelihoods say of an answer y: how much it is the prompt's, and where it makes no sense.

    c(y) = mean over instructions, mean over tokens of  log p(y_i | x', y_<i) − log p(y_i | x, y_<i)

x is the plain question, x' the question with an instruction. A flaw is a number that is small where an answer is as the model
would give it, with or without the instruction. Losses are −log p under x or x', whichever is the better at this token:

    loss         their mean
    break        the mean of the worst STRETCH tokens in a row
    repetition   share of the tokens that end a run of RUN tokens which the answer has had before
    ending       −log p of the end that the answer has
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from psr.lm.chats import encode_chat
from psr.lm.surprise import BATCH, token_losses
from psr.lm.thinking import past_thinking
from psr.types import JudgeItem, PromptPair

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel

FLAWS = ("loss", "break", "repetition", "ending")
STRETCH, RUN = 6, 4
_Ids = tuple[int, ...]


@dataclass(frozen=True)
class Reading:
    """One answer. effect: c(y) in nats a token; by: that of each instruction; flaws: in the order of FLAWS, nan where an
    answer has no tokens, or no end, to tell it by."""

    effect: float
    by: tuple[float, ...]
    flaws: tuple[float, ...]


def read_answers(
    lm: LanguageModel,
    instructions: Sequence[str],
    items: Sequence[JudgeItem],
    *,
    batch_size: int = BATCH,
    progress: Callable[[int], None] | None = None,
) -> list[Reading | None]:
    """A reading of each item; None for an answer without tokens that did not end either. progress(n): of answers read.

    Each answer is read behind its question alone and with every instruction: 1 + len(instructions) forwards.
    Raises PsrError for what `encode_chat` and `token_losses` refuse.
    """
    answers = [_tokens(lm, item) for item in items]
    rows = [i for i, answer in enumerate(answers) if answer]
    wordings = (None, *instructions)
    prompts = {key: _prompt(lm, *key) for key in {(items[i].question, wording) for i in rows for wording in wordings}}
    losses = token_losses(
        lm,
        [prompts[items[i].question, wording] for i in rows for wording in wordings],
        [answers[i] for i in rows for _ in wordings],
        batch_size=batch_size,
        progress=progress,
    )
    readings: list[Reading | None] = [None] * len(items)
    for n, i in enumerate(rows):
        of_answer = torch.stack(losses[n * len(wordings) : (n + 1) * len(wordings)])
        readings[i] = _reading(of_answer.double(), answers[i], items[i].finished and bool(lm.stop_ids))
    return readings


def _tokens(lm: LanguageModel, item: JudgeItem) -> _Ids:
    """The answer's tokens, with the model's end of turn where it ended by itself."""
    ids = tuple(lm.tokenizer(item.text, add_special_tokens=False)["input_ids"])
    return (*ids, _stop(lm)) if item.finished and lm.stop_ids else ids


def _stop(lm: LanguageModel) -> int:
    own = lm.tokenizer.eos_token_id
    return int(own if own in lm.stop_ids else lm.stop_ids[0])


def _prompt(lm: LanguageModel, question: str, wording: str | None) -> _Ids:
    """The prompt that an answer follows, thinking left out."""
    pair = PromptPair("", question, wording or "")
    prompt = encode_chat(lm.tokenizer, pair.plain if wording is None else pair.instructed)
    return past_thinking(lm.tokenizer, prompt.ids)


def _reading(losses: Tensor, ids: _Ids, ended: bool) -> Reading:
    """losses: [1 + instruction, token], the first row under x; ended: the last token is the end of the turn."""
    by = (losses[0] - losses[1:]).mean(dim=1)
    better = losses.amin(dim=0)
    said, text = (better[:-1], ids[:-1]) if ended else (better, ids)
    nan = float("nan")
    flaws = (
        float(said.mean()) if len(said) else nan,
        float(said.unfold(0, min(STRETCH, len(said)), 1).mean(dim=1).max()) if len(said) else nan,
        _repetition(text),
        float(better[-1]) if ended else nan,
    )
    return Reading(float(by.mean()), tuple(by.tolist()), flaws)


def _repetition(ids: _Ids) -> float:
    """Share of the runs of RUN tokens that the answer has had before; nan for fewer than two runs."""
    runs = [ids[at : at + RUN] for at in range(len(ids) - RUN + 1)]
    return 1 - len(set(runs)) / len(runs) if len(runs) > 1 else float("nan")
