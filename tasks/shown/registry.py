"""Registered models of MLflow: a model an attribute, a version a module under an evaluation, and which of them is the best.

Of the versions under one evaluation the best has the highest main figure of its benchmark; of equal ones the more coherent, and then
the first. The alias `best-EVALUATION` means it. So does `best`, unless that means a version of another evaluation that somebody else
has put there: figures of two evaluations cannot be compared, and nobody's choice is replaced by another person.
"""

import hashlib
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.shown.records import ModuleRecord
from tasks.shown.tracker import CELL, Store, pages, tagged

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

BEST = "best"
FIGURE, SENSE, EVALUATION, USER, LOADER, WHY = (
    f"psr.{name}" for name in ("figure", "coherence", "evaluation", "user", "loader", "best")
)
"""Tags of a version: its main figure and the coherence there, both missing where it has none; what they were measured under; who did;
a hash of the code that loads it; why it is the best."""
PREDICT = {
    "alpha": ("double", 1.0),
    "seed": ("long", 0),
    "max_new_tokens": ("long", 64),
    "temperature": ("double", 1.0),
}
"""What `predict` takes as params: types and defaults."""
PYFUNC = Path(__file__).with_name("pyfunc_psr.py")
LOADED_WITH = (
    "prompt-steering-replacement", "torch", "transformers", "safetensors", "huggingface_hub", "tokenizers", "numpy", "jinja2",
)  # fmt: skip
"""What a version needs to be loaded, beside MLflow."""


def aliases(store: Store, name: str) -> dict[str, str]:
    """alias -> version, of the registered model `name`, which is made if there is none."""
    from mlflow.exceptions import MlflowException

    asks: tuple[Callable[[str], Any], ...] = (store.client.get_registered_model, store.client.create_registered_model)
    for ask in asks:
        try:
            return {alias: str(version) for alias, version in ask(name).aliases.items()}
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"):
                raise
    return aliases(store, name)  # another process has made it meanwhile


def versions(store: Store, name: str, evaluation: str) -> dict[str, "ModelVersion"]:
    """cell -> version under this evaluation, of those that this code loads."""
    wanted = f"name = '{name}' AND {tagged({EVALUATION: evaluation, LOADER: loader()})}"
    found: dict[str, ModelVersion] = {}
    for one in sorted(pages(store.client.search_model_versions, wanted), key=lambda one: int(one.version)):
        found.setdefault(one.tags[CELL], one)
    return found


def register(store: Store, name: str, run_id: str, module: ModuleRecord, config: dict[str, Any]) -> "ModelVersion":
    """Log the module as a pyfunc under its run, and register it; returns the version.

    The MLflow model is the module's files, and pyfunc_psr.py as its code; nothing is pickled.
    """
    with tempfile.TemporaryDirectory() as spare, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of its own type hints, and asks for an example of chats
        import mlflow.pyfunc

        mlflow.pyfunc.save_model(
            f"{spare}/model",
            python_model=str(PYFUNC),
            artifacts={"module": str(module.folder)},
            model_config=config,
            signature=_signature(),
            pip_requirements=requirements(),  # else it looks through every installed package
        )
        store.client.log_artifacts(run_id, f"{spare}/model", "model")
    record, about = module.record, module.record.name
    tags: dict[str, str] = {}
    if module.ranked is not None:
        tags = {FIGURE: repr(module.ranked[0]), SENSE: repr(module.ranked[1])}
        about += (
            f": main figure {module.ranked[0]:.1f} at coherence {module.ranked[1]:.1f}, evaluation {module.evaluation}"
        )
    return store.client.create_model_version(
        name,
        f"runs:/{run_id}/model",
        run_id,
        tags={
            **tags,
            CELL: record.cell,
            EVALUATION: module.evaluation,
            USER: record.tags["mlflow.user"],
            LOADER: loader(),
        },
        description=about,
        await_creation_for=0,
    )


def chosen(candidates: Sequence["ModelVersion"]) -> "ModelVersion | None":
    """The best of versions under one evaluation; None where none has a figure."""
    return next(iter(_ranked(candidates)), None)


def why(candidates: Sequence["ModelVersion"]) -> str:
    """What the choice rests on, in a sentence."""
    first, *others = _ranked(candidates)
    text = f"main figure {float(first.tags[FIGURE]):.1f}, the highest of {1 + len(others)} under evaluation {first.tags[EVALUATION]}"
    if others:
        text += f"; next version {others[0].version} with {float(others[0].tags[FIGURE]):.1f}"
    return text


def _ranked(candidates: Sequence["ModelVersion"]) -> list["ModelVersion"]:
    return sorted(
        (one for one in candidates if FIGURE in one.tags),
        key=lambda one: (-float(one.tags[FIGURE]), -float(one.tags[SENSE]), int(one.version)),
    )


def point(store: Store, name: str, known: dict[str, str], candidates: Sequence["ModelVersion"], user: str) -> str:
    """Let the aliases of the registered model mean the best of versions under one evaluation, and a tag of it say why.

    known: its aliases. user: whose evaluation it is. Returns who has put `best` where it stays; empty where it follows.
    """
    best = chosen(candidates)
    if best is None:
        return ""
    number, own = str(best.version), f"{BEST}-{best.tags[EVALUATION][:8]}"
    if known.get(own) != number:
        store.client.set_registered_model_alias(name, own, number)
        for one in candidates:
            if str(one.version) == known.get(own) and WHY in one.tags:
                store.client.delete_model_version_tag(name, known[own], WHY)
    if best.tags.get(WHY) != why(candidates):
        store.client.set_model_version_tag(name, number, WHY, why(candidates))
    if known.get(BEST) == number:
        return ""
    if BEST in known:
        tags = store.client.get_model_version(name, known[BEST]).tags
        if tags.get(EVALUATION, best.tags[EVALUATION]) != best.tags[EVALUATION] and tags[USER] != user:
            return str(tags[USER])
    store.client.set_registered_model_alias(name, BEST, number)
    return ""


def loader() -> str:
    """A hash of the code that loads a version."""
    return hashlib.sha256(PYFUNC.read_bytes()).hexdigest()[:16]


def requirements() -> list[str]:
    """What a version is loaded with, as installed here, without the build that a version of torch names."""
    pins = []
    for name in LOADED_WITH:
        with suppress(PackageNotFoundError):  # this project, where it runs from a folder
            pins.append(f"{name}=={version(name).partition('+')[0]}")
    return pins


def _signature() -> "ModelSignature":
    """A chat a row in, a text a row out, and what `predict` takes as params."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array, Object, Property

    turn = Object([Property("role", DataType.string), Property("content", DataType.string)])
    return ModelSignature(
        Schema([ColSpec(Array(turn), "messages")]),
        Schema([ColSpec(DataType.string)]),
        ParamSchema([ParamSpec(param, kind, default) for param, (kind, default) in PREDICT.items()]),
    )
