"""Section 3, targets: the residual stream of the prompted model at every layer, A[l, i | x' y'] (Eq. 3)."""

from __future__ import annotations

from flows.sections import Extract, Model
from tasks.asking.models import ModelSettings
from tasks.engine.context import StepContext
from tasks.steps.extract import Recording, check_disk, extract_side, gather_recordings
from tasks.tables.triplets import triplets_by_attribute


def extract(context: StepContext, model: Model, extract: Extract) -> None:
    """Run the frozen model on x' y' and on plain answers, and keep as much of its activations as was chosen."""
    complete, select, lm = (
        context.output_of("complete"),
        context.output_of("select"),
        ModelSettings(**model.model_dump()),
    )
    how = Recording(extract.dtype, extract.shard_mb, extract.batch_size, extract.keep or "full", extract.layers)
    check_disk(complete, select, lm, context.cells, how, context.out)
    read = {"complete": complete, "select": select, "model": lm, "cells": context.cells, "how": how}
    cells = context.map(
        extract_side,
        {
            f"{attribute} {side}": {"attribute": attribute, "side": side, **read}
            for side in how.sides
            for attribute in triplets_by_attribute(complete, select)
        },
    )
    gather_recordings(cells, lm, context.out, how)
