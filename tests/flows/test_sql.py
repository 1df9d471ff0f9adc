"""Asking and tracing from the command line: every format, one clear line for what cannot be answered, no way out."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import sql, trace
from tasks.engine.progress import clean
from tasks.shown import index
from tasks.shown.query import ask
from tests.results_folder import module_id, write_results

HOSTILE = "\x1b[31mred\x1b[0m [bold]ice[/bold] <script>alert(1)</script> a|b\nnext \u202eline"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repo")
    write_results(root, text=HOSTILE)
    return index.rebuild(root)


def run(database: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert sql.main([*arguments, "--database", str(database)]) == 0
    return capsys.readouterr().out


TEXTS = "select id, text from completions where text like '%red%' order by id limit 2"


def test_the_table_shows_names_values_and_the_count(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(database, capsys, "select method, ta_cp, layer from headline where attribute = 'persona/pirate'")
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["method", "ta_cp", "layer"]
    assert ["A-PSR", "MSE·QR", "93", "–"] in lines
    assert lines[-1] == ["(4", "rows)"]


def test_csv_and_json_give_back_the_exact_values(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = [list(row) for row in ask(database, TEXTS).rows]
    assert expected[0][1] == HOSTILE
    table = list(csv.reader(io.StringIO(run(database, capsys, TEXTS, "--format", "csv"), newline="")))
    assert table == [["id", "text"], *expected]
    objects = json.loads(run(database, capsys, TEXTS, "--format", "json"))
    assert [list(row.values()) for row in objects] == expected


def test_json_has_null_for_what_it_cannot_hold(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(database, capsys, "select null a, 'nan'::double b, 1.5::double c", "--format", "json")
    assert json.loads(out) == [{"a": None, "b": None, "c": 1.5}]


def test_markdown_keeps_model_text_inside_its_cell(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(database, capsys, TEXTS, "--format", "markdown").splitlines()
    assert out[:2] == ["| id | text |", "| --- | --- |"]
    assert len(out) == 4
    assert "&lt;script>" in out[2]
    assert "a\\|b<br>next" in out[2]


def test_model_text_cannot_drive_the_terminal(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    identifier = ask(database, TEXTS).rows[0][0]
    assert trace.main([identifier, "--database", str(database)]) == 0
    for out in (capsys.readouterr().out, run(database, capsys, TEXTS)):
        assert "\x1b" not in out
        assert "\u202e" not in out
        assert "\\x1b[31mred" in out
        assert "[bold]ice[/bold]" in out


@given(st.text())
def test_cleaned_text_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    shown = clean(text)
    assert not set(shown) & ({*map(chr, range(32)), *map(chr, range(127, 160)), "\u202e", "\u2066"} - {"\n"})
    assert clean(shown) == shown


@pytest.mark.parametrize(("query", "message"), [
    ("selec 1", "Parser Error"),
    ("select * from nothing", "Table with name nothing does not exist"),
    ("drop table stg_pairs", "read-only mode"),
    ("select * from read_text('/etc/hostname')", "Permission Error"),
    ("  ", "there is no question"),
])  # fmt: skip
def test_a_refused_question_is_one_line_on_stderr(
    database: Path, capsys: pytest.CaptureFixture[str], query: str, message: str
) -> None:
    assert sql.main([query, "--database", str(database)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_a_missing_index_says_what_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for door, question in ((sql, "select 1"), (trace, "abc")):
        assert door.main([question, "--database", str(tmp_path / "results.duckdb")]) == 2
        err = capsys.readouterr().err
        assert "python -m flows.reproduce" in err
        assert err.count("\n") == 1


def test_the_command_works_as_it_is_written_and_survives_a_closed_pipe(database: Path) -> None:
    root = Path(sql.__file__).parents[1]
    question = "select * from completions cross join range(20000)"
    command = [sys.executable, "-m", "flows.sql", question, "--format", "csv", "--database", str(database)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("profile,stage,id")
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_a_judgement_is_traced_to_its_pair_its_module_and_its_triplets(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = "select j.id, c.id, c.pair from judgements j join completions c on c.id = j.completion"
    key, completion, pair = ask(database, f"{chosen} where c.stage = 'steer' and c.module is not null limit 1").rows[0]
    assert trace.main([key[:12], "--database", str(database)]) == 0
    out = capsys.readouterr().out
    for kind, identifier in (("judgement", key), ("completion", completion), ("pair", pair)):
        assert f"{kind} {identifier}" in out
    assert out.count("module ") == 1
    assert out.count("triplet ") == 2
    assert "(see above)" in out


def test_a_module_shows_few_triplets_unless_all_are_asked_for(
    database: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = module_id("persona/pirate", "a-psr-mse-qr")
    monkeypatch.setattr(trace, "FEW", 1)
    assert trace.main([key, "--database", str(database)]) == 0
    out = capsys.readouterr().out
    assert out.count("triplet ") == 1
    assert "and 1 more (--all shows them)" in out
    assert trace.main([key, "--all", "--database", str(database)]) == 0
    assert capsys.readouterr().out.count("triplet ") == 2


def test_an_unknown_or_ambiguous_id_is_refused(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared = ask(database, "select id[1:1] from items group by all having count(distinct id) > 1 limit 1").rows[0][0]
    for key, message in (("zzz", "no item has this id"), ("", "no item has this id"), (shared, "several items")):
        assert trace.main([key, "--database", str(database)]) == 2
        assert message in capsys.readouterr().err


def test_an_item_of_two_profiles_is_traced_in_the_one_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for profile in ("quick", "smoke"):
        write_results(tmp_path, profile)
    path = index.rebuild(tmp_path)
    key = module_id("persona/pirate", "a-psr-mse-qr")
    for arguments, profile in ((["--profile", "smoke"], "smoke"), ([], "quick")):
        assert trace.main([key, *arguments, "--database", str(path)]) == 0
        assert f"module {key}  {profile}" in capsys.readouterr().out


def test_the_schema_says_what_every_view_and_column_holds(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    views = run(database, capsys, "--schema")
    assert re.search(r"^headline +The table of the paper", views, re.MULTILINE)
    columns = json.loads(run(database, capsys, "--schema", "headline", "--format", "json"))
    assert {
        "column": "ta_cp",
        "type": "DOUBLE",
        "holds": "trait alignment at the prompt's coherence, 0 to 100",
    } in columns
    stored = ask(
        database, "select comment from duckdb_columns() where table_name = 'headline' and column_name = 'ta_cp'"
    )
    assert stored.rows == (("trait alignment at the prompt's coherence, 0 to 100",),)
    assert sql.main(["--schema", "headlin"]) == 2
    assert capsys.readouterr().err.startswith("no such view or table, expected one of headline, ")
