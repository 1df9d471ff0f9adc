"""The door of the bench: what it refuses, what it prints, and where a whole run is kept."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows import bench
from psr.errors import PsrError
from tasks.shown import report
from tasks.shown.query import ask
from tasks.studies.bench import material, measures
from tasks.studies.bench.pairs import Figure, Ratio
from tasks.studies.bench.table import bench_rows, store
from tasks.tables import parquet as tables
from tests.results_folder import bench_row, write_results

ROOT = Path(__file__).resolve().parents[2]
FACTS = {"device": "cpu", "cores": 2, "threads": 2, "torch": "2.13.0", "dtype": "float32", "model": "0123456789abcdef"}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished profile, and measures that take no time."""
    write_results(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.setattr(bench.environment, "set_defaults", lambda root: None)
    monkeypatch.setattr(bench, "load", lambda data, model, search: material.Material(data, None, {}, search))
    monkeypatch.setattr(measures, "machine", lambda lm: FACTS)
    monkeypatch.chdir(tmp_path)

    def figures(name: str, given: material.Material) -> list[Figure]:
        goal = 0.9 if name == "fit" else None
        return [Figure(f"{name}-x", "a <b>: 1/s", "c: 1/s", Ratio(0.5, 0.4, 0.6, 3), "note", at_least=goal)]

    known = {function: partial(figures, name) for name, (_, function, *_) in measures.MEASURES.items()}
    monkeypatch.setattr(material.Material, "large", False)
    monkeypatch.setattr(measures, "import_module", lambda file: SimpleNamespace(**known))
    return tmp_path


@pytest.mark.parametrize(("arguments", "words"), [
    (["--only", "speed"], r"no such measure \(--only\), expected some of fit, layers, .*, record, company.*got 'speed'"),
    (["--repeats", "0"], r"\(--repeats\), expected a whole number of at least 1, got 0"),
    (["--profile", "none"], r"unknown profile \(params.yaml\), expected one of .*quick, full.*got 'none'"),
    (["--profile", "full"], r"a finished profile \(data/full\).*no complete/completions.parquet.*flows.reproduce --profile full"),
])  # fmt: skip
def test_what_cannot_be_measured_is_refused_in_one_line(root, capsys, arguments, words):
    assert bench.main(arguments, root) == 2
    told = capsys.readouterr()
    assert re.search(words, told.err)
    assert told.err.count("\n") == 1
    assert told.out == ""


def test_a_whole_run_is_stored_indexed_and_shown(root, capsys):
    assert bench.main([], root) == 0
    rows = bench_rows(root / "data/quick")
    assert [row["name"] for row in rows] == [f"{name}-x" for name in measures.MEASURES]
    assert ask(root / "data/results.duckdb", "select name, verdict from bench where verdict is not null").rows == (
        ("fit-x", "missed"),
    )
    page = (root / "data/quick/page/index.html").read_text(encoding="utf-8")
    assert "0 of 1 goals met" in page
    assert "a &lt;b&gt;: 1/s" in page
    printed = capsys.readouterr().out
    assert all(f"{name}-x" in printed for name in measures.MEASURES)
    assert "2 torch threads" in printed


def test_what_takes_hundreds_of_passes_is_measured_on_a_large_model_only_where_it_is_asked_for(
    root, capsys, monkeypatch
):
    monkeypatch.setattr(material.Material, "large", True)
    assert bench.main([], root) == 0
    names = [row["name"] for row in bench_rows(root / "data/quick")]
    assert names == ["fit-x", "alpha-x", "generate-x", "serve-x", "judge-x", "record-x"]
    assert bench.main(["--only", "scale"], root) == 0
    assert "scale-x" in capsys.readouterr().out


def test_only_some_measures_are_printed_and_not_stored(root, capsys):
    before = bench_rows(root / "data/quick")
    assert bench.main(["--only", "record", "--only", "fit"], root) == 0
    assert bench_rows(root / "data/quick") == before
    printed = capsys.readouterr().out
    assert "record-x" in printed
    assert "wide-x" not in printed
    assert "Not stored" in printed


def test_another_devices_figures_stay_beside_this_ones(tmp_path):
    data = tmp_path / "data/quick"
    store(data, [bench_row("a", 1.0), bench_row("b", 1.0)])
    store(data, [bench_row("a", 2.0, device="a GPU")])
    store(data, [bench_row("a", 3.0)])
    assert [(row["device"], row["name"], row["median"]) for row in bench_rows(data)] == [
        ("a GPU", "a", 2.0),
        ("cpu", "a", 3.0),
    ]


def test_the_reports_stage_shows_no_timings_and_the_bench_does(tmp_path):
    data = write_results(tmp_path)
    without = report.build(data, tmp_path / "a").read_text(encoding="utf-8")
    assert ">Speed on " not in without
    rows = [*tables.read_table(data / "bench/bench.parquet", "bench"), bench_row("c", 1.0, None)]
    page = report.build(data, tmp_path / "b", beside={"bench": rows}).read_text(encoding="utf-8")
    assert page.count(">Speed on cpu: 1 of 2 goals met</h2>") == 1


def test_git_leaves_timings_out():
    done = subprocess.run(
        ["git", "-C", str(ROOT), "check-ignore", "data/quick/bench/bench.parquet"], check=False, capture_output=True
    )
    assert done.returncode == 0


def test_every_measure_has_a_door():
    from importlib import import_module

    for file, function, *_ in measures.MEASURES.values():
        assert callable(getattr(import_module(f"tasks.studies.bench.{file}"), function))


def test_an_empty_profile_says_what_is_missing(tmp_path):
    with pytest.raises(PsrError, match=r"no complete/completions\.parquet"):
        material.check_finished(tmp_path, "quick")
