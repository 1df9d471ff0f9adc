"""The command that makes an artefact of a fitted module: the card has the tables' figures, and what it refuses."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

import psr
from flows import card
from tasks.shown import card as tables_shown
from tasks.shown.card import recommended, safe_range
from tests.results_folder import write_results

ROOT = Path(__file__).resolve().parents[2]
WANTED = ["--attribute", "persona/pirate", "--method", "a-psr-mse-qr"]
SETTINGS = {
    "model": {"path": "data/testbed/model", "revision": None},
    "inputs": {"model": "aa.dir", "benchmarks": {"persona": "bb.dir"}},
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished profile with its modules."""
    data = write_results(tmp_path, adapters=True)
    (data / "settings.yaml").write_text(yaml.safe_dump(SETTINGS))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "data/testbed").symlink_to(ROOT / "data/testbed")
    monkeypatch.setattr(card.environment, "set_defaults", lambda root: None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_card_has_what_the_tables_say_and_what_they_do_not(root, capsys):
    assert card.main([*WANTED, "--out", "artefact", "--license", "mit"], root) == 0
    assert capsys.readouterr().out.splitlines() == ["artefact/README.md", "psr push artefact OWNER/NAME"]
    text = (root / "artefact/README.md").read_text()
    for row in (
        r"\| this module \| trait alignment at the prompt's coherence \| 93 \(90 to 96\) \| 2 \| 1 \| `testbed \(rubric 1\)` \|",
        r"\| prompt \| trait alignment at the prompt's coherence \| 95 \(92 to 98\) \| 2 \(and 1 without a value\) \| – \|",
        r"\| plain \| trait alignment at the prompt's coherence \| 1 \(0 to 4\) \|",
        r"\| this module \| coherence there \| 97 \(no interval\) \| 2 \| 1 \|",
        r"\| this module \| layer 2 \| 0\.25 \(0\.24 to 0\.26\) \| 2 \| 1 \|",
        r"\| the prompt in other words \| layer 2 \| 0\.1 \(",
        r"\| triplets fitted on, .*dropped: 2 trait below 0\.5\\\) \| 2 \|",
        r"\| files of the benchmark persona \| – \| `bb\.dir` \|",
        "AUC of 0.990",
        "Be pirate.",
        "python -m flows.reproduce --profile quick",
        "for `model`",
    ):
        assert re.search(row, text), row
    assert "Not measured." in text.partition("## Side effects")[2].partition("##")[0]
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "mit"


def test_side_effects_stand_with_the_prompts_own_beside_them_where_they_were_measured(root, monkeypatch):
    def one(method, measure, turn, value, **more):
        known = {"attribute": "persona/pirate", "method": method, "measure": measure, "turn": turn}
        known |= dict.fromkeys(("value", "low", "high"), value)
        known |= {"alpha": 1.5 if "psr" in method else None, "n": 8, "n_unscored": None, "seeds": 3, "note": ""}
        return {**known, **more}

    rows = [
        *(
            one(method, "drift", 0, value)
            for method, value in (("prompt", 0.25), ("a-psr-mse-qr", 0.5), ("s-const-dim-r", 9.0))
        ),
        *(one("a-psr-mse-qr", "effect", turn, 80.0 + turn) for turn in (1, 5, 10)),
        one("plain", "english", 0, None, n=None, note="no answers"),
        one("prompt", "drift", 0, 7.0, attribute="persona/gloomy"),
    ]
    read = tables_shown.read_table
    monkeypatch.setattr(
        tables_shown, "read_table", lambda file, name: rows if name == "side_effects" else read(file, name)
    )
    (root / "data/quick/side_effects").mkdir(exist_ok=True)
    (root / "data/quick/side_effects/side_effects.parquet").touch()
    assert card.main([*WANTED, "--out", "artefact"], root) == 0
    shown = (root / "artefact/README.md").read_text().partition("## Side effects")[2].partition("\n## ")[0]
    assert [line for line in shown.splitlines() if line.startswith("|")][2:] == [
        "| prompt | drift | 0.25 (0.25 to 0.25) | 8 | – | none, it is counted |",
        "| this method, over 3 seeds | drift | 0.5 (0.5 to 0.5) | 8 | 1.5 | none, it is counted |",
        "| this method, over 3 seeds | effect, turn 1 | 81 (81 to 81) | 8 | 1.5 | `testbed (rubric 1)` |",
        "| this method, over 3 seeds | effect, turn 10 | 90 (90 to 90) | 8 | 1.5 | `testbed (rubric 1)` |",
        r"| plain | english \(no answers\) | – | – | – | none, it is counted |",
    ]


def test_the_module_is_that_of_the_pipeline_with_its_strength(root):
    assert card.main([*WANTED, "--out", "artefact"], root) == 0
    made, fitted = (
        psr.load_module("artefact"),
        psr.load_module("data/quick/distill/modules/persona-pirate/a-psr-mse-qr"),
    )
    assert (made.id, made.form, made.layers, made.model) == (fitted.id, fitted.form, fitted.layers, fitted.model)
    assert all((made.tensors[name] == tensor).all() for name, tensor in fitted.tensors.items())
    assert made.recommended_alpha == 1.0
    assert made.origin["profile"] == "quick"


@pytest.mark.parametrize(("arguments", "words"), [
    (["--attribute", "persona/none", "--method", "a-psr-mse-qr"], "no such module in this profile"),
    ([*WANTED, "--seed", "9"], "expected one of --seed 123"),
    ([*WANTED, "--profile", "full"], "a card works on a finished profile"),
    ([*WANTED, "--base", "maker/tiny", "--base-revision", "main"], "has to be a commit"),
])  # fmt: skip
def test_what_cannot_be_carded_is_refused_in_one_line(root, capsys, arguments, words):
    assert card.main([*arguments, "--out", "artefact"], root) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.err.count("\n") == 1
    assert not (root / "artefact").exists()


def test_a_strength_is_that_of_the_prompts_coherence_or_the_next_that_is_one():
    def rows(**alphas):
        return [{"point": point, "alpha": alpha, "chosen": True} for point, alpha in alphas.items()]

    assert recommended(rows(Cp=0.75, C80=2.0)) == ("Cp", 0.75)
    assert recommended(rows(C80=2.0, Cp=0.0, Cp2=0.0)) == ("C80", 2.0)
    assert recommended(rows(one=1.0)) == ("one", 1.0)
    assert recommended(rows(Cp=0.0)) == ("", None)


def test_the_range_ends_where_answers_stop_making_sense():
    def curve(*coherence, prompt=95.0):
        steered = [
            {"method": "m", "alpha": float(i), "trait": 50.0, "coherence": one} for i, one in enumerate(coherence)
        ]
        return [
            {"method": side, "alpha": None, "trait": 0.0, "coherence": prompt} for side in ("plain", "prompt")
        ] + steered

    assert safe_range(curve(98.0, 97.0, 40.0)) == [0.0, pytest.approx(1.1, abs=0.051)]
    assert safe_range(curve(98.0, 97.0, 96.0)) == [0.0, 2.0]
    assert safe_range(curve(98.0)[2:]) is None, "plain and prompted answers were not rated"
