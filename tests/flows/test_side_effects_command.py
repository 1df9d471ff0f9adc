"""The door of the side effects: what it refuses, what it prints, and where it is kept."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows import side_effects
from tasks.shown import report
from tasks.shown.query import ask
from tasks.shown.studies import side_effects_table
from tasks.studies.side_effects.table import side_effect_rows as stored
from tasks.studies.side_effects.table import store
from tasks.tables import parquet as tables
from tests.results_folder import side_effect_rows, write_results

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished profile whose side effects take no time."""
    data = write_results(tmp_path)
    (data / "side_effects/side_effects.parquet").unlink()
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "data/testbed").symlink_to(ROOT / "data/testbed")
    monkeypatch.setattr(side_effects.environment, "set_defaults", lambda root: None)
    monkeypatch.setattr(
        side_effects, "load",
        lambda data, settings, model, attributes, size, cells: [SimpleNamespace(key=one.key) for one, _ in attributes],
    )  # fmt: skip
    monkeypatch.setattr(side_effects, "rows_of", lambda case, methods: side_effect_rows(case.key))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("arguments", "words"), [
    (["--attribute", "cheerful"], r"no such attribute.*\(--attribute\), expected some of pirate, hedging, gloomy, got 'cheerful'"),
    (["--profile", "none"], r"unknown profile \(params.yaml\), expected one of .*quick, full.*got 'none'"),
    (["--profile", "full"], r"the comparison works on a finished profile \(data/full\).*no distill/modules.parquet.*--profile full"),
    (["--turns", "0"], r"nothing can be measured on nothing \(--turns\), expected at least 1, got 0"),
])  # fmt: skip
def test_what_cannot_be_measured_is_refused_in_one_line(root, capsys, arguments, words):
    assert side_effects.main(arguments, root) == 2
    printed = capsys.readouterr()
    assert re.search(words, printed.err)
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_a_run_is_stored_indexed_reported_and_printed(root, capsys, monkeypatch):
    added: list[Path] = []
    monkeypatch.setattr(side_effects, "add_output", lambda root, folder: added.append(folder))
    store(root / "data/quick", side_effect_rows("persona/pirate", turns=9))
    assert side_effects.main(["--attribute", "pirate", "--attribute", "persona/gloomy"], root) == 0
    assert added == [root / "data/quick/side_effects"]
    assert {row["attribute"] for row in stored(root / "data/quick")} == {"persona/pirate", "persona/gloomy"}
    asked = "select count(*), max(turn), count(value) from side_effects where method = 'A-PSR MSE·QR'"
    assert ask(root / "data/results.duckdb", asked).rows == ((26, 3, 20),)  # 13 measures, 3 of them without a value
    page = (root / "data/quick/page/index.html").read_text(encoding="utf-8")
    assert page.count(">Side effects</h2>") == 1
    printed = capsys.readouterr().out
    assert printed.count("signs randomised") == 2
    assert "not reached" in printed
    assert "No english: no language." in " ".join(printed.split())


def test_only_the_command_puts_its_section_on_the_page_with_a_chart_of_each_measure_by_turn(tmp_path):
    data = write_results(tmp_path)
    assert "Side effects" not in report.build(data, tmp_path / "a").read_text(encoding="utf-8")
    rows = tables.read_table(data / "side_effects/side_effects.parquet", "side_effects")
    page = report.build(data, tmp_path / "b", beside={"side_effects": rows}).read_text(encoding="utf-8")
    section = page[page.index(">Side effects</h2>") :]
    assert section.count("<svg") == 2
    for measure in ("effect", "coherence"):
        assert f"gloomy: {measure}" in section
    assert section.count("A-PSR MSE·QR, turn 2: 22.0 (95 % interval 21.0 to 23.0, n 4)") == 2
    assert "turn 3:" not in section  # it has no value
    assert "A-PSR MSE·QR, signs randomised" in section[section.index('class="legend"') :]


def test_a_table_says_what_was_not_reached_and_why_figures_are_missing():
    shown = side_effects_table(side_effect_rows())
    heading, plain, prompt, module, control = shown.rows
    assert heading[0] == "gloomy"
    assert [row[1] for row in (plain, prompt, module)] == ["–", "–", "1.25\nnot reached"]
    assert module[2] == "20.0\n19.0–21.0"
    assert prompt[4] == "10.00\n9.00–11.00"
    assert module[6] == "–"
    assert module[-2:] == ("21, 22\nturns 1, 2",) * 2
    assert control[0] == "A-PSR MSE·QR, signs randomised"
    assert shown.below == "No english: no language. No effect and coherence from turn 3 on: the context is full."
