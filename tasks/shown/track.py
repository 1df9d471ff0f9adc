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

from psr.errors import PsrError
from tasks.engine.files import parse_yaml
from tasks.shown import tracker
from tasks.tables.parquet import read_table

METRICS = (
    "ta_cp",
    "ta_cp_low",
    "ta_cp_high",
    "coherence_cp",
    "alpha_cp",
    "ta_c80",
    "ta_c80_low",
    "ta_c80_high",
    "coherence_c80",
    "alpha_c80",
    "n",
    "n_unscored",
)
PARAMS = ("attribute", "method", "scope", "form", "objective", "span", "layer", "seed", "triplets")
CURVE = ("loss", "objective", "regulariser", "dead")
Row = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """A fitted module with everything that is told of it. key: profile and module id."""

    key: str
    module: Row
    folder: Path
    files: str
    headline: Row | None
    curve: tuple[Row, ...]
    origin: Mapping[str, Any]


def run(root: Path | str, profile: str, tracking_uri: str | None = None) -> int:
    """Fill the tracker with a profile's modules; returns how many. Run again, it updates and adds nothing.

    tracking_uri: MLFLOW_TRACKING_URI or else a sqlite database in .psr/, with the models' files beside it.
    Raises PsrError: outputs that are missing or damaged, a tracker that cannot be reached or written.
    """
    root = Path(root).resolve()
    found = cells(root / "data" / profile, profile)
    tags, config = run_tags(root, profile), model_config(root, profile)
    with _store(root, profile, tracking_uri) as store:
        made = {cell.key: _fill(store, cell, tags) for cell in found}
        for attribute in dict.fromkeys(cell.module["attribute"] for cell in found):
            _register(store, profile, [c for c in found if c.module["attribute"] == attribute], made, config)
    return len(found)


def prepare(root: Path, profile: str) -> None:
    """Open the tracker and fill nothing: a new database is made. Raises as `run` does."""
    with _store(root.resolve(), profile, None):
        pass


@contextmanager
def _store(root: Path, profile: str, tracking_uri: str | None) -> Iterator[tracker.Store]:
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root / '.psr' / 'mlflow.db'}"
    artifacts = root / ".psr" / "mlartifacts" if uri.startswith("sqlite:") else None
    with _alone(root), tracker.opened(uri, artifacts, profile) as store:
        yield store


def cells(data: Path, profile: str) -> list[Cell]:
    """The modules of a profile's folder, in the order of their table."""
    distill = data / "distill"
    rows = read_table(data / "results" / "headline_seeds.parquet", "headline_seeds")
    headline = {
        row["module"]: row for row in reversed(rows) if not row["method"].endswith("+prompt")
    }  # the first seed's
    curves = read_table(distill / "curves.parquet", "curves")
    return [
        Cell(
            f"{profile}/{row['id']}",
            row,
            distill / row["folder"],
            _digest(distill / row["folder"]),
            headline.get(row["id"]),
            tuple(point for point in curves if point["module"] == row["id"]),
            _origin(distill / row["folder"]),
        )
        for row in read_table(distill / "modules.parquet", "modules")
    ]


def run_tags(root: Path, profile: str) -> dict[str, str]:
    """What every run of the profile is tagged with: hashes of DVC's outputs, the git revision, the parameters."""
    tags = {"psr.profile": profile}
    lock = root / "dvc.lock"
    stages = (parse_yaml(lock.read_text(encoding="utf-8")) or {}).get("stages", {}) if lock.is_file() else {}
    for name, stage in sorted(stages.items()):
        if name.endswith(f"@{profile}"):
            outs = [out["md5"] for out in stage.get("outs", ()) if "md5" in out]
            tags[f"dvc.{name.partition('@')[0]}"] = " ".join(outs)
    with suppress(FileNotFoundError):  # without git no commit is named
        git = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        if git.returncode == 0:
            tags["mlflow.source.git.commit"] = git.stdout.strip()
    section = _section(root, profile)
    return tags | ({"psr.params": json.dumps(section, sort_keys=True)} if section else {})


def model_config(root: Path, profile: str) -> dict[str, Any]:
    """Where a tracked module finds its language model, unless it is told otherwise when loaded."""
    told = _section(root, profile).get("model", {})
    place = root / told.get("path", "data/testbed/model")
    return {
        "model": str(place),
        "dtype": told.get("dtype", "float32"),
        "device": told.get("device", "cpu"),
        "template": told.get("template", {}),
    }


def _section(root: Path, profile: str) -> dict[str, Any]:
    path = root / "params.yaml"
    return (parse_yaml(path.read_text(encoding="utf-8")) or {}).get(profile, {}) if path.is_file() else {}


def _fill(store: tracker.Store, cell: Cell, tags: Mapping[str, str]) -> str:
    row = cell.module
    series = {name: [(point["epoch"], point[name]) for point in cell.curve] for name in CURVE if cell.curve}
    known = cell.headline or {}
    series |= {name: [(0, float(known[name]))] for name in METRICS if known.get(name) is not None}
    told = {f"fit.{name}": value for name, value in cell.origin.get("settings", {}).items()}
    name = f"{row['attribute']} {known.get('name', row['method'])}"
    own = {
        "psr.steering.module": row["id"],
        "psr.model": row["model"],
        "psr.files": cell.files,
        "psr.folder": str(cell.folder),
    }
    return tracker.fill(store, cell.key, name, {**tags, **own}, {**{n: row[n] for n in PARAMS}, **told}, series)


def _register(
    store: tracker.Store, profile: str, found: list[Cell], made: Mapping[str, str], config: dict[str, Any]
) -> None:
    """A version per module of one attribute, and the alias of the best."""
    name = model_name(profile, found[0].module["attribute"])
    known = tracker.versions(store, name)
    version = {
        cell.key: known.get((cell.key, cell.files))
        or tracker.register(store, name, made[cell.key], cell.key, cell.folder, cell.files, config)
        for cell in found
    }
    scored = [cell for cell in found if cell.headline and cell.headline["ta_cp"] is not None]
    if scored:
        best = max(scored, key=lambda cell: cell.headline["ta_cp"])  # type: ignore[index]
        tracker.point(store, name, "best", version[best.key])


def model_name(profile: str, attribute: str) -> str:
    """quick-persona-pirate: the registered model of an attribute (MLflow allows neither / nor : there)."""
    return re.sub(r"[^\w.-]+", "-", f"{profile}-{attribute}")


def _origin(folder: Path) -> Mapping[str, Any]:
    """What the module's own config says it was made from."""
    path = folder / "adapter_config.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")).get("origin") or {}
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


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One filler at a time: a new sqlite database that several processes open at once fails in its migrations."""
    path = root / ".psr" / "mlflow.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise PsrError("the tracker's folder cannot be written", where=path.parent, got=str(error)) from error
