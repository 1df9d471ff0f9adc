"""The door of the comparison: what it refuses, what it prints, and where it is kept."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from flows import adapt
from tasks.shown import report
from tasks.shown.query import ask
from tasks.studies.adaptation.table import adaptation_rows, store
from tasks.tables import parquet as tables
from tests.results_folder import ATTRIBUTES, adaptation_row, write_results

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished profile whose comparison takes no time."""
    write_results(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "data/testbed").symlink_to(ROOT / "data/testbed")
    monkeypatch.setattr(adapt.environment, "set_defaults", lambda root: None)
    monkeypatch.setattr(adapt, "load", lambda data, settings, model, attributes: [one.key for one in attributes])
    monkeypatch.setattr(
        adapt,
        "rows_of",
        lambda key, cells: [adaptation_row(slug, key, name=f"<{slug}>") for slug in ("prompt", "lora8-ll")],
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("arguments", "words"), [
    (["--attribute", "cheerful"], r"no such attribute.*\(--attribute\), expected some of pirate, hedging, gloomy, got 'cheerful'"),
    (["--profile", "none"], r"unknown profile \(params.yaml\), expected one of .*quick, full.*got 'none'"),
    (["--profile", "full"], r"the comparison works on a finished profile \(data/full\).*no complete/completions.*--profile full"),
])  # fmt: skip
def test_what_cannot_be_compared_is_refused_in_one_line(root, capsys, arguments, words):
    assert adapt.main(arguments, root) == 2
    printed = capsys.readouterr()
    assert re.search(words, printed.err)
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_a_run_is_stored_indexed_reported_and_printed(root, capsys, monkeypatch):
    added: list[Path] = []
    monkeypatch.setattr(adapt, "add_output", lambda root, folder: added.append(folder))
    assert adapt.main([], root) == 0
    assert added == [root / "data/quick/adaptation"]
    rows = adaptation_rows(root / "data/quick")
    assert [(row["attribute"], row["method"]) for row in rows] == [
        (f"persona/{name}", slug) for name in ("pirate", "hedging", "gloomy") for slug in ("prompt", "lora8-ll")
    ]
    assert ask(root / "data/results.duckdb", "select count(*), min(drift) from adaptation").rows == ((6, 1.5),)
    page = (root / "data/quick/page/index.html").read_text(encoding="utf-8")
    assert page.count("&lt;lora8-ll&gt;") == 3
    printed = capsys.readouterr().out
    assert printed.count("<prompt>") == 3
    assert "90.0 (89.0–91.0)" in printed
    assert "6.4 kB" in printed


def test_one_attribute_replaces_its_own_rows_only(root):
    store(
        root / "data/quick",
        [adaptation_row("prompt", "persona/pirate", n=1), adaptation_row("prompt", "persona/hedging", n=1)],
    )
    assert adapt.main(["--attribute", "pirate"], root) == 0
    found = [(row["attribute"], row["n"]) for row in adaptation_rows(root / "data/quick")]
    assert found == [
        ("persona/gloomy", 2),
        ("persona/gloomy", 2),
        ("persona/hedging", 1),
        ("persona/pirate", 2),
        ("persona/pirate", 2),
    ]


def test_only_the_comparison_puts_its_table_on_the_page(tmp_path):
    data = write_results(tmp_path)
    assert "Adaptation compared" not in report.build(data, tmp_path / "a").read_text(encoding="utf-8")
    rows = tables.read_table(data / "adaptation/adaptation.parquet", "adaptation")
    page = report.build(data, tmp_path / "b", beside={"adaptation": rows}).read_text(encoding="utf-8")
    assert page.count(">Adaptation compared</h2>") == 1
    assert f'<tr class=" best"><td>{ATTRIBUTES[0].partition("/")[2]}</td>' in page
    for cell in ("1.500 (0.500–2.500)", "1,542", "2.5 s", "6.4 kB", "11.2", "no"):
        assert f"<td>{cell}</td>" in page
