"""Section 3, targets: the residual stream of the prompted model at every layer, A[l, i | x' y'] (Eq. 3)."""

from __future__ import annotations

from flows.sections import Extract, Model
from tasks.asking.models import ModelSettings
from tasks.engine.context import StepContext
from tasks.steps.extract import extract_side, gather_recordings
from tasks.tables.triplets import triplets_by_attribute


def extract(context: StepContext, model: Model, extract: Extract) -> None:
    """Run the frozen model on x' y' and on plain answers, and keep its activations."""
    lm = ModelSettings(**model.model_dump())
    read = {
        "complete": context.output_of("complete"),
        "select": context.output_of("select"),
        "model": lm,
        "cells": context.cells,
    }
    attributes = triplets_by_attribute(context.output_of("complete"), context.output_of("select"))
    cells = context.map(
        extract_side,
        {
            f"{attribute} {side}": {"attribute": attribute, "side": side, **read, **extract.model_dump()}
            for side in ("instructed", "plain")
            for attribute in attributes
        },
    )
    gather_recordings(cells, lm, context.out, extract.dtype)
