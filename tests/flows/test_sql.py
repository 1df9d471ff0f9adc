"""Asking and tracing from the command line: every format, one clear line for what cannot be answered, no way out."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import sql, trace
from psr.errors import PsrError
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
    ("drop table stg_pairs", "expected SELECT, FROM, SHOW, DESCRIBE, EXPLAIN, or PIVOT with IN, got DROP"),
    ("copy (select 1) to 'DATABASE.wal'", "got COPY"),
    ("explain analyze copy (select 1) to 'DATABASE.wal'", "got EXPLAIN"),
    ("select 1; attach ':memory:' as other", "got ATTACH"),
    ("select * from read_text('/etc/hostname')", "Permission Error"),
    ("  ", "there is no question"),
])  # fmt: skip
def test_a_refused_question_is_one_line_on_stderr(
    database: Path, capsys: pytest.CaptureFixture[str], query: str, message: str
) -> None:
    assert sql.main([query.replace("DATABASE", str(database)), "--database", str(database)]) == 2
    out, err = capsys.readouterr()
    assert [path.name for path in database.parent.glob("results*")] == ["results.duckdb"]
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


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The indexes of two people, Ada's with two profiles and Bob's with another text in his answers."""
    roots = {name: tmp_path_factory.mktemp("team") / name for name in ("ada", "bob-2")}
    for root, profiles in zip(roots.values(), (("quick", "smoke"), ("quick",)), strict=True):
        for profile in profiles:
            write_results(root, profile, text=root.name)
        index.rebuild(root)
    return roots


def asked(team: dict[str, Path], capsys: pytest.CaptureFixture[str], query: str, *more: str) -> list[dict[str, object]]:
    databases = [part for root in team.values() for part in ("--database", str(root / "data/results.duckdb"))]
    assert sql.main([query, "--format", "json", *databases, *more]) == 0
    return json.loads(capsys.readouterr().out)


def test_several_databases_are_asked_by_name_and_all_together(
    team: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Counts are those of the parquet files, read without DuckDB."""
    counted = {
        root.name.replace("-", "_"): sum(
            pq.read_metadata(path).num_rows for path in root.glob("data/*/*/completions.parquet")
        )
        for root in team.values()
    }
    rows = asked(team, capsys, "select database, count(*) n from everyone.completions group by all order by all")
    assert {row["database"]: row["n"] for row in rows} == counted
    assert set(counted) == {"ada", "bob_2"}
    one = asked(
        team, capsys, "select (select count(*) from ada.completions) a, (select count(*) from bob_2.completions) b"
    )
    assert list(one[0].values()) == list(counted.values())
    texts = "select distinct database, text from everyone.completions where text in ('ada', 'bob-2') order by all"
    assert [list(row.values()) for row in asked(team, capsys, texts)] == [["ada", "ada"], ["bob_2", "bob-2"]]


def test_every_view_of_each_database_is_that_database_s_own(
    team: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Views rest on other views and on macros that name a table: none of them may find the other's."""
    figures = asked(
        team, capsys, "select database, count(distinct profile) n from everyone.headline group by all order by all"
    )
    assert figures == [{"database": "ada", "n": 2}, {"database": "bob_2", "n": 1}]
    for name in ("headline", "cells", "one_factor", "figures_made_by"):
        for root, alias in zip(team.values(), ("ada", "bob_2"), strict=True):
            alone = ask(root / "data/results.duckdb", f"select count(*) from {name}").rows[0][0]
            assert asked(team, capsys, f"select count(*) n from {alias}.{name}") == [{"n": alone}]


def test_a_database_is_named_by_hand_and_a_folder_is_its_repository(
    team: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    ada, bob = team.values()
    command = ["select distinct database from everyone.modules order by all", "--format", "csv"]
    assert sql.main([*command, "--database", f"mine={ada}", "--database", str(bob)]) == 0
    assert capsys.readouterr().out.split() == ["database", "bob_2", "mine"]
    assert sql.main([*command, "--database", f"mine={ada}/data/results.duckdb"]) == 0
    assert capsys.readouterr().out.split() == ["database", "mine"]


@pytest.mark.parametrize("query", [
    "select * from read_csv('/etc/hostname')",
    "select * from glob('/etc/*')",
    "copy (select 1) to 'out.csv'",
    "copy (select 1) to 'DATABASE.wal'",
    "attach 'other.db'",
    "attach 'DATABASE' as again",
    "detach ada",
    "install httpfs",
    "load httpfs",
    "insert into ada.stg_dropped values ('a', 'b', 'c')",
    "create table mine as select 1",
    "drop view everyone.headline",
    "set enable_external_access = true",
    "set lock_configuration = false",
    "export database 'out'",
    "prepare p as copy (select 1) to 'out.csv'",
    "call enable_logging()",
    "checkpoint ada",
])  # fmt: skip
def test_sql_cannot_leave_the_attached_databases(
    team: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    query: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    file = team["ada"] / "data/results.duckdb"
    before = file.read_bytes()
    arguments = [part for root in team.values() for part in ("--database", str(root))]
    assert sql.main([query.replace("DATABASE", str(file)), *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "the question was refused" in err
    assert file.read_bytes() == before
    assert [*tmp_path.iterdir(), *file.parent.glob("*.wal")] == []


def test_an_older_index_lacks_a_view_or_a_column_and_is_asked_with_the_others(
    team: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old.duckdb"
    with duckdb.connect(str(old)) as connection:
        connection.execute("create table t as select 'quick' as profile; create view modules as from t")
    rows = asked(
        team, capsys, "select profile, id from everyone.modules where database = 'old'", "--database", f"old={old}"
    )
    assert rows == [{"profile": "quick", "id": None}]
    assert asked(team, capsys, "select count(*) n from everyone.headline", "--database", f"old={old}")[0]["n"]


@pytest.mark.parametrize(("second", "message"), [
    ("ADA={bob}", "got ADA, which is .*ada/data/results.duckdb already"),
    ("everyone={bob}", "got everyone, a name of DuckDB's own"),
    ("other={ada}", "got the file that is ada already"),
    ("other={ada}/none.duckdb", "there is no index of results"),
])  # fmt: skip
def test_a_database_that_cannot_be_attached_is_one_line(
    team: dict[str, Path], capsys: pytest.CaptureFixture[str], second: str, message: str
) -> None:
    ada, bob = team.values()
    assert sql.main(["select 1", "--database", str(ada), "--database", second.format(ada=ada, bob=bob)]) == 2
    err = capsys.readouterr().err
    assert re.search(message, err)
    assert err.count("\n") == 1


def of_version(path: Path, version: int) -> None:
    """Write another storage version into a database's header, with the checksum that DuckDB expects there."""
    data = bytearray(path.read_bytes())
    data[12:20] = version.to_bytes(8, "little")
    words = (int.from_bytes(data[at : at + 8], "little") for at in range(8, 4096, 8))
    checksum = 5381
    for word in words:
        checksum ^= word * 0xBF58476D1CE4E5B9 % 2**64
    data[:8] = checksum.to_bytes(8, "little")
    path.write_bytes(data)


def test_a_database_of_a_newer_version_a_damaged_one_and_one_in_use_are_told_apart(
    team: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ada, bob = (root / "data/results.duckdb" for root in team.values())
    newer, damaged, used = (
        Path(shutil.copy(ada, tmp_path / f"{name}.duckdb")) for name in ("newer", "damaged", "used")
    )
    of_version(newer, 9999)
    damaged.write_bytes(b"x" * 5000)
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(used)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        for file, message in (
            (newer, "is of another version of DuckDB .*Install the newer DuckDB"),
            (damaged, "cannot be opened .*Delete it and run"),
            (used, "is in use .*End the program that has it open"),
        ):
            for databases in ([f"{file}"], [f"x={file}", f"{bob}"]):
                assert sql.main(["select 1", *(part for one in databases for part in ("--database", one))]) == 2
                err = capsys.readouterr().err
                assert re.search(f"the index of results {message}", err), err
                assert err.count("\n") == 1
        process.communicate(b"")


def test_a_database_with_a_broken_view_is_named(team: dict[str, Path], tmp_path: Path) -> None:
    odd = tmp_path / "odd.duckdb"
    with duckdb.connect(str(odd)) as connection:
        connection.execute("create table t as select 1 as seed; create view modules as from t; drop table t")
    with pytest.raises(PsrError, match=r"cannot be asked together \(modules of ada, odd\)"):
        sql.asked([str(team["ada"]), f"odd={odd}"], "select 1")


def test_a_view_that_reads_files_is_refused_when_its_database_is_attached(
    team: dict[str, Path], tmp_path: Path
) -> None:
    hostile, secret = tmp_path / "hostile.duckdb", tmp_path / "secret.csv"
    secret.write_text("key\n1234\n")
    with duckdb.connect(str(hostile)) as connection:
        connection.execute(f"create view modules as from read_csv('{secret}')")
    with pytest.raises(PsrError, match=r"modules of ada, hostile.*Permission Error"):
        sql.asked([str(team["ada"]), f"hostile={hostile}"], "from everyone.modules")
