"""What a run will make and how long it may take, said before it starts: counts, sizes, seconds.

Seconds come from the stage's last run in this checkout; without one, from rates measured on two cores with the shipped
model, and there are none for another. Counts are upper bounds where the run decides (triplets that are kept, alphas that are searched).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from flows.sections import Profile
from psr.fitting.methods.named import method_named
from tasks.benchmarks.catalogue import benchmark_named
from tasks.engine.files import read_json
from tasks.engine.pipeline import Step
from tasks.engine.timings import seconds_of

SHIPPED = Path("data/testbed/model")
STARTING = 2.0  # seconds around a step: DVC, Prefect
ALL = 48  # questions, where a profile asks all that a benchmark has
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
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
    c, s, t, f = settings.complete, settings.search, settings.steer, settings.faithfulness
    each = methods = modules = searches = steers = 0
    seeds = len(settings.seeds)
    for benchmark in settings.benchmarks:
        n, slugs = len(benchmark.attributes), benchmark.methods or settings.methods
        strength = benchmark_named(benchmark.name).strength
        each += n
        methods += n * len(slugs)
        # one a seed, or one for all seeds where fitting draws nothing at random
        modules += n * sum(seeds if method_named(slug).trained else 1 for slug in slugs)
        # strengths a module: tried in the search, and those that a resample might choose, in the mean
        searches += n * (len(slugs) * strength.tried(s.model_dump()) + 2 * strength.unsteered)
        steers += n * (len(slugs) * strength.taken + 2 + len(t.with_prompt))
    answers = each * (c.questions or ALL) * c.instructions * c.samples
    kept = min(answers, each * settings.select.limit) if settings.select.limit else answers
    searched = seeds * (s.questions or ALL) * s.samples * searches
    steered = seeds * (t.questions or ALL) * t.samples * steers
    taken_apart = seeds * (each * (7 * f.questions + 3 * f.triplets) + 2 * methods * f.questions)
    size = cache_bytes(settings, root, kept)
    return {
        "complete": Amount(2 * answers, f"{2 * answers} completions"),
        "select": Amount(2 * answers, f"{2 * answers} judged, at most {kept} triplets kept"),
        "extract": Amount(kept, f"at most {f'{size / 1e6:.0f} MB' if size else 'an unknown size'} of activations"),
        "distill": Amount(kept / each * modules * (settings.distill.epochs or 15), f"{modules} modules"),
        "search": Amount(searched, f"about {searched} completions"),
        "steer": Amount(steered, f"about {steered} completions"),
        "judge": Amount(steered, f"about {steered} judged"),
        "faithfulness": Amount(taken_apart, f"{seeds * each * f.questions} answers taken apart"),
        "results": Amount(seeds * methods, f"{2 * each + methods} rows"),
        "report": Amount(1, "1 page"),
    }


def cache_bytes(settings: Profile, root: Path, triplets: int) -> int | None:
    """The size of the activation cache if every answer is as long as it may be; None for an unknown architecture."""
    config = read_json(root / settings.model.path / "config.json") or {}
    layers = config.get("num_hidden_layers") or config.get("n_layer")
    width = config.get("hidden_size") or config.get("n_embd")
    if not layers or not width:
        return None
    positions = 2 * triplets * (settings.sampling.max_new_tokens + 16)  # both sides; a question is some 16 tokens
    return positions * layers * width * BYTES[settings.extract.dtype]


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
    total = sum(one for one in expected if one is not None)
    return f"About {total / 60:.0f} min." if total >= 90 else f"About {total:.0f} s."


def seconds(root: Path, step: Step, settings: Profile) -> float | None:
    """How long a step may take, starting included; None where that is not known."""
    last, amount = seconds_of(root, step.name), amounts(settings, root).get(step.flow)
    if last is None and Path(settings.model.path) != SHIPPED:
        return None
    return STARTING + (last if last is not None else amount.count * SECONDS[step.flow] if amount else 0.0)
