"""An estimate is made from rates of the shipped model or from the last run, and not of a model that never ran here."""

from pathlib import Path
from shutil import copy
from types import SimpleNamespace

from flows import params
from flows.estimate import cost_lines, counts, judge_calls, total, total_line, weight_bytes
from psr.lm.loading import load_model

ROOT = Path(__file__).resolve().parents[2]
STEPS = [SimpleNamespace(name="complete@own", flow="complete", state="run")]


def test_the_shipped_models_rates_are_known(tmp_path):
    assert total_line(tmp_path, STEPS, params.load(ROOT, "quick")).startswith("About ")


def test_another_models_are_not_before_its_first_run(tmp_path):
    assert "not known" in total_line(tmp_path, STEPS, params.load(ROOT, "smollm2-quick"))


def test_counts_are_those_of_what_is_asked():
    settings = params.load(ROOT, "quick", ["benchmarks.0.attributes=7"])
    (benchmark,) = settings.benchmarks
    made = counts(settings, benchmark)
    assert made.completed == 7 * 40 * 5 * 2  # questions × wordings, with and without
    assert made.kept == 7 * 192  # select.limit
    assert (made.attributes, made.methods) == (7, 28)
    assert total(settings) == made


def test_weights_are_as_large_as_the_loaded_models(tmp_path):
    settings = params.load(ROOT, "quick")
    loaded = load_model(ROOT / settings.model.path).model
    size = sum(parameter.numel() * parameter.element_size() for parameter in loaded.parameters())
    assert weight_bytes(settings.model, ROOT) == size
    half = params.load(ROOT, "quick", ["model.dtype=bfloat16"])
    assert weight_bytes(half.model, ROOT) == size // 2
    assert weight_bytes(settings.model, tmp_path) is None  # no config there
    (tmp_path / settings.model.path).mkdir(parents=True)
    copy(ROOT / settings.model.path / "config.json", tmp_path / settings.model.path)
    assert weight_bytes(settings.model, tmp_path) == size  # the config is enough


def test_what_a_run_costs_is_said_without_anything_at_hand(tmp_path):
    lines = list(cost_lines(tmp_path, params.load(ROOT, "quick")))
    assert [line.partition(":")[0] for line in lines] == ["prompts", "memory", "disk", "judge testbed", "not here"]
    assert "an unknown size" in lines[1]
    assert "an unknown size" in lines[2]
    assert lines[3].endswith("at most 0 calls")
    assert lines[4] == "not here: the model (data/testbed/model), the files of persona (data/testbed/persona)"


def test_what_a_run_costs_with_everything_at_hand():
    lines = list(cost_lines(ROOT, params.load(ROOT, "quick")))
    settings = params.load(ROOT, "quick")
    asked = total(settings).completions
    assert lines[0] == f"prompts: {asked:,} answered, with at most 96 new tokens each: {96 * asked:,} tokens"
    assert "unknown" not in " ".join(lines)
    assert len(lines) == 4


def test_a_judge_that_asks_a_model_asks_of_every_answer(monkeypatch):
    settings = params.load(ROOT, "quick")
    monkeypatch.setattr("psr.testbed.judges.TestbedJudge.calls_per_item", 3, raising=False)
    assert judge_calls(settings) == 3 * total(settings).completions
