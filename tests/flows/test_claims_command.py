"""The door of the claims: what it refuses, what it prints, and where the verdicts are kept."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows import claims, params
from tasks.benchmarks.catalogue import BENCHMARKS
from tasks.shown.index import rebuild
from tasks.shown.query import ask
from tasks.shown.report import build
from tasks.studies.claims.table import measured
from tests.claims_folder import write_claims_folder

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished profile, and its claims as the step writes them."""
    data = write_claims_folder(tmp_path)
    settings = params.load(ROOT, "quick")
    claims.claims(
        SimpleNamespace(root=tmp_path, profile="quick", out=data / "claims"),
        [SimpleNamespace(name=name) for name in BENCHMARKS],
        settings.results,
        settings.faithfulness,
    )
    rebuild(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("arguments", "words"), [
    (["--profile", "none"], r"unknown profile \(params.yaml\), expected one of .*quick, full.*got 'none'"),
    (["--profile", "full"], r"not measured \(data/full/claims\).*flows.reproduce --profile full"),
])  # fmt: skip
def test_what_cannot_be_measured_is_refused_in_one_line(root, capsys, arguments, words):
    assert claims.main(arguments, root) == 2
    told = capsys.readouterr()
    assert re.search(words, told.err)
    assert told.err.count("\n") == 1
    assert told.out == ""


def test_claims_are_printed_stored_indexed_and_shown(root, capsys):
    assert claims.main([], root) == 0
    rows = measured(root / "data/quick", "quick")
    assert sorted({row["claim"] for row in rows}) == [1, 2, 3, 4, 5, 6, 7]
    asked = "select distinct claim_verdict from claims where profile = 'quick' and claim = 4"
    assert ask(root / "data/results.duckdb", asked).rows == (("holds",),)
    build(root / "data/quick", root / "page")
    page = (root / "page/index.html").read_text(encoding="utf-8")
    assert "all-layer PSR (MSE) is at least the prompt" in page
    printed = capsys.readouterr().out
    assert "2 seeds: goal 5" in printed
    assert "no S-PSR LL·QR + prompt on persona" in printed
    assert printed.count("python -m flows.sql") == sum(row["sql"] is not None for row in rows)


def test_a_printed_question_can_be_pasted(root, capsys, monkeypatch):
    """As a shell reads it: between double quotes nothing is special to it."""
    claims.main([], root)
    printed = re.findall(r'^python -m flows\.sql "(.*)"$', capsys.readouterr().out, re.MULTILINE)
    assert printed
    for sql in printed:
        assert not set(sql) & set('$`"\\!')
        assert len(ask(root / "data/results.duckdb", sql).rows) == 1


def test_git_leaves_claims_out():
    done = subprocess.run(
        ["git", "-C", str(ROOT), "check-ignore", "data/quick/claims/claims.parquet"], check=False, capture_output=True
    )
    assert done.returncode == 0
