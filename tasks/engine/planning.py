"""What a run has to do, read from DVC's state before anything starts. DVC alone decides what is up to date."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from psr.errors import PsrError
from tasks.engine.checkout import check_files, no_repository, restoring

State = Literal["run", "maybe", "cached"]
FILES = ("dvc.yaml", "dvc.lock", "params.yaml")  # what DVC reads in the repository


@dataclass(frozen=True)
class Step:
    """One stage of the plan. needs: the steps before it. state: "run"; "maybe", if what it needs comes out
    different; or "cached". reasons: why DVC calls it changed. computes: it runs the model, on all its threads."""

    name: str
    needs: tuple[str, ...]
    state: State
    reasons: tuple[str, ...]
    outs: tuple[str, ...]
    computes: bool = False


def plan(root: Path, profile: str) -> tuple[Step, ...]:
    """The profile's stages and what they stand on, each after what it needs.

    Raises PsrError: no such profile, no DVC or git repository, another DVC process at work, a damaged dvc.yaml or dvc.lock.
    """
    with _opened(root) as repo:
        return _steps(root, repo, profile)


def check_readable(root: Path) -> None:
    """Raise PsrError, as `plan` does, unless DVC can read the pipeline."""
    with _opened(root) as repo:
        repo.index.check_graph()


def to_do(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The steps that are not known to be up to date."""
    return tuple(step for step in steps if step.state != "cached")


@contextmanager
def _opened(root: Path) -> Iterator[Any]:
    """DVC's repository; what DVC raises while it is open comes out as PsrError."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    check_files(root)
    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    try:
        with Repo(str(root)) as repo:
            yield repo
    except DvcException as error:
        raise _clear(root, error) from error


def _steps(root: Path, repo: Any, profile: str) -> tuple[Step, ...]:
    import networkx

    graph = networkx.relabel_nodes(repo.index.graph, {stage: stage for stage in repo.index.graph})
    known = sorted({name for stage in graph if (name := stage.addressing.partition("@")[2])})
    if profile not in known:
        raise PsrError("unknown profile", where="dvc.yaml", expected=f"one of {', '.join(known)}", got=repr(profile))
    ours = {stage for stage in graph if stage.addressing.endswith(f"@{profile}")}
    ours |= {below for stage in ours for below in networkx.descendants(graph, stage)}
    part = graph.subgraph(ours)
    order = list(networkx.lexicographical_topological_sort(part.reverse(), key=lambda stage: stage.addressing))
    recorded = {stage for stage in order if any(dep.hash_info for dep in stage.deps)}
    status = repo.status(targets=[stage.addressing for stage in order])
    steps: dict[str, Step] = {}
    for stage in order:
        needs = tuple(sorted(need.addressing for need in part.successors(stage)))
        changed = status.get(stage.addressing, ())
        above = any(steps[need].state != "cached" for need in needs)
        state: State = "run" if changed else "maybe" if above else "cached"
        outs = tuple(str(out) for out in stage.outs)
        computes = any(f"{profile}.model" in getattr(dep, "params", ()) for dep in stage.deps)
        reasons = _reasons(changed) if stage in recorded else ("not in dvc.lock",)
        steps[stage.addressing] = Step(stage.addressing, needs, state, reasons, outs, computes)
    _refuse_missing(root, status, [Path(out) for step in steps.values() for out in step.outs])
    return tuple(steps.values())


def _refuse_missing(root: Path, status: Mapping[str, Any], made: list[Path]) -> None:
    """A dependency that is not there and that no step makes."""
    for stage, changed in status.items():
        for entry in changed:
            for name, how in entry.get("changed deps", {}).items() if isinstance(entry, dict) else ():
                if how == "deleted" and not any(
                    Path(name).is_relative_to(out) or out.is_relative_to(name) for out in made
                ):
                    command = restoring(root, name)
                    raise PsrError(
                        "an input is missing",
                        where=name,
                        expected=f"a file or folder that {stage} reads",
                        do=f"{f'Bring it back by {command}' if command else 'Put it there'}, or correct its path in "
                        "params.yaml or dvc.yaml.",
                    )


def _reasons(changed: Any) -> tuple[str, ...]:
    """DVC's account of a changed stage in short lines: `psr/fitting/loop.py modified`, `quick.distill.lr modified`."""
    found: list[str] = []
    for entry in changed:
        if isinstance(entry, str):
            found.append(entry)
            continue
        for details in entry.values():
            for name, what in details.items():
                found += [f"{name} {what}"] if isinstance(what, str) else [f"{key} {how}" for key, how in _flat(what)]
    return tuple(found)


def _flat(details: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, how in details.items():
        pairs += _flat(how, f"{prefix}{name}.") if isinstance(how, dict) else [(f"{prefix}{name}", str(how))]
    return pairs


def _clear(root: Path, error: Exception) -> PsrError:
    from dvc.lock import LockError
    from dvc.rwlock import RWLockFileCorruptedError, RWLockFileFormatError
    from dvc.scm import SCMError

    said = " ".join(str(error).split())
    if isinstance(error, RWLockFileCorruptedError | RWLockFileFormatError):
        return PsrError("DVC's own lock file is damaged", where=".dvc/tmp/rwlock", do="Run again: it is repaired.")
    if isinstance(error, LockError) or "is busy" in said:
        return PsrError(
            "another DVC process is working in this repository", got=said, do="Wait for it to end, or end it."
        )
    if isinstance(error, SCMError) and "not a git repository" in said:
        return no_repository(root)
    file = ".dvc/config" if said.startswith("config file error") else next((name for name in FILES if name in said), "")
    command = restoring(root, file) if file else ""
    do = f"Correct {file or 'what it names'}" + (f", or bring the committed one back by {command}." if command else ".")
    return PsrError("DVC cannot read the pipeline", got=said.rstrip("."), do=do)
