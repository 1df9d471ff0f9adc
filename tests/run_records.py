"""Records of runs and a dvc.lock for tests of what reads them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import yaml

from tasks.engine.files import write_json
from tasks.engine.history import Run, StepRecord


def a_run(id: str = "0000000a", hour: int = 1, who: str = "Ada", **steps: StepRecord) -> Run:
    moment = datetime(2026, 11, 26, hour, tzinfo=UTC)
    return Run(
        id=id, profile="quick", who=who, began=moment, ended=moment, outcome="completed", commit="c0ffee", changed=(),
        host="linux", packages={"torch": "2"}, settings={"seeds": [1]}, steps=steps,
    )  # fmt: skip


def put(root: Path, *runs: Run) -> None:
    for run in runs:
        write_json(root / run.file, run.model_dump(mode="json"))


def lock(root: Path, **outputs: dict[str, str]) -> None:
    stages = {
        f"{step}@quick": {"cmd": "c", "outs": [{"path": path, "md5": md5} for path, md5 in outs.items()]}
        for step, outs in outputs.items()
    }
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))


def ran(md5: str, end: str = "ran") -> StepRecord:
    return StepRecord.model_validate({"end": end, "seconds": 1.0, "outputs": {"data/quick/a": md5}})
