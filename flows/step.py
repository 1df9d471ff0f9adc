"""One step, without a server: `python -m flows.step distill --profile quick`, its command in dvc.yaml.

Exit status 0: done. 2: something the user can mend, said in one line. 130: stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from flows import environment, params
from flows.doors import answered
from flows.steps import run_in_process
from tasks.engine.history import recorder
from tasks.engine.pipeline import opened


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step that the arguments name. DVC has cleared its outputs and will record them."""
    args = _parser().parse_args(argv)
    root = environment.repository()
    os.chdir(root)
    environment.set_defaults(root)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True, name="watch-parent").start()
    return answered(lambda: _run(root, args.step, args.profile), "Stopped. What was finished is kept.")


def _run(root: Path, name: str, profile: str) -> None:
    settings = params.written(root, profile)
    with opened(root) as pipeline:
        step = pipeline.step(f"{name}@{profile}")
        record = recorder(root, profile, settings.model.device)
        with record.step(step.flow, partial(pipeline.outputs, step)) as ended:
            with pipeline.unchanged(step):
                run_in_process(root, profile, step, settings)
            ended("ran")
        record.close()


def _end_with(parent: int) -> None:
    """End this process when its parent ends, since DVC would not record its outputs."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows.step", description="Run one step of one profile.")
    parser.add_argument("step")
    parser.add_argument("--profile", default=params.DEFAULT_PROFILE)
    return parser


if __name__ == "__main__":
    sys.exit(main())
