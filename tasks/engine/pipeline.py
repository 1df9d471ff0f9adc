"""The pipeline as DVC sees it: the steps in order, which are stale and why, and recording a step's outputs.

DVC alone decides what is up to date. A step is recorded by the calls that `dvc repro` makes, but only if its inputs are
the same before and after it ran: DVC writes dependencies and parameters as they are when it records, and dvc.lock would
be wrong (iterative/dvc#11058).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from psr.errors import PsrError
from tasks.engine.checkout import check_files, restoring
from tasks.engine.lockfiles import CODE, code_of, code_version
from tasks.engine.remote import exchanged_runs, has_remote, push, used
from tasks.engine.repair import writing
from tasks.engine.repository import clearly, locked, repository

State = Literal["run", "maybe", "cached"]
Reads = Mapping[str, str]  # path -> hash; parameter -> its value as text
HOME = Path(__file__).resolve().parents[2]
LOADED = code_of(HOME, *CODE)  # when this process began, before most of the code was imported


@dataclass(frozen=True)
class Step:
    """One stage of one profile. needs: the steps before it. state: "run"; "maybe": if a step it needs changes;
    or "cached". reasons: why DVC calls it changed. reads: its inputs that no step makes, at the time of planning."""

    name: str
    needs: tuple[str, ...]
    state: State
    reasons: tuple[str, ...]
    deps: tuple[str, ...]
    sections: tuple[str, ...]
    outs: tuple[str, ...]
    reads: Reads = field(default_factory=dict)

    @property
    def flow(self) -> str:
        """The name of its flow: `distill` of `distill@quick`."""
        return self.name.partition("@")[0]

    @property
    def folder(self) -> Path:
        """The output folder: the first output, or its parent where that is a file."""
        first = Path(self.outs[0])
        return first.parent if first.suffix else first

    @property
    def code(self) -> str:
        """The version of its code: a hash of the code among `reads`."""
        return code_version(self.reads)

    @property
    def computes(self) -> bool:
        """Whether it runs the model."""
        return "model" in self.sections


class Pipeline:
    """An open DVC repository; get one from `opened`."""

    def __init__(self, root: Path, repo: Any, *, shares: bool = False) -> None:
        self.root, self.shares, self._repo = root, shares, repo
        self._stages = {stage.name: stage for stage in repo.index.stages if getattr(stage, "name", None)}

    def step(self, name: str) -> Step:
        """The step called `name`, without its state. Raises PsrError for an unknown name."""
        if name not in self._stages:
            names = ", ".join(sorted(self._stages))
            raise PsrError("unknown step", where="dvc.yaml", expected=f"one of {names}", got=repr(name))
        _refuse_newer_code()
        with clearly(self.root):
            return self._step(self._stages[name], set(), "run", ())

    def plan(self, profile: str) -> tuple[Step, ...]:
        """The profile's steps, each after what it needs. Raises PsrError for an unknown profile or a missing input."""
        _refuse_newer_code()
        order, needs = self._ordered(profile)
        outputs = {str(out) for stage in order for out in stage.outs}
        steps: dict[str, Step] = {}
        with self._locked():
            for stage in order:
                status = stage.status().get(stage.addressing, [])
                self._refuse_missing(stage.name, status, outputs)
                above = any(steps[need].state != "cached" for need in needs[stage.name])
                state: State = "run" if status else "maybe" if above else "cached"
                recorded = any(dep.hash_info for dep in stage.deps)
                reasons = _reasons(status) if recorded else ("not in dvc.lock",)
                steps[stage.name] = self._step(stage, outputs, state, reasons, needs[stage.name])
        return tuple(steps.values())

    def content(self, path: str) -> str:
        """DVC's hash of an input file or folder. Raises PsrError where it is missing."""
        from dvc.dependency.base import Dependency

        with clearly(self.root):
            entry = Dependency(next(iter(self._stages.values())), str(self.root / path))
            if entry.exists:
                return str(entry.get_hash().value)
        raise _missing(self.root, path, "the profile")

    def changed(self, step: Step) -> bool:
        """Whether DVC calls the step stale, once the steps it needs are done."""
        with self._locked():
            return bool(self._stages[step.name].changed())

    def fetch(self, path: str) -> None:
        """Bring an input that is missing and that DVC keeps (PATH.dvc) from the remote, as far as that has it."""
        from dvc.exceptions import CheckoutError, DownloadError

        if self.shares and (self.root / f"{path}.dvc").exists():
            with clearly(self.root), suppress(CheckoutError, DownloadError):
                self._repo.pull(f"{path}.dvc")

    def restored(self, step: Step) -> bool:
        """Restore its outputs from DVC's cache; False where it never ran on these inputs. Edited outputs are dropped."""
        from dvc.stage.cache import RunCacheNotFoundError

        stage = self._stages[step.name]
        with self._locked():
            for out in stage.outs:
                if out.use_cache and out.exists and out.hash_info and out.changed_checksum():
                    _drop_damaged(out)
            if self.shares and all(out.use_cache or not out.changed_checksum() for out in stage.outs):
                # keeps the small outputs, which come from git and not from the remote
                self._repo.stage_cache.save(stage)
            stage.remove_outs(ignore_remove=False, force=False)
            try:
                with used(self._repo, step.name) if self.shares else nullcontext():
                    self._repo.stage_cache.restore(stage, pull=self.shares)
            except RunCacheNotFoundError:
                return False
        self.record(step)
        return True

    @contextmanager
    def unchanged(self, step: Step) -> Iterator[None]:
        """Run a step in this context. Raises PsrError, before or after, where its inputs are no longer those that were
        planned: its outputs would be recorded with the wrong inputs."""
        stage = self._stages[step.name]
        with clearly(self.root):
            before = _reads(stage)
        _refuse_changed(step, {**before, **step.reads}, before)
        yield
        with clearly(self.root):
            _refuse_changed(step, before, _reads(stage))

    def clear(self, step: Step) -> None:
        """Remove the outputs of an earlier run."""
        with self._locked():
            self._stages[step.name].remove_outs(ignore_remove=False, force=False)

    def record(self, step: Step) -> None:
        """Put its outputs into DVC's cache, write dvc.lock, and push the outputs where the pipeline shares them. Only for a
        step that has just run, in `unchanged`. Raises PsrError where the remote does not take them all."""
        stage = self._stages[step.name]
        with self._locked():
            stage.save()
            stage.commit()
            with writing(self.root):
                stage.dump(update_pipeline=False)
        if self.shares and not stage.always_changed:
            push(self._repo, stage)

    def outputs(self, step: Step) -> dict[str, str]:
        """path -> DVC's hash, of the step's outputs as they lie there."""
        with clearly(self.root):
            return {str(out): str(out.get_hash().value) for out in self._stages[step.name].outs if out.exists}

    def _ordered(self, profile: str) -> tuple[list[Any], dict[str, tuple[str, ...]]]:
        import networkx

        graph = self._repo.index.graph
        profiles = sorted({name for stage in self._stages if (name := stage.partition("@")[2])})
        if profile not in profiles:
            raise PsrError(
                "unknown profile", where="dvc.yaml", expected=f"one of {', '.join(profiles)}", got=repr(profile)
            )
        stages = {stage for name, stage in self._stages.items() if name.endswith(f"@{profile}")}
        stages |= {below for stage in stages for below in networkx.descendants(graph, stage)}
        # a frozen stage's outputs are inputs; settings.yaml, of the stage that always runs, is written when planning
        part = graph.subgraph(stage for stage in stages if not stage.frozen and not stage.always_changed)
        order = networkx.lexicographical_topological_sort(part.reverse(), key=lambda stage: stage.addressing)
        return list(order), {stage.name: tuple(sorted(need.name for need in part.successors(stage))) for stage in part}

    def _step(
        self, stage: Any, outputs: set[str], state: State, reasons: tuple[str, ...], needs: tuple[str, ...] = ()
    ) -> Step:
        params = [name for dep in stage.deps for name in getattr(dep, "params", ())]
        paths = [dep for dep in stage.deps if not hasattr(dep, "params")]
        inputs = [dep for dep in stage.deps if str(dep) not in outputs and not _within(str(dep), outputs)]
        reads = {name: value for dep in inputs for name, value in _read(dep).items()}
        return Step(
            stage.name, needs, state, reasons, tuple(map(str, paths)),
            tuple(name for name in params if "." not in name), tuple(map(str, stage.outs)), reads,
        )  # fmt: skip

    def _refuse_missing(self, step: str, status: list[Any], outputs: set[str]) -> None:
        """Raise PsrError for a dependency that is missing and that no step makes."""
        gone = [name for entry in status if isinstance(entry, dict) for name, how in entry.get("changed deps", {}).items()
                if how == "deleted" and not _within(name, outputs)]  # fmt: skip
        if gone:
            raise _missing(self.root, gone[0], step)

    def _locked(self) -> AbstractContextManager[None]:
        return locked(self.root, self._repo)


def add_output(root: Path, folder: Path) -> None:
    """`dvc add` of a folder that no step makes: FOLDER.dvc belongs into git, `dvc push` and `dvc pull` transfer the folder.
    Does nothing without a DVC repository. Raises PsrError as `opened` does."""
    if not (root / ".dvc").is_dir():
        return
    with clearly(root), repository(root) as repo:
        repo.add(str(folder))


@contextmanager
def opened(root: Path, *, share: bool = False) -> Iterator[Pipeline]:
    """The pipeline of the repository at `root`. share: bring from DVC's default remote what it has of a step, push what a
    step made, and exchange the records of which inputs gave which outputs (DVC's run cache); without a remote, nothing.

    Raises PsrError: no DVC or git repository, another running DVC process, a damaged dvc.yaml or dvc.lock.
    """
    check_files(root)
    with clearly(root):
        repo = repository(root)
    try:
        with clearly(root):
            repo.index.check_graph()
            pipeline = Pipeline(root, repo, shares=share and has_remote(repo))
        with exchanged_runs(repo) if pipeline.shares else nullcontext():
            yield pipeline
    finally:
        repo.close()


def to_do(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The steps that are not known to be up to date."""
    return tuple(step for step in steps if step.state != "cached")


def _missing(root: Path, path: str, reader: str) -> PsrError:
    command = restoring(root, path)
    return PsrError(
        "an input is missing",
        where=path,
        expected=f"a file or folder that {reader} reads",
        do=f"{f'Bring it back by {command}' if command else 'Put it there'}, or correct its path in params.yaml or dvc.yaml.",
    )


def _read(dep: Any) -> dict[str, str]:
    """A dependency's current value: path -> hash, or each parameter -> its value as text."""
    if hasattr(dep, "params"):
        return {name: repr(value) for name, value in dep.get_hash().value.items()}
    if not dep.exists:
        return {str(dep): "missing"}
    return {str(dep): str(dep.get_hash().value)}


def _reads(stage: Any) -> dict[str, str]:
    return {name: value for dep in stage.deps for name, value in _read(dep).items()}


def _refuse_changed(step: Step, before: Reads, now: Reads) -> None:
    changed = sorted(name for name in {**before, **now} if before.get(name) != now.get(name))
    if changed:
        raise PsrError(
            f"the inputs of {step.name} changed while it ran",
            where=", ".join(changed[:5]),
            do="Run again: its outputs would be recorded as made from what the files say now.",
        )


def _refuse_newer_code() -> None:
    """Raise PsrError where the code on disk is no longer the code that was imported."""
    if code_of(HOME, *CODE) != LOADED:
        raise PsrError(
            "the code was edited after this command began",
            where=", ".join(CODE),
            do="Run again: it will run on what lies there.",
        )


def _within(name: str, outputs: set[str]) -> bool:
    """Whether the path `name` is an output, lies in one or contains one."""
    return any(Path(name).is_relative_to(out) or Path(out).is_relative_to(name) for out in outputs)


def _drop_damaged(out: Any) -> None:
    """Remove files from DVC's cache whose content no longer has their hash: an output linked to one was edited."""
    cached = {path.stat().st_ino: path for path in Path(out.cache.path).rglob("*") if path.is_file()}
    for file in (path for path in Path(out.fs_path).rglob("*") if path.is_file()):
        linked = cached.get(file.stat().st_ino)
        if linked and hashlib.md5(linked.read_bytes(), usedforsecurity=False).hexdigest() != "".join(linked.parts[-2:]):
            linked.unlink()


def _reasons(status: list[Any]) -> tuple[str, ...]:
    """DVC's status of a changed stage as short lines: `psr/fitting modified`, `quick.distill.lr modified`."""
    reasons: list[str] = []
    for entry in status:
        if isinstance(entry, str):
            reasons.append(entry)
            continue
        for kind, details in entry.items():
            for name, what in details.items():
                edited = kind == "changed outs" and what == "modified"
                if isinstance(what, str):
                    reasons.append(f"{name} {'was edited by hand' if edited else what}")
                else:
                    reasons += [f"{key} {how}" for key, how in _flat(what)]
    return tuple(reasons)


def _flat(details: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, how in details.items():
        pairs += _flat(how, f"{prefix}{name}.") if isinstance(how, dict) else [(f"{prefix}{name}", str(how))]
    return pairs
