"""Where a stage works: its output, the outputs it may read, and its scratch folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from psr.errors import PsrError
from tasks.engine.scratch import Scratch


@dataclass(frozen=True)
class Place:
    """The place of one stage of one profile. `deps` are its declared dependencies, relative to `root`."""

    root: Path
    profile: str
    stage: str
    out: Path
    deps: tuple[str, ...]
    scratch: Scratch

    def of(self, stage: str) -> Path:
        """The output folder of an earlier stage. Raises PsrError when dvc.yaml does not name it as a dependency."""
        path = Path("data", self.profile, stage)
        if not any(Path(dep) == path or path in Path(dep).parents for dep in self.deps):
            raise PsrError(
                f"stage {self.stage} may not read {path}", where="dvc.yaml", do="Name it among the stage's deps."
            )
        return self.root / path
