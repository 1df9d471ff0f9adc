"""Who is measured: the untouched model, the prompt, modules at the strength that equals it, and a control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from psr.errors import PsrError
from psr.types import INSTRUCTED, PLAIN, Method, PromptPair
from tasks.asking.modules import modules_of
from tasks.asking.repetition import Asking, Searched
from tasks.studies.side_effects.material import Case
from tasks.tables.modules import rows_of_seed

if TYPE_CHECKING:
    from psr.answers.completions import Ask
    from psr.evaluation.alpha_search import Scores
    from psr.evaluation.side_effects import EqualStrength
    from psr.steering.module import SteeringModule

DEFAULT = (
    ("a-psr-mse-qr", "a-psr-mse-r"),
    ("a-const-mse-qr", "a-const-mse-r"),
)  # of each pair the first that was fitted
SIGNS, SIGNS_NAME = "+signs", ", signs randomised"


@dataclass(frozen=True)
class Steered:
    """A module in one repetition, and the strength at which its effect equals the prompt's."""

    module: SteeringModule
    strength: EqualStrength


@dataclass(frozen=True)
class Subject:
    """method: plain, prompt, a method's slug, or METHOD+signs for its control. steered: repetition -> its module."""

    method: str
    name: str
    steered: Mapping[int, Steered] | None = None

    @property
    def unsteered(self) -> str:
        """What completions of plain and prompt are called."""
        return INSTRUCTED if self.method == "prompt" else PLAIN

    def asked(self, pair: PromptPair) -> PromptPair:
        """The pair as this subject is asked it: without the prompt it has no wording, and so one answer for all prompts."""
        return replace(pair, instruction="") if self.method == "plain" else pair

    def ask(self, pair: PromptPair, seed: int, sampled: int) -> Ask:
        """The question in one repetition."""
        from psr.answers.completions import Ask

        if self.steered is None:
            return Ask(self.asked(pair), self.unsteered, sampled)
        one = self.steered[seed]
        return Ask(pair, one.module.id, sampled, one.module, one.strength.alpha)


def subjects(case: Case, methods: Sequence[str]) -> list[Subject]:
    """Plain, prompt, the modules of these methods at their strengths, and the first one's control.

    methods: slugs; without any, those of DEFAULT that the profile has. Raises PsrError for a method that it lacks.
    """
    rows = {row["method"]: row for row in rows_of_seed(case.data / "distill", case.attribute.key, None)}
    default = [next((slug for slug in slugs if slug in rows), None) for slugs in DEFAULT]
    chosen = list(dict.fromkeys(methods)) or [slug for slug in default if slug is not None]
    unknown = [slug for slug in chosen if slug not in rows]
    if unknown or not chosen:
        raise PsrError(
            "no module of such a method in the profile",
            where=f"--method, {case.attribute.key}",
            expected=f"some of {', '.join(rows)}" if rows else "modules",
            got=", ".join(unknown) or f"none of {', '.join(slugs[0] for slugs in DEFAULT)}",
            do="Name one that it has, or add it to params.yaml and reproduce.",
        )
    steered = [Subject(slug, Method.of(rows[slug]).name, equal(case, slug)) for slug in chosen]
    return [Subject("plain", "plain"), Subject("prompt", "prompt"), *steered, control(steered[0])]


def equal(case: Case, method: str) -> dict[int, Steered]:
    """The method's module of each repetition, at the strength that equals the prompt on the search questions."""
    from psr.evaluation.side_effects import search_equal

    dimensions = case.benchmark.asked, case.benchmark.sense
    found = {}
    for seed, side in case.searched.items():
        modules = modules_of(case.data / "distill", case.attribute.key, seed)
        module = next(one for one in modules if one.origin["method"] == method)
        prompt = [side.mean(INSTRUCTED, dimension) for dimension in dimensions]
        label = f"side effects {case.attribute.key} strength"
        asking = Asking(case.answerer, case.judge, label, side.pairs, case.sampled("search", seed))
        tried = Searched(asking, module)

        def evaluate(alphas: Sequence[float], tried: Searched = tried) -> Scores:
            return tried.side(alphas).scores(tried.module, dimensions).at(alphas)

        _, strength = search_equal(evaluate, side.scores(module.id, dimensions), *prompt)
        found[seed] = Steered(module, strength)
    return found


def control(subject: Subject) -> Subject:
    """The subject's modules with the signs of their directions randomised, at the same strengths."""
    from psr.evaluation.side_effects import signs_randomised

    steered = {
        seed: replace(one, module=signs_randomised(one.module, seed)) for seed, one in (subject.steered or {}).items()
    }
    return Subject(subject.method + SIGNS, subject.name + SIGNS_NAME, steered)
