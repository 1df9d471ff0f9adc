"""What is measured of each subject: a figure for each repetition, or the reason why there is none, then one over repetitions.

effect, coherence    on the evaluation questions, and in each turn of a conversation
drift                KL a token on plain answers to unrelated questions (psr/evaluation/drift.py)
formats              share of format instructions that are obeyed
english              share of answers to unrelated questions that are in English
length, ended        their tokens, and the share that ended by itself
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from psr.errors import PsrError
from psr.evaluation.bootstrap import Figure, over_seeds
from psr.types import Completion, PromptPair
from tasks.asking.judgements import judge_once
from tasks.asking.modules import digest
from tasks.engine.files import read_json, write_json
from tasks.engine.progress import progress
from tasks.figures.scores import Values, by_question, values_of
from tasks.studies.side_effects.material import Case
from tasks.studies.side_effects.subjects import Subject
from tasks.tables.parquet import read_completions, write_completions

KIND = "side_effects"
UNTOUCHED = Subject("plain", "plain")
Key = tuple[str, int]  # a measure, and the turn of a conversation; 0: of single questions
Measured = dict[Key, Figure | str]  # a text says why there is no figure


def measured(case: Case, subject: Subject) -> Measured:
    """Every measure of one subject, over the case's repetitions."""
    answers = answered(case, subject)
    plain = answers if subject.method == "plain" else answered(case, UNTOUCHED)
    single = [
        {
            **effects(case, subject, seed, answers[seed, "evaluation"]),
            "drift": drift(case, subject, seed, plain[seed, "unrelated"]),
            "formats": formats(case, subject, seed, answers[seed, "formats"]),
            **unrelated(case, subject, seed, answers[seed, "unrelated"]),
        }
        for seed in case.seeds
    ]
    every: Measured = {(name, 0): _over([one[name] for one in single]) for name in single[0]}
    return every | turns(case, subject)


def answered(case: Case, subject: Subject) -> dict[tuple[int, str], list[Completion]]:
    """(repetition, what was asked) -> the subject's answers, pair after pair: evaluation (of modules only), formats, unrelated.

    All are asked in one call, in batches as large as the profile has them."""
    asks = {}
    for seed in case.seeds:
        sampled = case.sampled("steer", seed)
        evaluation = case.evaluation[seed].pairs if subject.steered else ()
        asks[seed, "evaluation"] = [subject.ask(pair, seed, one) for pair in evaluation for one in sampled]
        for name, pairs in (("formats", case.formats), ("unrelated", case.unrelated)):
            asks[seed, name] = [subject.ask(pair, seed, sampled[0]) for pair in pairs]
    label = f"side effects {case.attribute.key} {subject.name}"
    made = iter(case.answerer.answer([ask for own in asks.values() for ask in own], label))
    return {key: [next(made) for _ in own] for key, own in asks.items()}


def _over(figures: Sequence[Figure | str]) -> Figure | str:
    reasons = [one for one in figures if isinstance(one, str)]
    return reasons[0] if reasons else over_seeds([one for one in figures if not isinstance(one, str)])


def figure(case: Case, subject: Subject, seed: int, numerator: ArrayLike, denominator: ArrayLike = 1.0) -> Figure:
    """A ratio of sums over questions, in one repetition."""
    from psr.evaluation.side_effects import ratio

    strength = subject.steered[seed].strength if subject.steered else None
    alpha, reached = (strength.alpha, strength.reached) if strength else (None, True)
    return ratio(numerator, denominator, alpha=alpha, reached=reached, **case.draws)


def effects(case: Case, subject: Subject, seed: int, answers: Sequence[Completion]) -> dict[str, Figure | str]:
    """What it is for: effect and coherence on the evaluation questions; of plain and prompt the stored ones."""
    names = {"effect": case.benchmark.asked, "coherence": case.benchmark.sense}
    side = case.evaluation[seed]
    if subject.steered is None:
        return {
            name: figure(case, subject, seed, side.mean(subject.unsteered, dimension))
            for name, dimension in names.items()
        }
    values = judged(case, answers, side.pairs, subject.name)
    return {
        name: figure(case, subject, seed, by_question(answers, values, dimension, side.pairs))
        for name, dimension in names.items()
    }


def drift(case: Case, subject: Subject, seed: int, plain: Sequence[Completion]) -> Figure | str:
    """KL a token on the plain answers to the unrelated questions; of the untouched model 0, against itself."""
    from psr.evaluation.drift import module_drift, prompt_drift
    from psr.lm.alignment import align

    if subject.method == "plain":
        return figure(case, subject, seed, np.zeros(len(case.unrelated)))
    tokens = [
        align(case.lm.tokenizer, pair, one.token_ids, "QR") for pair, one in zip(case.unrelated, plain, strict=True)
    ]

    def write(folder: Path) -> None:
        if subject.steered is None:
            found = prompt_drift(case.lm, tokens)
        else:
            one = subject.steered[seed]
            found = module_drift(case.lm, tokens, one.module, one.strength.alpha)
        write_json(folder / "drift.json", {"nats": found.nats.tolist(), "tokens": found.tokens.tolist()})

    ids = [(one.plain_ids, one.instructed_ids, one.response) for one in tokens]
    reads = (case.answerer.model.reads, "drift", _steering(subject, seed), ids)
    found = read_json(case.answerer.cells.keep(KIND, reads, write) / "drift.json")
    return figure(case, subject, seed, found["nats"], found["tokens"])


def formats(case: Case, subject: Subject, seed: int, answers: Sequence[Completion]) -> Figure | str:
    """Share of the format instructions that are obeyed, 0 to 100, by their checkers; the prompt stays in the system turn."""
    asked = {one.pair: pair for one, pair in zip(answers, case.formats, strict=True)}
    judgements = judge_once(
        case.format_judge, answers, asked, case.answerer.cells, f"side effects {case.attribute.key}"
    )
    values = values_of(judgements)
    return figure(case, subject, seed, [_known(values[one.id, "accuracy"]) for one in answers])


def unrelated(case: Case, subject: Subject, seed: int, answers: Sequence[Completion]) -> dict[str, Figure | str]:
    """Of the subject's answers to the unrelated questions: the share in English, tokens, and the share that ended by itself."""
    from psr.evaluation.side_effects import in_english

    english: Figure | str = case.not_english
    if not english:
        try:
            english = figure(case, subject, seed, [100.0 * one for one in in_english([c.text for c in answers])])
        except PsrError as error:
            english = str(error)
    return {
        "english": english,
        "length": figure(case, subject, seed, [float(len(one.token_ids)) for one in answers]),
        "ended": figure(case, subject, seed, [100.0 * one.finished for one in answers]),
    }


def turns(case: Case, subject: Subject) -> Measured:
    """Effect and coherence in each turn of the conversations; a question is judged with its answer alone."""
    names = {"effect": case.benchmark.asked, "coherence": case.benchmark.sense}
    wanted = len(case.conversations[0])
    if reason := refuses_turns(case):
        return {(name, turn): reason for turn in range(1, wanted + 1) for name in names}
    found = conversed(case, subject)
    pairs = [subject.asked(pair) for one in case.conversations for pair in one]
    values = judged(case, [c for _, c in sorted(found.items())], pairs, f"{subject.name} turns")
    held = max(turn for _, _, turn in found)
    every: Measured = {}
    for turn in range(1, wanted + 1):
        for name, dimension in names.items():
            if turn > held:
                every[name, turn] = f"the model's context of {case.lm.context} tokens is full"
                continue
            every[name, turn] = over_seeds([
                figure(case, subject, seed, [
                    _known(values[found[seed, i, turn].id, dimension]) for i in range(len(case.conversations))
                ])
                for seed in case.seeds
            ])  # fmt: skip
    return every


def refuses_turns(case: Case) -> str:
    """Why this model's chats cannot go on with their cache kept; empty where they can. One answer for all subjects."""
    from psr.lm.chats import encode_turn

    first, second = case.conversations[0][0], case.conversations[0][-1]
    try:
        for chat in (first.plain, first.instructed):
            encode_turn(case.lm.tokenizer, chat, second.question)
    except PsrError as error:
        return str(error)
    return ""


def conversed(case: Case, subject: Subject) -> dict[tuple[int, int, int], Completion]:
    """(repetition, conversation, turn) -> the answer, all repetitions in one batch; a cell."""
    from psr.answers.conversations import Conversation, converse

    members = [(seed, i) for seed in case.seeds for i in range(len(case.conversations))]
    sampling = case.answerer.sampling

    def write(folder: Path) -> None:
        asks = [
            [subject.ask(pair, seed, case.sampled("steer", seed)[0]) for pair in case.conversations[i]]
            for seed, i in members
        ]
        asked = [
            Conversation(
                tuple(ask.pair.question for ask in one),
                one[0].seed,
                one[0].pair.instruction if subject.method == "prompt" else "",
                one[0].module,
                one[0].alpha,
            )
            for one in asks
        ]
        label = f"side effects {case.attribute.key} {subject.name} turns"
        with progress(label, len(asked) * len(asked[0].questions), "completions") as advance:
            answers = converse(case.lm, asked, sampling, batch_size=case.answerer.batch_size, progress=advance)
        write_completions(
            folder / "completions.parquet",
            [
                Completion(
                    ask.pair.id, ask.label, float(ask.alpha), ask.seed, case.lm.fingerprint, f"{sampling.key} turn={turn}",
                    answer.token_ids, answer.text, answer.finished, answer.thinking,
                )
                for one, of_one in zip(asks, answers, strict=True)
                for turn, (ask, answer) in enumerate(zip(one, of_one, strict=False), start=1)
            ],
        )  # fmt: skip

    asked = [[pair.id for pair in one] for one in case.conversations]
    by = [(_steering(subject, seed), case.sampled("steer", seed)[0]) for seed in case.seeds]
    cell = case.answerer.cells.keep(KIND, (case.answerer.reads, "turns", by, asked), write)
    answers = read_completions(cell / "completions.parquet")
    held = len(answers) // len(members)
    return {
        (seed, i, turn): answers[n * held + turn - 1]
        for n, (seed, i) in enumerate(members)
        for turn in range(1, held + 1)
    }


def judged(case: Case, answers: Sequence[Completion], pairs: Iterable[PromptPair], label: str) -> Values:
    """(completion, dimension) -> value from 0 to 100, None where the judge failed."""
    label = f"side effects {case.attribute.key} {label}"
    return values_of(judge_once(case.judge, answers, {pair.id: pair for pair in pairs}, case.answerer.cells, label))


def _steering(subject: Subject, seed: int) -> object:
    """What changes the subject's answers beside the question."""
    if subject.steered is None:
        return subject.method
    one = subject.steered[seed]
    return digest(one.module), one.strength.alpha


def _known(value: float | None) -> float:
    return float("nan") if value is None else value
