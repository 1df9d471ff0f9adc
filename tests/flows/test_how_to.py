"""The how-to pages, followed to the letter in a clone: files are written, profiles added and commands run as they say.

A block that has a title is that file; one titled params.yaml is added below `profiles`, which is the file's end. Console
blocks are run line by line, Python blocks without a title as they stand.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from repository import environment
from test_pipeline import clone

from tests.pages import PAGES, blocks

ROOT = Path(__file__).resolve().parents[2]
# what a page makes people touch, tests and docs of their own aside; what the pipeline writes is none of it
TOUCHED = {
    "agreement.md": ["data/compared/agreement.dvc", "params.yaml", "sheet.csv"],
    "benchmark.md": ["my_lab/__init__.py", "my_lab/moods/joyful.json", "my_lab/songs.py", "params.yaml"],
    "distill.md": [
        "my-pirate-too/adapter_config.json",
        "my-pirate-too/adapter_model.safetensors",
        "my-pirate/README.md",
        "my-pirate/adapter_config.json",
        "my-pirate/adapter_model.safetensors",
        "my-pirate/answers.jsonl",
        "questions.txt",
    ],
    "experiment.md": ["params.yaml"],
    "judge.md": ["my_lab/__init__.py", "my_lab/judges.py", "params.yaml"],
    "method.md": ["my_lab/__init__.py", "my_lab/methods.py", "my_lab/objectives.py", "params.yaml"],
    "model.md": [],
    "notebook.md": [],
    "side-effects.md": ["data/small/side_effects.dvc", "params.yaml"],
    "publish.md": [
        "my-pirate-too/README.md",
        "my-pirate-too/adapter_config.json",
        "my-pirate-too/adapter_model.safetensors",
        "my-pirate/README.md",
        "my-pirate/adapter_config.json",
        "my-pirate/adapter_model.safetensors",
        "my-pirate/answers.jsonl",
        "questions.txt",
    ],
    "paper.md": [],
}
WRITTEN = re.compile(
    r"dvc\.lock|data/profiles/dvc\.lock|data/\w+/(runs/)?[\w-]+\.(json|yaml)|plots/.*|\.gitignore|data/.*\.gitignore"
)


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def ran(folder: Path, *command: str) -> str:
    variables = environment(PYTHONPATH=str(folder))
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def follow(page: str, folder: Path) -> list[str]:
    """Do what the page says in `folder`. Returns what its commands and scripts printed."""
    said = []
    for block in blocks(page):
        file = folder / block.title
        if block.title == "params.yaml":
            file.write_text(file.read_text(encoding="utf-8") + block.text, encoding="utf-8")
        elif block.title:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
        elif block.language == "console":
            said += [ran(folder, "bash", "-c", line) for line in block.text.splitlines()]
        elif block.language == "python":
            said.append(ran(folder, sys.executable, "-c", block.text))
    return said


@pytest.mark.slow
@pytest.mark.parametrize("page", TOUCHED)
def test_a_page_followed_to_the_letter_works_and_touches_no_other_file(page, tmp_path):
    folder = clone(tmp_path / "clone", smoke=False)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "before")
    said = follow(page, folder)
    assert said
    changed = [line[3:] for line in git(folder, "status", "--porcelain", "-uall").splitlines()]
    assert sorted(name for name in changed if not WRITTEN.fullmatch(name)) == TOUCHED[page]


def test_every_page_is_followed():
    elsewhere = {
        "ui.md",
        "share.md",
        "team.md",
        "schedule.md",
        "transformer-lens.md",
        "gguf.md",
        "serve.md",
    }  # in tests of their own
    assert {path.name for path in PAGES.glob("*.md")} - elsewhere == set(TOUCHED)
