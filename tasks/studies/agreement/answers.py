"""The answers that judges are compared on: the evaluation answers of a finished profile."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from psr.errors import PsrError
from psr.types import Attribute, Completion, JudgeItem, PromptPair, short_hash
from tasks.tables.modules import module_rows
from tasks.tables.parquet import read_completions, read_pairs

NEEDED = ("steer/pairs.parquet", "steer/completions.parquet", "judge/judgements.parquet", "distill/modules.parquet")


@dataclass(frozen=True)
class Answers:
    """A profile's evaluation answers. pairs, attributes: by id and by key; methods: what a module's id is called."""

    pairs: Mapping[str, PromptPair]
    completions: Sequence[Completion]
    attributes: Mapping[str, Attribute]
    methods: Mapping[str, str]

    @cached_property
    def items(self) -> Mapping[str, JudgeItem]:
        """Completion id -> the answer as a judge is shown it."""
        return {one.id: JudgeItem.of(one, self.pairs[one.pair]) for one in self.completions}

    @cached_property
    def texts(self) -> Mapping[str, str]:
        """Completion id -> a hash of question and answer: a judgement of another text under this id is not of this answer."""
        return {id: short_hash("answer", item.question, item.text) for id, item in self.items.items()}

    def method(self, completion: Completion) -> str:
        """plain, instructed, or a method as parameters name it, with +instructed on top of the prompt."""
        module, plus, prompt = completion.method.partition("+")
        return self.methods.get(module, module) + plus + prompt


def load_answers(data: Path, attributes: Sequence[Attribute]) -> Answers:
    """The answers in the profile's folder `data`. Raises PsrError: damaged tables, answers for an attribute not in `attributes`."""
    pairs = {pair.id: pair for pair in read_pairs(data / "steer/pairs.parquet")}
    by_key = {attribute.key: attribute for attribute in attributes}
    unknown = sorted({pair.attribute for pair in pairs.values()} - set(by_key))
    if unknown:
        raise PsrError(
            "the profile has answers for attributes that it no longer names",
            where=data / "steer",
            expected=", ".join(by_key),
            got=", ".join(unknown),
            do="Reproduce the profile again.",
        )
    methods = {row["id"]: row["method"] for row in module_rows(data / "distill")}
    return Answers(pairs, read_completions(data / "steer/completions.parquet"), by_key, methods)


def spread(answers: Answers, limit: int, seed: int) -> list[Completion]:
    """At most `limit` answers, drawn evenly from the attributes, from the methods of each, and from its questions.

    Equal answers to one question count once, and one that was cut off in its thinking is none. Of one seed, a smaller
    limit draws the first of a larger one's, so that people rate a part of what a judge did.
    """
    by_attribute: dict[str, dict[str, list[Completion]]] = {}
    texts: set[tuple[str, str]] = set()
    for answer in sorted(answers.completions, key=lambda one: short_hash("drawn", seed, one.id)):
        item = answers.items[answer.id]
        text = (item.attribute, answers.texts[answer.id])
        if not item.missing and text not in texts:
            texts.add(text)
            by_attribute.setdefault(item.attribute, {}).setdefault(answers.method(answer), []).append(answer)
    asked: Counter[str] = Counter()
    turns = deque(deque(methods.values()) for methods in by_attribute.values())
    drawn: list[Completion] = []
    while turns and len(drawn) < limit:
        methods = turns.popleft()
        own = methods.popleft()
        answer = min(own, key=lambda one: asked[one.pair])
        own.remove(answer)
        asked[answer.pair] += 1
        drawn.append(answer)
        if own:
            methods.append(own)
        if methods:
            turns.append(methods)
    return drawn
