"""What dvc.yaml says about one stage of one profile: its dependencies, sections and outputs, without importing DVC.

A stage process needs this at once and DVC's own reader costs a second, so the three kinds of placeholder that
dvc.yaml uses are filled in here: `${key}`, `${item.name}` and `${profile.section.key}` from params.yaml, `[0]` included.
A test holds this reader against DVC's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from psr.errors import PsrError
from tasks.engine.files import parse_yaml

HOLE = re.compile(r"\$\{([^}]+)\}")


@dataclass(frozen=True)
class StageSpec:
    """One stage of one profile, as dvc.yaml declares it. Paths are relative to the repository."""

    name: str
    profile: str
    command: str
    deps: tuple[str, ...]
    sections: tuple[str, ...]
    outs: tuple[str, ...]

    @property
    def address(self) -> str:
        """As DVC writes it: `distill@quick`."""
        return f"{self.name}@{self.profile}"

    @property
    def folder(self) -> str:
        """The folder that the outputs lie in: the first one, or its parent when it is a file."""
        first = Path(self.outs[0])
        return str(first.parent if first.suffix else first)


def stage_names(root: Path) -> tuple[str, ...]:
    """The stages that exist once per profile, in the file's order."""
    return tuple(name for name, stage in _stages(root).items() if "foreach" in stage)


def stage_spec(root: Path, name: str, profile: str) -> StageSpec:
    """Raises PsrError for a stage or profile that dvc.yaml does not have; the known ones are listed."""
    stages = _stages(root)
    if name not in stages or "foreach" not in stages[name]:
        raise PsrError(
            "unknown stage", where="dvc.yaml", expected=f"one of {', '.join(stage_names(root))}", got=repr(name)
        )
    items = stages[name]["foreach"]
    if profile not in items:
        raise PsrError(
            "unknown profile", where=f"dvc.yaml, stage {name}", expected=f"one of {', '.join(items)}", got=repr(profile)
        )
    values = _load(root / "params.yaml")
    values = {**values, "key": profile, "item": _fill(items[profile], values)}
    do = _fill(stages[name]["do"], values)
    sections = tuple(str(entry).removeprefix(f"{profile}.") for entry in do.get("params", ()))
    outs = tuple(_path(entry) for kind in ("outs", "metrics") for entry in do.get(kind, ()))
    return StageSpec(name, profile, do["cmd"], tuple(map(_path, do.get("deps", ()))), sections, outs)


def _stages(root: Path) -> Mapping[str, Any]:
    return _load(root / "dvc.yaml")["stages"]


def _load(path: Path) -> dict[str, Any]:
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PsrError(
            "a file of the pipeline is missing", where=path, do="Run from a checkout of the repository."
        ) from None
    except yaml.YAMLError as error:
        raise PsrError(
            "a file of the pipeline is no valid YAML", where=path, got=" ".join(str(error).split())
        ) from None


def _fill(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {_fill(key, values): _fill(inner, values) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, values) for inner in value]
    return HOLE.sub(lambda hole: str(_lookup(hole[1], values)), value) if isinstance(value, str) else value


def _lookup(dotted: str, values: Mapping[str, Any]) -> Any:
    here: Any = values
    for step in dotted.replace("]", "").replace("[", ".").split("."):
        here = dict(enumerate(here)) if isinstance(here, list) else here
        step = int(step) if step.isdecimal() else step  # type: ignore[assignment]
        if not isinstance(here, Mapping) or step not in here:
            raise PsrError(
                "a placeholder of dvc.yaml has no value", where=f"${{{dotted}}}", do="Add it to params.yaml."
            )
        here = here[step]
    return here


def _path(entry: Any) -> str:
    return next(iter(entry)) if isinstance(entry, dict) else entry
