"""From pairs to completions: which side of a pair is asked, under which method, with which random numbers.

The random numbers of a row come from its question and its seed alone, so that the same question asked plainly, with
the instruction, or steered at any α is answered with the same draws: differences between methods are then less noisy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from psr.answers.generation import Answer, Request, generate
from psr.answers.sampling import Sampling
from psr.errors import PsrError
from psr.lm.chats import Prompt, encode_chat
from psr.lm.models import LanguageModel
from psr.steering.module import SteeringModule
from psr.types import INSTRUCTED, PLAIN, Chat, Completion, PromptPair, completion_id, short_hash

WITH_PROMPT = "+instructed"


@dataclass(frozen=True, eq=False)
class Ask:
    """One completion to make. method: "plain", "instructed" or the module's id.

    instructed with a module: the module on top of the prompt (PSR + prompt); its completions carry the method
    `<module id>+instructed`, so that they never share an id with the module's alone.
    Raises PsrError when method and module contradict each other.
    """

    pair: PromptPair
    method: str
    seed: int
    module: SteeringModule | None = None
    alpha: float = 0.0
    instructed: bool = False

    def __post_init__(self) -> None:
        named = self.method not in (PLAIN, INSTRUCTED)
        if named != (self.module is not None) or (self.module is not None and self.method != self.module.id):
            raise PsrError(
                "a completion's method and its module contradict each other",
                where=f"pair {self.pair.id}",
                expected="plain or instructed without a module, or the module's own id",
                got=f"{self.method!r} with {'no module' if self.module is None else repr(self.module.id)}",
            )
        if self.module is None and (self.alpha != 0 or (self.instructed and self.method == PLAIN)):
            raise PsrError(
                "a plain completion is neither steered nor instructed",
                where=f"pair {self.pair.id}",
                expected="alpha 0, and the prompt only under method 'instructed'",
                got=f"{self.method!r}, alpha {self.alpha}, instructed {self.instructed}",
            )

    @property
    def chat(self) -> Chat:
        """The side of the pair that is asked."""
        return self.pair.instructed if self.instructed or self.method == INSTRUCTED else self.pair.plain

    @property
    def label(self) -> str:
        """What the completion's `method` says."""
        return self.method + (WITH_PROMPT if self.instructed and self.module is not None else "")

    def id(self, model: str, sampling: Sampling) -> str:
        """The id its completion will have on the model with this fingerprint: what a resumed run looks up."""
        return completion_id(self.pair.id, self.label, self.alpha, self.seed, model, sampling.key)


def row_seed(question: str, seed: int) -> int:
    """The seed of one row's random numbers: the same for every method, α, attribute and instruction."""
    return int(short_hash("row", question, seed), 16)


def complete(
    lm: LanguageModel,
    asks: Sequence[Ask],
    sampling: Sampling,
    *,
    batch_size: int = 64,
    progress: Callable[[int], None] | None = None,
) -> list[Completion]:
    """Make every completion, in the order asked. progress(n) is called with the number of completions just made.

    Raises PsrError for what `encode_chat` and `generate` refuse.
    """
    prompts: dict[Chat, Prompt] = {}
    for ask in asks:
        if ask.chat not in prompts:
            prompts[ask.chat] = encode_chat(lm.tokenizer, ask.chat, context=lm.context)
    requests = [
        Request(prompts[ask.chat], row_seed(ask.pair.question, ask.seed), ask.module, ask.alpha) for ask in asks
    ]
    answers = generate(lm, requests, sampling, batch_size=batch_size, progress=progress)
    return [_completion(lm, ask, answer, sampling) for ask, answer in zip(asks, answers, strict=True)]


def _completion(lm: LanguageModel, ask: Ask, answer: Answer, sampling: Sampling) -> Completion:
    return Completion(
        pair=ask.pair.id,
        method=ask.label,
        alpha=float(ask.alpha),
        seed=ask.seed,
        model=lm.fingerprint,
        sampling=sampling.key,
        token_ids=answer.token_ids,
        text=answer.text,
        finished=answer.finished,
        thinking=answer.thinking,
    )
