"""Records of runs: what is written is what is read, who made what follows from hashes, and two people's records merge."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psr.errors import PsrError
from tasks.engine import history
from tasks.engine.files import write_json
from tasks.engine.history import Run, StepRecord
from tests.run_records import a_run, lock, put, ran

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
HASHES = st.dictionaries(TEXT, TEXT, max_size=3)
STEP = st.builds(
    StepRecord,
    end=st.sampled_from(["ran", "restored", "cached", "failed", "stopped"]),
    seconds=st.floats(0, 1e6),
    outputs=HASHES,
)
TIME = st.datetimes(datetime(2020, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)).map(
    lambda moment: moment.replace(microsecond=0)
)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
RUN = st.builds(
    Run,
    id=st.text("0123456789abcdef", min_size=8, max_size=8),
    profile=st.from_regex(r"\A[a-z][a-z0-9-]{0,9}\Z"),
    who=TEXT,
    began=TIME,
    ended=TIME,
    outcome=st.sampled_from(["completed", "failed", "stopped", "unfinished"]),
    commit=st.none() | TEXT,
    changed=st.lists(TEXT, max_size=3).map(tuple),
    host=TEXT,
    packages=HASHES,
    settings=st.dictionaries(TEXT, VALUE, max_size=3),
    steps=st.dictionaries(TEXT, STEP, max_size=3),
)


@given(RUN)
def test_a_record_is_read_as_it_was_written(tmp_path_factory, run):
    root = tmp_path_factory.mktemp("root")
    put(root, run)
    assert history.runs(root) == history.runs(root, run.profile) == (run,)
    assert history.read(root / run.file) == run


def test_records_come_in_the_order_of_time_whatever_their_names(tmp_path):
    later, first = a_run("00000001", 5), a_run("ffffffff", 2)
    put(tmp_path, later, first)
    assert history.runs(tmp_path) == (first, later)


def test_a_field_of_a_later_version_is_passed_over(tmp_path):
    run = a_run(a=ran("1"))
    write_json(tmp_path / run.file, run.model_dump(mode="json") | {"energy": 3})
    assert history.runs(tmp_path) == (run,)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": 3}', "\x00"])
def test_a_damaged_record_is_named_with_the_way_out(tmp_path, text):
    run = a_run()
    put(tmp_path, run)
    (tmp_path / run.file).write_text(text)
    with pytest.raises(PsrError, match=rf"record of a run is damaged \(.*{run.file}\).*delete it: no result depends"):
        history.runs(tmp_path)


def test_a_record_in_another_profiles_folder_is_refused(tmp_path):
    run = a_run()
    put(tmp_path, run)
    (tmp_path / run.file).parents[1].rename(tmp_path / "data/full")
    with pytest.raises(PsrError, match="got a record of data/quick/runs"):
        history.runs(tmp_path)


def test_the_maker_of_a_step_is_the_first_that_ran_it_and_had_the_hashes_of_the_lock(tmp_path):
    runs = (
        a_run("0000000a", 1, "early", a=ran("old"), b=ran("1")),
        a_run("0000000b", 2, "maker", a=ran("new")),
        a_run("0000000c", 3, "again", a=ran("new")),
        a_run("0000000d", 4, "puller", a=ran("new", "cached"), b=ran("1", "restored")),
    )
    put(tmp_path, *runs)
    lock(tmp_path, a={"data/quick/a": "new"}, b={"data/quick/a": "1"}, c={"data/quick/c": "2"})
    assert {step: run.who for step, run in history.makers(tmp_path, "quick").items()} == {"a": "maker", "b": "early"}
    lock(tmp_path, a={"data/quick/a": "new", "data/quick/more": "3"})
    assert history.makers(tmp_path, "quick") == {}
    assert history.makers(tmp_path, "full") == {}


def git(root: Path, *command: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / "flows").mkdir(parents=True)
    (root / "data/quick").mkdir(parents=True)
    (root / "flows/a.py").write_text("")
    (root / "params.yaml").write_text("a: 1\n")
    (root / "data/quick/settings.yaml").write_text("seeds: [1]\nmodel: {path: m}\n")
    subprocess.run(["git", "init", "-q", "-b", "main", str(root)], check=True)
    git(root, "config", "user.name", "Ada Lovelace")
    git(root, "config", "user.email", "ada@example.org")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    return root


def recorded(root: Path, *ends: str) -> Run:
    recorder = history.recorder(root, "quick", "cpu")
    for end in ends:
        with recorder.step(f"{end}-step", lambda: {"data/quick/a": "1"}) as ended:
            ended(end)  # type: ignore[arg-type]
    recorder.close()
    return recorder.run


def test_a_record_says_who_when_on_which_commit_on_what_and_with_which_parameters(checkout):
    before = datetime.now(UTC).replace(microsecond=0)
    run = recorded(checkout, "ran", "cached")
    assert history.runs(checkout) == (run,)
    assert (run.who, run.commit, run.changed, run.dirty) == (
        "Ada Lovelace", git(checkout, "rev-parse", "HEAD").strip(), (), False
    )  # fmt: skip
    assert before <= run.began <= run.ended <= datetime.now(UTC)
    assert run.settings == {"seeds": [1], "model": {"path": "m"}}
    assert set(run.packages) == {"python", *history.PACKAGES}
    assert run.host.endswith(", cpu")
    assert {name: step.end for name, step in run.steps.items()} == {"ran-step": "ran", "cached-step": "cached"}
    assert run.outcome == "completed"


def test_a_changed_parameter_and_new_code_make_a_run_dirty_and_what_runs_write_does_not(checkout):
    (checkout / "data/quick/settings.yaml").write_text("seeds: [2]\n")
    (checkout / "notes.txt").write_text("mine")
    assert recorded(checkout, "ran").changed == ()
    (checkout / "params.yaml").write_text("a: 2\n")
    (checkout / "flows/new.py").write_text("")
    run = recorded(checkout, "ran")
    assert (run.changed, run.dirty) == (("flows/new.py", "params.yaml"), True)


def test_without_a_commit_or_a_name_the_login_stands_there_and_the_run_is_dirty(tmp_path, monkeypatch):
    monkeypatch.setenv("LOGNAME", "ada")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    run = recorded(tmp_path, "ran")
    assert (run.who, run.commit, run.changed, run.dirty) == ("ada", None, (), True)


def test_a_run_that_computed_nothing_leaves_no_record(checkout):
    recorded(checkout, "cached", "restored")
    assert history.runs(checkout) == ()


@pytest.mark.parametrize(("error", "end"), [(ValueError, "failed"), (KeyboardInterrupt, "stopped"), (SystemExit, "stopped")])  # fmt: skip
def test_a_run_that_failed_or_was_stopped_keeps_what_it_did(checkout, error, end):
    recorder = history.recorder(checkout, "quick", "cpu")
    with recorder.step("make", lambda: {"data/quick/a": "1"}) as ended:
        ended("ran")
    assert history.runs(checkout)[0].outcome == "unfinished"  # what a kill would leave
    with pytest.raises(error), recorder.step("join", dict):
        raise error
    (run,) = history.runs(checkout)
    assert (run.outcome, run.steps["join"].end, run.steps["make"].outputs) == (end, end, {"data/quick/a": "1"})
    assert run.steps["join"].outputs == {}


def test_a_record_that_cannot_be_written_stops_nothing(checkout, capsys, monkeypatch):
    def full(path: Path, value: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(history, "write_json", full)
    recorded(checkout, "ran")
    assert "warning: the record of this run was not written" in capsys.readouterr().out


def test_records_of_two_people_merge_without_a_conflict_and_each_keeps_its_own(checkout, tmp_path):
    put(checkout, a_run("0000000a", 1, "Ada", a=ran("1")))
    lock(checkout, a={"data/quick/a": "1"})
    git(checkout, "add", "-A")
    git(checkout, "commit", "-q", "-m", "Ada's run")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(checkout), str(clone)], check=True)
    assert history.makers(clone, "quick")["a"].who == "Ada"
    for root, who, hour in ((checkout, "Ada", 2), (clone, "Bob", 2)):  # in the same second
        git(root, "config", "user.name", who)
        git(root, "config", "user.email", "b@example.org")
        put(root, a_run(f"0000000{who[0].lower()}", hour, who, b=ran("2")))
        git(root, "add", "-A")
        git(root, "commit", "-q", "-m", who)
    git(clone, "pull", "-q", "--no-rebase", "--no-edit")
    assert [run.who for run in history.runs(clone)] == ["Ada", "Ada", "Bob"]
    assert git(clone, "status", "--porcelain") == ""
