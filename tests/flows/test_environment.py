"""What every command finds in its environment, before anything reads it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flows import environment

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = sorted(
    file.stem
    for file in (ROOT / "flows").glob("*.py")
    if 'if __name__ == "__main__":' in file.read_text(encoding="utf-8")
)


def test_what_is_set_outside_stays():
    given = {"GOMP_SPINCOUNT": "7", "PATH": ""}
    environment.set_defaults(ROOT, given)
    assert given["GOMP_SPINCOUNT"] == "7"
    assert given["HF_HUB_OFFLINE"] == "1"


def imported(module: str) -> str:
    """What importing `module` loads and sets, as its own process says."""
    code = f"import sys, os, {module}; print('torch' in sys.modules, os.environ.get('GOMP_SPINCOUNT'))"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_loads_torch_before_it_can_say_how_threads_wait(command):
    """OpenMP reads its settings when torch is loaded, so the import of a command's own file must not load it."""
    assert imported(f"flows.{command}").startswith("False")


def test_the_library_on_a_command_line_sets_the_same():
    assert imported("psr.cli").startswith("False")
    code = "import os, psr.cli; psr.cli.app = lambda: print(os.environ['GOMP_SPINCOUNT']); psr.cli.main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == environment.DEFAULTS["GOMP_SPINCOUNT"]
