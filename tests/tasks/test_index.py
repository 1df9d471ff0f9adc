"""The index: every view answers, keys hold, damage is named, and readers can only read."""

import json
import re
import threading
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from psr.errors import PsrError
from psr.fitting.methods import BY_SLUG
from psr.types import Judgement
from tasks.shown import index
from tasks.shown.query import ask
from tasks.tables import parquet as tables
from tasks.tables.judge_answers import judge_answers
from tasks.tables.schemas import SCHEMAS, STAGES
from tests.results_folder import SLUGS, answer, module_id, module_row, pairs, write_results
from tests.run_records import a_run, lock, put, ran

VIEWS = (
    "calibrations",
    "judge_answers",
    "judge_usage",
    "completions",
    "judgements",
    "headline",
    "curves",
    "token_strengths",
    "lineage",
    "modules",
    "triplets",
    "dropped",
    "alphas",
    "trait_coherence",
    "scores",
    "faithfulness",
    "deviations",
    "delta",
    "delta_strengths",
    "delta_tokens",
    "readability",
    "bench",
    "claims",
    "adaptation",
    "ablation",
    "side_effects",
    "agreement",
    "verdicts",
    "headline_seeds",
    "ifeval",
    "ifeval_seeds",
    "axbench",
    "axbench_seeds",
    "benchmarks",
    "cells",
    "figures",
    "figures_seeds",
    "means",
    "measures",
    "published",
    "one_factor",
    "runs",
    "runs_steps",
    "made_by",
    "figures_made_by",
)
RECORDS = {"runs", "runs_steps"}  # tables of no parquet file


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of one finished profile, for tests that only read."""
    root = tmp_path_factory.mktemp("finished")
    write_results(root)
    put(root, a_run(results=ran("1"), distill=ran("2")))
    lock(root, results={"data/quick/a": "1"})
    return index.rebuild(root)


def one(path: Path, sql: str) -> object:
    return ask(path, sql).rows[0][0]


def test_every_view_answers_for_a_finished_profile(finished: Path) -> None:
    assert (finished.parent.name, finished.name) == ("data", "results.duckdb")
    assert all(one(finished, f"select count(*) from {view}") for view in VIEWS)


def test_an_absent_stage_gives_an_empty_typed_table(tmp_path: Path) -> None:
    path = index.rebuild(tmp_path)
    assert [one(path, f"select count(*) from {view}") for view in VIEWS] == [0] * len(VIEWS)
    types = dict(ask(path, "select column_name, column_type from (describe headline)").rows)
    assert [types[name] for name in ("ta_cp", "layer", "reached_cp", "n")] == ["DOUBLE", "INTEGER", "BOOLEAN", "BIGINT"]


def test_profiles_stand_side_by_side_and_other_folders_are_left_alone(tmp_path: Path) -> None:
    write_results(tmp_path, "quick")
    write_results(tmp_path, "smoke")
    (tmp_path / "data/testbed/axbench").mkdir(parents=True)
    (tmp_path / "data/testbed/axbench/completions.parquet").write_bytes(b"not ours")
    path = index.rebuild(tmp_path)
    assert ask(path, "select profile, count(*) from completions group by all order by all").rows == (
        ("quick", 36),
        ("smoke", 36),
    )


def test_counts_in_the_index_are_those_of_the_files(tmp_path: Path) -> None:
    data = write_results(tmp_path)
    path = index.rebuild(tmp_path)
    for name in SCHEMAS:
        rows = sum(pq.read_metadata(file).num_rows for file in data.glob(f"*/{name}.parquet"))
        if not STAGES[name]:  # of no profile
            rows = len(judge_answers(tmp_path))
        assert one(path, f"select count(*) from stg_{name}") == rows > 0


def test_completions_carry_their_verdicts_and_their_method(finished: Path) -> None:
    asked = "select distinct method, trait, coherence from completions where stage = 'steer' order by all"
    assert ask(finished, asked).rows == (
        ("a-psr-mse-qr", 93.0, 97.0),
        ("instructed", 95.0, 97.0),
        ("instructed", None, 97.0),
        ("s-const-dim-r", 20.0, 97.0),
    )


def test_completions_tell_what_was_thought_from_the_answer(tmp_path: Path) -> None:
    path = write_results(tmp_path) / "steer/completions.parquet"
    first, *others = tables.read_completions(path)
    tables.write_completions(path, [replace(first, thinking="Ice? <b>\n\x1b", text="Arr."), *others])
    asked = "select id, text, thinking from completions where stage = 'steer' and thinking != ''"
    assert ask(index.rebuild(tmp_path), asked).rows == ((first.id, "Arr.", "Ice? <b>\n\x1b"),)


def test_a_failed_judgement_stays_null_and_is_counted(finished: Path) -> None:
    assert ask(finished, "select value, error from judgements where value is null").rows == ((None, "no number"),)
    assert one(finished, "select sum(unscored) from scores") == 1


def test_lineage_leads_from_every_judgement_to_a_pair(finished: Path) -> None:
    lost = one(
        finished,
        """
        with recursive up(id, root) as (
            select id, id from stg_judgements
            union
            select parent, root from up join lineage on lineage.id = up.id
        ) select count(*) from stg_judgements where id not in (
            select root from up join stg_pairs on stg_pairs.id = up.id)""",
    )
    assert lost == 0
    kinds = {row[0] for row in ask(finished, "select distinct kind || '>' || parent_kind from lineage").rows}
    assert kinds == {
        "judgement>completion",
        "completion>pair",
        "completion>module",
        "module>triplet",
        "triplet>completion",
        "triplet>judgement",
    }


def test_a_doubled_key_is_refused_and_the_old_index_stays(tmp_path: Path) -> None:
    data = write_results(tmp_path)
    path = index.rebuild(tmp_path)
    rows = tables.read_table(data / "distill/modules.parquet", "modules")
    tables.write_table(data / "distill/modules.parquet", "modules", [*rows, rows[0]])
    with pytest.raises(PsrError, match=r"a key is not unique.*table modules.*2 rows for profile 'quick', id"):
        index.rebuild(tmp_path)
    assert one(path, "select count(*) from modules") == len(rows)
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["quick", "results.duckdb"]


def test_an_empty_key_is_refused(tmp_path: Path) -> None:
    data = write_results(tmp_path)
    empty = pa.table({"completion": pa.array([None], pa.string()), "reason": ["x"]})
    pq.write_table(empty, data / "select/dropped.parquet")
    with pytest.raises(PsrError, match=r"is empty \(table dropped\)"):
        index.rebuild(tmp_path)


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    data = write_results(tmp_path)
    (data / "search/candidates.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(PsrError, match=r"a table is damaged \(.*search/candidates.parquet\)"):
        index.rebuild(tmp_path)


def test_a_column_that_one_profile_lacks_is_empty_there_and_not_lost(tmp_path: Path) -> None:
    write_results(tmp_path, "quick")
    other = write_results(tmp_path, "smoke")
    path = other / "search/candidates.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["share"]), path)
    database = index.rebuild(tmp_path)
    assert ask(database, "select profile, count(share) from alphas group by all order by all").rows == (
        ("quick", 12),
        ("smoke", 0),
    )


def test_rebuilding_gives_the_same_rows(tmp_path: Path) -> None:
    """In SQL a view without ORDER BY has no order, and with several threads it really has none."""
    write_results(tmp_path)
    database = index.rebuild(tmp_path)
    first = [ask(database, f"from {view} order by all") for view in VIEWS]
    database = index.rebuild(tmp_path)
    assert [ask(database, f"from {view} order by all") for view in VIEWS] == first


def test_a_reader_holds_no_rebuild_up_and_sees_no_half_index(tmp_path: Path) -> None:
    write_results(tmp_path)
    path = index.rebuild(tmp_path)
    with duckdb.connect(str(path), read_only=True) as reader:
        thread = threading.Thread(target=index.rebuild, args=(tmp_path,))
        thread.start()
        thread.join()
        assert reader.execute("select count(*) from completions").fetchone() == (36,)
    assert one(path, "select count(distinct method) from modules") == len(SLUGS)


@pytest.mark.parametrize("sql", [
    "select * from read_csv('/etc/hostname')",
    "copy modules to 'out.csv'",
    "copy modules to 'DATABASE.wal'",
    "attach 'other.db'",
    "install httpfs",
    "insert into stg_dropped values ('a', 'b', 'c')",
    "drop view headline",
    "set enable_external_access = true",
    "export database 'out'",
])  # fmt: skip
def test_sql_cannot_leave_the_index(finished: Path, sql: str) -> None:
    before = finished.read_bytes()
    with pytest.raises(PsrError, match="the question was refused"):
        ask(finished, sql.replace("DATABASE", str(finished)))
    assert finished.read_bytes() == before
    assert not list(finished.parent.glob("*.wal"))


def test_a_missing_or_foreign_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(PsrError, match=r"no index of results \(.*none.duckdb\).*flows.reproduce"):
        ask(tmp_path / "none.duckdb", "select 1")
    (tmp_path / "bad.duckdb").write_bytes(b"x" * 5000)
    with pytest.raises(PsrError, match=r"cannot be opened \(.*bad.duckdb\)"):
        ask(tmp_path / "bad.duckdb", "select 1")


def test_every_view_and_table_and_every_column_of_it_says_what_it_is() -> None:
    described = index.schema()
    assert {name for name, _, _ in described} == {*VIEWS, "items", *(f"stg_{name}" for name in {*SCHEMAS, *RECORDS})}
    assert [name for name, comment, _ in described if not comment] == []
    empty = [f"{name}.{column}" for name, _, columns in described for column, _, comment in columns if not comment]
    assert empty == []
    assert not [
        text for _, comment, columns in described for text in (comment, *(c for _, _, c in columns)) if "\n" in text
    ]
    headline = next(columns for name, _, columns in described if name == "headline_seeds")
    assert ("ta_cp", "DOUBLE", "trait alignment at the prompt's coherence, 0 to 100") in headline


def test_no_comment_is_for_a_column_that_is_not_there() -> None:
    named = re.findall(r"^    \('([\w.]+)', ", (index.SQL / "columns.sql").read_text(encoding="utf-8"), re.MULTILINE)
    views = {name: [column for column, _, _ in columns] for name, _, columns in index.schema()}
    there = {f"{name}.{column}" for name, columns in views.items() for column in columns}
    there |= {column for columns in views.values() for column in columns}
    assert [name for name in named if name not in there] == []
    assert len(set(named)) == len(named)


def test_figures_side_by_side_and_their_means_are_those_of_the_long_table(finished: Path) -> None:
    rows = ask(finished, "select * from figures").dicts()
    for view, figures in (
        ("headline", ("ta_cp", "ta_cp2", "ta_c80", "words")),
        ("ifeval", ("strict", "effect")),
        ("axbench", ("overall",)),
    ):
        wide = ask(finished, f"select * from {view}").dicts()
        for name in figures:
            long = {(row["attribute"], row["slug"]): row for row in rows if row["figure"] == name}
            for row in wide:
                own = long.get((row["attribute"], row["slug"]), dict.fromkeys(("value", "low", "high")))
                assert (row[name], row[f"{name}_low"], row[f"{name}_high"]) == (own["value"], own["low"], own["high"])
            assert {(row["attribute"], row["slug"]) for row in wide} >= set(long)
    means = {
        (row["benchmark"], row["slug"], row["figure"]): row["value"]
        for row in ask(finished, "select * from means").dicts()
    }
    by_method: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        by_method.setdefault((row["benchmark"], row["slug"], row["figure"]), []).append(row["value"])
    assert means == {key: pytest.approx(sum(own) / len(own)) for key, own in by_method.items()}


def test_a_method_that_lacks_an_attribute_has_no_mean(tmp_path: Path) -> None:
    data = write_results(tmp_path)
    rows = tables.read_table(data / "results/figures.parquet", "figures")
    gone = [row for row in rows if (row["attribute"], row["method"]) != ("persona/pirate", "a-psr-mse-qr")]
    tables.write_table(data / "results/figures.parquet", "figures", gone)
    database = index.rebuild(tmp_path)
    found = ask(database, "select distinct slug from means where benchmark = 'persona' order by all").rows
    assert found == (("plain",), ("prompt",), ("s-const-dim-r",))


def test_one_factor_for_all_concepts_is_the_best_in_their_mean(tmp_path: Path) -> None:
    data = write_results(tmp_path)
    row = {"origin": "axbench", "benchmark": "axbench", "asked": "concept", "sense": "fluency", "strength": "best factor",
           "regulariser": 0.0, "normalise": True}  # fmt: skip
    tables.write_table(data / "complete/benchmarks.parquet", "benchmarks", [row])
    slug = "a-psr-mse-qr"
    ratings = {  # (concept, factor) -> the ratings of its two answers: concept 0 is best at 1, both together at 2
        ("gloomy", 1.0): [(2, 2, 2), (2, 2, 2)], ("gloomy", 2.0): [(2, 1, 2), (1, 1, 1)],
        ("pirate", 1.0): [(0, 2, 2), (0, 2, 2)], ("pirate", 2.0): [(2, 2, 1), (2, None, 2)],
    }  # fmt: skip
    asked, answers, judged, modules = [], [], [], []
    for concept in ("gloomy", "pirate"):
        attribute = f"axbench/{concept}"
        modules.append(module_row(attribute, BY_SLUG[slug]))
        for number, pair in enumerate(pairs(attribute, "search")):
            asked.append(pair)
            for factor in (1.0, 2.0):
                answers.append(answer(pair, module_id(attribute, slug), factor, "text"))
                judged += [
                    Judgement(answers[-1].id, "j", "1", name, value, 2.0)
                    for name, value in zip(
                        ("concept", "instruction", "fluency"), ratings[concept, factor][number], strict=True
                    )
                ]
    tables.write_table(data / "distill/modules.parquet", "modules", modules)
    tables.write_pairs(data / "search/pairs.parquet", asked, "search", "held_out")
    tables.write_completions(data / "search/completions.parquet", answers)
    tables.write_judgements(data / "search/judgements.parquet", judged)
    found = {row["slug"]: row for row in ask(index.rebuild(tmp_path), "select * from one_factor").dicts()}
    plain = 0.02 * 1.0  # figure_rows("axbench", 0.02) of plain
    at_two = (
        (3 / (1 / 2 + 1 + 1 / 2) + 1) / 2 + 3 / (1 / 2 + 1 / 2 + 1)
    ) / 2  # the answer without a rating is left out
    assert at_two > (2 + 0) / 2
    assert (found[slug]["alpha"], found[slug]["attributes"]) == (2.0, 2)
    assert found[slug]["overall"] == pytest.approx(at_two)
    assert found[slug]["gain"] == pytest.approx(at_two - plain)
    assert (found["prompt"]["alpha"], found["prompt"]["gain"]) == (None, pytest.approx(0.02 * 95 - plain))
    assert set(found) == {"plain", "prompt", slug}


def test_runs_in_the_index_are_those_of_their_records(tmp_path: Path) -> None:
    put(
        tmp_path,
        a_run("0000000a", 1, a=ran("1"), b=ran("1", "failed")),
        a_run("0000000b", 2, who="Bób 'x'", b=ran("2")),
    )
    path = index.rebuild(tmp_path)
    records = [json.loads(file.read_text()) for file in sorted(tmp_path.glob("data/*/runs/*.json"))]
    rows = ask(path, "select * from runs").dicts()
    assert [(row["id"], row["who"], row["commit"]) for row in rows] == [
        (r["id"], r["who"], r["commit"]) for r in records
    ]
    assert [row["began"].isoformat() + "Z" for row in rows] == [r["began"] for r in records]
    assert [json.loads(row["settings"]) for row in rows] == [r["settings"] for r in records]
    assert [(row["ran"], row["dirty"], row["packages"]) for row in rows] == [
        (["a"], False, {"torch": "2"}), (["b"], False, {"torch": "2"})
    ]  # fmt: skip
    steps = ask(path, "select run, step, outcome, outputs from runs_steps").rows
    assert list(steps) == [
        (r["id"], name, step["end"], step["outputs"]) for r in records for name, step in sorted(r["steps"].items())
    ]


def test_figures_name_the_run_that_made_them_and_a_teammates_stay_the_teammates(tmp_path: Path) -> None:
    write_results(tmp_path)
    mine = a_run("0000000b", 3, "Bob", results=ran("new", "cached"), distill=ran("m", "cached"), report=ran("r"))
    put(tmp_path, a_run("0000000a", 1, "Ada", results=ran("old"), distill=ran("m")), mine)
    lock(tmp_path, results={"data/quick/a": "old"}, distill={"data/quick/a": "m"}, report={"data/quick/a": "r"})
    path = index.rebuild(tmp_path)
    made = ask(path, "select step, who, run, commit from made_by order by step").rows
    assert made == (
        ("distill", "Ada", "0000000a", "c0ffee"), ("report", "Bob", "0000000b", "c0ffee"), ("results", "Ada", "0000000a", "c0ffee")
    )  # fmt: skip
    assert ask(path, "select who, fitted_by, count(*) from figures_made_by group by all").rows == (
        ("Ada", "Ada", one(path, "select count(*) from figures")),
    )
    lock(tmp_path, results={"data/quick/a": "nobody's"})
    path = index.rebuild(tmp_path)
    assert ask(path, "select distinct who, run, fitted_by from figures_made_by").rows == ((None, None, None),)


def test_a_damaged_record_is_named_and_the_old_index_stays(tmp_path: Path) -> None:
    put(tmp_path, a_run(a=ran("1")))
    path = index.rebuild(tmp_path)
    next(tmp_path.glob("data/*/runs/*.json")).write_text("{")
    with pytest.raises(PsrError, match=r"record of a run is damaged \(.*quick/runs/.*json\)"):
        index.rebuild(tmp_path)
    assert one(path, "select count(*) from runs") == 1
