"""Section 3, targets: the residual stream of the prompted model at every layer, A[l, i | x' y'] (Eq. 3)."""

from __future__ import annotations

from flows.sections import Extract, Model
from tasks.asking.models import ModelPlace
from tasks.engine.place import Place
from tasks.steps.extract import extract_side, gather_recordings
from tasks.tables.triplets import triplets_by_attribute


def extract(place: Place, model: Model, extract: Extract) -> None:
    """Run the frozen model on x' y' (and on plain answers) and keep what it computed."""
    lm = ModelPlace(**model.model_dump())
    read = {"complete": place.of("complete"), "select": place.of("select"), "model": lm, "cells": place.cells}
    attributes = triplets_by_attribute(place.of("complete"), place.of("select"))
    cells = place.map(
        extract_side,
        {
            f"{attribute} {side}": {"attribute": attribute, "side": side, **read, **extract.model_dump()}
            for side in ("instructed", "plain")
            for attribute in attributes
        },
    )
    gather_recordings(cells, lm, place.out, extract.dtype)
