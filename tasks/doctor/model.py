"""The check of a model before a run: whether it can be read and steered."""

from __future__ import annotations

from tasks.asking.models import ModelSettings, open_model


def check_model(settings: ModelSettings) -> None:
    """Open the model and probe reading and steering (psr/steering/probe.py). Raises PsrError where either is wrong."""
    from psr.steering.probe import check_steering

    check_steering(open_model(settings).model)
