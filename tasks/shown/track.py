"""Runs and models for MLflow, filled from the outputs of DVC: a clone that pulls has them without recomputing.

One run per fitted module, named by its profile and the module's id; a model per attribute, whose alias `best` is the
module with the highest trait alignment at the prompt's coherence.
"""

import fcntl
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from psr.errors import PsrError
from tasks.engine.files import parse_yaml
from tasks.shown import tracker
from tasks.shown.charts import grouped
from tasks.tables.parquet import read_table
from tasks.tables.schemas import SCHEMAS

METRICS = (*(field.name for field in SCHEMAS["headline_seeds"] if pa.types.is_floating(field.type)), "n", "n_unscored")
PARAMS = ("attribute", "method", "scope", "form", "objective", "span", "layer", "seed", "triplets")
CURVE = ("loss", "objective", "regulariser", "dead")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """A fitted module with everything that is known of it. key: profile and module id; files: a hash of its files."""

    key: str
    module: Row
    folder: Path
    files: str
    figures: Row
    curve: list[Row]
    settings: Row


def run(root: Path | str, profile: str, tracking_uri: str | None = None) -> int:
    """Fill the tracker with a profile's modules; returns how many. Run again, it updates and adds nothing.

    tracking_uri: MLFLOW_TRACKING_URI or else a sqlite database in .psr/, with the models' files beside it.
    Raises PsrError: outputs that are missing or damaged, a tracker that cannot be reached or written.
    """
    root = Path(root).resolve()
    every = cells(root / "data" / profile, profile)
    tags, config = run_tags(root, profile), model_config(root, profile)
    with _store(root, profile, tracking_uri) as store:
        runs = {cell.key: _fill(store, cell, tags) for cell in every}
        for attribute in dict.fromkeys(cell.module["attribute"] for cell in every):
            own = [cell for cell in every if cell.module["attribute"] == attribute]
            _register(store, model_name(profile, attribute), own, runs, config)
    return len(every)


def prepare(root: Path, profile: str) -> None:
    """Open the tracker and fill nothing: a new database is made. Raises as `run` does."""
    with _store(root.resolve(), profile, None):
        pass


@contextmanager
def _store(root: Path, profile: str, tracking_uri: str | None) -> Iterator[tracker.Store]:
    """The tracker, for one filler at a time: a new sqlite database that several processes open at once fails."""
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
        with tracker.opened(uri, artifacts, profile) as store:
            yield store


def cells(data: Path, profile: str) -> list[Cell]:
    """The modules of a profile's folder, in the order of their table, with the first seed's figures."""
    distill = data / "distill"
    rows = read_table(data / "results" / "headline_seeds.parquet", "headline_seeds")
    figures = {row["module"]: row for row in reversed(rows) if not row["method"].endswith("+prompt")}
    curves = dict(grouped(read_table(distill / "curves.parquet", "curves"), "module"))
    every = []
    for row in read_table(distill / "modules.parquet", "modules"):
        key, folder = row["id"], distill / row["folder"]
        files, settings = _digest(folder), _settings(folder)
        every.append(Cell(f"{profile}/{key}", row, folder, files, figures.get(key, {}), curves.get(key, []), settings))
    return every


def run_tags(root: Path, profile: str) -> dict[str, str]:
    """What every run of the profile is tagged with: hashes of DVC's outputs, the git revision, the parameters."""
    tags = {"psr.profile": profile}
    for name, stage in sorted(_yaml(root / "dvc.lock").get("stages", {}).items()):
        if name.endswith(f"@{profile}"):
            outs = [out["md5"] for out in stage.get("outs", ()) if "md5" in out]
            tags[f"dvc.{name.partition('@')[0]}"] = " ".join(outs)
    with suppress(FileNotFoundError):  # without git no commit is named
        git = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        if git.returncode == 0:
            tags["mlflow.source.git.commit"] = git.stdout.strip()
    section = _yaml(root / "params.yaml").get(profile)
    return tags | ({"psr.params": json.dumps(section, sort_keys=True)} if section else {})


def model_config(root: Path, profile: str) -> dict[str, Any]:
    """Where a tracked module finds its language model, unless another is named when it is loaded."""
    model = _yaml(root / "params.yaml").get(profile, {}).get("model", {})
    defaults = {"dtype": "float32", "device": "cpu", "template": {}}
    known = {name: model.get(name, default) for name, default in defaults.items()}
    return {"model": str(root / model.get("path", "data/testbed/model")), **known}


def _yaml(path: Path) -> dict[str, Any]:
    return (parse_yaml(path.read_text(encoding="utf-8")) or {}) if path.is_file() else {}


def _fill(store: tracker.Store, cell: Cell, tags: Mapping[str, str]) -> str:
    row, figures = cell.module, cell.figures
    series = {name: [(point["epoch"], point[name]) for point in cell.curve] for name in CURVE if cell.curve}
    series |= {name: [(0, float(figures[name]))] for name in METRICS if figures.get(name) is not None}
    own = {
        "psr.module": row["id"],
        "psr.model": row["model"],
        "psr.files": cell.files,
        "psr.folder": str(cell.folder),
    }
    params = {name: row[name] for name in PARAMS} | {f"fit.{name}": value for name, value in cell.settings.items()}
    name = f"{row['attribute']} {figures.get('name', row['method'])}"
    return tracker.fill(store, cell.key, name, {**tags, **own}, params, series)


def _register(
    store: tracker.Store, name: str, every: list[Cell], runs: Mapping[str, str], config: dict[str, Any]
) -> None:
    """A version per module of one attribute, and the alias of the best."""
    known = tracker.versions(store, name)
    versions = {
        cell.key: known.get((cell.key, cell.files))
        or tracker.register(store, name, runs[cell.key], cell.key, cell.folder, cell.files, config)
        for cell in every
    }
    scores = {cell.key: cell.figures["ta_cp"] for cell in every if cell.figures.get("ta_cp") is not None}
    if scores:
        tracker.point(store, name, "best", versions[max(scores, key=lambda key: scores[key])])


def model_name(profile: str, attribute: str) -> str:
    """quick-persona-pirate: the registered model of an attribute (MLflow allows neither / nor : there)."""
    return re.sub(r"[^\w.-]+", "-", f"{profile}-{attribute}")


def _settings(folder: Path) -> Row:
    """What the module's own config says it was fitted with."""
    path = folder / "adapter_config.json"
    try:
        origin = json.loads(path.read_text(encoding="utf-8")).get("origin") or {}
        return origin.get("settings", {})  # type: ignore[no-any-return]
    except (OSError, ValueError, AttributeError) as error:
        raise PsrError(
            "a steering module's config cannot be read",
            where=path,
            got=f"{type(error).__name__}: {error}",
            do="Run `dvc checkout`, or the distill stage again.",
        ) from error


def _digest(folder: Path) -> str:
    """A hash of the module's files: names and bytes."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*")):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
