"""A small repository for tests of the engine: the real flows/ and tasks/, with steps that take no time and can fail.

    make -> left, right -> join        sections: make reads `complete`, the others `select`

The steps obey environment variables: PSR_TEST_SLOW (seconds an item), PSR_TEST_FAIL ("stage:kind[:times]").
Each item that is computed adds a line to `.psr/journal`, or the file PSR_TEST_JOURNAL, so that a test can count repeated work.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[2]
ITEMS = 4

STEP = '''
"""A step for tests."""

import os
import time

from tasks.engine.progress import say
from tasks.misbehave import misbehave


def item(root, step, cells, text, number):
    def write(folder):
        misbehave("NAME", root)
        time.sleep(float(os.environ.get("PSR_TEST_SLOW", "0")))
        with open(os.environ.get("PSR_TEST_JOURNAL") or root / ".psr" / "journal", "a") as journal:
            journal.write(f"{step} {number}\\n")
        (folder / "text").write_text(text)
    return cells.keep("item", (step, text, number), write)


def NAME(context, SECTION):
    earlier = "".join((context.output_of(name) / "all.txt").read_text() for name in NEEDS)
    say("NAME works")
    text = f"NAME {SECTION.seed if 'SECTION' == 'complete' else SECTION.limit}\\n{earlier}"
    own = {"root": context.root, "step": context.step, "cells": context.cells, "text": text}
    cells = context.map(item, {f"NAME {i}": {**own, "number": i} for i in range(ITEMS)})
    (context.out / "all.txt").write_text("".join((cell / "text").read_text() for cell in cells))
'''

MISBEHAVE = '''
"""The failure that a test orders by PSR_TEST_FAIL."""

import os
import signal
import errno
from pathlib import Path
from typing import Any

from psr.errors import PsrError


def misbehave(stage: str, root: Path) -> None:
    name, _, rest = os.environ.get("PSR_TEST_FAIL", "").partition(":")
    if name != stage:
        return
    kind, _, times = rest.partition(":")
    count = root / ".psr" / "failures"
    done = int(count.read_text()) if count.exists() else 0
    if done >= int(times or 99):
        return
    count.write_text(str(done + 1))
    if kind == "input":
        raise PsrError("a thing is wrong", where="here", do="Mend it.")
    if kind == "connection":
        raise ConnectionError("the line was cut")
    if kind == "bug":
        raise KeyError("bug")
    if kind == "full":
        raise OSError(errno.ENOSPC, "No space left on device", "/some/file")
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "params":
        path = root / "data/smoke/settings.yaml"
        path.write_text(path.read_text().replace("  seed: 1\\n", "  seed: 11\\n"))
    if kind == "later":
        path = root / "params.yaml"
        path.write_text(path.read_text().replace("      seed: 1\\n", "      seed: 17\\n"))
    if kind == "code":
        with open(root / "flows" / f"{stage}.py", "a") as file:
            file.write("# edited\\n")
'''

TRACK = '''
"""A tracker that records its calls."""


def run(root, profile):
    with open(root / ".psr" / "tracked.txt", "a") as file:
        file.write(profile + "\\n")
    if (root / "tracker-is-broken").exists():
        raise ConnectionError("no tracker")
    (root / ".psr" / "mlflow.db").touch()
'''

GRAPH: dict[str, tuple[str, tuple[str, ...]]] = {
    "make": ("complete", ()),
    "left": ("select", ("make",)),
    "right": ("select", ("make",)),
    "join": ("select", ("left", "right")),
}
BOTH = {"smoke": {"x": "y"}, "quick": {"x": "y"}}
SMOKE = """
  smoke:  # every step on very little
    benchmarks:
    - name: persona
      path: data/testbed/persona
      attributes:
      - pirate
    methods:
    - s-const-dim-r
    - a-const-mse-qr
    - a-psr-mse-qr
    seeds:
    - 123
    complete:
      questions: 12
      instructions: 1
      seed: 1
      batch_size: 64
    select:
      limit: 12
    distill:
      epochs: 24
      batch_size: 4
      lr: null
    search:
      questions: 4
      samples: 1
      alphas:
      - 0
      - 1
      - 2
      resamples: 50
      seed: 2
      batch_size: 128
    steer:
      questions: 4
      seed: 3
      batch_size: 128
      strengths: 1
      with_prompt:
      - a-psr-mse-qr
    faithfulness:
      questions: 4
      triplets: 8
      resamples: 50
      strengths: 1
      batch_size: 128
    results:
      resamples: 50
      seed: 4
    report:
      title: Prompt Steering Replacement, smoke profile
"""


def add_smoke(folder: Path) -> None:
    """Add the tests' profile as a user does: a block at the end of params.yaml."""
    with open(folder / "params.yaml", "a", encoding="utf-8") as file:
        file.write(SMOKE)


def build(folder: Path, graph: Mapping[str, tuple[str, tuple[str, ...]]] = GRAPH) -> Path:
    """Make the repository in `folder`. graph: step -> (its section, the steps it needs)."""
    for name in ("flows", "tasks", "psr"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "tasks" / "shown" / "track.py").write_text(TRACK)
    (folder / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc" / "config")
    (folder / "tasks" / "misbehave.py").write_text(MISBEHAVE)
    add_smoke(folder)
    (folder / "data/testbed/model").mkdir(parents=True)
    (folder / "data/testbed/model/weights").write_text("none\n")
    shutil.copytree(ROOT / "data/testbed/persona", folder / "data/testbed/persona")
    stages: dict[str, Any] = {
        "settings": {
            "foreach": BOTH,
            "do": {
                "cmd": "python -m flows.settings --profile ${key}",
                "always_changed": True,
                "outs": [{"data/${key}/settings.yaml": {"cache": False}}],
            },
        }
    }
    for name, (section, needs) in graph.items():
        text = STEP.replace("NAME", name).replace("SECTION", section).replace("NEEDS", repr(needs))
        (folder / "flows" / f"{name}.py").write_text(text.replace("ITEMS", str(ITEMS)))
        stages[name] = {
            "foreach": BOTH,
            "do": {
                "cmd": f"python -m flows.step {name} --profile ${{key}}",
                "deps": ([f"data/${{key}}/{need}" for need in needs] or ["seed.txt"]) + [f"flows/{name}.py"],
                "params": [{"data/${key}/settings.yaml": [section]}],
                "outs": [f"data/${{key}}/{name}"],
            },
        }
    (folder / "seed.txt").write_text("seed\n")
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return folder


def environment(**more: str) -> dict[str, str]:
    """A user's environment variables with the virtual environment active, without those of this test run."""
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PSR_", "PREFECT_", "DVC_", "PYTEST_"))
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), variables.get("PATH", os.defpath)])
    return {**variables, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1", **more}


def reproduce(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m flows.reproduce` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "flows.reproduce", "--profile", "smoke", *arguments],
        cwd=folder,
        env=environment(**more),
        text=True,
        capture_output=True,
        timeout=550,
        start_new_session=True,
    )


@contextmanager
def started(
    folder: Path, *arguments: str, module: str = "flows.reproduce", log: Path | None = None, **more: str
) -> Iterator[subprocess.Popen[str]]:
    """Run a command in the background; it and its child processes are killed at the end. log: takes what it prints, where
    nobody reads that."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=environment(**more),
        text=True,
        stdin=subprocess.PIPE,  # a server ends when it closes
        stdout=log.open("w") if log else subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for child in [*family(folder), process.pid]:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        process.communicate()


def family(folder: Path) -> list[int]:
    """The ids of all running processes whose working folder is `folder`."""
    pids = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                pids.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return pids


def journal(folder: Path) -> list[str]:
    """The items that the steps computed, in order."""
    path = folder / ".psr" / "journal"
    return path.read_text().splitlines() if path.exists() else []


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until `condition()` is true; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
