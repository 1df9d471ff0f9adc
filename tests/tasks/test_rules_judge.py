"""The judge `rules` as a judge: what it rates, what it refuses, and what its verdicts hang on."""

from __future__ import annotations

from pathlib import Path

import pytest

from psr.errors import PsrError
from psr.judges.judging import judge_all
from psr.judges.rules import RulesJudge
from psr.judges.traits import TRAITS
from psr.types import Attribute, JudgeItem
from tasks.benchmarks.catalogue import benchmark_named, load_attributes
from tasks.benchmarks.judges import check_judges, judges_named

EVERYDAY = Path(__file__).resolve().parents[2] / "data/everyday"
ATTRIBUTES = [a for b in ("persona", "ifeval") for a in load_attributes(b, EVERYDAY / b)]
JUDGES = judges_named(ATTRIBUTES, "rules")
BENCHMARKS = {name: benchmark_named(name) for name in ("persona", "ifeval")}


def verdicts(benchmark: str, *items: tuple[str, str]) -> list[dict[str, float | None]]:
    """Per (attribute's name, text): dimension -> value."""
    asked = [JudgeItem(str(i), f"{benchmark}/{name}", "Why?", text) for i, (name, text) in enumerate(items)]
    judged = judge_all(JUDGES[benchmark], asked).judgements
    assert {j.scale for j in judged} == {100.0}
    return [{j.dimension: j.value for j in judged if j.completion == item.completion} for item in asked]


def test_it_judges_all_that_ships() -> None:
    check_judges(JUDGES, ATTRIBUTES, BENCHMARKS)
    assert {a.name for a in ATTRIBUTES if a.benchmark == "persona"} == set(TRAITS)


def test_traits_are_rated() -> None:
    assert verdicts("persona", ("pirate", "Arr, matey! It is the sun."), ("cowboy", "Arr, matey! It is the sun.")) == [
        {"trait": 50.0, "coherence": 100.0},
        {"trait": 0.0, "coherence": 100.0},
    ]


def test_formats_are_rated_strictly_and_loosely() -> None:
    bullets, spanish = "detectable_format:number_bullet_lists", "language:response_language:es"
    text = "* one\n* two\n* three\n* four"
    assert verdicts(
        "ifeval", (bullets, text), (bullets, text[:19]), (spanish, "El cielo es azul y el sol brilla.")
    ) == [
        {"accuracy": 0.0, "coherence": 100.0, "accuracy_loose": 100.0},
        {"accuracy": 100.0, "coherence": 100.0, "accuracy_loose": 100.0},
        {"accuracy": 100.0, "coherence": 100.0, "accuracy_loose": 100.0},
    ]


@pytest.mark.parametrize(("benchmark", "name"), [("persona", "gloomy"), ("ifeval", "keywords:none")])
def test_what_it_was_not_given_has_no_value_and_a_reason(benchmark: str, name: str) -> None:
    item = JudgeItem("a", f"{benchmark}/{name}", "Why?", "Yes.")
    judged = judge_all(JUDGES[benchmark], [item]).judgements
    assert {j.value for j in judged} == {None}
    assert all(name in j.error for j in judged)


def test_what_it_has_no_rule_for_is_refused_by_name() -> None:
    gloomy = Attribute("persona", "gloomy", (), (), (), (), (), "")
    assert "pirate" in JUDGES["persona"].refuses(gloomy)
    with pytest.raises(PsrError, match=r"persona/gloomy \(it has rules for affectionate"):
        check_judges(JUDGES, [gloomy], BENCHMARKS)
    with pytest.raises(PsrError, match="rules cannot judge this benchmark"):
        RulesJudge("axbench", {})


def test_its_verdicts_hang_on_the_pattern_or_on_the_checkers_arguments() -> None:
    persona, ifeval = JUDGES["persona"], JUDGES["ifeval"]
    assert persona.reads("persona/pirate") == TRAITS["pirate"].pattern != persona.reads("persona/cowboy")
    french, spanish = (ifeval.reads(f"ifeval/language:response_language:{language}") for language in ("fr", "es"))
    assert french != spanish
    assert french == ifeval.reads("ifeval/language:response_language:fr")
