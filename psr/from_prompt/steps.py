"""The steps of a distillation, each a method that says what it needs of those before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np

from psr.answers.completions import Ask
from psr.answers.questions import Questions, everyday_questions
from psr.answers.selection import select
from psr.errors import PsrError
from psr.evaluation.alpha_search import Scores
from psr.evaluation.bootstrap import EVALUATE, RESAMPLES, Interval, interval_of
from psr.evaluation.resampling import Array, mean_and_error, once, resample
from psr.fitting.checks import check_enough
from psr.fitting.learning import learn
from psr.fitting.methods import MethodPlug
from psr.fitting.presets import FitSettings
from psr.from_prompt.asked import Asked
from psr.from_prompt.result import Distilled, Measured, Said
from psr.from_prompt.strength import Strength, Unsteered, curve, search_strength
from psr.from_prompt.wordings import check_alike, try_wordings
from psr.judges.judging import Judge
from psr.judges.likelihood import SPOILT, auc, likelihood_judge
from psr.judges.spoilt import WAYS
from psr.lm.alignment import align
from psr.steering.module import SteeringModule
from psr.types import INSTRUCTED, PLAIN, Completion, Dropped, Example, PromptPair, Triplet, short_hash

FOLLOWED = 30.0  # of 100: below it the model does not follow the instruction
STEPS, BATCH = 64, 8  # of the fit: enough on the testbed and on a model of 135 million weights
LEAST_KEPT = 8  # answers to fit on
WORDED = 12  # answers of each side that wordings are tried on


@dataclass(frozen=True, eq=False)
class Judged:
    """The fitting answers with verdicts. followed: 0..100; kept: those to fit on; answers: all of them by pair and method."""

    judge: Judge
    wordings: tuple[str, ...]
    followed: float
    kept: tuple[Triplet, ...]
    dropped: tuple[Dropped, ...]
    answers: Mapping[tuple[str, str], Completion]


@dataclass(eq=False)
class Steps:
    """What was asked for, checked. module: the last one that was fitted."""

    asked: Asked
    instruction: str
    attribute: str
    questions: Questions
    plug: MethodPlug
    layers: tuple[int, ...]
    settings: FitSettings | None
    suppress: bool
    force: bool  # go on where the model does not follow or no wording acts alike
    module: SteeringModule | None = None

    def pairs(self, questions: Sequence[str]) -> list[PromptPair]:
        """The questions with the instruction."""
        return [PromptPair(self.attribute, question, self.instruction) for question in questions]

    def judged(self, judge: Judge | None, wordings: Sequence[str]) -> Judged:
        """Plain and prompted answers to the fitting questions, and what is kept of the prompted ones.

        Raises PsrError where the model does not follow the instruction or the judge cannot tell, unless forced to go on, and
        where too few answers are kept.
        """
        asked, pairs = self.asked, self.pairs(self.questions.fitting)
        plain, prompted = (asked.answer("answers to fit on", pairs, method) for method in (PLAIN, INSTRUCTED))
        used: tuple[str, ...] = ()
        if judge is None:
            judge, used = self._likelihood(wordings, plain, prompted)
        (before, sense), (after, coherence) = (asked.judge("judging them", judge, side) for side in (plain, prompted))
        able = auc(before[~np.isnan(before)], after[~np.isnan(after)])
        self._check_followed(able, f"judge {judge.id}")
        sides = [(prompted, after, coherence)]
        if self.suppress:  # what imitates answers, and not what the model computes, learns from plain ones alone
            sides = [(plain, 100 - before, sense), *(sides if self.plug.learning.imitates_runs else ())]
        trait: dict[str, float | None] = {}
        sound: dict[str, float | None] = {}
        for side, values, senses in sides:
            trait |= {one.id: _share(value) for one, value in zip(side, values, strict=True)}
            sound |= {one.id: _share(value) for one, value in zip(side, senses, strict=True)}
        kept, dropped = select(asked.pairs, [one for side, *_ in sides for one in side], trait, sound)
        check_enough(len(kept), dropped, max(LEAST_KEPT, self.plug.learning.at_least), self.plug.method.name)
        answers = {(one.pair, one.method): one for one in (*plain, *prompted)}
        return Judged(judge, used, 200 * able - 100, kept, dropped, answers)

    def _likelihood(
        self, wordings: Sequence[str], plain: Sequence[Completion], prompted: Sequence[Completion]
    ) -> tuple[Judge, tuple[str, ...]]:
        asked = self.asked
        sides = [asked.items(side) for side in (plain, prompted)]
        few = [side[:WORDED] for side in sides]
        bar = asked.bar("trying other wordings", (2 + len(wordings)) * (len(few[0]) + len(few[1])))
        tried = try_wordings(
            asked.lm, self.instruction, wordings, few[0], few[1], batch_size=asked.batch_size, progress=bar
        )
        self._check_followed(tried.able, "judge likelihood")
        if not self.force:
            check_alike(tried)
        used = tried.alike or (self.instruction,)
        bar = asked.bar("calibrating the judge", (1 + len(used)) * (len(plain) + len(prompted) + len(WAYS) * SPOILT))
        judge = likelihood_judge(asked.lm, used, sides[0], sides[1], seed=asked.seed, batch_size=asked.batch_size,
                                 force=self.force, progress=bar)  # fmt: skip
        return judge, used

    def _check_followed(self, able: float, by: str) -> None:
        """able: AUC between plain and prompted answers."""
        if not self.force and not 200 * able - 100 >= FOLLOWED:
            raise PsrError(
                "the model does not follow this instruction",
                where=repr(self.instruction),
                expected=f"answers with it that are told from plain ones, {FOLLOWED:g} of 100 at least",
                got=f"{200 * able - 100:.0f} by {by}",
                do="Word it otherwise, take a model that follows it, or force it.",
            )

    def fit(self, judged: Judged) -> SteeringModule:
        """A module on the kept answers. To suppress, the sides are changed: steered on x' y it computes what x y does."""
        asked, method = self.asked, self.plug.method
        examples = [self._example(one, judged.answers) for one in judged.kept]
        settings = self.settings or self._few_steps(len(examples))
        settings = settings and replace(settings, seed=asked.seed)
        bar = asked.bar("fitting", len(examples) * (settings.epochs if settings else 1))
        name = f"{self.attribute.rpartition('/')[2]}/{method.slug}" + ("/suppressed" if self.suppress else "")
        origin: dict[str, Any] = {
            "instruction": self.instruction,
            "attribute": self.attribute,
            "suppress": self.suppress,
        }
        fitted = learn(
            asked.lm, examples, self.plug, self.layers, settings, module_id=name, origin=origin, progress=bar
        )
        self.module = cast(SteeringModule, fitted.module)
        return self.module

    def _few_steps(self, n: int) -> FitSettings | None:
        """The fast preset in about STEPS small steps on n examples; None for a method without training."""
        preset = self.plug.learning.settings()
        return preset and replace(preset, batch_size=BATCH, epochs=-(-STEPS * BATCH // n))

    def _example(self, one: Triplet, answers: Mapping[tuple[str, str], Completion]) -> Example:
        tokens = align(self.asked.lm.tokenizer, one.pair, one.completion.token_ids, self.plug.method.span)
        if self.suppress:
            tokens = replace(
                tokens,
                plain_ids=tokens.instructed_ids,
                plain_start=tokens.instructed_start,
                instructed_ids=tokens.plain_ids,
                instructed_start=tokens.plain_start,
            )
        other = answers[one.pair.id, PLAIN if one.completion.method == INSTRUCTED else INSTRUCTED]
        return Example(tokens, one.trait, other.token_ids)

    def search(self, judge: Judge, module: SteeringModule, alpha_max: float) -> tuple[Scores, Strength]:
        """The module's strength. Raises PsrError where none that is safe has an effect."""
        asked, pairs = self.asked, self.pairs(self.questions.search)
        plain, prompted = (asked.answer("answers to search on", pairs, method) for method in (PLAIN, INSTRUCTED))
        sides = [asked.judge("judging them", judge, side) for side in (plain, prompted)]
        unsteered = Unsteered(sides[0], sides[1], self.suppress)

        def evaluate(alphas: Sequence[float]) -> Scores:
            made = self._steered("strengths", module, alphas, pairs)
            effect, coherence = (values.reshape(len(alphas), -1) for values in asked.judge("judging them", judge, made))
            return Scores(tuple(alphas), effect, coherence)

        scores, strength = search_strength(evaluate, unsteered, alpha_max, asked.seed)
        if strength.alpha == 0:
            tried = "; ".join(f"{a:g}: {effect:.0f}, {sense:.0f}" for a, effect, sense in curve(scores))
            raise PsrError(
                "no strength of this module has an effect while answers make sense",
                where=module.id,
                got=f"effect and coherence by alpha {tried}",
                do="Fit on more questions or for longer, or by another method.",
            )
        return scores, strength

    def _steered(
        self, step: str, module: SteeringModule, alphas: Sequence[float], pairs: Sequence[PromptPair]
    ) -> list[Completion]:
        asks = [
            Ask(pair, module.id, self.asked.seed, module, alpha, instructed=self.suppress)
            for alpha in alphas
            for pair in pairs
        ]
        return self.asked.answer_all(step, asks)

    def result(self, judged: Judged, module: SteeringModule, found: tuple[Scores, Strength]) -> Distilled:
        """Figures on the evaluation questions, and the module with its strength in its origin."""
        asked, (scores, strength) = self.asked, found
        pairs, step = self.pairs(self.questions.evaluate), "answers for the figures"
        sides = [asked.answer(step, pairs, method) for method in (PLAIN, INSTRUCTED)]
        sides.append(self._steered(step, module, [strength.alpha], pairs))
        plain, prompted, steered = (
            Measured(*map(_interval, asked.judge("judging them", judged.judge, side))) for side in sides
        )
        said = tuple(Said(pair.question, *(one.text for one in three))
                     for pair, *three in zip(pairs, *sides, strict=True))  # fmt: skip
        figures = {"followed": judged.followed, "effect": steered.effect.value, "coherence": steered.coherence.value,
                   "prompted": {"effect": prompted.effect.value, "coherence": prompted.coherence.value},
                   "judge": judged.judge.id, "kept": len(judged.kept)}  # fmt: skip
        origin = {**module.origin, "recommended_alpha": strength.alpha, "alpha_interval": list(strength.interval),
                  "safe_alpha": list(strength.safe), "figures": figures,
                  "curve": [[None if np.isnan(one) else one for one in point] for point in curve(scores)],
                  "answers": short_hash([(one.pair.id, one.completion.token_ids) for one in judged.kept]), **self._asked()}  # fmt: skip
        return Distilled(
            module=replace(module, origin=origin),
            alpha=strength.alpha,
            interval=strength.interval,
            safe=strength.safe,
            reached=strength.reached,
            curve=curve(scores),
            plain=plain,
            prompted=prompted,
            steered=steered,
            answers=said,
            followed=judged.followed,
            kept=len(judged.kept),
            dropped=dict(Counter(one.reason for one in judged.dropped)),
            judge=judged.judge.id,
            wordings=judged.wordings,
        )

    def _asked(self) -> dict[str, Any]:
        """What it takes to do the same again."""
        asked, questions = self.asked, self.questions
        counts = {side: len(texts) for side, texts in questions._asdict().items()}
        return {
            "questions": {**counts, "hash": short_hash(questions), "everyday": questions == everyday_questions()},
            "sampling": asdict(asked.sampling),
            "seed": asked.seed,
            "dtype": str(asked.lm.dtype).removeprefix("torch."),
            **({"force": True} if self.force else {}),
        }


def _share(value: float) -> float | None:
    return None if np.isnan(value) else float(value) / 100


def _interval(values: Array) -> Interval:
    """The mean over questions, with its 95 % bootstrap interval."""
    rows = values[np.newaxis]
    drawn = mean_and_error(rows, resample(len(values), RESAMPLES, 0, EVALUATE))[0][:, 0]
    return interval_of(float(mean_and_error(rows, once(len(values)))[0][0, 0]), drawn)
