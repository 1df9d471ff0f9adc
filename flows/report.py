"""The page that shows it: the headline beside the published ordering, curves, and tokens coloured by lambda."""

from __future__ import annotations

from flows.sections import Report
from tasks.engine.place import Place
from tasks.shown.report import build


def report(place: Place, report: Report) -> None:
    """Everything measured, as one self-contained page."""
    build(place.root / "data" / place.profile, place.out, title=report.title)
