"""Tables that a command stores beside the steps: DVC keeps them, and another clone pulls them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from psr.errors import PsrError
from tasks.engine.pipeline import add_output
from tasks.studies.ablation.table import ablation_rows, store
from tests.results_folder import ablation_row

ROOT = Path(__file__).resolve().parents[2]
COMMIT = ("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "all")


def run(folder: Path, *command: str) -> str:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A DVC repository whose remote is a folder."""
    folder = tmp_path / "here"
    (folder / ".dvc").mkdir(parents=True)
    for name in (".gitignore", ".dvcignore", ".dvc/config"):
        shutil.copy(ROOT / name, folder / name)
    with (folder / ".dvc/config").open("a") as config:
        config.write(f"""['remote "folder"']\n    url = {tmp_path / "remote"}\n""")
    run(folder, "git", "init", "-q")
    return folder


def test_a_stored_table_is_added_pushed_and_pulled_in_another_clone(repository: Path, tmp_path: Path, capfd, caplog):
    data = repository / "data/quick"
    store(data, [ablation_row("persona/pirate", "a@1")])
    add_output(repository, data / "ablation")
    rows = store(data, [ablation_row("persona/pirate", "b@1")])  # what DVC keeps is not written over
    add_output(repository, data / "ablation")
    assert (*capfd.readouterr(), caplog.text) == ("", "", "")
    run(repository, "git", "add", "-A")
    run(repository, *COMMIT)
    tracked = run(repository, "git", "ls-files", "data").split()
    assert tracked == ["data/quick/ablation.dvc"]
    run(repository, sys.executable, "-m", "dvc", "push", "-q", "-r", "folder")
    run(tmp_path, "git", "clone", "-q", "here", "there")
    assert ablation_rows(tmp_path / "there/data/quick") == []
    run(tmp_path / "there", sys.executable, "-m", "dvc", "pull", "-q", "-r", "folder")
    assert ablation_rows(tmp_path / "there/data/quick") == ablation_rows(data) == rows


def test_a_folder_in_no_dvc_repository_is_left_alone(tmp_path: Path):
    store(tmp_path, [ablation_row("persona/pirate", "a@1")])
    add_output(tmp_path, tmp_path / "ablation")
    assert [path.name for path in tmp_path.iterdir()] == ["ablation"]


def test_a_damaged_repository_is_named(repository: Path):
    (repository / ".dvc/config").write_text("[core")
    with pytest.raises(PsrError, match=r"Correct \.dvc/config"):
        add_output(repository, repository / "data/quick/ablation")


def test_git_leaves_the_folders_out_and_not_what_dvc_says_of_them():
    names = ("ablation", "adaptation", "agreement", "bench")
    asked = [f"data/quick/{name}{end}" for name in names for end in (f"/{name}.parquet", ".dvc")]
    done = subprocess.run(["git", "-C", str(ROOT), "check-ignore", *asked], check=False, capture_output=True, text=True)
    assert done.stdout.split() == [name for name in asked if name.endswith(".parquet")]
