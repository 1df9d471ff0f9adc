"""What DVC and git keep of the figures: the README's table, a screenful of metrics, two plots."""

import csv
import json
from pathlib import Path

import pytest
import yaml

from tasks.figures.summaries import figures_of_headline, headline, metrics, write_summaries
from tasks.shown import report
from tasks.shown.figures import FAVOURED, figure_tables
from tasks.shown.tables import markdown
from tasks.tables import parquet as tables
from tests.results_folder import ATTRIBUTES, TA_CP, figure_rows, write_figures, write_results

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    data = write_results(tmp_path)
    write_summaries(data / "results", data / "distill", data)
    return data


def test_metrics_are_a_few_numbers_a_benchmark(data: Path) -> None:
    values = json.loads((data / "metrics.json").read_text(encoding="utf-8"))
    assert {name: value for name, value in values.items() if name.startswith("persona")} == {
        "persona ta_cp plain": TA_CP["plain"],
        "persona ta_cp prompt": TA_CP["prompt"],
        "persona ta_cp best": TA_CP["a-psr-mse-qr"],
        "persona ta_cp2 plain": TA_CP["plain"] + 0.5,
        "persona ta_cp2 prompt": TA_CP["prompt"] + 0.5,
        "persona ta_cp2 best": TA_CP["a-psr-mse-qr"] + 0.5,
    }
    assert len(values) == 12
    assert values["axbench overall best"] == round(0.02 * TA_CP["a-psr-mse-qr"], 3)


def test_the_best_is_of_what_was_measured_on_every_attribute_and_without_the_prompt(tmp_path: Path) -> None:
    rows = [row for row in figure_rows("persona") if row["figure"] == "ta_cp"]
    rows.append({**rows[-1], "method": "a-psr-mse-qr+prompt", "value": 99.9})
    rows = [row for row in rows if (row["method"], row["attribute"]) != ("a-psr-mse-qr", ATTRIBUTES[0])]
    measures = [{"benchmark": "persona", "figure": "ta_cp", "position": 0}]
    assert metrics(rows, measures)["persona ta_cp best"] == TA_CP["s-const-dim-r"]


def test_the_headline_and_what_is_read_back_from_it_show_the_same_table(data: Path, tmp_path: Path) -> None:
    tree = json.loads((data / "headline.json").read_text(encoding="utf-8"))
    assert tree == headline(tables.read_table(data / "results/figures.parquet", "figures"))
    assert (
        tree[ATTRIBUTES[0]]["prompt"] | {"ta_cp": 95.0, "ta_c80": None, "n": 2, "n_unscored": 1}
        == tree[ATTRIBUTES[0]]["prompt"]
    )
    older = {
        name: {slug: {k: v for k, v in row.items() if "cp2" not in k} for slug, row in own.items()}
        for name, own in tree.items()
    }
    assert {row["figure"] for row in figures_of_headline(older)} == {"ta_cp", "ta_c80"}
    other = tmp_path / "other"
    write_figures(other, list(figures_of_headline(tree)), ["persona"])
    assert figure_tables(other) == figure_tables(data)[:1]


def test_what_a_judge_finds_by_words_is_kept_in_the_headline(tmp_path: Path) -> None:
    rows = figure_rows("persona")
    words = [{**row, "figure": "words", "value": 30.0} for row in rows if row["figure"] == "ta_cp"]
    tree = headline([*rows, *words])
    assert tree[ATTRIBUTES[0]]["prompt"]["words"] == 30.0
    write_figures(tmp_path / "other", list(figures_of_headline(tree)), ["persona"])
    assert figure_tables(tmp_path / "other")[0].head[-1] == "by words"


def test_methods_that_fit_what_the_judge_measures_are_marked_in_every_table(data: Path, tmp_path: Path) -> None:
    rows = [{**row, "favoured": row["method"] == "a-psr-mse-qr"} for row in figure_rows("persona")]
    write_figures(data, rows, ["persona"])
    tree = headline(rows)
    write_figures(tmp_path / "other", list(figures_of_headline(tree)), ["persona"])
    for shown in (*figure_tables(data), *figure_tables(tmp_path / "other")):
        assert [row[0] for row in shown.rows] == ["plain", "prompt", "S-Const DiM·R", "A-PSR MSE·QR †"]
        assert markdown(shown).splitlines()[-2:] == ["", FAVOURED]
    page = (report.build(data, tmp_path / "page")).read_text(encoding="utf-8")
    assert page.count(FAVOURED) == 1
    write_figures(data, figure_rows("persona"), ["persona"])
    assert "†" not in markdown(figure_tables(data)[0]) + report.build(data, tmp_path / "page").read_text(
        encoding="utf-8"
    )


def test_plots_are_of_one_repetition_and_name_the_columns_that_dvc_draws(data: Path) -> None:
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["results"]["do"]
    drawn = {name.rsplit("/")[-1]: axes for entry in stage["plots"] for name, axes in entry.items()}
    assert {path.name for path in (data / "plots").iterdir()} == set(drawn)
    for name, axes in drawn.items():
        with (data / "plots" / name).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert rows
        assert {"attribute", "method", "step", axes["x"], axes["y"]} <= set(rows[0])
        assert (ROOT / f".dvc/plots/{axes['template']}.json").is_file()
    with (data / "plots/training.csv").open(encoding="utf-8", newline="") as file:
        pirate = [row for row in csv.DictReader(file) if row["attribute"] == "persona/pirate"]
    assert [(row["step"], row["loss"]) for row in pirate] == [("1", "1.0"), ("2", "0.5"), ("3", "0.3333")]
