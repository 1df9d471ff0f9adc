"""Parameters: typed, frozen, and refused with the known names listed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from flows import params
from flows.estimate import amounts
from psr.errors import PsrError
from psr.evaluation.claims import GOAL
from psr.fitting.presets import AXBENCH_FACTORS
from tasks.engine.pipeline import opened

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "params.yaml"


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., Path]:
    """A copy of params.yaml with values of the quick profile replaced: edited({"distill.lr": 3})."""

    def edit(changes: dict[str, Any], drop: str = "") -> Path:
        sections = yaml.safe_load(SHIPPED.read_text())
        for dotted, value in changes.items():
            *above, last = dotted.split(".")
            here = sections["quick"]
            for step in above:
                here = here[int(step) if step.isdecimal() else step]
            here[last] = value
        if drop:
            section, name = drop.split(".")
            del sections["quick"][section][name]
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(sections))
        return tmp_path / "params.yaml"

    return edit


@pytest.mark.parametrize("profile", ["smoke", "quick", "full", "all"])
def test_every_shipped_profile_is_valid(profile):
    settings = params.load(SHIPPED, profile)
    assert settings.model.threads >= 1
    assert settings.model.trust_remote_code is False


def test_sections_are_frozen():
    settings = params.load(SHIPPED, "quick")
    with pytest.raises(ValidationError, match="frozen"):
        settings.distill.lr = 1.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"distill.lrr": 0.1}, ["unknown parameter quick.distill.lrr", "preset", "epochs"]),
        ({"extras": {}}, ["unknown parameter quick.extras", "model", "benchmarks"]),
        ({"benchmarks.0.names": []}, ["unknown parameter quick.benchmarks.0.names", "attributes", "methods"]),
        ({"benchmarks": []}, ["quick.benchmarks", "at least 1"]),
        (
            {"benchmarks": [{"name": "persona", "path": "a", "attributes": ["b"]}] * 2},
            ["quick.benchmarks", "named twice", "persona"],
        ),
        ({"benchmarks.0.methods": ["a-psr-mse"]}, ["unknown method", "quick", "'a-psr-mse'"]),
        ({"benchmarks.0.methods": []}, ["quick.benchmarks.0.methods", "at least 1"]),
        ({"seeds": []}, ["quick.seeds", "at least 1"]),
        ({"seeds": [1, 2, 1]}, ["quick.seeds", "a seed is named twice"]),
        ({"steer.with_prompt": ["a-psr-ll-r"]}, ["steer.with_prompt", "a-psr-ll-r", "which methods does not"]),
        ({"search.factors": [1, 0.5]}, ["quick.search", "factors must rise"]),
        ({"search.factors": [0, 1]}, ["quick.search.factors.0", "greater than 0"]),
        ({"methods": ["a-psr-mse"]}, ["unknown method", "quick.methods", "a-psr-mse-qr", "'a-psr-mse'"]),
        ({"methods": []}, ["quick.methods", "at least 1"]),
        ({"methods": ["a-psr-mse-qr", "A-PSR MSE·QR"]}, ["quick.methods", "named twice"]),
        ({"model.dtype": "float8"}, ["quick.model.dtype", "'float32'", "'float8'"]),
        ({"benchmarks.0.name": "mmlu"}, ["quick.benchmarks.0.name", "'persona'", "'mmlu'"]),
        ({"judge.name": "gpt"}, ["quick.judge.name", "'testbed'", "'gpt'"]),
        ({"distill.epochs": 0}, ["quick.distill.epochs", "greater than 0", "0"]),
        ({"distill.lr": float("nan")}, ["quick.distill.lr", "nan"]),
        ({"search.alphas": [1, 2]}, ["quick.search", "alphas must rise from 0"]),
        ({"search.alphas": [0, 2, 1]}, ["quick.search", "alphas must rise from 0"]),
        ({"search.alphas": [0, 9]}, ["quick.search", "alpha_max"]),
        ({"select.min_trait": 2}, ["quick.select.min_trait", "less than or equal to 1"]),
        (
            {"steer.seed": 13, "faithfulness.seed": 13},
            ["faithfulness samples under 13 to 13", "steer under 13 to 13", "choose another faithfulness.seed"],
        ),
        (
            {"steer.seed": 13, "faithfulness.seed": 12, "seeds": [1, 2]},
            ["faithfulness samples under 12 to 13", "steer under 13 to 14"],
        ),
        (
            {"steer.seed": 13, "faithfulness.seed": 18, "seeds": [1, 2, 3], "steer.samples": 2},
            ["samples under 18 to 20", "steer under 13 to 18"],
        ),
        ({"faithfulness.questions": 0}, ["quick.faithfulness.questions", "greater than 0"]),
        ({"complete.seed": "one"}, ["quick.complete.seed", "valid integer", "'one'"]),
        ({"model": "gpt2"}, ["quick.model", "'gpt2'"]),
    ],
)
def test_what_is_wrong_is_said_in_one_line(edited, changes, words):
    with pytest.raises(PsrError) as raised:
        params.load(edited(changes), "quick")
    line = str(raised.value)
    assert "\n" not in line
    assert all(word in line for word in [*words, "params.yaml"]), line


@pytest.mark.parametrize("first", [11, 17])
def test_answers_beside_those_of_steer_are_faithfulness_own(edited, first):
    path = edited({"faithfulness.seed": first, "seeds": [1, 2], "steer.samples": 2})  # steer: 13 to 16
    assert params.load(path, "quick").faithfulness.seed == first


def test_full_has_the_seeds_that_the_claims_need():
    settings = params.load(SHIPPED, "full")
    assert len(settings.seeds) == GOAL
    small = params.load(SHIPPED, "quick")
    made = (
        amounts(small, ROOT)["faithfulness"],
        amounts(small.model_copy(update={"seeds": (1, 2)}), ROOT)["faithfulness"],
    )
    assert made[1].count == 2 * made[0].count
    assert [amount.text for amount in made] == ["72 answers taken apart", "144 answers taken apart"]


def test_a_missing_parameter_is_named(edited):
    with pytest.raises(PsrError, match=r"missing parameter quick\.steer\.seed"):
        params.load(edited({}, drop="steer.seed"), "quick")


def test_several_problems_are_said_at_once(edited):
    with pytest.raises(PsrError, match=r"quick\.distill\.lrr.*quick\.steer\.seed"):
        params.load(edited({"distill.lrr": 1, "steer.seed": "x"}), "quick")


def test_an_unknown_profile_lists_the_known_ones():
    with pytest.raises(PsrError, match=r"unknown profile .*smoke, quick, full, all.*'quik'"):
        params.load(SHIPPED, "quik")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("quick: [", "no valid YAML"),
        ("", "no profiles"),
        ("- a\n- b\n", "no profiles"),
        ("quick: {a: \x00}", "no valid YAML"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, text, words):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(PsrError, match=words):
        params.load(tmp_path / "params.yaml", "quick")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PsrError, match="parameters are missing"):
        params.load(tmp_path / "params.yaml", "quick")


def test_methods_are_kept_as_slugs_however_they_are_written(edited):
    settings = params.load(edited({"methods": ["A-PSR MSE·QR", "s-const-dim-r"]}), "quick")
    assert settings.methods == ("a-psr-mse-qr", "s-const-dim-r")


def test_attributes_may_be_written_with_their_benchmark_but_not_twice(edited):
    assert params.load(edited({"benchmarks.0.attributes": ["persona/pirate"]}), "quick").benchmarks[0].attributes == (
        "pirate",
    )
    with pytest.raises(PsrError, match=r"quick\.benchmarks\.0\.attributes: an attribute is named twice"):
        params.load(edited({"benchmarks.0.attributes": ["persona/pirate", "pirate"]}), "quick")


def test_an_attribute_that_the_benchmark_does_not_have_is_refused_with_the_known_ones(edited):
    settings = params.load(edited({"benchmarks.0.attributes": ["pirate", "grumpy"]}), "quick")
    with pytest.raises(PsrError, match=r"unknown attribute.*pirate.*'grumpy'"):
        params.check_attributes(ROOT, settings)
    params.check_attributes(ROOT, params.load(SHIPPED, "quick"))


@pytest.mark.parametrize("profile", sorted(yaml.safe_load(SHIPPED.read_text())))
def test_what_a_profile_reads_is_watched_by_dvc_and_anything_else_is_refused(profile):
    settings = params.load(SHIPPED, profile)
    with opened(ROOT) as pipeline:
        steps = pipeline.plan(profile)
    params.check_watched(settings, steps)
    elsewhere = settings.model_copy(update={"model": settings.model.model_copy(update={"path": "elsewhere/model"})})
    with pytest.raises(PsrError, match=r"DVC does not watch \(elsewhere/model\).*profiles\.yaml"):
        params.check_watched(elsewhere, steps)


def test_the_defaults_are_those_that_results_were_made_with():
    """DVC watches params.yaml and not these: a default that changes makes results stale that nobody is told of."""
    assert params.Model(path="x").model_dump() == {
        "path": "x", "dtype": "float32", "device": "cpu", "threads": 2, "trust_remote_code": False, "template": {}
    }  # fmt: skip
    assert params.Judge().name == "testbed"
    assert params.Sampling(max_new_tokens=1).temperature == 1.0
    assert params.load(SHIPPED, "full").search.factors == AXBENCH_FACTORS
    sections = [
        one.annotation for one in params.Profile.model_fields.values() if hasattr(one.annotation, "model_fields")
    ]
    optional = {
        (name, one.default)
        for section in sections
        for name, one in section.model_fields.items()
        if not one.is_required() and name != "template"
    }
    assert {name for name, default in optional if default not in (None, ())} == {
        "dtype", "device", "threads", "trust_remote_code", "name", "temperature"
    }  # fmt: skip


def test_the_searched_amount_counts_what_persona_is_asked_for_at_most():
    quick, full = (params.load(SHIPPED, name) for name in ("quick", "full"))
    asked = (
        3 * (2 + 4 * (4 + 1 + 2 * 2)) * 48 * 2
    )  # attributes · (plain, prompt, methods · (grid, alpha_max, two points)) · answers
    assert amounts(quick, ROOT)["search"].count == asked
    formats = full.model_copy(update={"benchmarks": tuple(one for one in full.benchmarks if one.name == "ifeval")})
    assert amounts(formats, ROOT)["search"].count == 0  # no search: alpha is 1
