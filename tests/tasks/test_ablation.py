"""The ablation: names that say what is fitted, what is chosen on which questions, and what the goal's verdict is made of."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psr.errors import PsrError
from psr.fitting.methods import parse_method
from tasks.shown import report
from tasks.shown.studies import ablation_table, spared_table
from tasks.studies.ablation.goal import chosen, spares, verdict, within
from tasks.studies.ablation.table import ablation_rows, spared, store, summary
from tasks.studies.ablation.variants import Variant, grid, parse_variant
from tasks.tables import parquet as tables
from tests.results_folder import ablation_row, write_results


@pytest.mark.parametrize(("text", "rank", "layer", "warm"), [
    ("s-psr4-kl-qr@2+delta", 4, 2, True), ("S-PSR MSE·R@0", 1, 0, False), ("s-psr1-ll-qr@3", 1, 3, False),
    ("a-psr-mse-qr", 1, None, False), ("a-psr8-mse-qr+delta", 8, None, True), ("a-psr2-mse-qr/36+delta+keep0.1", 2, None, True),
])  # fmt: skip
def test_a_name_says_rank_layer_and_start(text, rank, layer, warm):
    variant = parse_variant(text)
    assert (variant.rank, variant.layer, variant.warm) == (rank, layer, warm)
    assert parse_variant(variant.name) == variant


@pytest.mark.parametrize(("text", "triplets", "keep"), [
    ("a-psr-mse-qr", None, None), ("a-psr-mse-qr/36", 36, None), ("a-psr-mse-qr+negatives", None, 0.0),
    ("a-psr-mse-qr+keep", None, 1.0), ("a-psr4-mse-qr/6+keep0.25", 6, 0.25), ("s-psr-mse-qr@2/12+keep1", 12, 1.0),
])  # fmt: skip
def test_a_name_says_how_many_triplets_and_what_a_negative_costs(text, triplets, keep):
    variant = parse_variant(text)
    assert (variant.triplets, variant.keep) == (triplets, keep)
    assert parse_variant(variant.name) == variant
    assert variant.name == text.removesuffix("1") if text.endswith("keep1") else variant.name == text


@given(
    method=st.sampled_from(["a-psr-mse-qr", "s-psr-kl-r", "a-psr16-ll-qr", "s-psr2-reps-r"]), layer=st.integers(0, 200),
    triplets=st.none() | st.integers(1, 10**6), warm=st.booleans(),
    keep=st.none() | st.just(0.0) | st.integers(1, 999_999).map(lambda n: n / 1000),
)  # fmt: skip
def test_every_variant_is_read_back_from_its_name(method, layer, triplets, warm, keep):
    parsed = parse_method(method)
    variant = Variant(parsed, layer if parsed.scope == "S" else None, warm, triplets, keep)
    assert parse_variant(variant.name) == variant
    assert parse_variant(variant.name.upper()) == variant


@pytest.mark.parametrize(("text", "words"), [
    ("a-psr-mse-qr/0", "unknown variant"), ("a-psr-mse-qr+keep0", "weighs nothing"), ("a-psr-mse-qr+keep-1", "unknown variant"),
    ("a-psr-mse-qr+keep1+negatives", "unknown variant"), ("a-psr-mse-qr+negatives2", "unknown variant"),
    ("a-psr-mse-qr/6/7", "unknown variant"), ("a-psr-mse-qr+keep0.0001", "unknown variant"),
    ("s-psr4-kl-qr", "names its layer.*expected s-psr4-kl-qr@2"), ("a-psr-mse-qr@3", "an all-layer one none.*expected a-psr-mse-qr"),
    ("s-const-mse-qr@2", "varies PSR"), ("s-psr4-xy-qr@2", "unknown method"), ("s-psr4-kl-qr@two", "unknown variant"),
])  # fmt: skip
def test_a_name_that_says_nonsense_is_refused(text, words):
    with pytest.raises(PsrError, match=words):
        parse_variant(text)


def test_the_grid_crosses_rank_objective_and_start_at_one_layer_and_sweeps_the_others():
    variants = grid(range(6), 3)
    assert len(set(variants)) == len(variants) == 4 * 3 * 2 + 3 * 5 + 1
    crossed = {(v.rank, v.method.objective, v.warm) for v in variants if v.layer == 3}
    assert crossed == set(itertools.product((1, 2, 4, 8), ("MSE", "LL", "KL"), (False, True)))
    assert {v.layer for v in variants if v.rank == 4 and not v.warm} == set(range(6))
    assert [v.name for v in variants if v.method.scope == "A"] == ["a-psr-mse-qr"]


def test_a_layer_that_the_model_has_not_is_refused():
    with pytest.raises(PsrError, match=r"no such layer to steer \(s-psr-mse-qr@6\), expected 0 to 5, got 6"):
        parse_variant("s-psr-mse-qr@6").layers(6)


@pytest.mark.parametrize(("benchmark", "low", "high", "expected"), [
    ("persona", -2.9, 1.0, "holds"), ("persona", -9.0, -3.1, "fails"), ("persona", -4.0, 0.0, "undecided"),
    ("ifeval", 0.0, 2.0, "holds"), ("ifeval", -2.0, -0.1, "fails"), ("ifeval", -1.0, 1.0, "undecided"),
    ("persona", None, None, "undecided"),
])  # fmt: skip
def test_a_verdict_needs_the_whole_interval_on_one_side_of_the_margin(benchmark, low, high, expected):
    assert verdict({"benchmark": benchmark, "ahead_low": low, "ahead_high": high}) == expected


@pytest.mark.parametrize(("equal", "effect_high", "drift", "expected"), [
    (2, 1.0, (-0.2, -0.1), "holds"), (2, 1.0, (-0.2, 0.0), "holds"), (2, 1.0, (-0.2, 0.1), "undecided"),
    (2, 1.0, (0.1, 0.2), "fails"), (2, -0.1, (-0.2, -0.1), "fails"), (1, 1.0, (-0.2, -0.1), "undecided"),
    (2, None, (-0.2, -0.1), "undecided"), (2, 1.0, (None, None), "undecided"),
])  # fmt: skip
def test_the_prompts_effect_counts_as_reached_at_no_more_drift_only_by_both_intervals(
    equal, effect_high, drift, expected
):
    low, high = drift
    row = ablation_row(
        "persona/pirate", equal=equal, ahead_equal_high=effect_high, drift_more_low=low, drift_more_high=high
    )
    assert spares(row) == expected


def test_each_variant_has_a_line_on_its_drift_at_the_prompts_effect():
    rows = [
        ablation_row("persona/pirate", "a@1"), ablation_row("persona/gloomy", "a@1", drift=0.7, drift_more_low=0.1),
        ablation_row("persona/pirate", "b@1", equal=1), ablation_row("persona/gloomy", "b@1", negatives=2),
    ]  # fmt: skip
    assert spared(rows, "persona") == [
        "a@1: the prompt's effect (+0.5) at no more drift (0.500 of 0.500 nats a token) on 1 of 2 attributes (1 holds, 1 fails).",
        "b@1: the prompt's effect (+0.5) at no more drift (0.300 of 0.500 nats a token) on 1 of 2 attributes (1 holds, 1 undecided).",
    ]
    table = spared_table(rows, "persona")
    assert [len(line) for line in table.rows] == [3, 3]
    assert "not reached by 1 of 2" in str(table.rows[1])
    assert "2 negatives" in str(spared_table(rows[3:], "persona").rows[0])


def test_settings_are_chosen_on_search_questions_only():
    rows = [
        ablation_row("persona/pirate", "good@1", -9.0, ahead_search=1.0),
        ablation_row("persona/pirate", "bad@1", 5.0, ahead_search=-1.0),
    ]
    assert chosen(rows, "persona") == "good@1"
    assert not within(rows[0])


def test_what_is_chosen_is_one_layer_of_rank_at_most_8_measured_everywhere():
    best = {"ahead_search": 9.0}
    rows = [
        ablation_row("persona/pirate", "s@1"),
        ablation_row("persona/gloomy", "s@1"),
        *(ablation_row(key, "all", layer=None, **best) for key in ("persona/pirate", "persona/gloomy")),
        *(ablation_row(key, "wide@1", rank=16, **best) for key in ("persona/pirate", "persona/gloomy")),
        ablation_row("persona/pirate", "once@1", **best),
        ablation_row("ifeval/x", "format@1", **best),
    ]
    assert chosen(rows, "persona") == "s@1"
    assert chosen(rows[2:4], "persona") is None


def test_of_equals_the_smaller_one_is_chosen():
    rows = [
        ablation_row("persona/pirate", "a-large@1", numbers=2056),
        ablation_row("persona/pirate", "small@1", numbers=257),
    ]
    assert chosen(rows, "persona") == "small@1"


def test_what_is_measured_again_replaces_and_the_rest_stays(tmp_path: Path):
    store(tmp_path, [ablation_row("persona/pirate", "a@1"), ablation_row("persona/pirate", "b@1")])
    store(tmp_path, [ablation_row("persona/pirate", "a@1", float("nan")), ablation_row("persona/gloomy", "a@1")])
    assert [(row["attribute"], row["variant"], row["ahead"]) for row in ablation_rows(tmp_path)] == [
        ("persona/pirate", "b@1", -1.0),
        ("persona/pirate", "a@1", None),
        ("persona/gloomy", "a@1", -1.0),
    ]


def test_the_line_below_the_table_counts_the_chosen_variants_attributes():
    rows = [ablation_row("persona/pirate", "a@1", -1.0), ablation_row("persona/gloomy", "a@1", -9.0)]
    assert "a@1, best on the search questions: within 3 points of the prompt on 1 of 2 attributes" in summary(
        rows, "persona"
    )
    assert "(1 hold, 1 fail, 0 undecided by their intervals)" in summary(rows, "persona")
    assert "no single layer of rank at most 8" in summary([ablation_row("persona/pirate", "a", layer=None)], "persona")
    assert [len(name) > 0 for name in ablation_table(rows, "persona").head] == [True] * 7


def test_the_stages_report_shows_no_ablation_and_the_commands_does(tmp_path: Path):
    data = write_results(tmp_path)
    assert "one layer, " not in report.build(data, tmp_path / "a").read_text(encoding="utf-8")
    rows = [
        *tables.read_table(data / "ablation/ablation.parquet", "ablation"),
        ablation_row("ifeval/lower", "s-psr-mse-r@1", -5.0, reached=False, dead=1),
    ]
    page = report.build(data, tmp_path / "b", beside={"ablation": rows}).read_text(encoding="utf-8")
    assert [page.count(f"one layer, {name}</h2>") for name in ("persona", "ifeval")] == [1, 1]
    assert [page.count(f"effect, {name}</h2>") for name in ("persona", "ifeval")] == [1, 1]
    assert "s-psr4-kl-qr@2 *" in page
    assert re.search(
        r"-5\.0<small>-6 to -4, fails</small><small[^>]*>90\.0 of 95\.0, not reached, 1 dead</small>", page
    )
