"""The engine on a small repository: what runs, what does not, what is said, and what failures do."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from repository import GRAPH, ITEMS, build, family, journal, reproduce

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


def prefect(folder: Path, query: str) -> list[tuple]:
    """What Prefect's database answers."""
    with sqlite3.connect(folder / ".psr/prefect/prefect.db") as database:
        return database.execute(query).fetchall()


def states(folder: Path) -> dict[str, str]:
    """step -> the name of the state of its last flow run."""
    return dict(
        prefect(folder, "select name, state_name from flow_run where parent_task_run_id is not null order by created")
    )


def test_every_stage_runs_once_after_what_it_needs(finished):
    folder, said = finished
    made = [line.split()[0] for line in journal(folder)]
    assert {name: made.count(name) for name in GRAPH} == dict.fromkeys(GRAPH, ITEMS)
    assert made.index("left") > made.index("make")
    assert made[-ITEMS:] == ["join"] * ITEMS
    assert "smoke: 4 of 4 steps to run" in said
    assert "make │ make works" in said
    assert "orchestration" in said
    assert (folder / "data/smoke/join/all.txt").read_text().startswith("join 12\n")


def test_one_reproduction_is_one_run_with_its_steps_under_it(finished):
    folder, _ = finished
    assert states(folder) == {f"{name}@smoke": "Completed" for name in GRAPH}
    (run,) = prefect(folder, "select name, parameters, tags from flow_run where parent_task_run_id is null")
    assert run[:2] == ("reproduce-smoke", '{"profile": "smoke"}')
    assert sorted(json.loads(run[2])) == ["no commit yet", "smoke"]
    below = prefect(folder, "select distinct r.name from flow_run f join task_run t on t.id = f.parent_task_run_id "
                            "join flow_run r on r.id = t.flow_run_id")  # fmt: skip
    assert below == [("reproduce-smoke",)]


def test_prefect_shows_a_steps_version_sections_cells_and_lines_and_no_path_of_this_machine(finished):
    folder, _ = finished
    runs = prefect(folder, "select name, flow_version, parameters from flow_run where parent_task_run_id is not null")
    assert all(len(version) == 16 for _, version, _ in runs)
    shown = {name: json.loads(parameters) for name, _, parameters in runs}
    assert shown["join@smoke"]["parameters"]["select"]["limit"] == 12
    assert {f"make {i}" for i in range(ITEMS)} <= {name for (name,) in prefect(folder, "select name from task_run")}
    assert ("make works",) in prefect(folder, "select message from log")
    for table, column in (
        ("flow_run", "parameters"),
        ("artifact", "data"),
        ("log", "message"),
        ("task_run", "task_inputs"),
    ):
        assert not [text for (text,) in prefect(folder, f"select {column} from {table}") if str(folder) in str(text)]


def test_nothing_is_left_behind(finished):
    folder, _ = finished
    assert family(folder) == []
    assert not list((folder / ".psr/cells").glob("*/.aside-*"))


def test_a_second_run_says_so_and_starts_no_server(folder):
    before = (folder / ".psr/prefect/server.log").stat().st_mtime_ns
    done = reproduce(folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Nothing to do: all 4 steps of smoke are up to date." in done.stdout
    assert len(journal(folder)) == 4 * ITEMS
    assert (folder / ".psr/prefect/server.log").stat().st_mtime_ns == before


def test_a_dry_run_shows_the_plan_and_runs_nothing(folder):
    edit(folder / "params.yaml", "limit: 12", "limit: 11")
    done = reproduce(folder, "--dry-run")
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if "@smoke" in line}
    assert "up to date" in lines["make@smoke"]
    assert "select modified" in lines["left@smoke"]
    assert "About" in done.stdout
    assert len(journal(folder)) == 4 * ITEMS


def test_a_dry_run_needs_neither_the_model_nor_the_benchmarks_files(folder):
    wanted = ("--set", "model.path=owner/model", "--set", "benchmarks.0.path=data/nowhere")
    refused = reproduce(folder, *wanted)
    assert refused.returncode == 2
    assert "--set model.revision=COMMIT (40 hex digits)" in refused.stderr
    planned = reproduce(folder, "--dry-run", *wanted)
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert "not here: the model (owner/model), the files of persona (data/nowhere)" in planned.stdout
    assert "judge testbed: at most 0 calls" in planned.stdout


def test_a_dry_run_leaves_the_settings_as_they_were(folder):
    settings = folder / "data/smoke/settings.yaml"
    before = settings.read_bytes()
    assert "left@smoke" in reproduce(folder, "--dry-run", "--set", "select.limit=7").stdout
    assert settings.read_bytes() == before


@pytest.mark.slow
def test_set_is_for_one_run_and_the_next_goes_back(folder):
    assert reproduce(folder, "--set", "select.limit=7", "--set", "seeds=[5, 6]").returncode == 0
    assert (folder / "data/smoke/join/all.txt").read_text().startswith("join 7\n")
    assert journal(folder).count("make 0") == 1
    assert reproduce(folder).returncode == 0
    assert (folder / "data/smoke/join/all.txt").read_text().startswith("join 12\n")


def test_only_what_changed_runs(folder):
    edit(folder / "params.yaml", "limit: 12", "limit: 11")
    assert reproduce(folder).returncode == 0
    assert journal(folder).count("make 0") == 1
    assert journal(folder).count("join 0") == 2
    assert (folder / "data/smoke/join/all.txt").read_text().startswith("join 11\n")
    assert len(prefect(folder, "select id from flow_run where name = 'make@smoke'")) == 1
    assert len(prefect(folder, "select id from flow_run where name = 'join@smoke'")) == 2


def test_an_output_edited_by_hand_is_named_and_made_again(folder):
    whole = (folder / "data/smoke/left/all.txt").read_text()
    (folder / "data/smoke/left/all.txt").unlink()
    (folder / "data/smoke/left/all.txt").write_text("by hand\n")
    done = reproduce(folder)
    assert "left@smoke: data/smoke/left was edited by hand, and is made again" in done.stdout
    assert (folder / "data/smoke/left/all.txt").read_text() == whole
    assert "Nothing to do" in reproduce(folder).stdout


def test_an_output_edited_in_place_is_made_again_though_the_cache_behind_it_was_edited_too(folder):
    file = folder / "data/smoke/left/all.txt"
    whole = file.read_text()
    file.chmod(0o644)
    with open(file, "a") as edited:
        edited.write("by hand\n")
    assert reproduce(folder).returncode == 0
    assert file.read_text() == whole
    assert "Nothing to do" in reproduce(folder).stdout


@pytest.mark.slow
def test_equal_outputs_cut_the_run_short(folder):
    with open(folder / "flows/make.py", "a") as file:
        file.write("# a comment\n")
    assert reproduce(folder).returncode == 0
    assert journal(folder).count("make 0") == 2
    assert journal(folder).count("left 0") == 1
    assert len(prefect(folder, "select id from flow_run where name = 'join@smoke'")) == 1


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
    done = reproduce(fresh, PSR_TEST_FAIL=f"make:{kind}:1")
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
        ("params", 2, "the inputs of make@smoke changed while it ran (complete)"),
        ("code", 2, "the inputs of make@smoke changed while it ran (flows/make.py)"),
    ],
)
def test_every_other_failure_too(fresh, kind, status, words):
    check_failure(fresh, kind, status, words)


@pytest.mark.slow
def test_what_may_pass_is_tried_again(fresh):
    done = reproduce(fresh, PSR_TEST_FAIL="make:connection:1")
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
def test_settings_edited_during_a_run_are_not_recorded_as_what_it_was_made_from(fresh):
    reproduce(fresh, PSR_TEST_FAIL="make:params:1")
    assert "make@smoke" not in (fresh / "dvc.lock").read_text()
    assert reproduce(fresh).returncode == 0
    assert (fresh / "data/smoke/make/all.txt").read_text().startswith("make 1\n")
    assert "seed: 11" not in (fresh / "dvc.lock").read_text()


@pytest.mark.slow
def test_a_run_works_with_the_parameters_that_it_was_planned_with_and_the_next_with_those_of_now(fresh):
    assert reproduce(fresh, PSR_TEST_FAIL="make:later:1").returncode == 0
    assert (fresh / "data/smoke/make/all.txt").read_text().startswith("make 1\n")
    assert reproduce(fresh).returncode == 0
    assert (fresh / "data/smoke/make/all.txt").read_text().startswith("make 17\n")


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (
            lambda f: edit(f / "params.yaml", "min_trait: 0.5", "min_trait: 5"),
            "select.min_trait: input should be less than",
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
    assert (folder / "dvc.lock").read_text() == (finished[0] / "dvc.lock").read_text()
    assert family(folder) == []
