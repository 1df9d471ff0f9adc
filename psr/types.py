"""The frozen records that the library passes on, in the order in which they are made.

    PromptPair -> Completion -> Judgement -> Triplet -> AlignedTokens -> Targets -> SteeringModule -> Completion -> ...

Every record has an `id`: a short hash of what changes the answer, never of what does not (batch size, device),
and names its parent's id, so that any number in a report can be followed back to the pair it came from.
This file imports nothing but the standard library.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Span = Literal["R", "QR"]
Scope = Literal["S", "A"]

PLAIN = "plain"
INSTRUCTED = "instructed"
WHOLE = re.compile(r"-r\d+$")  # ends in a rank
PARAPHRASE = "paraphrase"  # the method of what other wordings of the prompt do


def short_hash(*parts: object) -> str:
    """16 hex digits over JSON-able `parts`; equal parts give equal hashes on every machine."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class ModelName(NamedTuple):
    """What a language model is called: its name on the hub with the commit, or the name of its folder or file alone.

    >>> psr.load_model("data/testbed/model").name
    ModelName(name='model', revision=None)
    """

    name: str = ""
    revision: str | None = None

    def __str__(self) -> str:
        """`owner/model at 0123456`, or the name as it is."""
        return f"{self.name} at {self.revision}" if self.revision else self.name


UNNAMED = ModelName()


class Message(NamedTuple):
    """One turn of a chat. role: "system", "user" or "assistant"."""

    role: str
    content: str


Chat = tuple[Message, ...]


@dataclass(frozen=True)
class Attribute:
    """One thing to steer for, as a benchmark states it: what to say, what to ask, how it is judged.

    `questions` and `instructions` are for fitting modules; `search` questions choose alpha, `evaluate` questions
    give the figures, and `held_out` are paraphrases of the instruction that no module was fitted on.
    `kwargs` holds what an exact verifier needs (IFEval) or the concept's words (AxBench), as (name, value) pairs.
    """

    benchmark: str
    name: str
    instructions: tuple[str, ...]
    held_out: tuple[str, ...]
    questions: tuple[str, ...]
    search: tuple[str, ...]
    evaluate: tuple[str, ...]
    rubric: str
    kwargs: tuple[tuple[str, object], ...] = ()

    @property
    def key(self) -> str:
        """`benchmark/name`, as it is written in parameters and tables."""
        return f"{self.benchmark}/{self.name}"


@dataclass(frozen=True)
class PromptPair:
    """The same question asked plainly (x) and with an instruction (x'); they differ by the instruction only.

    attribute: "benchmark/name" of what is steered for; any such name will do.

        >>> pair = psr.PromptPair("persona/pirate", "Tell me about trains.", "Talk like a pirate.")
        >>> pair.instructed
        (Message(role='system', content='Talk like a pirate.'), Message(role='user', content='Tell me about trains.'))
    """

    attribute: str
    question: str
    instruction: str

    @property
    def id(self) -> str:
        return short_hash("pair", self.attribute, self.question, self.instruction)

    @property
    def plain(self) -> Chat:
        """x: the conversation without the instruction."""
        return (Message("user", self.question),)

    @property
    def instructed(self) -> Chat:
        """x': the same conversation with the instruction as its system turn."""
        return (Message("system", self.instruction), Message("user", self.question))


@dataclass(frozen=True)
class Completion:
    """An answer with the ids that were sampled (the stop token included when there is one); text is never re-tokenised.

    thinking: what a model that thinks wrote before it; the ids hold both. One that never ended its thinking has an empty
    text and is not finished.

    method: "plain", "instructed" or a steering module's id. `pair` is the parent PromptPair's id,
    `model` the fingerprint of model and tokenizer, `sampling` what the sampler was told (temperature, max tokens).
    """

    pair: str
    method: str
    alpha: float
    seed: int
    model: str
    sampling: str
    token_ids: tuple[int, ...]
    text: str
    finished: bool
    thinking: str = ""

    @property
    def id(self) -> str:
        return completion_id(self.pair, self.method, self.alpha, self.seed, self.model, self.sampling)


def completion_id(pair: str, method: str, alpha: float, seed: int, model: str, sampling: str) -> str:
    """The id a Completion has, known before it is made: what a resumed run looks up."""
    return short_hash("completion", pair, method, float(alpha), seed, model, sampling)


@dataclass(frozen=True)
class Judgement:
    """One verdict on one dimension. A failed judgement has value None: it is counted and left out of means, never 0.

    value lies in [0, scale], or anywhere on the line through these two where the judge says so (`unbounded`); `raw` is the
    judge's own words, `error` why there is no value.
    """

    completion: str
    judge: str
    rubric: str
    dimension: str
    value: float | None
    scale: float
    raw: str = ""
    error: str = ""

    @property
    def id(self) -> str:
        return short_hash("judgement", self.completion, self.judge, self.rubric, self.dimension)


@dataclass(frozen=True)
class Triplet:
    """(x, x', y') kept for fitting, with its soft label: trait and coherence in [0, 1]."""

    pair: PromptPair
    completion: Completion
    trait: float
    coherence: float

    @property
    def id(self) -> str:
        return short_hash("triplet", self.pair.id, self.completion.id)


@dataclass(frozen=True)
class Dropped:
    """A judged completion that was not kept, and why. kept + dropped = judged."""

    completion: str
    reason: str


@dataclass(frozen=True)
class AlignedTokens:
    """x y' and x' y' as token ids, with the first position of the span in each.

    Inside the spans both sides have equal tokens: plain_ids[plain_start:] == instructed_ids[instructed_start:].
    `response` is the number of tokens of y' (end of turn included); R has response + 1 positions.
    """

    plain_ids: tuple[int, ...]
    instructed_ids: tuple[int, ...]
    plain_start: int
    instructed_start: int
    response: int
    span: Span

    @property
    def length(self) -> int:
        """Number of positions in the span."""
        return len(self.plain_ids) - self.plain_start


@dataclass(frozen=True)
class Method:
    """A row of a table: where, what form, fitted how, on which span (psr.fitting.methods lists them).

    scope "S" (one layer) or "A" (all layers); form as in psr.steering.forms ("Const", "PSR", "PSR4", …), or "LoRA" or "Full";
    objective "DiM", "MSE", "LL", …; one that ends in a rank, such as "ReFT-r1", names a method whole, without its form.
    Of LoRA and Full, which change weights and so act on every token, `span` only says how their examples are aligned.
    """

    scope: Scope
    form: str
    objective: str
    span: Span

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Method:
        """The method of a stored row, whoever's it is: nothing has to know its name."""
        return cls(row["scope"], row["form"], row["objective"], row["span"])

    @property
    def name(self) -> str:
        """As the paper prints it: `A-PSR MSE·QR`."""
        if self.adapts:
            return f"{self.form} {self.objective}"
        if WHOLE.search(self.objective):
            return f"{self.scope}-{self.objective}·{self.span}"
        return f"{self.scope}-{self.form} {self.objective}·{self.span}"

    @property
    def slug(self) -> str:
        """As parameters and folders write it: `a-psr-mse-qr`."""
        return "-".join(self.name.replace("·", "-").split()).lower()

    @property
    def adapts(self) -> bool:
        """Whether it changes the model's weights (psr.fitting.lora) and not its activations."""
        return self.form.startswith(("LoRA", "Full"))


@dataclass(frozen=True)
class Example:
    """What fitting needs of one triplet: its aligned tokens and its soft label (trait in [0, 1]).

    rejected: the tokens of y, a plain answer to the same x (end of turn included); only a preference (RePS) and a
    difference of means over own answers (DiM) need one.

        >>> example = psr.Example(tokens, trait=0.9, rejected=plain.token_ids)
        >>> example.prompt_ids == prompt.ids
        True
    """

    tokens: AlignedTokens
    trait: float = 1.0
    rejected: tuple[int, ...] | None = None

    @property
    def negative(self) -> bool:
        """Whether its target is that nothing changes: a plain answer, x y on both sides (psr.align_plain)."""
        return self.tokens.instructed_ids == self.tokens.plain_ids

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """x: the plain prompt, up to its last token."""
        return self.tokens.plain_ids[: -self.tokens.response]


@dataclass(frozen=True)
class CurvePoint:
    """One epoch of a fit: means over the epoch. `dead` is the share of (layer, sequence) pairs with no open gate, which a
    negative's never are."""

    epoch: int
    loss: float
    objective: float
    regulariser: float
    dead: float


@dataclass(frozen=True)
class Usage:
    """What a judge cost: calls made, tokens in and out (0 for judges that are code)."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


@dataclass(frozen=True)
class JudgeItem:
    """What a judge is shown: never the method, never alpha, never the thinking.

    finished: the answer ended by itself, and not where it had to. missing: why there is no answer; judge_all then asks no judge.
    """

    completion: str
    attribute: str
    question: str
    text: str
    finished: bool = True
    missing: str = ""

    @classmethod
    def of(cls, completion: Completion, pair: PromptPair) -> JudgeItem:
        """A completion as a judge is shown it."""
        cut = completion.thinking and not completion.text and not completion.finished
        missing = "it was cut off before it had thought to the end and answered" if cut else ""
        return cls(completion.id, pair.attribute, pair.question, completion.text, completion.finished, missing)


@dataclass(frozen=True)
class Verdicts:
    """A judge's answer to a batch: its judgements in the order asked, and what they cost."""

    judgements: tuple[Judgement, ...]
    usage: Usage = field(default_factory=Usage)
