"""An estimate is made from rates of the shipped model or from the last run, and not of a model that never ran here."""

from pathlib import Path
from types import SimpleNamespace

from flows import params
from flows.estimate import total_line

ROOT = Path(__file__).resolve().parents[2]
STEPS = [SimpleNamespace(name="complete@own", flow="complete", state="run")]


def test_the_shipped_models_rates_are_known(tmp_path):
    assert total_line(tmp_path, STEPS, params.load(ROOT, "quick")).startswith("About ")


def test_another_models_are_not_before_its_first_run(tmp_path):
    assert "not known" in total_line(tmp_path, STEPS, params.load(ROOT, "smollm2-quick"))
