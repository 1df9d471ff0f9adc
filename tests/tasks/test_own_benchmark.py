"""A benchmark of one's own: found by its path, refused for what it lacks, and figured as its strength says."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from psr.errors import PsrError
from psr.types import Attribute, Completion, Judgement, PromptPair
from tasks.benchmarks.catalogue import BENCHMARKS, benchmark_named, benchmarks_of, load_attributes
from tasks.benchmarks.contract import AT_ONE, BEST_FACTOR, MATCHED, Benchmark, Loaded, Measure, Read, Strength, divide
from tasks.figures.entries import Entry, entries, mean_rows, seed_rows
from tasks.figures.scores import values_of
from tasks.figures.sides import Side
from tasks.shown import index
from tasks.shown.figures import figure_tables
from tasks.shown.query import ask
from tasks.steps.results import measure_rows, published_rows
from tasks.tables import parquet as tables

DRAWS = {"resamples": 40, "seed": 3}
MODULE = {
    "id": "m", "attribute": "songs/sea", "method": "a-psr-mse-qr", "scope": "A", "form": "PSR", "objective": "MSE",
    "span": "QR", "layer": None, "seed": 1, "triplets": 2, "folder": "m", "model": "f", "fits_likelihoods": True,
}  # fmt: skip


def load(folder: Path, names: Sequence[str] | None, read: Read) -> list[Loaded]:
    sides = divide(["a", "b"], ["c", "d", "e", "f"])
    return [
        Loaded(Attribute("songs", name, ("Sing.",), ("Do sing.",), *sides[:3], ""), sides) for name in names or ["sea"]
    ]


SONGS = Benchmark(
    "songs", load, "singing", "sense", MATCHED, (Measure("ta_cp", "singing"),), "Songs", "How it sings.",
)  # fmt: skip
PERSONA = benchmark_named("persona")


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("songs_of_a_test")
    module.SONGS = SONGS  # type: ignore[attr-defined]
    module.FOREIGN = replace(SONGS, name="poems")  # type: ignore[attr-defined]
    module.WEAK = SimpleNamespace(**{**vars(SONGS), "dimensions": (), "main": None, "strength": object()})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "songs_of_a_test", module)


@pytest.mark.usefixtures("plugged")
def test_an_object_at_a_dotted_path_is_a_benchmark_under_its_own_name(tmp_path: Path) -> None:
    assert benchmark_named("songs_of_a_test:SONGS") is SONGS
    (sea,) = load_attributes("songs_of_a_test:SONGS", tmp_path, ["songs/sea"])
    assert (sea.key, sea.search, sea.evaluate) == ("songs/sea", ("c", "e"), ("d", "f"))


@pytest.mark.usefixtures("plugged")
def test_what_does_not_keep_the_contract_is_refused_and_what_it_lacks_is_listed(tmp_path: Path) -> None:
    with pytest.raises(
        PsrError, match=r"this is no strength of a benchmark .*object without name .*choose \(chooses on"
    ):
        benchmark_named("songs_of_a_test:WEAK")
    with pytest.raises(PsrError, match=r"this is no benchmark .*load \(reads a folder's attributes\)"):
        benchmark_named("psr.errors:PsrError")
    with pytest.raises(
        PsrError, match=r"another name than it \(songs_of_a_test:FOREIGN\), expected poems/…, got songs"
    ):
        load_attributes("songs_of_a_test:FOREIGN", tmp_path, ["sea"])
    twice = [SimpleNamespace(name="songs_of_a_test:SONGS", path="", attributes=[])] * 2
    with pytest.raises(PsrError, match=r"a benchmark is named twice \(songs_of_a_test:SONGS\), got songs"):
        benchmarks_of(twice)


@pytest.mark.parametrize(("changes", "words"), [
    ({"name": "my songs"}, "a name of letters"),
    ({"measures": ()}, "at least one measure"),
    ({"measures": (Measure("strict", "strict"),)}, r"songs\.measures\), expected figures of ta_cp, ta_cp2, ta_c80, got strict"),
    ({"strength": BEST_FACTOR}, "expected figures of overall, singing, sense, got ta_cp"),
    ({"sense": "singing"}, "distinct dimensions"),
    ({"optional": ("singing",)}, "distinct dimensions"),
    ({"package": {"regulariser": 0.1}}, r"songs\.package\), expected regulariser and normalise, got regulariser"),
])  # fmt: skip
def test_fields_that_make_no_sense_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(PsrError, match=words):
        replace(SONGS, **changes)  # type: ignore[arg-type]


def test_ours_are_registered_by_their_own_name() -> None:
    assert [benchmark_named(name).name for name in BENCHMARKS] == list(BENCHMARKS) == ["persona", "ifeval", "axbench"]


def side(names: tuple[str, ...], alphas: Sequence[float], seed: int) -> Side:
    """Answers of plain, prompt, a module at `alphas` and on top of the prompt, rated at random on the dimensions `names`; the
    values of "effect" lie around the ends."""
    generator = np.random.default_rng(seed)
    pairs = [PromptPair("songs/sea", f"{seed} {i}?", "Sing.") for i in range(6)]
    asked = [("plain", 0.0), ("instructed", 0.0), *(("m", alpha) for alpha in alphas), ("m+instructed", 1.0)]
    made = [Completion(pair.id, method, a, 1, "f", "s", (1,), "", True) for method, a in asked for pair in pairs]
    ends = {"effect": (-90, 200)}
    rated = [
        Judgement(c.id, "j", "1", name, generator.uniform(*ends.get(name, (0, 9))), 10.0)
        for c in made
        for name in names
    ]
    return Side(pairs, made, values_of(rated))


def figured(benchmark: Benchmark, names: tuple[str, ...], alphas: Sequence[float] = (0.5, 1.0, 2.0)) -> list[Entry]:
    search, evaluation = side(names, alphas, 1), side(names, alphas, 2)
    return list(entries(benchmark, "songs/sea", 1, [MODULE], search, evaluation, DRAWS))


def rows(found: Sequence[Entry]) -> list[dict[str, object]]:
    return [
        {name: row[name] for name in ("method", "figure", "value", "low", "high", "alpha")} for row in seed_rows(found)
    ]


def test_other_dimensions_are_figured_as_personas_trait_and_coherence() -> None:
    mine = rows(figured(SONGS, ("singing", "sense")))
    assert mine == rows(figured(PERSONA, ("trait", "coherence")))
    methods = ("plain", "prompt", "a-psr-mse-qr", "a-psr-mse-qr+prompt")
    everywhere = {(method, figure) for method in methods for figure in ("ta_cp", "ta_cp2")}
    assert {(row["method"], row["figure"]) for row in mine} == everywhere | {("a-psr-mse-qr", "ta_c80")}


RHYMING = replace(SONGS, optional=("effect", "rhyme"))


def test_what_a_judge_rates_beyond_the_benchmark_is_a_figure_at_the_strength_that_is_chosen() -> None:
    """Both sets of questions are redrawn by hand: the trait and sense of one choose, the effect in the other is the figure."""
    names, alphas = ("singing", "sense", "effect"), (0.0, 0.5, 1.0, 2.0)
    found = {entry.key[1]: entry.figures for entry in figured(RHYMING, names)}
    assert set(found["plain"]) == {"ta_cp", "ta_cp2", "ta_c80", "effect", "effect_c80"}  # no rhyme
    search, evaluation = side(names, alphas[1:], 1), side(names, alphas[1:], 2)
    trait, sense, effect = (
        np.stack([where.mean("m" if alpha else "plain", name, alpha) for alpha in alphas])
        for where, name in ((search, "singing"), (search, "sense"), (evaluation, "effect"))
    )
    prompt = search.mean("instructed", "sense")

    def chosen(at: np.ndarray) -> int:
        bar = prompt[at].mean() - prompt[at].std(ddof=1) / np.sqrt(len(at))
        able = [i for i in range(4) if sense[i, at].mean() >= bar]
        return max(able, key=lambda i: trait[i, at].mean()) if any(able) else 0

    draws = [np.random.default_rng([DRAWS["seed"], stream]).multinomial(6, [1 / 6] * 6, size=40) for stream in (0, 1)]
    redrawn = [
        effect[chosen(np.repeat(range(6), a)), np.repeat(range(6), b)].mean() for a, b in zip(*draws, strict=True)
    ]
    figure = found["a-psr-mse-qr"]["effect"]
    assert figure is not None
    assert figure.value == pytest.approx(effect[chosen(np.arange(6))].mean())
    assert figure.samples == pytest.approx(np.array(redrawn))
    assert figure.alpha == found["a-psr-mse-qr"]["ta_cp"].alpha  # type: ignore[union-attr]
    at_80 = found["a-psr-mse-qr"]["effect_c80"]
    assert at_80 is not None
    assert at_80.alpha == found["a-psr-mse-qr"]["ta_c80"].alpha  # type: ignore[union-attr]
    assert at_80.value == pytest.approx(effect[alphas.index(at_80.alpha)].mean())
    assert found["prompt"]["effect_c80"] is None
    assert found["prompt"]["effect"].value == pytest.approx(evaluation.mean("instructed", "effect").mean())  # type: ignore[union-attr]


@pytest.mark.parametrize(("strength", "shown"), [
    (AT_ONE, (Measure("how", "how", of="singing"), Measure("effect", "effect"), Measure("rhyme", "rhyme"))),
    (BEST_FACTOR, (Measure("overall", "overall"), Measure("effect", "effect"))),
])  # fmt: skip
def test_at_other_strengths_it_is_the_mean_there(strength: Strength, shown: tuple[Measure, ...]) -> None:
    benchmark, names = replace(RHYMING, strength=strength, measures=shown), ("singing", "sense", "effect")
    found = {entry.key[1]: entry.figures for entry in figured(benchmark, names, (1.0,))}["a-psr-mse-qr"]
    effect = found["effect"]
    assert "rhyme" not in found
    assert effect is not None
    assert effect.alpha == found[benchmark.main.figure].alpha  # type: ignore[union-attr]
    assert effect.value == pytest.approx(side(names, (1.0,), 2).mean("m", "effect").mean())


def test_a_dimension_that_no_answer_has_a_value_of_is_no_figure() -> None:
    """A judge whose rule does not know this attribute says so with every answer."""
    search, evaluation = side(("singing", "sense"), (1.0,), 1), side(("singing", "sense"), (1.0,), 2)
    unknown = {(c.id, "rhyme"): None for c in evaluation.completions}
    evaluation = replace(evaluation, values={**evaluation.values, **unknown})
    found = list(entries(RHYMING, "songs/sea", 1, [MODULE], search, evaluation, DRAWS))
    assert not any("rhyme" in entry.figures for entry in found)


def test_a_figure_that_one_repetition_lacks_is_the_mean_of_the_others() -> None:
    with_it, without = figured(RHYMING, ("singing", "sense", "effect")), figured(RHYMING, ("singing", "sense"))
    (row,) = [r for r in mean_rows([without[0], with_it[0]]) if r["figure"] == "effect"]
    assert row["value"] == with_it[0].figures["effect"].value  # type: ignore[union-attr]


def test_at_one_gives_the_mean_of_every_measures_dimension() -> None:
    plain = replace(SONGS, strength=AT_ONE, measures=(Measure("how", "how", of="singing"), Measure("sense", "sense")))
    found = {
        (entry.key[1], name): figure
        for entry in figured(plain, plain.dimensions, (1.0,))
        for name, figure in entry.figures.items()
    }
    answers = side(plain.dimensions, (1.0,), 2)
    for method, label in (("plain", "plain"), ("prompt", "instructed"), ("a-psr-mse-qr", "m")):
        for name, dimension in (("how", "singing"), ("sense", "sense")):
            expected = np.mean([answers.values[c.id, dimension] for c in answers.completions if c.method == label])
            assert found[method, name].value == pytest.approx(expected)  # type: ignore[union-attr]
    assert found["a-psr-mse-qr", "how"].alpha == 1.0  # type: ignore[union-attr]


def test_the_best_factor_is_that_of_the_search_questions_by_the_harmonic_mean_of_all_dimensions() -> None:
    best = replace(SONGS, strength=BEST_FACTOR, more=("rhyme",), measures=(Measure("overall", "overall"),))
    found = {entry.key[1]: entry.figures for entry in figured(best, best.dimensions)}["a-psr-mse-qr"]

    def harmonic(of: Side, alpha: float) -> float:
        ratings = [
            [of.values[c.id, name] / 50 for name in best.dimensions]
            for c in of.completions
            if (c.method, c.alpha) == ("m", alpha)
        ]
        return float(np.mean([len(one) / sum(1 / value for value in one) for one in ratings]))

    search, evaluation = side(best.dimensions, (0.5, 1.0, 2.0), 1), side(best.dimensions, (0.5, 1.0, 2.0), 2)
    chosen = max((0.5, 1.0, 2.0), key=lambda alpha: harmonic(search, alpha))
    assert found["overall"].alpha == chosen  # type: ignore[union-attr]
    assert found["overall"].value == pytest.approx(harmonic(evaluation, chosen))  # type: ignore[union-attr]
    rhyme = np.mean(
        [evaluation.values[c.id, "rhyme"] / 50 for c in evaluation.completions if (c.method, c.alpha) == ("m", chosen)]
    )
    assert found["rhyme"].value == pytest.approx(rhyme)  # type: ignore[union-attr]


def test_its_figures_are_in_sql_and_in_every_table_without_a_view_of_their_own(tmp_path: Path) -> None:
    results, found = tmp_path / "data/mine/results", figured(SONGS, ("singing", "sense"))
    written = {
        "figures": mean_rows(found), "figures_seeds": seed_rows(found), "measures": list(measure_rows(SONGS, 0)),
        "published": list(published_rows(SONGS)),
    }  # fmt: skip
    for name, own in written.items():
        tables.write_table(results / f"{name}.parquet", name, own)
    database = index.rebuild(tmp_path)
    value = found[2].figures["ta_cp"].value  # type: ignore[union-attr]
    asked = (
        "select value, attributes from means where benchmark = 'songs' and figure = 'ta_cp' and slug = 'a-psr-mse-qr'"
    )
    assert ask(database, asked).rows == ((value, 1),)
    assert ask(database, "select count(*) from headline").rows == ((0,),)
    (shown,) = figure_tables(results.parent)
    assert shown.head == ("singing", "sea", "mean ta_cp")
    assert shown.rows[2][0] == "A-PSR MSE·QR"
    assert shown.rows[2][1].startswith(f"{value:.1f} (")
