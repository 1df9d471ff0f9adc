"""The judge `local`: any causal language model in this process, asked by the same rubrics and read exactly.

The probability of a number k is that of its tokens behind the question, less that of its tokens followed by one digit more
(where the tokenizer writes digit by digit, "1" then "0" is 10 only if no "0" comes after it): p(k) = P(k) − Σ P(children of k).
So 10 and 100 share no probability. A number above 100 counts as the one that it begins with. Persona's and IFEval's score is
Σ p·k / Σ p; AxBench's rating is the most likely of 0, 1 and 2 behind "Rating: [[", as a reply at temperature 0 would say.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from psr.errors import PsrError
from psr.judges.llm import SETTING, Keep, Question, Questionnaire
from psr.judges.rubrics import likeliest, weighted
from psr.types import Attribute, Chat, JudgeItem, Message, Verdicts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from psr.lm.models import LanguageModel

Ids = tuple[int, ...]


@dataclass(frozen=True)
class LocalJudge:
    """Judges one benchmark's answers by a language model of its own. `attributes`: key -> Attribute.

    answers: keeps what was answered, such as a dict. lm: the model, instead of one that is opened from `model`.
    Raises PsrError without a model, as `psr.load_model` does, and for a tokenizer that cannot write the numbers.

    Example:
        judge = LocalJudge("persona", attributes, lm=psr.load_model("data/models/smollm2"))
        psr.judge_all(judge, [psr.JudgeItem("a", "persona/pirate", "What is rain?", "Arr, 'tis water, matey!")])
    """

    benchmark: str
    attributes: Mapping[str, Attribute]
    model: str = ""
    """A folder with the judge's model, a GGUF file, or a name on the Hugging Face hub."""
    revision: str | None = None
    """The commit of a model of the hub, and required there."""
    dtype: str = "auto"
    """As in the section `model`."""
    device: str = "auto"
    """As in the section `model`."""
    batch_size: int = 8
    """Questions at once."""
    answers: Any = field(default_factory=dict, repr=False, compare=False, metadata=SETTING)
    lm: Any = field(default=None, repr=False, compare=False, metadata=SETTING)

    def __post_init__(self) -> None:
        if self.lm is None and not self.model.strip():
            raise PsrError("a judge cannot be set like this", where="judge local, model", expected="a model's folder")
        if self.batch_size < 1:
            raise PsrError("a judge cannot be set like this", where="judge local, batch_size", expected="at least 1")
        _ = self.dimensions  # refuses a benchmark without a rubric

    @property
    def id(self) -> str:
        return f"local:{self.model or self.lm.fingerprint}{'@' + self.revision[:8] if self.revision else ''}"

    @property
    def rubric(self) -> str:
        return self._questionnaire().id

    @property
    def dimensions(self) -> tuple[str, ...]:
        return self._questionnaire().dimensions

    @property
    def calls_per_item(self) -> int:
        """Questions to the model for each answer that is judged."""
        return len(self._questionnaire().rubrics)

    def refuses(self, attribute: Attribute) -> str:
        """Why it cannot judge the attribute; empty where it can."""
        return self._questionnaire().refuses(attribute)

    def reads(self, attribute: str) -> object:
        """What decides its verdicts beside answer and rubric: the model, how it is run, the attribute's own words."""
        return self._questionnaire(self._sampling(self._opened())).reads(attribute)

    def __call__(self, items: Sequence[JudgeItem]) -> Verdicts:
        """A judgement for each item and dimension, item by item; one that cannot be made has no value and says why."""
        lm = self._opened()

        def ask(questions: Sequence[Question], keep: Keep) -> None:
            ordered = sorted(questions, key=lambda question: (question.rubric.scale, len(question.chat[0].content)))
            for at in range(0, len(ordered), self.batch_size):
                _answer(lm, ordered[at : at + self.batch_size], keep)

        return self._questionnaire(self._sampling(lm)).judged(items, self.answers, ask)

    def _opened(self) -> LanguageModel:
        return self.lm if self.lm is not None else _open(self.model, self.revision, self.dtype, self.device)

    @staticmethod
    def _sampling(lm: LanguageModel) -> tuple[str, ...]:
        return lm.fingerprint, str(lm.dtype), lm.device.type

    def _questionnaire(self, sampling: Sequence[str] = ()) -> Questionnaire:
        return Questionnaire(self.benchmark, self.attributes, self.id, "exact", sampling)


@cache
def _open(path: str, revision: str | None, dtype: str, device: str) -> LanguageModel:
    """The model, once a process."""
    from psr.lm.devices import resolved
    from psr.lm.loading import load_model

    dtype, device = resolved(dtype, device)
    return load_model(path, revision=revision, dtype=dtype, device=device)


def _answer(lm: LanguageModel, questions: Sequence[Question], keep: Keep) -> None:
    """Answer questions in one batch: the probability of every number behind every question."""
    from psr.lm.chats import encode_chat
    from psr.lm.surprise import token_losses

    asked: list[tuple[Question, Ids, dict[int, Ids]]] = []
    for question in questions:
        start, numbers = numbers_of(lm.tokenizer, question.rubric.start, question.rubric.scale)
        prompt = (*encode_chat(lm.tokenizer, without_special(lm.tokenizer, question.chat)).ids, *start)
        needed = len(prompt) + max(map(len, numbers.values()))
        if needed > lm.context:
            why = f"the question is longer than the judge's context: {needed} of {lm.context} tokens"
            keep(question.answered(lm.fingerprint, "", (None, why), 0, 0))
        else:
            asked.append((question, prompt, numbers))
    prompts = [prompt for _, prompt, numbers in asked for _ in numbers]
    written = [ids for _, _, numbers in asked for ids in numbers.values()]
    losses = iter(token_losses(lm, prompts, written)) if asked else iter(())
    for question, prompt, numbers in asked:
        whole = {number: math.exp(-float(next(losses).double().sum())) for number in numbers}
        weights = alone(whole, numbers)
        value = weighted(weights) if question.rubric.scale == 100 else likeliest(weights)
        said = {number: round(p, 6) for number, p in weights.items() if p >= 1e-4}
        keep(question.answered(lm.fingerprint, json.dumps(said), value, len(prompt), 0))


def alone(whole: Mapping[int, float], numbers: Mapping[int, Ids]) -> dict[int, float]:
    """Number -> the probability that it is written and no digit more. whole: of its tokens, whatever follows them."""
    longer: dict[Ids, float] = {}
    for number, ids in numbers.items():
        longer[ids[:-1]] = longer.get(ids[:-1], 0.0) + whole[number]
    return {number: max(whole[number] - longer.get(ids, 0.0), 0.0) for number, ids in numbers.items()}


def numbers_of(tokenizer: PreTrainedTokenizerBase, start: str, scale: int) -> tuple[Ids, dict[int, Ids]]:
    """The tokens that `start` and every number from 0 to `scale` begin with alike, and each number's further ones.

    Raises PsrError where the tokenizer has no tokens for them.
    """
    ids = {k: tuple(tokenizer(f"{start}{k}", add_special_tokens=False)["input_ids"]) for k in range(scale + 1)}
    shared = 0
    while len({one[: shared + 1] for one in ids.values()}) == 1 and shared < min(map(len, ids.values())):
        shared += 1
    numbers = {k: one[shared:] for k, one in ids.items()}
    unknown = tokenizer.unk_token_id
    if len(set(numbers.values())) <= scale or any(unknown in one or not one for one in numbers.values()):
        raise PsrError(
            "this model cannot judge: its tokenizer does not write numbers",
            where="judge local",
            expected=f"distinct tokens for 0 to {scale}",
            do="Use a model that was trained on ordinary text.",
        )
    return ids[0][:shared], numbers


def without_special(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> Chat:
    """The chat with a space in each special token that an answer spells out, such as the end of a turn."""
    special = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]

    def spaced(text: str) -> str:
        for token in special:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    return tuple(Message(one.role, spaced(one.content)) for one in chat)
