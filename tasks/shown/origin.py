"""Where a profile's results come from: who made them and when, at which commit, and with which changes that no commit has.

The record of the run that made them says so (tasks/engine/history.py), also where somebody else has pulled them. Results without a record
are those of whoever fills the tracker, with the checkout as it is: DVC has called them up to date with its code.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from tasks.engine.checkout import difference
from tasks.engine.history import Run, makers, recorder

LIMIT = 200_000  # characters of the difference that are kept
LONGEST = 5000  # characters of a tag


@dataclass(frozen=True)
class Origin:
    """dirty: whether no commit says alone what was run; changed: files that differ from it. difference: how, where this checkout can
    tell. spans: step -> when it began and ended, in seconds since 1970, of the steps whose run left a record."""

    user: str
    commit: str | None
    dirty: bool
    changed: tuple[str, ...]
    difference: str
    spans: dict[str, tuple[float, float]]
    recorded: bool

    @property
    def tags(self) -> dict[str, str]:
        """As tags of an MLflow run, by MLflow's own names where it has some."""
        tags = {
            "mlflow.user": self.user,
            "mlflow.source.git.commit": self.commit or "",
            "psr.dirty": str(self.dirty).lower(),
            "psr.changed": " ".join(self.changed)[:LONGEST],
            "psr.origin": "recorded by the run" if self.recorded else "read when the tracker was filled",
        }
        return {name: value for name, value in tags.items() if value}

    def span(self, *steps: str) -> tuple[float, float]:
        """When the first of these steps began and the last one ended; now, twice, where none is known."""
        spans = [self.spans[step] for step in steps if step in self.spans] or [(time.time(), time.time())]
        return min(began for began, _ in spans), max(ended for _, ended in spans)


def origin(root: Path, profile: str) -> Origin:
    """Of the profile's results. Raises PsrError for a damaged record."""
    made = makers(root, profile)
    checkout = recorder(root, profile, "").run  # what a run would say that begins now
    run = made.get("results", checkout)
    same = (run.commit, run.changed) == (checkout.commit, checkout.changed)
    text = difference(root, run.changed) if same and run.changed else ""
    if len(text) > LIMIT:
        text = f"{text[:LIMIT]}\n… {len(text) - LIMIT} more characters\n"
    spans = {step: _span(one, step) for step, one in made.items()}
    return Origin(run.who, run.commit, run.dirty, run.changed, text, spans, "results" in made)


def _span(run: Run, step: str) -> tuple[float, float]:
    """When the step of that run began and ended: steps run one after the other."""
    names = list(run.steps)
    began = run.began.timestamp() + sum(run.steps[name].seconds for name in names[: names.index(step)])
    return began, began + run.steps[step].seconds
