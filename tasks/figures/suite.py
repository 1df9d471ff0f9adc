"""The tables of IFEval's format instructions and AxBench's concepts, with the figures that their papers report.

ifeval     strict and loose accuracy and coherence (0 to 100), at alpha 1, module alone and on top of the prompt
axbench    harmonic mean of concept, instruction and fluency (0 to 2), at the factor chosen on the search questions
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

from psr.evaluation.bootstrap import Figure, plain_mean
from psr.evaluation.ratings import at_best_strength
from psr.judges.dimensions import ASKED, LOOSE, RATINGS, SENSE
from psr.types import INSTRUCTED, PLAIN
from tasks.figures.entries import Entry, Figures, known, module_facts, unsteered_facts
from tasks.figures.sides import WITH_PROMPT, Side

Row = dict[str, Any]
MEASURES = {"strict": ASKED["ifeval"], "loose": LOOSE, "coherence": SENSE["ifeval"]}


def answered(attribute: str, modules: Iterable[Row], side: Side) -> Iterator[tuple[dict[str, Any], str, float | None]]:
    """(facts, label of the completions, alpha) of plain, prompt, and every module alone and, where asked, with the prompt."""
    for method in (PLAIN, INSTRUCTED):
        yield unsteered_facts(attribute, side.completions[0].model, method), method, None
    for row in modules:
        yield module_facts(row), row["id"], 1.0
        if side.of(row["id"] + WITH_PROMPT):
            yield module_facts(row, with_prompt=True), row["id"] + WITH_PROMPT, 1.0


def ifeval_entries(
    attribute: str, run: int, modules: Sequence[Row], _: Side, evaluation: Side, resamples: int, seed: int
) -> Iterator[Entry]:
    """One repetition of a format instruction: nothing is chosen, alpha is 1."""
    for facts, label, alpha in answered(attribute, modules, evaluation):
        coherence = evaluation.mean(label, MEASURES["coherence"])
        figures = {
            name: plain_mean(evaluation.mean(label, dimension), coherence, resamples=resamples, seed=seed)
            for name, dimension in MEASURES.items()
        }
        yield Entry(facts, run, {name: replace(figure, alpha=alpha) for name, figure in figures.items()})


def ifeval_columns(figures: Figures) -> Row:
    """Each measure with its interval; n counts the answers with a strict verdict."""
    told = {key: value for name in MEASURES for key, value in _interval(name, _of(figures, name)).items()}
    return {"alpha": _of(figures, "strict").alpha, **told, **_counted(_of(figures, "strict"))}


def axbench_entries(
    attribute: str, run: int, modules: Sequence[Row], search: Side, evaluation: Side, resamples: int, seed: int
) -> Iterator[Entry]:
    """One repetition of a concept. Modules take the factor that is best on the search questions; on top of the prompt 1."""
    for facts, label, alpha in answered(attribute, modules, evaluation):
        if label == facts["module"]:
            taken = evaluation.rated(label)
            figure = at_best_strength(search.rated(label), taken, resamples=resamples, seed=seed)
        else:
            rated = evaluation.rating(label, "harmonic")
            figure = replace(plain_mean(rated, rated, resamples=resamples, seed=seed), alpha=alpha)
        at = {name: evaluation.rating(label, name, figure.alpha) for name in RATINGS}
        parts = {name: plain_mean(values, values, resamples=resamples, seed=seed) for name, values in at.items()}
        yield Entry(facts, run, {"overall": figure, **parts})


def axbench_columns(figures: Figures) -> Row:
    """The harmonic mean with its interval, which repeats the choice of the factor; the three ratings at the chosen one."""
    overall = _of(figures, "overall")
    parts = {name: known(_of(figures, name).value) for name in RATINGS}
    return {"alpha": overall.alpha, **_interval("overall", overall), **parts, **_counted(overall)}


def _of(figures: Figures, name: str) -> Figure:
    return cast(Figure, figures[name])  # these tables have all their figures


def _interval(name: str, figure: Figure) -> Row:
    return {name: known(figure.value), f"{name}_low": known(figure.low), f"{name}_high": known(figure.high)}


def _counted(figure: Figure) -> Row:
    return {"n": figure.n, "n_unscored": figure.n_unscored}
