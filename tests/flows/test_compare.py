"""Two experiments compared: the figures are the tables' own, intervals are those of a plain bootstrap, and nothing pairs in silence."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from flows import compare, params
from psr.errors import PsrError
from psr.types import PromptPair
from tasks.engine.files import write_text
from tasks.engine.lockfiles import SETTINGS
from tasks.steps.results import write_results
from tasks.studies.comparison import Compared, compared
from tasks.tables.parquet import read_table
from tests import claims_folder

ROOT = Path(__file__).resolve().parents[2]
RESAMPLES, SEED = 200, 4
Write = Callable[[str], Path]


def write_experiment(root: Path, profile: str) -> Path:
    """A finished profile of tests/claims_folder.py with its settings."""
    data = root / "data" / profile
    claims_folder.write_judged(data)
    values = params.load(ROOT, "quick").model_dump(mode="json")
    more = {"name": "ifeval", "path": "data/testbed/ifeval", "attributes": ["no_comma"], "methods": None}
    values["benchmarks"] = [*values["benchmarks"], more]
    values["results"] = {"resamples": RESAMPLES, "seed": SEED}
    write_text(root / SETTINGS.format(profile=profile), yaml.safe_dump(values))
    return data


def rows_of(root: Path, first: str, second: str, figure: str = "") -> dict[tuple[str, str], Compared]:
    rows = compared(compare.experiment(root, first), compare.experiment(root, second), figure)
    return {(f"{row.benchmark} mean" if row.attribute == "mean" else row.attribute, row.method): row for row in rows}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`one`; `two`, in which A-PSR does less and A-Const more; `half`: `two` with five of the ten evaluation questions."""
    root = tmp_path_factory.mktemp("experiments")
    write_experiment(root, "one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(claims_folder.TRAIT, "a-psr-mse-qr", 60.0)
        patch.setitem(claims_folder.TRAIT, "a-const-mse-qr", 75.0)
        write_experiment(root, "two")
        patch.setattr(claims_folder, "QUESTIONS", 5)
        write_experiment(root, "half")
    return root


@pytest.fixture
def other(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Writes the experiment `other` with something else in it, and expects that nothing pairs with `one`, for a reason."""

    def refused(name: str, value: object, message: str) -> None:
        monkeypatch.setattr(claims_folder, name, value)
        write_experiment(root, "other")
        with pytest.raises(PsrError, match=f"nothing in these experiments pairs.*{message}") as raised:
            rows_of(root, "one", "other")
        assert "\n" not in str(raised.value)

    return refused


def test_figures_are_those_of_the_tables_and_verdicts_follow_the_intervals(root):
    rows = rows_of(root, "one", "two")
    for profile, which in (("one", "first"), ("two", "second")):
        data = root / "data" / profile
        folders = (data / name for name in ("distill", "search", "steer", "judge", "results"))
        write_results(*folders, claims_folder.KNOWN, resamples=50, seed=1)
        table = {
            (row["attribute"], row["name"], row["figure"]): row["value"]
            for row in read_table(data / "results/figures.parquet", "figures")
        }
        for (attribute, method), row in rows.items():
            if "mean" not in attribute:
                assert getattr(row, which) == pytest.approx(table[attribute, method, row.figure])
    for row in rows.values():
        assert row.difference.value == pytest.approx(row.second - row.first)
        assert row.difference.low - 1e-9 <= row.difference.value <= row.difference.high + 1e-9
    verdicts = {row.method: row.verdict for row in rows.values() if row.attribute == "persona/gloomy"}
    assert verdicts == {
        "plain": "undecided", "prompt": "undecided", "S-Const DiM·R": "undecided", "S-Const MSE·QR": "undecided",
        "S-PSR MSE·QR": "undecided", "A-Const MSE·QR": "better", "A-PSR MSE·QR": "worse",
    }  # fmt: skip


def test_the_mean_is_over_all_attributes_of_a_benchmark(root):
    rows = rows_of(root, "one", "two")
    own = [row for (attribute, method), row in rows.items() if (method, row.benchmark) == ("A-PSR MSE·QR", "persona")]
    *attributes, mean = own
    assert len(attributes) == 3
    assert mean.difference.value == pytest.approx(np.mean([row.difference.value for row in attributes]))
    assert mean.verdict == "worse"
    assert ("ifeval mean", "prompt") not in rows  # of one attribute


def test_the_interval_is_a_bootstrap_over_the_same_questions_and_seeds(root):
    """Recomputed for the prompt from the parquet files alone, in a loop over the draws; `three` has noise of its own."""
    verdicts = claims_folder._verdicts
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(claims_folder.PROMPT, "persona/gloomy", 76.0)
        patch.setattr(claims_folder, "_verdicts", lambda *args: verdicts(*args[:-1], args[-1] + 1000))
        write_experiment(root, "three")
    row = rows_of(root, "one", "three")["persona/gloomy", "prompt"]
    values = [prompt_values(root / "data" / profile) for profile in ("one", "three")]
    apart = values[1] - values[0]  # [seed, question]
    questions = np.random.default_rng([SEED, 1]).multinomial(10, [0.1] * 10, size=RESAMPLES)
    seeds = np.random.default_rng([SEED, 2]).multinomial(1, [0.5] * 2, size=RESAMPLES)  # S − 1 of S are drawn
    draws = [float(seeds[i] @ apart @ questions[i]) / 10 for i in range(RESAMPLES)]
    assert tuple(row.difference) == pytest.approx((apart.mean(), *np.quantile(draws, [0.025, 0.975])))
    assert row.difference.high - row.difference.low > 1


def prompt_values(data: Path) -> np.ndarray:
    """[seed, question] of the prompt on persona/gloomy, the questions by their text."""
    asked = read_table(data / "steer/pairs.parquet", "pairs")
    pairs = {row["id"]: row["question"] for row in asked if row["attribute"] == "persona/gloomy"}
    trait = {
        row["completion"]: row["value"]
        for row in read_table(data / "judge/judgements.parquet", "judgements")
        if row["dimension"] == "trait"
    }
    answers = [
        (row["seed"], pairs[row["pair"]], trait[row["id"]])
        for row in read_table(data / "steer/completions.parquet", "completions")
        if row["method"] == "instructed" and row["pair"] in pairs
    ]
    return np.array([value for *_, value in sorted(answers)]).reshape(2, 10)


def test_an_experiment_is_neither_better_nor_worse_than_itself(root):
    for row in rows_of(root, "one", "one").values():
        assert (tuple(row.difference), row.verdict) == ((0.0, 0.0, 0.0), "undecided")


def test_the_other_way_round_every_difference_has_the_other_sign(root):
    there, back = rows_of(root, "one", "two"), rows_of(root, "two", "one")
    assert set(there) == set(back)
    for key, row in there.items():
        value, low, high = back[key].difference
        assert tuple(row.difference) == pytest.approx((-value, -high, -low))


def test_only_questions_that_both_were_asked_are_compared(root):
    row = rows_of(root, "one", "half")["persona/gloomy", "prompt"]
    assert (row.questions, row.seeds) == (5, 2)
    assert (row.first, row.difference.value) == (pytest.approx(row.second), pytest.approx(0))
    assert row.second == pytest.approx(prompt_values(root / "data/one")[:, :5].mean())


def test_another_figure_can_be_asked_for_and_an_unknown_one_lists_what_there_is(root):
    assert {row.figure for row in rows_of(root, "one", "two", "ta_c80").values()} == {"ta_c80"}
    with pytest.raises(PsrError, match=r"no method has nonsense in both \(its figures are ta_cp, ta_cp2, ta_c80"):
        rows_of(root, "one", "two", "nonsense")


def test_answers_of_another_model_are_not_compared(other):
    other("MODEL", "another-model", "persona/gloomy: another model \\(.*, another-\\)")


def test_ratings_of_another_judge_are_not_compared(other):
    other("JUDGE", "someone", "persona/gloomy: another judge \\(testbed 1, someone 1\\)")


def test_other_questions_are_not_compared(other):
    other("PromptPair", lambda a, q, i: PromptPair(a, f"Else: {q}", i), "persona/gloomy: other questions")


def test_other_seeds_are_not_compared(other):
    other("SEEDS", (8, 9), "other seeds \\(1, 2; 8, 9\\)")


def test_other_attributes_are_not_compared(other):
    other("PROMPT", {"persona/shy": 80.0}, "other attributes \\(.*persona/gloomy.*; persona/shy\\)")


def test_the_command_prints_a_row_a_method_and_compares_across_checkouts(root, tmp_path, capsys):
    assert compare.main(["one", str(root / "data/two"), "--format", "markdown"], root) == 0
    out = capsys.readouterr().out
    assert re.search(r"\| persona/gloomy \| A-PSR MSE·QR \| ta_cp \| .* \| worse \| 2 × 10 \|", out)
    assert compare.main(["one", "two"], root) == 0
    assert re.search(r"persona mean +A-PSR MSE·QR +ta_cp .* worse +2 × 30", capsys.readouterr().out)


@pytest.mark.parametrize("name", ["nothing", "elsewhere/quick"])
def test_an_experiment_that_is_not_here_is_one_clear_line(root, capsys, name):
    assert compare.main(["one", name], root) == 2
    err = capsys.readouterr().err
    assert "the results of this experiment are not here" in err
    assert "dvc pull" in err
    assert err.count("\n") == 1
