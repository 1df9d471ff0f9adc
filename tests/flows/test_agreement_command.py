"""The door of the comparison of judges: what it refuses, a sheet's way out and back, what is stored, indexed and printed."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import pytest

from flows import agreement
from tasks.shown.query import ask
from tests.results_folder import write_results

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished profile that only its own judge has judged."""
    shutil.rmtree(write_results(tmp_path) / "agreement")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "data/testbed").symlink_to(ROOT / "data/testbed")
    monkeypatch.setattr(agreement.environment, "set_defaults", lambda root: None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("arguments", "words"), [
    ([], r"no two judges have judged the same answers.*got testbed"),
    (["--profile", "full"], r"the comparison works on a finished profile \(data/full\).*no steer/pairs.parquet"),
    (["--set", "a=1"], r"no use by itself \(--set\), expected --judge"),
    (["--as", "anna"], r"no use by itself \(--as\), expected --judge or --import"),
    (["--import", "x.csv", "--answers", "3"], r"no use by itself \(--answers\), expected --judge or --export"),
    (["--import", "x.csv"], r"whose ratings are these \(--import\), expected --as NAME"),
    (["--import", "x.csv", "--as", "anna"], r"the sheet cannot be read \(.*x.csv\)"),
    (["--import", "x.csv", "--as", "people:a"], r"cannot have this name \(--as\).*got 'people:a'"),
    (["--judge", "rules", "--answers", "0"], r"\(--answers\), expected at least 1, got 0"),
    (["--judge", "rules", "--set", "a"], r"nothing can be set by this \(--set\), expected KEY=VALUE, got 'a'"),
    (["--judge", "rules", "--set", "a=["], r"the value is no YAML"),
    (["--judge", "rules", "--set", "a=1"], r"unknown setting of judge rules"),
    (["--judge", "nobody"], r"nobody"),
])  # fmt: skip
def test_what_cannot_be_compared_is_refused_in_one_line_and_nothing_is_stored(root, capsys, arguments, words):
    assert agreement.main(arguments, root) == 2
    printed = capsys.readouterr()
    assert re.search(words, printed.err)
    assert printed.err.count("\n") == 1
    assert not (root / "data/quick/agreement").exists()


def test_a_further_judge_is_stored_indexed_reported_and_printed(root, capsys, monkeypatch):
    added: list[Path] = []
    monkeypatch.setattr(agreement, "add_output", lambda root, folder: added.append(folder))
    assert agreement.main(["--judge", "rules"], root) == 0
    assert added == [root / "data/quick/agreement"]
    asked = "select attribute, dimension, judge, n, equal from agreement where other = 'testbed' order by all"
    assert ask(root / "data/results.duckdb", asked).rows == (
        ("persona/pirate", "coherence", "rules-persona", 6, 1.0),
        ("persona/pirate", "trait", "rules-persona", 6, pytest.approx(1 / 3)),
    )
    rated = "select method, value, scale from verdicts where dimension = 'trait' order by all"
    assert ask(root / "data/results.duckdb", rated).rows == (
        *(("a-psr-mse-qr", 100.0, 100.0),) * 2, *(("instructed", 0.0, 100.0),) * 2, *(("s-const-dim-r", 100.0, 100.0),) * 2
    )  # fmt: skip
    assert "Judges compared" in (root / "data/quick/page/index.html").read_text(encoding="utf-8")
    printed = capsys.readouterr().out
    assert "pirate: trait" in printed
    assert "0.33 (" in printed
    assert "rules leaves out persona/gloomy" in printed


def filled(path: Path, ratings: dict[str, tuple[str, str]]) -> None:
    """Fill in the sheet by what the answers say."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        head, *rows = csv.reader(file)
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([head, *([*row[:4], *ratings[row[3]]] for row in rows)])


def test_two_people_rate_a_sheet_and_are_compared_with_the_judge_and_with_each_other(root, capsys):
    for name, ratings in (
        ("anna", {"Obeyed.": ("10", "90"), "Arr, ice is cold, matey.": ("95", "")}),
        ("bert", {"Obeyed.": ("0", "60"), "Arr, ice is cold, matey.": ("70", "60")}),
    ):
        assert agreement.main(["--export", f"{name}.csv", "--seed", "3"], root) == 0
        assert "8 answers to rate" in capsys.readouterr().out
        filled(root / f"{name}.csv", ratings)
        assert agreement.main(["--import", f"{name}.csv", "--as", name], root) == 0
    asked = """select judge, n, missing, equal, mean, mean_other from agreement
        where other = 'people:anna' and attribute = 'persona/pirate' and dimension = 'trait' order by all"""
    people, own = ask(root / "data/results.duckdb", asked).rows
    assert people == ("people:bert", 4, 0, 1.0, 0.35, pytest.approx(0.525))
    assert own[:3] == ("testbed", 4, 0)
    missing = "select distinct missing_other from agreement where other = 'people:anna' and dimension = 'coherence'"
    assert ask(root / "data/results.duckdb", missing).rows == ((2,),)
    unrated = "select distinct judge, value, error from verdicts where value is null"
    assert ask(root / "data/results.duckdb", unrated).rows == (("people:anna", None, "not rated"),)
    assert "people:bert" in capsys.readouterr().out


def test_a_sheet_of_few_answers_is_part_of_what_a_judge_is_given_for_the_same_seed(root):
    assert agreement.main(["--export", "few.csv", "--answers", "3"], root) == 0
    assert agreement.main(["--judge", "rules", "--answers", "6"], root) == 0
    rated = ask(root / "data/results.duckdb", "select count(distinct completion) from verdicts").rows
    assert rated == ((3,),)  # of the 6, those for which there is a rule
    assert len((root / "few.csv").read_text(encoding="utf-8-sig").splitlines()) == 4
