"""What the tracker records of a profile, read from its outputs: a record a module under an evaluation, and one of the reproduction.

The cell of a module's record is a hash of its files, of the evaluation and of what came of it, and so the same wherever the same
results lie. The reproduction's is a hash of those and of the headline.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psr.errors import PsrError
from psr.types import Method, short_hash
from tasks.engine.files import parse_yaml
from tasks.engine.lockfiles import SETTINGS, recorded, versions
from tasks.shown.order import grouped
from tasks.shown.origin import Origin
from tasks.shown.tracker import Record
from tasks.tables.parquet import read_table

FIGURE = {"value": "", "low": "_low", "high": "_high", "alpha": "_alpha", "coherence": "_coherence"}  # column -> ending
PARAMS = ("attribute", "method", "scope", "form", "objective", "span", "layer", "seed", "triplets")
CURVE = ("loss", "objective", "regulariser", "dead")  # over epochs
ALONG = ("alpha", "trait", "coherence")  # along α
ALPHA_STEP = 1000  # MLflow's steps are whole numbers: a point at α has step 1000 α
EVALUATION = ("sampling", "search", "steer", "judge", "results")  # sections of the parameters that decide a figure
WITHOUT_EFFECT = ("batch_size", "strengths")  # keys in them that decide none
NO_PARAMS = ("benchmarks", "methods", "seeds", "report", "inputs", "plugs")  # sections that say nothing of one module
Row = Mapping[str, Any]
Points = Sequence[tuple[int, float]]  # (step, value)


@dataclass(frozen=True)
class Profile:
    """A profile of the repository at `root`. settings: what its outputs were made with, resolved; empty where that is not there."""

    root: Path
    name: str
    settings: Row
    origin: Origin

    @property
    def data(self) -> Path:
        """The folder of its outputs."""
        return self.root / "data" / self.name


@dataclass(frozen=True)
class ModuleRecord:
    """A fitted module's record. evaluation: what its figures may be compared under. ranked: the main figure of its benchmark and the
    coherence there; None where it has none."""

    attribute: str
    folder: Path
    evaluation: str
    ranked: tuple[float, float] | None
    record: Record


def settings_of(root: Path, profile: str) -> Row:
    """What the profile's outputs were made with, resolved; empty where that is not there."""
    path = root / SETTINGS.format(profile=profile)
    return (parse_yaml(path.read_text(encoding="utf-8")) or {}) if path.is_file() else {}


def module_records(profile: Profile) -> list[ModuleRecord]:
    """Every module's. Raises PsrError for outputs that are missing or damaged."""
    distill, results = profile.data / "distill", profile.data / "results"
    rows = read_table(distill / "modules.parquet", "modules")
    figures = figures_by_module(read_table(results / "figures_seeds.parquet", "figures_seeds"))
    epochs = dict(grouped(read_table(distill / "curves.parquet", "curves"), "module"))
    along = dict(grouped(_first_seeds(read_table(results / "curve.parquet", "curve")), "module"))
    main, tags = _main(results), _tags(profile, "module")
    records = []
    for row in rows:
        key, folder, benchmark = row["id"], distill / row["folder"], row["attribute"].partition("/")[0]
        files, under, own = _digest(folder), evaluation(profile.settings, benchmark), figures.get(key, {})
        series: dict[str, Points] = {name: [(0, value)] for name, value in own.items()}
        series |= {name: [(one["epoch"], one[name]) for one in epochs.get(key, ())] for name in CURVE}
        series |= {name: _points(along.get(key, ()), name) for name in ALONG}
        record = Record(
            cell=short_hash("run", profile.name, files, under, str(sorted(series.items()))),
            name=f"{row['attribute']} {Method.of(row).name}",
            tags={**tags, "psr.module": key, "psr.model": row["model"], "psr.files": files, "psr.evaluation": under},
            params={name: row[name] for name in PARAMS} | _flat({"fit": _fitted_with(folder)}) | _params(profile),
            series=series,
            datasets=_datasets(profile, benchmark),
            span=profile.origin.span("distill", "results"),
        )
        figure = main.get(benchmark, "")
        ranked = (own[figure], own.get(f"{figure}_coherence", 0.0)) if figure in own else None
        records.append(ModuleRecord(row["attribute"], folder, under, ranked, record))
    return records


def reproduction_record(profile: Profile, modules: Sequence[ModuleRecord]) -> Record:
    """The reproduction's: means over attributes of every benchmark's main figure, and the seconds of each step."""
    results = profile.data / "results"
    main, rows = _main(results), read_table(results / "figures.parquet", "figures")
    ranked = [row for row in rows if row["figure"] == main.get(row["benchmark"]) and row["value"] is not None]
    headline: dict[str, Points] = {
        f"{benchmark} {figure} {method.replace('+', ' and ')}": [(0, sum(row["value"] for row in own) / len(own))]
        for (benchmark, figure, method), own in grouped(ranked, "benchmark", "figure", "method")
    }
    spans = profile.origin.spans
    return Record(
        cell=short_hash("reproduction", profile.name, sorted(one.record.cell for one in modules), str(headline)),
        name=f"reproduction of {profile.name}",
        tags=_tags(profile, "reproduction"),
        params=_params(profile),
        series=headline | {f"seconds {step}": [(0, ended - began)] for step, (began, ended) in spans.items()},
        datasets=_datasets(profile),
        span=profile.origin.span(*spans),
    )


def evaluation(settings: Row, benchmark: str) -> str:
    """A hash of what decides a figure beside the module: the base model, the benchmark's files, the judge, and how was asked."""
    sections = {
        name: {key: value for key, value in settings.get(name, {}).items() if key not in WITHOUT_EFFECT}
        for name in EVALUATION
    }
    model = {key: settings.get("model", {}).get(key) for key in ("dtype", "template")}
    inputs, plugs = settings.get("inputs", {}), settings.get("plugs", {})
    files = inputs.get("benchmarks", {})
    own = files.get(benchmark, files)  # a benchmark of the user's own has another name there
    return short_hash(
        "evaluation", benchmark, sections, model, inputs.get("model"), own, plugs.get("benchmarks"), plugs.get("judge")
    )


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


def _first_seeds(rows: Sequence[Row]) -> list[Row]:
    """Of a module that several repetitions asked, the first one's rows; none of the plain model and the prompt."""
    steered = [row for row in rows if row["module"] is not None]
    first = {row["module"]: row["seed"] for row in reversed(steered)}
    return [row for row in steered if row["seed"] == first[row["module"]]]


def _points(rows: Sequence[Row], name: str) -> Points:
    """A curve along α: (step, value), without what has no value."""
    return [(round(ALPHA_STEP * row["alpha"]), row[name]) for row in rows if row[name] is not None]


def _main(results: Path) -> dict[str, str]:
    """benchmark -> its main figure."""
    rows = read_table(results / "measures.parquet", "measures")
    return {row["benchmark"]: row["figure"] for row in rows if row["position"] == 0}


def _tags(profile: Profile, kind: str) -> dict[str, str]:
    """Of each step the hashes of its outputs and the version of its code; who made the results, and at which commit."""
    tags = {"psr.profile": profile.name, "psr.kind": kind, **profile.origin.tags}
    for step, entry in sorted(recorded(profile.root, profile.name).items()):
        tags[f"dvc.{step}"] = " ".join(out["md5"] for out in entry.get("outs", ()) if "md5" in out)
    return tags | {f"code.{step}": version for step, version in versions(profile.root, profile.name).items()}


def _datasets(profile: Profile, benchmark: str = "") -> list[tuple[str, str, str]]:
    """(name, DVC's hash, path) of the benchmark's files, or of every benchmark's."""
    digests = profile.settings.get("inputs", {}).get("benchmarks", {})
    paths = {one["name"]: one["path"] for one in profile.settings.get("benchmarks", ())}
    wanted = {benchmark} & set(digests) or set(digests)
    return [(name, digests[name], paths.get(name, "")) for name in sorted(wanted)]


def _params(profile: Profile) -> dict[str, Any]:
    """The parameters as used: distill.epochs, search.questions, …"""
    return _flat({name: value for name, value in profile.settings.items() if name not in NO_PARAMS})


def _flat(values: Row, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, their keys joined by dots, in letters that MLflow allows."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = prefix + re.sub(r"[^\w.\-/ ]", "-", str(key))
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def _fitted_with(folder: Path) -> Row:
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
    """A hash of the module's files, names and bytes."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*")):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
