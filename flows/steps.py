"""How a stage becomes a flow: a plain function of its place and its sections, with its own work timed.

Nothing is persisted and nothing is cached by Prefect: DVC decides what runs, and only paths travel between tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from prefect import Flow, flow

from tasks.engine.timings import working


def stage(body: Callable[..., None]) -> Flow[..., None]:
    """The flow of a stage. Its parameters after `place` are the sections that dvc.yaml names for it."""

    @wraps(body)
    def timed(*args: Any, **sections: Any) -> None:
        with working():
            body(*args, **sections)

    return flow(
        name=body.__name__,
        flow_run_name="{place.stage}@{place.profile}",
        persist_result=False,
        validate_parameters=False,
    )(timed)
