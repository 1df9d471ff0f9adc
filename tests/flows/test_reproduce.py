"""The engine on a small repository: what runs, what does not, what is said, and what failures do."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from repository import GRAPH, ITEMS, build, family, journal, reproduce

from tasks.engine.timings import Timing

ONE = {"make": GRAPH["make"]}


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A small repository in which everything was reproduced once, and what that said."""
    folder = build(tmp_path_factory.mktemp("engine"))
    done = reproduce(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


@pytest.fixture
def folder(finished: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of it to change."""
    return shutil.copytree(finished[0], tmp_path / "copy", symlinks=True)


@pytest.fixture
def fresh(finished: tuple[Path, str], tmp_path: Path) -> Path:
    """A repository of one stage in which nothing has run; Prefect's database is there already, to save its creation."""
    folder = build(tmp_path / "fresh", ONE)
    shutil.copytree(finished[0] / ".psr" / "prefect", folder / ".psr" / "prefect")
    (folder / ".psr" / "prefect" / "server.log").unlink()
    return folder


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def states(folder: Path) -> dict[str, str]:
    """task run -> the name of its state, of the last run in Prefect's database."""
    with sqlite3.connect(folder / ".psr/prefect/prefect.db") as database:
        return dict(database.execute("select name, state_name from task_run order by created"))


def test_every_stage_runs_once_after_what_it_needs(finished):
    folder, said = finished
    made = [line.split()[0] for line in journal(folder)]
    assert {name: made.count(name) for name in GRAPH} == dict.fromkeys(GRAPH, ITEMS)
    assert made.index("left") > made.index("make")
    assert made[-ITEMS:] == ["join"] * ITEMS
    assert "smoke: 4 of 4 stages to run" in said
    assert "make │ make works" in said
    assert "orchestration" in said
    assert (folder / "data/smoke/join/all.txt").read_text().startswith("join 12\n")


def test_the_picture_in_prefect_names_every_stage(finished):
    folder, _ = finished
    assert {name: states(folder)[f"{name}@smoke"] for name in GRAPH} == dict.fromkeys(GRAPH, "Completed")


def test_nothing_is_left_behind(finished):
    folder, _ = finished
    assert family(folder) == []
    assert not list((folder / ".psr/scratch").glob("*/*"))


def test_a_second_run_says_so_and_starts_no_server(folder):
    before = (folder / ".psr/prefect/server.log").stat().st_mtime_ns
    done = reproduce(folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Nothing to do: all 4 stages of smoke are up to date." in done.stdout
    assert len(journal(folder)) == 4 * ITEMS
    assert (folder / ".psr/prefect/server.log").stat().st_mtime_ns == before


def test_a_dry_run_shows_the_plan_and_runs_nothing(folder):
    edit(folder / "params.yaml", "limit: 12", "limit: 11")
    done = reproduce(folder, "--dry-run")
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if "@smoke" in line}
    assert "up to date" in lines["make@smoke"]
    assert "smoke.select modified" in lines["left@smoke"]
    assert "About" in done.stdout
    assert len(journal(folder)) == 4 * ITEMS


def test_only_what_changed_runs_and_the_rest_is_shown_as_cached(folder):
    edit(folder / "params.yaml", "limit: 12", "limit: 11")
    assert reproduce(folder).returncode == 0
    assert journal(folder).count("make 0") == 1
    assert journal(folder).count("join 0") == 2
    assert (folder / "data/smoke/join/all.txt").read_text().startswith("join 11\n")
    assert {name: states(folder)[f"{name}@smoke"] for name in GRAPH} == {
        "make": "Cached",
        "left": "Completed",
        "right": "Completed",
        "join": "Completed",
    }


@pytest.mark.slow
def test_equal_outputs_cut_the_run_short(folder):
    with open(folder / "flows/make.py", "a") as file:
        file.write("# a comment\n")
    assert reproduce(folder).returncode == 0
    assert journal(folder).count("make 0") == 2
    assert journal(folder).count("left 0") == 1
    assert states(folder)["join@smoke"] == "Cached"


@pytest.mark.slow
def test_going_back_to_old_parameters_restores_from_the_cache(folder):
    edit(folder / "params.yaml", "limit: 12", "limit: 11")
    reproduce(folder)
    edit(folder / "params.yaml", "limit: 11", "limit: 12")
    assert reproduce(folder).returncode == 0
    assert journal(folder).count("join 0") == 2
    assert (folder / "data/smoke/join/all.txt").read_text().startswith("join 12\n")


def test_a_tracker_that_fails_warns_and_stops_nothing(folder):
    (folder / "tracker-is-broken").touch()
    shutil.rmtree(folder / ".psr/tracked")
    done = reproduce(folder)
    assert done.returncode == 0
    assert "warning: the tracker was not filled (ConnectionError: no tracker)" in done.stdout
    (folder / "tracker-is-broken").unlink()
    assert "warning" not in reproduce(folder).stdout
    tracked = (folder / ".psr/tracked.txt").read_text().split()
    assert reproduce(folder).returncode == 0  # filled now: not asked again
    assert (folder / ".psr/tracked.txt").read_text().split() == tracked == ["smoke"] * 3


def check_failure(fresh: Path, kind: str, status: int, words: str) -> None:
    done = reproduce(fresh, PSR_TEST_FAIL=f"make:{kind}")
    assert done.returncode == status, done.stdout + done.stderr
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert (fresh / ".psr/failures").read_text() == "1"
    assert ("Traceback" in done.stdout) == (kind == "bug")
    assert family(fresh) == []


def test_a_failure_the_user_can_mend_is_one_clear_line_and_is_not_tried_again(fresh):
    check_failure(fresh, "input", 2, "make@smoke failed: a thing is wrong (here). Mend it.")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        ("bug", 1, "make@smoke failed: KeyError: 'bug'"),
        ("full", 2, "make@smoke failed: the disk is full (/some/file). Make room and run again"),
        ("params", 2, "the inputs of make@smoke changed while it ran (params.yaml complete)"),
        ("code", 2, "the inputs of make@smoke changed while it ran (flows/make.py)"),
    ],
)
def test_every_other_failure_too(fresh, kind, status, words):
    check_failure(fresh, kind, status, words)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["connection", "killed"])
def test_what_may_pass_is_tried_again(fresh, kind):
    done = reproduce(fresh, PSR_TEST_FAIL=f"make:{kind}:1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(journal(fresh)) == ITEMS
    assert states(fresh)["make@smoke"] == "Completed"


@pytest.mark.slow
def test_what_fails_again_and_again_is_given_up(fresh):
    done = reproduce(fresh, PSR_TEST_FAIL="make:connection")
    assert done.returncode == 1
    assert "make@smoke failed: ConnectionError: the line was cut" in done.stderr
    assert (fresh / ".psr/failures").read_text() == "3"


@pytest.mark.slow
def test_edited_parameters_are_not_recorded_as_what_the_run_was_made_from(fresh):
    reproduce(fresh, PSR_TEST_FAIL="make:params:1")
    assert not (fresh / "dvc.lock").exists()
    assert reproduce(fresh).returncode == 0
    assert (fresh / "data/smoke/make/all.txt").read_text().startswith("make 11\n")
    assert "seed: 11" in (fresh / "dvc.lock").read_text()


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (
            lambda f: edit(f / "params.yaml", "min_trait: 0.5", "min_trait: 5"),
            "smoke.select.min_trait: input should be less than",
        ),
        (lambda f: edit(f / "params.yaml", "smoke:", "smok:"), "unknown profile (params.yaml), expected one of smok"),
        (lambda f: (f / "dvc.yaml").write_text("stages: ["), "DVC cannot read the pipeline"),
        (lambda f: (f / "dvc.yaml").unlink(), "the list of stages is missing"),
        (lambda f: shutil.rmtree(f / ".dvc"), "DVC's folder is missing"),
        (lambda f: shutil.rmtree(f / ".git"), "this folder is in no git repository, and DVC needs one"),
        (lambda f: (f / "params.yaml").unlink(), "the parameters are missing"),
    ],
)
def test_a_broken_repository_is_refused_before_anything_starts(finished, tmp_path, break_it, words):
    folder = build(tmp_path / "broken", ONE)
    break_it(folder)
    done = reproduce(folder)
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (folder / ".psr/prefect").exists()


def test_a_missing_input_is_named(fresh):
    (fresh / "seed.txt").unlink()
    done = reproduce(fresh)
    assert done.returncode == 2
    assert "an input is missing (seed.txt)" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (fresh / ".psr/prefect/server.log").exists()


def test_a_dead_server_is_named(fresh):
    done = reproduce(fresh, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == 2
    assert "the Prefect server does not answer (http://127.0.0.1:9/api)" in done.stderr
    assert "unset PREFECT_API_URL" in done.stderr


def test_a_damaged_lock_file_is_put_back_and_a_stale_one_removed(folder):
    whole = (folder / "dvc.lock").read_text()
    (folder / "dvc.lock").write_text(whole[: len(whole) // 2] + "\n  - [")
    (folder / ".dvc/tmp/rwlock").write_text('{"read": {')
    done = reproduce(folder)
    assert "dvc.lock was damaged" in done.stdout
    assert "Nothing to do" in done.stdout
    assert (folder / "dvc.lock").read_text() == whole


@pytest.mark.slow
def test_dvc_alone_makes_the_same_files_and_the_same_lock(finished, tmp_path):
    import subprocess
    import sys

    from repository import environment

    folder = build(tmp_path / "plain")
    subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "join@smoke"],
        cwd=folder,
        env=environment(),
        check=True,
        capture_output=True,
        start_new_session=True,
    )
    for name in GRAPH:
        path = f"data/smoke/{name}/all.txt"
        assert (folder / path).read_text() == (finished[0] / path).read_text()
    locks = [(f / "dvc.lock").read_text() for f in (folder, finished[0])]
    assert sorted(locks[0].splitlines()) == sorted(locks[1].splitlines())  # left and right end in either order
    assert family(folder) == []


def test_work_that_stages_did_side_by_side_counts_once(tmp_path, monkeypatch):
    from types import SimpleNamespace

    from flows import reproduce as command

    spans = {"judge": (100.0, 130.0, 20.0), "faithfulness": (100.0, 140.0, 30.0), "report": (140.0, 150.0, 5.0)}
    made = {name: Timing("run", name, "done", begun, ended, work) for name, (begun, ended, work) in spans.items()}
    monkeypatch.setattr(command, "read_timing", lambda root, name: made[name])
    monkeypatch.setattr(command, "time", SimpleNamespace(time=lambda: 160.0))
    monkeypatch.setattr(command.psutil, "Process", lambda: SimpleNamespace(create_time=lambda: 90.0))
    line = command.overhead_line(tmp_path, list(spans), began=95.0)
    assert line.startswith("70 s in all")
    assert line.endswith(": 35 s, 50 %")  # 110 to 140 and 145 to 150
