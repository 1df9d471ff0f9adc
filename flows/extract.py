"""Section 3, targets: the residual stream of the prompted model at every layer, A[l, i | x' y'] (Eq. 3)."""

from __future__ import annotations

from flows.params import Benchmark, Extract, Model
from tasks.asking.models import ModelPlace
from tasks.benchmarks.catalogue import attributes_of
from tasks.engine.place import Place
from tasks.steps.extract import extract_side, gather_recordings


def extract(place: Place, model: Model, benchmarks: tuple[Benchmark, ...], extract: Extract) -> None:
    """Run the frozen model on x' y' (and on plain answers) and keep what it computed."""
    lm = ModelPlace(**model.model_dump())
    read = {"complete": place.of("complete"), "select": place.of("select"), "model": lm, "cells": place.cells}
    cells = place.map(
        extract_side,
        {
            f"{attribute.key} {side}": {"attribute": attribute.key, "side": side, **read, **extract.model_dump()}
            for side in ("instructed", "plain")
            for attribute in attributes_of(benchmarks)
        },
    )
    gather_recordings(cells, lm, place.out, extract.dtype)
