"""Runs and models for MLflow, filled from the outputs of DVC: a clone that pulls has them without recomputing.

One run per fitted module, named by its profile and the module's id; a model per attribute, whose alias `best` is the
module with the highest main figure of its benchmark, such as trait alignment at the prompt's coherence.
"""

import fcntl
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from psr.errors import PsrError
from psr.types import Method
from tasks.engine.files import parse_yaml
from tasks.engine.lockfiles import SETTINGS, recorded, versions
from tasks.shown import tracker
from tasks.shown.order import grouped
from tasks.tables.parquet import read_table

FIGURE = {"value": "", "low": "_low", "high": "_high", "alpha": "_alpha", "coherence": "_coherence"}  # column -> ending
PARAMS = ("attribute", "method", "scope", "form", "objective", "span", "layer", "seed", "triplets")
CURVE = ("loss", "objective", "regulariser", "dead")
Row = Mapping[str, Any]


def run(root: Path | str, profile: str, tracking_uri: str | None = None) -> int:
    """Fill the tracker with a profile's modules; returns how many. Run again, it updates and adds nothing.

    tracking_uri: MLFLOW_TRACKING_URI or else a sqlite database in .psr/, with the models' files beside it.
    Raises PsrError: outputs that are missing or damaged, a tracker that cannot be reached or written.
    """
    root = Path(root).resolve()
    distill, results = root / "data" / profile / "distill", root / "data" / profile / "results"
    modules = read_table(distill / "modules.parquet", "modules")
    figures = figures_by_module(read_table(results / "figures_seeds.parquet", "figures_seeds"))
    main = {
        row["benchmark"]: row["figure"]
        for row in read_table(results / "measures.parquet", "measures")
        if row["position"] == 0
    }
    curves = dict(grouped(read_table(distill / "curves.parquet", "curves"), "module"))
    tags, config = run_tags(root, profile), model_config(root, profile)
    with _store(root, profile, tracking_uri) as store:
        for attribute, own in grouped(modules, "attribute"):
            model = model_name(profile, attribute)
            known, scores = tracker.versions(store, model), {}
            best = main.get(attribute.partition("/")[0], "")
            for row in own:
                cell, folder, metrics = f"{profile}/{row['id']}", distill / row["folder"], figures.get(row["id"], {})
                files = {"psr.files": _digest(folder), "psr.folder": str(folder)}
                run_id = _fill(
                    store, cell, row, {**tags, **files}, metrics, curves.get(row["id"], []), _settings(folder)
                )
                version = known.get((cell, files["psr.files"])) or tracker.register(
                    store, model, run_id, cell, folder, files["psr.files"], config
                )
                if best in metrics:
                    scores[version] = metrics[best]
            if scores:
                tracker.point(store, model, "best", max(scores, key=lambda version: scores[version]))
    return len(modules)


def figures_by_module(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """module -> its figures of the first seed as metrics: ta_cp, ta_cp_low, ta_cp_alpha, …, and how many answers were scored."""
    metrics: dict[str, dict[str, float]] = {}
    for row in reversed(rows):
        if row["module"] is not None and not row["method"].endswith("+prompt"):
            named = {row["figure"] + ending: row[column] for column, ending in FIGURE.items()}
            counted = {name: row[name] for name in ("n", "n_unscored")}
            own = metrics.setdefault(row["module"], {})
            own |= {name: float(value) for name, value in {**named, **counted}.items() if value is not None}
    return metrics


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


def run_tags(root: Path, profile: str) -> dict[str, str]:
    """What every run of the profile is tagged with: of each step the hashes of its outputs and the version of its code, the
    git revision, the parameters."""
    tags = {"psr.profile": profile}
    for step, entry in sorted(recorded(root, profile).items()):
        tags[f"dvc.{step}"] = " ".join(out["md5"] for out in entry.get("outs", ()) if "md5" in out)
    tags |= {f"code.{step}": version for step, version in versions(root, profile).items()}
    with suppress(FileNotFoundError):  # without git no commit is named
        git = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        if git.returncode == 0:
            tags["mlflow.source.git.commit"] = git.stdout.strip()
    settings = _settings_of(root, profile)
    return tags | ({"psr.params": json.dumps(settings, sort_keys=True)} if settings else {})


def model_config(root: Path, profile: str) -> dict[str, Any]:
    """Where a tracked module finds its language model, unless another is named when it is loaded."""
    model = _settings_of(root, profile).get("model", {})
    defaults: dict[str, Any] = {"dtype": "float32", "device": "cpu", "template": {}, "revision": None}
    known = {name: model.get(name, default) for name, default in defaults.items()}
    path = model.get("path", "data/testbed/model")
    return {"model": path if known["revision"] else str(root / path), **known}


def _settings_of(root: Path, profile: str) -> dict[str, Any]:
    """What the profile's outputs were made with, resolved; empty where that is not there."""
    path = root / SETTINGS.format(profile=profile)
    return (parse_yaml(path.read_text(encoding="utf-8")) or {}) if path.is_file() else {}


def _fill(
    store: tracker.Store,
    cell: str,
    module: Row,
    tags: dict[str, str],
    metrics: Mapping[str, float],
    curve: list[Row],
    settings: Row,
) -> str:
    """The run of a fitted module: how it was fitted, its curve over epochs, its figures. Returns the run's id."""
    series = {name: [(point["epoch"], point[name]) for point in curve] for name in CURVE if curve}
    series |= {name: [(0, value)] for name, value in metrics.items()}
    params = {name: module[name] for name in PARAMS} | {f"fit.{name}": value for name, value in settings.items()}
    tags = {**tags, "psr.module": module["id"], "psr.model": module["model"]}
    return tracker.fill(store, cell, f"{module['attribute']} {Method.of(module).name}", tags, params, series)


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
    """A hash of the module's files, names and bytes, and of the code that loads them: a version of older code is registered anew."""
    digest = hashlib.sha256(tracker.PYFUNC.read_bytes())
    for path in sorted(folder.glob("*")):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
