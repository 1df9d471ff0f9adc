"""A module's card: every figure with interval, n and judge, what is missing said to be missing, foreign text only as text."""

import hashlib
import re
from dataclasses import replace

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

import psr
from psr.artefact.card import card, code, escaped, fenced
from psr.artefact.facts import HARMFUL, MODULE
from psr.errors import PsrError
from psr.steering.forms import form_named

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HOSTILE = "x`]|\n---\n## Trusted\n```\n<script>alert(1)</script> [a](javascript:b) *c* \x1b[2J\u202e"
FIGURES = (
    psr.CardFigure("plain", "effect", 0.0, -3.0, 3.0, 16, 0, None, "likelihood"),
    psr.CardFigure("prompt", "effect", None, None, None, 16, 2, None, "likelihood"),
    psr.CardFigure(MODULE, "effect", 88.25, 70.0, 96.0, 16, 0, 1.25, "likelihood"),
)
FACTS = psr.CardFacts(
    attribute="persona/pirate", instructions=("Talk like a pirate.",), figures=FIGURES, license="apache-2.0",
    data=(psr.CardData("triplets", 14, "abc123"),), reproduce=("import psr",),
)  # fmt: skip


def module(**changes):
    z = torch.ones(2, 4)
    known = {
        "origin": {"recommended_alpha": 1.25, "safe_alpha": [0.0, 2.0]},
        "base": psr.ModelName("maker/tiny", COMMIT),
    }
    return psr.SteeringModule("pirate", "Const", (0, 1), "R", "0123-45", {"z": z}, **{**known, **changes})


def written(facts=FACTS, digest="d", **changes):
    return card(module(**changes), facts, digest)


def sections(text):
    """Title -> text, of every heading of the second rank outside fences."""
    bare = re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    return dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", bare, re.MULTILINE | re.DOTALL))


def head(text):
    return yaml.safe_load(text.split("\n---\n")[0].removeprefix("---\n"))


def test_the_head_is_what_the_hub_reads():
    about = head(written())
    assert (about["base_model"], about["license"], about["library_name"]) == (
        "maker/tiny",
        "apache-2.0",
        "prompt-steering-replacement",
    )
    assert "steering-vector" in about["tags"]
    assert about["psr_weights_sha256"] == "d"
    [index] = about["model-index"]
    [metric] = [metric for result in index["results"] for metric in result["metrics"]]
    assert (metric["type"], metric["value"]) == ("effect", 88.25)
    assert index["results"][0]["dataset"]["name"] == "persona/pirate"


def test_a_base_without_a_commit_is_no_base_model_of_the_hub():
    assert "base_model" not in head(written(base=psr.ModelName("my-folder")))


def test_every_figure_stands_with_its_interval_its_judge_and_n_and_a_missing_one_is_missing():
    figures = sections(written())["Figures"]
    assert "| this module | effect | 88.25 (70 to 96) | 16 | 1.25 | `likelihood` |" in figures
    assert "| plain | effect | 0 (-3 to 3) | 16 | – | `likelihood` |" in figures
    assert "| prompt | effect | – | 16 (and 2 without a value) | – | `likelihood` |" in figures


def test_what_was_not_measured_is_said():
    by_title = sections(written(psr.CardFacts(), origin={}, base=psr.ModelName()))
    for title in ("Figures", "Side effects", "Faithfulness"):
        assert "Not measured." in by_title[title], title
    assert "Not recorded." in by_title["Data"]
    assert "Range: not measured" in by_title["What it adds"]
    assert "none was chosen" in by_title["What it adds"]
    assert "does not name" in by_title["What it replaces"]
    assert "None was chosen." in by_title["Licence"]
    assert "model-index" not in head(written(psr.CardFacts()))


@pytest.mark.parametrize("form", ["Const", "PSR", "Proj", "PSR4", "LoReFT2"])
def test_the_equation_is_the_forms(form):
    shapes = form_named(form).shapes(4)
    tensors = {name: torch.ones(2, *shape) for name, shape in shapes.items()}
    text = card(psr.SteeringModule("m", form, (0, 1), "QR", "f", tensors), FACTS, "d")
    assert form_named(form).equation in text
    assert form_named(form).formula
    assert ("ReLU" in text) == form_named(form).gated
    assert ("λ_k" in text) == (form_named(form).rank > 1)


@pytest.mark.parametrize("name", sorted(HARMFUL))
def test_a_harmful_trait_is_warned_of_by_its_name(name):
    warned = sections(written(replace(FACTS, attribute=f"persona/{name}")))["Misuse"]
    assert "harms people" in warned
    assert "harms people" not in sections(written())["Misuse"]
    assert "Nobody examined" in sections(written())["Misuse"]


def test_a_trait_may_be_declared_harmful_or_not():
    assert "harms people" in sections(written(replace(FACTS, harmful=True)))["Misuse"]
    assert "harms people" not in sections(written(replace(FACTS, attribute="persona/evil", harmful=False)))["Misuse"]


def test_foreign_text_stays_text_everywhere():
    row = psr.CardFigure(HOSTILE, HOSTILE, 1.0, 0.0, 2.0, 1, 0, 1.0, HOSTILE)
    facts = psr.CardFacts(
        attribute=HOSTILE, instructions=(HOSTILE,), data=(psr.CardData(HOSTILE, 1, HOSTILE),), figures=(row,), side_effects=(row,),
        faithfulness=(row,), reproduce=(f"import psr\n{HOSTILE}",), license=HOSTILE,
    )  # fmt: skip
    bad = replace(module(base=psr.ModelName(HOSTILE, COMMIT)), id=HOSTILE, model=HOSTILE)
    text = card(bad, facts, "d")
    usual = sections(written())
    assert list(sections(text)) == list(usual), "no heading of its own"
    assert head(text)["psr_weights_sha256"] == "d"
    assert "\x1b" not in text
    assert "\u202e" not in text
    outside = re.sub(r"^(`{3,}).*?^\1$", "", text.split("\n---\n", 1)[1], flags=re.MULTILINE | re.DOTALL)
    outside = re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", re.sub(r"\\.", "", outside))
    for live in ("<script", "[a](", "*c*"):
        assert live not in outside, live


@given(st.text())
def test_no_text_ends_its_code_span_or_its_fence(text):
    span = code(text)
    ticks = re.match("`+", span)[0]
    assert re.findall(rf"(?<!`){ticks}(?!`)", span) in ([ticks, ticks], [])
    assert "\n" not in span
    first, *_, last = list(fenced(text, "text"))
    assert last == first.removesuffix("text")
    assert "\n" not in escaped(text)
    assert not re.search(r"(?<!\\)(\\\\)*[<|*\[`]", escaped(text))


def test_it_is_written_beside_the_module_and_names_its_weights(tmp_path):
    folder = psr.save_module(module(), tmp_path / "m")
    file = psr.write_card(folder, FACTS)
    weights = hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()
    assert head(file.read_text())["psr_weights_sha256"] == weights
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_a_range_that_is_none_is_one_line():
    with pytest.raises(PsrError, match="the range of strengths is none"):
        written(origin={"safe_alpha": "wide"})
