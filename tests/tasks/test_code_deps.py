"""dvc.yaml names all the code that a stage runs on: no edit leaves stale results called up to date."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tasks.engine.code_deps import PACKAGES, closure, code_of
from tasks.engine.dvc_file import stage_names, stage_spec

ROOT = Path(__file__).resolve().parents[2]
LOADED = """
import importlib, sys
from pathlib import Path
importlib.import_module("flows.stage"), importlib.import_module("flows." + sys.argv[1])
root = Path.cwd()
for module in list(sys.modules.values()):
    file = getattr(module, "__file__", None)
    if file and Path(file).is_relative_to(root):
        print(Path(file).relative_to(root).as_posix())
"""


@pytest.mark.parametrize("stage", stage_names(ROOT))
def test_the_code_of_every_stage_is_among_its_deps(stage):
    named = {
        dep for dep in stage_spec(ROOT, stage, "quick").deps if dep.endswith(".py") and dep.split("/")[0] in PACKAGES
    }
    assert named == set(code_of(ROOT, stage)), "run python -m tasks.engine.code_deps"


@pytest.mark.parametrize("stage", ["complete", "report"])
def test_what_python_really_loads_is_covered(stage):
    done = subprocess.run([sys.executable, "-c", LOADED, stage], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split()
    assert set(done.stdout.split()) <= set(code_of(ROOT, stage))


def test_stages_without_tensors_load_neither_torch_nor_duckdb():
    code = "import sys, flows.stage, flows.select, flows.judge, flows.results, flows.report; print([m for m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "'flows.report'" in done.stdout
    assert not any(f"'{name}'" in done.stdout for name in ("torch", "duckdb", "mlflow", "transformers"))


def test_imports_inside_functions_and_relative_ones_are_followed(tmp_path):
    (tmp_path / "psr/sub").mkdir(parents=True)
    for name, text in {
        "psr/__init__.py": "",
        "psr/a.py": "def f():\n    from psr import b\n",
        "psr/b.py": "import psr.sub.c",
        "psr/sub/__init__.py": "",
        "psr/sub/c.py": "from . import d\nfrom ..e import x",
        "psr/sub/d.py": "import os",
        "psr/e.py": "",
        "psr/unused.py": "",
    }.items():
        (tmp_path / name).write_text(text)
    assert closure(tmp_path, ["psr.a"]) == (
        "psr/__init__.py",
        "psr/a.py",
        "psr/b.py",
        "psr/e.py",
        "psr/sub/__init__.py",
        "psr/sub/c.py",
        "psr/sub/d.py",
    )
