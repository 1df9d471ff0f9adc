"""The figures of docs/scale.md are what the script on the page prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_script_on_the_page_prints_the_figures_below_it():
    page = (ROOT / "docs/scale.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", page, re.DOTALL)
    assert found
    script, figures = found.groups()
    printed = subprocess.run([sys.executable, "-c", script], cwd=ROOT, text=True, capture_output=True, check=True)
    assert printed.stdout == figures
