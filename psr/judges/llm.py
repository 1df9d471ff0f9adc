"""What judges that are language models share: items become questions, replies become judgements, and no question is asked twice.

A judge asks one question an item and rubric (psr/judges/rubrics.py); IFEval's accuracies are the checkers' of the judge
`rules`. Each answer is kept as soon as it is there, under a key of all that it depends on: the judge, the rubric, how it is
sampled, and the exact text. What keeps them needs `get(key)` and `answers[key] = answer`: a dict does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from psr.errors import PsrError
from psr.judges.rubrics import RUBRICS, VERSION, Reading, Rubric, Value, refusal
from psr.judges.rules import RulesJudge
from psr.types import Attribute, Chat, JudgeItem, Judgement, Usage, Verdicts, short_hash

SETTING = {"setting": False}  # metadata of a field that parameters do not set
ACCURACIES = ("accuracy", "accuracy_loose")


@dataclass(frozen=True)
class Answer:
    """A judge's answer to one question, as it is kept. text: a hash of what was asked; reply: the judge's own words, or its
    probabilities as JSON; value: None with the reason in `error`; asked_at: ISO 8601, UTC."""

    key: str
    judge: str
    rubric: str
    dimension: str
    model: str
    text: str
    reply: str
    value: float | None
    error: str
    tokens_in: int
    tokens_out: int
    asked_at: str


class Answers(Protocol):
    """What keeps answers: a dict, or tasks.asking.kept.KeptAnswers."""

    def get(self, key: str) -> Answer | None: ...
    def __setitem__(self, key: str, answer: Answer) -> None: ...


@dataclass(frozen=True)
class Question:
    """A question to a judge: the chat, by which rubric its reply is read, and the key of its answer."""

    key: str
    judge: str
    rubric_id: str
    rubric: Rubric
    chat: Chat

    def answered(self, model: str, reply: str, value: Value, tokens_in: int, tokens_out: int) -> Answer:
        """The answer as it is kept."""
        return Answer(
            self.key, self.judge, self.rubric_id, self.rubric.dimension, model, short_hash(self.chat), reply, *value,
            tokens_in, tokens_out, datetime.now(UTC).isoformat(timespec="seconds"),
        )  # fmt: skip


Keep = Callable[[Answer], None]


@dataclass(frozen=True)
class Questionnaire:
    """What a judge asks about one benchmark's answers.

    judge: its id. sampling: what else its replies depend on, as values of JSON. Raises PsrError for another benchmark.
    """

    benchmark: str
    attributes: Mapping[str, Attribute]
    judge: str
    reading: Reading
    sampling: Sequence[object]

    def __post_init__(self) -> None:
        if self.benchmark not in RUBRICS:
            raise PsrError(
                "there is no rubric for this benchmark",
                where=f"judge {self.judge}",
                expected=f"one of {', '.join(RUBRICS)}",
                got=repr(self.benchmark),
            )

    @property
    def rubrics(self) -> tuple[Rubric, ...]:
        return RUBRICS[self.benchmark]

    @property
    def id(self) -> str:
        """`persona-logprobs-1`: what is asked, how it is read, the version of both."""
        return f"{self.benchmark}-{self.reading}-{VERSION}"

    @property
    def dimensions(self) -> tuple[str, ...]:
        asked = tuple(rubric.dimension for rubric in self.rubrics)
        return asked if self.benchmark != "ifeval" else (ACCURACIES[0], *asked, ACCURACIES[1])

    def refuses(self, attribute: Attribute) -> str:
        """Why the attribute cannot be judged; empty where it can."""
        rules = self._rules.refuses(attribute) if self.benchmark == "ifeval" else ""
        return rules or refusal(self.benchmark, attribute)

    def reads(self, attribute: str) -> object:
        """What decides the verdicts beside items, judge and rubric."""
        entry = self.attributes.get(attribute)
        rules = self._rules.reads(attribute) if self.benchmark == "ifeval" else None
        return [list(self.sampling), entry and entry.rubric, rules]

    def judged(
        self, items: Sequence[JudgeItem], answers: Any, ask: Callable[[Sequence[Question], Keep], None]
    ) -> Verdicts:
        """A judgement for each item and dimension, item by item, and what the questions cost that were asked now.

        ask(questions, keep): has to answer all of them, and to call `keep` with each answer as soon as it is there.
        """
        questions = {
            (item.completion, rubric.dimension): self.question(rubric, item, self.attributes[item.attribute])
            for item in items
            if item.attribute in self.attributes
            for rubric in self.rubrics
        }
        kept = {question.key: answers.get(question.key) for question in questions.values()}
        fresh: list[Answer] = []

        def keep(answer: Answer) -> None:
            answers[answer.key] = kept[answer.key] = answer
            fresh.append(answer)

        if unasked := list({q.key: q for q in questions.values() if kept[q.key] is None}.values()):
            ask(unasked, keep)
        judgements = self._judgements(items, {at: kept[question.key] for at, question in questions.items()})
        usage = Usage(len(fresh), sum(one.tokens_in for one in fresh), sum(one.tokens_out for one in fresh))
        return Verdicts(tuple(judgements), usage)

    def question(self, rubric: Rubric, item: JudgeItem, attribute: Attribute) -> Question:
        """What `rubric` asks about an item."""
        chat = rubric.chat(item, attribute, self.reading)
        key = short_hash("question", self.judge, self.id, rubric.dimension, list(self.sampling), chat)
        return Question(key, self.judge, self.id, rubric, chat)

    def _judgements(
        self, items: Sequence[JudgeItem], answers: Mapping[tuple[str, str], Answer | None]
    ) -> Iterator[Judgement]:
        scales = {rubric.dimension: float(rubric.scale) for rubric in self.rubrics}
        rules = {}
        if self.benchmark == "ifeval":
            rules = {(one.completion, one.dimension): one for one in self._rules(items).judgements}
        for item in items:
            for name in self.dimensions:
                rule, answer = rules.get((item.completion, name)), answers.get((item.completion, name))
                value, scale, raw, error = None, scales.get(name, 100.0), "", "this judge was not given the attribute"
                if name in ACCURACIES and rule is not None:
                    value, raw, error = rule.value, rule.raw, rule.error
                elif answer is not None:
                    value, raw, error = answer.value, answer.reply, answer.error
                yield Judgement(item.completion, self.judge, self.id, name, value, scale, raw, error)

    @property
    def _rules(self) -> RulesJudge:
        return RulesJudge("ifeval", self.attributes)
