"""What `flows.share` sends and fetches, on a remote that is a folder: what is missing, damaged, refused, full, or edited here."""

from __future__ import annotations

import errno
import hashlib
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from repository import ROOT, add_smoke, environment
from test_how_to import git

from flows import params, share
from tasks.engine.pipeline import add_output, opened
from tasks.engine.sharing import Output

STAGES = {
    name: {
        "foreach": {"smoke": {}, "quick": {}},
        "do": {"cmd": "true", "deps": ["seed.txt"], "outs": [f"data/${{key}}/{name}"]},
    }
    for name in ("make", "left", "right")
}
NAMES = (*STAGES, "bench")
RUN = "To make it: `python -m flows.reproduce --profile smoke`."


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with three finished steps and a study, committed."""
    folder = tmp_path_factory.mktemp("template")
    (folder / ".dvc").mkdir()
    for name in ("params.yaml", ".gitignore", ".dvc/.gitignore", ".dvc/config"):
        shutil.copy(ROOT / name, folder / name)
    add_smoke(folder)
    (folder / "seed.txt").write_text("seed\n")
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
    git(folder, "init", "-q")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        write(folder, "first")
        (folder / "data/smoke/bench").mkdir()
        (folder / "data/smoke/bench/bench.parquet").write_text("fast\n")
        add_output(folder, folder / "data/smoke/bench")
    commit(folder)
    return folder


@pytest.fixture
def first(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, whose remote `team` is a folder that is not there yet."""
    folder = shutil.copytree(template, tmp_path / "first", ignore=shutil.ignore_patterns("tmp"))
    add_remote(folder, tmp_path / "team")
    commit(folder)
    monkeypatch.chdir(folder)
    return folder


def add_remote(folder: Path, address: object, *options: str) -> None:
    config = (ROOT / ".dvc/config").read_text().replace("[core]\n", "[core]\n    remote = team\n")
    lines = "".join(f"    {line}\n" for line in (f"url = {address}", *options))
    (folder / ".dvc/config").write_text(f"{config}['remote \"team\"']\n{lines}")


def write(folder: Path, content: str, *steps: str) -> None:
    """Write outputs of steps and record them as a run does."""
    with opened(folder) as pipeline:
        for name in steps or STAGES:
            step = pipeline.step(f"{name}@smoke")
            shutil.rmtree(folder / step.folder, ignore_errors=True)
            (folder / step.folder).mkdir(parents=True)
            for number in range(3):
                (folder / step.folder / f"{number}.txt").write_text(f"{name} {number} {content}\n")
            pipeline.record(step)


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "more")


def cloned(first: Path, name: str = "second") -> Path:
    git(first.parent, "clone", "-q", str(first), str(first.parent / name))
    return first.parent / name


def outputs(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for name in NAMES
        for path in (folder / "data/smoke" / name).rglob("*")
        if path.is_file()
    }


def problems(shared: tuple[Output, ...]) -> dict[str, str]:
    return {one.path.rpartition("/")[2]: one.problem for one in shared if one.problem}


def stored(folder: Path, text: str) -> Path:
    """Where a remote, or DVC's cache, has the file whose content is `text`."""
    name = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    return folder / "files/md5" / name[:2] / name[2:]


def test_whoever_pulls_has_what_steps_and_studies_made(first, capsys):
    size = sum(len(text) for text in outputs(first).values())
    sent = share.push(first, "smoke")
    second = cloned(first)
    fetched = share.pull(second, "smoke")
    for shared in (sent, fetched):
        assert [(one.files, one.problem) for one in sorted(shared, key=lambda one: one.path)] == [
            (1, ""),
            *[(3, "")] * 3,
        ]
        assert sum(one.bytes for one in shared) == size
    assert outputs(second) == outputs(first)
    assert "10 files, at most 0.0 MB of 4 of 4 outputs to pull" in capsys.readouterr().out
    with opened(second) as pipeline:
        assert not any(pipeline.changed(pipeline.step(f"{name}@smoke")) for name in STAGES)


def test_what_is_there_is_neither_sent_nor_fetched_again(first, capsys):
    share.push(first, "smoke")
    second = cloned(first)
    share.pull(second, "smoke")
    write(first, "second", "left")
    commit(first)
    assert {one.path: one.files for one in share.push(first, "smoke") if one.files} == {"data/smoke/left": 3}
    git(second, "pull", "-q")
    assert {one.path: one.files for one in share.pull(second, "smoke") if one.files} == {"data/smoke/left": 3}
    assert outputs(second) == outputs(first)
    capsys.readouterr()
    share.push(first, "smoke")
    share.pull(second, "smoke")
    assert capsys.readouterr().out.splitlines() == [
        f"smoke: 4 of 4 outputs are on {first.parent / 'team'} already.",
        "smoke: 4 of 4 outputs are here already.",
    ]


def test_a_dry_run_says_what_would_travel_and_moves_nothing(first, capsys):
    assert share.main(["push", "--profile", "smoke", "--dry-run"], first) == 0
    assert "data/smoke/bench: 1 files" in capsys.readouterr().out
    assert not (first.parent / "team").exists()
    share.push(first, "smoke")
    second = cloned(first)
    assert share.main(["pull", "--profile", "smoke", "--dry-run"], second) == 0
    assert "data/smoke/make: 3 files" in capsys.readouterr().out
    assert outputs(second) == {}
    assert not (second / ".dvc/cache").exists()


def test_a_profile_that_nobody_pushed_is_named_with_what_makes_it_and_is_no_error(first, capsys):
    second = cloned(first)
    assert share.main(["pull", "--profile", "smoke"], second) == 0
    printed = capsys.readouterr().out
    steps = ", ".join(f"data/smoke/{name} (step {name})" for name in ("left", "make", "right"))
    assert f"not on the remote: {steps}. {RUN}" in printed
    assert "not on the remote: data/smoke/bench. To make it: `python -m flows.bench --profile smoke`." in printed


def test_a_profile_that_never_ran_has_nothing_to_share(first, capsys):
    assert share.main(["pull"], first) == 0
    assert capsys.readouterr().out == "quick: no output is recorded, so there is nothing to pull.\n"


def test_an_unknown_profile_is_refused(first, capsys):
    assert share.main(["pull", "--profile", "smokes"], first) == 2
    assert "smoke" in capsys.readouterr().err


def test_what_is_lost_on_the_remote_is_named_the_rest_arrives_and_a_push_brings_it_back(first):
    share.push(first, "smoke")
    stored(first.parent / "team", "make 1 first\n").unlink()
    second = cloned(first)
    assert problems(share.pull(second, "smoke")) == {"make": "partly not on the remote"}
    assert outputs(second) == {path: text for path, text in outputs(first).items() if "/make/" not in path}
    assert sum(one.files for one in share.push(first, "smoke")) == 1
    assert problems(share.pull(second, "smoke")) == {}
    assert outputs(second) == outputs(first)


def test_what_is_damaged_on_the_remote_never_arrives(first):
    share.push(first, "smoke")
    file = stored(first.parent / "team", "make 1 first\n")
    file.unlink()
    file.write_text("make 1 fir")
    file.chmod(0o444)
    second = cloned(first)
    make = next(one for one in share.pull(second, "smoke") if one.problem)
    assert (make.step, make.problem) == ("make", "damaged on the remote")
    assert str(file) in make.do
    assert not any("/make/" in path for path in outputs(second))
    file.unlink()
    share.push(first, "smoke")
    assert problems(share.pull(second, "smoke")) == {}
    assert outputs(second) == outputs(first)


def test_what_was_damaged_here_is_not_sent(first):
    file = stored(first / ".dvc/cache", "make 1 first\n")
    file.chmod(0o644)
    with open(file, "r+") as damaged:
        damaged.write("X")
    assert problems(share.push(first, "smoke")) == {"make": "partly neither here nor on the remote"}
    assert problems(share.pull(cloned(first), "smoke")) == {"make": "not on the remote"}


def test_a_remote_that_is_full_ends_in_one_line_and_a_second_push_goes_on(first, monkeypatch, capsys):
    from dvc_objects.fs.local import FsspecLocalFileSystem

    put, count = FsspecLocalFileSystem.put_file, 0

    def full(self, here, there, callback=None, **more):
        nonlocal count
        count += 1
        if count > 4:
            raise OSError(errno.ENOSPC, "No space left on device", there)
        return put(self, here, there, callback=callback, **more)

    with monkeypatch.context() as patched:
        patched.setattr(FsspecLocalFileSystem, "put_file", full)
        assert share.main(["push", "--profile", "smoke"], first) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert f"the remote failed ({first.parent / 'team'}), got OSError: [Errno 28] No space left on device" in printed
    second = cloned(first)
    assert set(problems(share.pull(second, "smoke")).values()) == {"not on the remote"}
    assert sum(one.files for one in share.push(first, "smoke")) == 6
    assert problems(share.pull(second, "smoke")) == {}
    assert outputs(second) == outputs(first)


KILLED = """
import os, pathlib, signal, sys
from itertools import count
from dvc_objects.fs.local import FsspecLocalFileSystem as Local
from flows import share

put, sent = Local.put_file, count()

def put_or_die(self, *arguments, **more):
    if next(sent) == 50:
        os.kill(os.getpid(), signal.SIGKILL)
    return put(self, *arguments, **more)

Local.put_file = put_or_die
share.main(sys.argv[1:], pathlib.Path.cwd())
"""


def test_a_push_that_is_killed_leaves_nothing_half_and_goes_on(first):
    (first / "data/smoke/ablation").mkdir()
    for number in range(400):
        (first / f"data/smoke/ablation/{number}").write_text(f"{number}\n" * 50)
    add_output(first, first / "data/smoke/ablation")
    commit(first)
    remote = first.parent / "team"
    push = [sys.executable, "-c", KILLED, "push", "--profile", "smoke"]
    assert subprocess.run(push, cwd=first, env=environment(PYTHONPATH=str(ROOT))).returncode == -signal.SIGKILL
    whole = [path for path in remote.rglob("*") if path.is_file() and not path.name.startswith(".")]
    named = [path.with_suffix("") for path in whole]  # a folder's list of files ends in .dir
    assert named == [stored(remote, path.read_text()) for path in whole]
    second = cloned(first)
    assert "data/smoke/ablation" in {one.path for one in share.pull(second, "smoke") if one.problem}
    assert 0 < sum(one.files for one in share.push(first, "smoke")) < 410
    assert problems(share.pull(second, "smoke")) == {}
    assert outputs(second) == outputs(first)
    assert (second / "data/smoke/ablation/399").read_text() == "399\n" * 50


def test_a_remote_that_refuses_is_one_line(first, capsys):
    (first.parent / "team").write_text("no folder")
    assert share.main(["push", "--profile", "smoke"], first) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "the remote failed" in printed


def test_what_was_edited_here_is_not_replaced(first):
    share.push(first, "smoke")
    second = cloned(first)
    share.pull(second, "smoke")
    edited = second / "data/smoke/left/0.txt"
    edited.unlink()
    edited.write_text("mine\n")
    write(first, "second")
    commit(first)
    share.push(first, "smoke")
    git(second, "pull", "-q")
    assert problems(share.pull(second, "smoke")) == {"left": "edited here, and left as it is"}
    assert edited.read_text() == "mine\n"
    assert (second / "data/smoke/left/1.txt").read_text() == "left 1 first\n"
    assert (second / "data/smoke/make/1.txt").read_text() == "make 1 second\n"
    shutil.rmtree(edited.parent)
    assert problems(share.pull(second, "smoke")) == {}
    assert outputs(second) == outputs(first)


@pytest.mark.parametrize("gone", [".dvc/cache", "data/smoke/make", "data/smoke"])
def test_what_is_deleted_comes_back(gone, first):
    share.push(first, "smoke")
    second = cloned(first)
    share.pull(second, "smoke")
    shutil.rmtree(second / gone)
    git(second, "checkout", "-q", ".")
    share.pull(second, "smoke")
    assert outputs(second) == outputs(first)
    with opened(second) as pipeline:
        assert not any(pipeline.changed(pipeline.step(f"{name}@smoke")) for name in STAGES)


def test_a_model_that_the_profile_names_travels_with_it(first):
    model = first / "data/models/small"
    model.mkdir(parents=True)
    (model / "weights").write_text("1 2 3\n")
    add_output(first, model)
    parameters = (first / "params.yaml").read_text()
    block = "\n  smoke:  # every step on very little\n"
    (first / "params.yaml").write_text(parameters.replace(block, f"{block}    model:\n      path: data/models/small\n"))
    commit(first)
    assert params.load(first, "smoke").model.path == "data/models/small"
    share.push(first, "smoke")
    second = cloned(first)
    share.pull(second, "smoke")
    assert (second / "data/models/small/weights").read_text() == "1 2 3\n"
    assert share.pull(second, "quick") == ()


@pytest.mark.parametrize(
    "options",
    [("s3://bucket/psr", "secret_access_key = hunter2"), ("ssh://me:hunter2@example.org/psr",)],
)
def test_secrets_in_a_file_that_git_keeps_are_refused_and_not_printed(options, first, capsys):
    add_remote(first, *options)
    assert share.main(["push", "--profile", "smoke"], first) == 2
    printed = "".join(capsys.readouterr())
    assert "dvc remote modify --local" in printed
    assert "hunter2" not in printed


def test_what_a_remote_says_is_printed_without_secrets(first, monkeypatch, capsys):
    from dvc.data_cloud import DataCloud

    def failing(self):
        raise RuntimeError("403 for hunter2 at ssh://me:hunter3@example.org")

    add_remote(first, "s3://bucket/psr")
    (first / ".dvc/config.local").write_text("['remote \"team\"']\n    secret_access_key = hunter2\n")
    monkeypatch.setattr(DataCloud, "get_remote_odb", failing)
    assert share.main(["push", "--profile", "smoke"], first) == 2
    printed = "".join(capsys.readouterr())
    assert "RuntimeError: 403 for … at ssh://me@example.org" in printed
    assert "hunter" not in printed


@pytest.mark.parametrize("kind", ["s3", "gs", "azure", "ssh"])
def test_a_package_that_is_missing_is_named_by_its_extra(kind, first, monkeypatch, capsys):
    add_remote(first, f"{kind}://example/psr")
    monkeypatch.setitem(sys.modules, f"dvc_{kind}", None)
    assert share.main(["pull", "--profile", "smoke"], first) == 2
    assert f"`pip install -e '.[{kind}]' -c constraints.txt`" in capsys.readouterr().err


def test_without_a_remote_the_command_that_adds_one_is_named(first, capsys):
    shutil.copy(ROOT / ".dvc/config", first / ".dvc/config")
    assert share.main(["pull", "--profile", "smoke"], first) == 2
    assert "dvc remote add -d" in capsys.readouterr().err


def test_what_git_lacks_is_named_after_a_push(first, capsys):
    share.main(["push", "--profile", "smoke"], first)
    assert "git add" not in capsys.readouterr().out
    write(first, "second")
    share.main(["push", "--profile", "smoke"], first)
    assert "`git add dvc.lock`, commit and `git push`" in capsys.readouterr().out


def test_an_unfinished_profile_is_pushed_as_far_as_it_is(first):
    (first / "dvc.lock").unlink()
    write(first, "third", "make")
    assert sorted(one.path for one in share.push(first, "smoke")) == ["data/smoke/bench", "data/smoke/make"]
    assert problems(share.push(first, "smoke")) == {}
