"""Runs and models for MLflow, filled from the outputs of DVC: a clone that pulls has them without recomputing.

    run         a module under an evaluation: how it was fitted, its curves over epochs and along α, its figures
    parent run  a reproduction: its headline and report, the parameters, what was changed and not committed
    model       an attribute; its versions are modules under evaluations, and an alias means the best

What the tracker holds already stays as it is: other settings, another branch or another machine make other runs, and results
that somebody else has filled add none.
"""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psr.errors import PsrError
from tasks.engine.files import write_json, write_text
from tasks.engine.lockfiles import SETTINGS
from tasks.engine.progress import say
from tasks.shown import registry, tracker
from tasks.shown.origin import origin
from tasks.shown.records import ModuleRecord, Profile, module_records, reproduction_record, settings_of


def run(root: Path | str, profile: str, tracking_uri: str | None = None) -> int:
    """Fill the tracker with a profile's modules; returns how many.

    tracking_uri: MLFLOW_TRACKING_URI or else a sqlite database in .psr/, with the models' files beside it.
    Raises PsrError: outputs that are missing or damaged, a tracker that cannot be reached or written.
    """
    root = Path(root).resolve()
    filled = Profile(root, profile, settings_of(root, profile), origin(root, profile))
    modules = module_records(filled)
    parent = reproduction_record(filled, modules)
    with _store(root, tracking_uri) as store:
        existing = tracker.runs(store, {tracker.CELL: parent.cell}).get(parent.cell)
        complete = existing is not None and tracker.complete(existing)
        if existing is None or not complete or existing.data.tags.get(registry.LOADER) != registry.loader():
            run_id = existing.info.run_id if existing and complete else tracker.begin(store, parent, existing)
            run_ids = _fill(store, filled, modules, run_id)
            _register(store, filled, modules, run_ids)
            store.client.set_tag(run_id, registry.LOADER, registry.loader())
            if not complete:
                _attach(store, filled, modules, run_ids, run_id)
                tracker.end(store, run_id, parent)
    return len(modules)


@contextmanager
def _store(root: Path, tracking_uri: str | None) -> Iterator[tracker.Store]:
    """The tracker, for one filler of this checkout at a time: a new sqlite database that several open at once fails."""
    home = root / ".psr"
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"
    artifacts = home / "mlartifacts" if uri.startswith("sqlite:") else None
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = open(home / "mlflow.lock", "w")  # noqa: SIM115 - closed below
    except OSError as error:
        raise PsrError("the tracker's folder cannot be written", where=home, got=str(error)) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with tracker.opened(uri, artifacts) as store:
            yield store


def _fill(store: tracker.Store, profile: Profile, modules: Sequence[ModuleRecord], parent: str) -> dict[str, str]:
    """cell -> the id of its run; those that are not there yet are made below the run `parent`."""
    ids: dict[str, str] = {}
    for evaluation in sorted({one.evaluation for one in modules}):
        existing = tracker.runs(store, {"psr.profile": profile.name, "psr.evaluation": evaluation})
        for record in (one.record for one in modules if one.evaluation == evaluation):
            run = existing.get(record.cell)
            if run is not None and tracker.complete(run):
                ids[record.cell] = run.info.run_id
            else:
                ids[record.cell] = tracker.begin(store, record, run, {"mlflow.parentRunId": parent})
                tracker.end(store, ids[record.cell], record)
    return ids


def _register(
    store: tracker.Store, profile: Profile, modules: Sequence[ModuleRecord], run_ids: Mapping[str, str]
) -> None:
    """Register every module that is not registered yet, and let the aliases mean the best."""
    config = model_config(profile)
    owners: set[str] = set()
    for attribute in dict.fromkeys(one.attribute for one in modules):
        own, name = [one for one in modules if one.attribute == attribute], model_name(profile.name, attribute)
        aliases = registry.aliases(store, name)
        versions = registry.versions(store, name, own[0].evaluation)
        for one in own:
            cell = one.record.cell
            if cell not in versions:
                versions[cell] = registry.register(store, name, run_ids[cell], one, config)
        owners.add(registry.point(store, name, aliases, list(versions.values()), profile.origin.user))
    for owner in sorted(owners - {""}):
        say(
            f"MLflow: models whose alias {registry.BEST} means another evaluation, by {owner}, stay so; the best under this one "
            f"is {registry.BEST}-{modules[0].evaluation[:8]}"
        )


def _attach(
    store: tracker.Store, profile: Profile, modules: Sequence[ModuleRecord], run_ids: Mapping[str, str], run_id: str
) -> None:
    """Files of a reproduction: the parameters, which runs its modules are, the report, and what was not committed."""
    with tempfile.TemporaryDirectory() as spare:
        files = Path(spare)
        runs = {one.record.tags["psr.module"]: run_ids[one.record.cell] for one in modules}
        write_json(files / "modules.json", runs)
        for path in (profile.root / SETTINGS.format(profile=profile.name), profile.data / "report" / "index.html"):
            if path.is_file():
                shutil.copy(path, files / path.name)
        if profile.origin.difference:
            write_text(files / "changes.diff", profile.origin.difference)
        store.client.log_artifacts(run_id, spare)


def model_config(profile: Profile) -> dict[str, Any]:
    """How a tracked module runs its language model, and where that may lie: `model` and `revision` are for whoever loads it."""
    model = profile.settings.get("model", {})
    path = model.get("path", "data/testbed/model")
    return {
        "model": None,
        "revision": None,
        "dtype": model.get("dtype", "float32"),
        "device": "auto",
        "template": model.get("template") or {},
        "paths": [] if model.get("revision") else list(dict.fromkeys([path, str(profile.root / path)])),
    }


def model_name(profile: str, attribute: str) -> str:
    """quick-persona-pirate: the registered model of an attribute (MLflow allows neither / nor : there)."""
    return re.sub(r"[^\w.-]+", "-", f"{profile}-{attribute}")
