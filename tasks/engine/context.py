"""The context that a step is run in: its output folder, the outputs it may read, its cells and their runner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from psr.errors import PsrError
from tasks.engine.cells import Cells
from tasks.engine.runners import Runner

T = TypeVar("T")


@dataclass(frozen=True)
class StepContext:
    """The context of one step of one profile. deps: its dependencies as dvc.yaml declares them, relative to `root`."""

    root: Path
    profile: str
    step: str
    out: Path
    deps: tuple[str, ...]
    cells: Cells
    runner: Runner

    def output_of(self, step: str) -> Path:
        """The output folder of an earlier step. Raises PsrError where dvc.yaml does not name it as a dependency."""
        path = Path("data", self.profile, step)
        if not any(Path(dep) == path or path in Path(dep).parents for dep in self.deps):
            raise PsrError(
                f"step {self.step} may not read {path}", where="dvc.yaml", do="Name it among the step's deps."
            )
        return self.root / path

    def map(self, work: Callable[..., T], calls: Mapping[str, Mapping[str, Any]]) -> list[T]:
        """Run `work` once a call; `calls` maps a call's name to its arguments. The results, in the order of the calls."""
        return self.runner(work, calls)
