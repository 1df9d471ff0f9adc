"""What a run will make and how long it may take, said before it starts: counts, sizes, seconds, judge calls.

Seconds come from the stage's last run in this checkout; without one, from rates measured on two cores with the shipped
model, and there are none for another. Counts are upper bounds where the run decides (triplets that are kept, alphas that are searched,
judgements that were made before). Neither the model nor the benchmarks need to be here: what only they could say is called unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from flows.counts import counts, total
from flows.sections import Model, Profile
from flows.settings import missing
from flows.storage import choice_line, chosen, in_words
from tasks.asking.models import config_of, parameters_of
from tasks.benchmarks.catalogue import benchmark_named
from tasks.benchmarks.judges import judge_named
from tasks.engine.pipeline import Step
from tasks.engine.timings import seconds_of
from tasks.tables.activations import BYTES

SHIPPED = Path("data/testbed/model")
STARTING = 2.0  # seconds around a step: DVC, Prefect
SECONDS = {  # per unit of Amount.count, two cores, the shipped model
    "complete": 0.006,
    "select": 0.0003,
    "extract": 0.006,
    "distill": 0.0025,
    "search": 0.0045,
    "steer": 0.007,
    "judge": 0.0003,
    "faithfulness": 0.006,
    "results": 0.1,
    "report": 0.5,
}


@dataclass(frozen=True)
class Amount:
    """How much a stage makes: `count` units of work for the estimate, `text` for people."""

    count: float
    text: str


def amounts(settings: Profile, root: Path) -> dict[str, Amount]:
    """stage -> what it makes."""
    n, f, seeds = total(settings), settings.faithfulness, len(settings.seeds)
    taken_apart = seeds * (n.attributes * (7 * f.questions + 3 * f.triplets) + 2 * n.methods * f.questions)
    kept = chosen(root, settings)
    return {
        "complete": Amount(n.completed, f"{n.completed} completions"),
        "select": Amount(n.completed, f"{n.completed} judged, at most {n.kept} triplets kept"),
        "extract": Amount(n.kept, kept.text),
        "distill": Amount(n.kept / n.attributes * n.modules * (settings.distill.epochs or 15), f"{n.modules} modules"),
        "search": Amount(n.searched, f"about {n.searched} completions"),
        "steer": Amount(n.steered, f"about {n.steered} completions"),
        "judge": Amount(n.steered, f"about {n.steered} judged"),
        "faithfulness": Amount(taken_apart, f"{seeds * n.attributes * f.questions} answers taken apart"),
        "results": Amount(seeds * n.methods, f"{2 * n.attributes + n.methods} rows"),
        "report": Amount(1, "1 page"),
    }


def cost_lines(root: Path, settings: Profile) -> Iterator[str]:
    """What a run from nothing takes, a line each; and what is not here yet that it needs."""
    n, tokens = total(settings), settings.sampling.max_new_tokens
    yield f"prompts: {n.completions:,} answered, with at most {tokens} new tokens each: {n.completions * tokens:,} tokens"
    yield f"memory: {in_words(weight_bytes(settings.model, root))} for the weights as {settings.model.dtype}"
    yield f"disk: {choice_line(root, settings)}"
    yield f"judge {settings.judge.name}: at most {judge_calls(settings):,} calls"
    absent = missing(root, settings)
    if absent:
        yield f"not here: {', '.join(f'{what} ({path})' for path, what in absent.items())}"


def judge_calls(settings: Profile) -> int:
    """How often a judge that asks a model asks it, at most; 0 for a judge that is code or reads the model's own likelihoods."""
    settings_of_judge = {name: value for name, value in settings.judge.model_dump().items() if name != "name"}
    judge = judge_named(settings.judge.name)
    return sum(
        counts(settings, one).completions
        * getattr(judge(benchmark_named(one.name).name, {}, **settings_of_judge), "calls_per_item", 0)
        for one in settings.benchmarks
    )


def weight_bytes(model: Model, root: Path) -> int | None:
    """The size of the model's weights in its dtype; None where its config is not on this machine, or builds no model."""
    config = config_of(root / model.path, model.path, model.revision)
    parameters = parameters_of(config) if config else None
    return parameters * BYTES[model.dtype] if parameters else None


def plan_table(root: Path, steps: Sequence[Step], settings: Profile) -> Table:
    """A row a stage: what happens to it, why, what it makes, how long that takes."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("stage", "state", "makes", "seconds", "why"):
        table.add_column(name, justify="right" if name == "seconds" else "left")
    known = amounts(settings, root)
    words = {"run": "run", "maybe": "run if its inputs change", "cached": "up to date"}
    for step in steps:
        amount = known.get(step.flow)
        expected = seconds(root, step, settings)
        time = "" if step.state == "cached" else "?" if expected is None else f"{expected:.0f}"
        why = ", ".join(step.reasons[:3]) + (f" and {len(step.reasons) - 3} more" if len(step.reasons) > 3 else "")
        table.add_row(step.name, words[step.state], Text(amount.text if amount else ""), time, Text(why))
    return table


def total_line(root: Path, steps: Sequence[Step], settings: Profile) -> str:
    """The estimate for everything that is to run."""
    pending = [step for step in steps if step.state != "cached"]
    if not pending:
        return "Nothing to do."
    expected = [seconds(root, step, settings) for step in pending]
    if None in expected:
        return "How long it takes is not known before a first run with this model."
    time = sum(one for one in expected if one is not None)
    return f"About {time / 60:.0f} min." if time >= 90 else f"About {time:.0f} s."


def seconds(root: Path, step: Step, settings: Profile) -> float | None:
    """How long a step may take, starting included; None where that is not known."""
    last, amount = seconds_of(root, step.name), amounts(settings, root).get(step.flow)
    if last is None and Path(settings.model.path) != SHIPPED:
        return None
    return STARTING + (last if last is not None else amount.count * SECONDS[step.flow] if amount else 0.0)
