"""Section 3, targets: the residual stream of the prompted model at every layer, A[l, i | x' y'] (Eq. 3)."""

from __future__ import annotations

from flows.params import Extract, Model
from flows.steps import stage
from tasks.asking.models import ModelPlace
from tasks.engine.place import Place
from tasks.steps.extract import extract_activations


@stage
def extract(place: Place, model: Model, extract: Extract) -> None:
    """Run the frozen model on x' y' (and on plain answers) and keep what it computed."""
    lm = ModelPlace(**model.model_dump())
    extract_activations(place.of("complete"), place.of("select"), lm, place.out, **extract.model_dump())
