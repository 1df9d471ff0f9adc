"""The report: the headline beside the published ordering, curves, and tokens coloured by lambda."""

from __future__ import annotations

from flows.sections import Report
from tasks.engine.context import StepContext
from tasks.shown.report import build


def report(context: StepContext, report: Report) -> None:
    """Write the profile's results as one self-contained page."""
    build(context.root / "data" / context.profile, context.out, title=report.title)
