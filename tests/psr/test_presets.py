from dataclasses import FrozenInstanceError, replace

import pytest

from psr.errors import PsrError
from psr.fitting.presets import FAST_LL, FAST_MSE, PAPER_LL, PAPER_MSE, FitSettings, package, preset


def test_paper_presets_hold_the_published_constants():
    for settings, epochs in ((PAPER_MSE, 15), (PAPER_LL, 7)):
        assert (settings.epochs, settings.batch_size, settings.lr) == (epochs, 1, 1e-3)
        assert (settings.weight_decay, settings.seed, settings.alpha_offset) == (1e-6, 123, 0.0)
    assert PAPER_MSE.normalise
    assert PAPER_MSE.soft_labels
    assert PAPER_MSE.regulariser == 0.1
    assert PAPER_LL.label_span == "response"
    assert PAPER_LL.regulariser == 0


def test_fast_presets_differ_from_paper_in_batch_and_rate_only():
    assert replace(FAST_MSE, batch_size=1, lr=1e-3) == PAPER_MSE
    assert replace(FAST_LL, batch_size=1, lr=1e-3) == PAPER_LL
    assert (FAST_MSE.batch_size, FAST_MSE.lr, FAST_MSE.epochs) == (32, 1e-2, 15)


def test_preset_is_found_by_name_and_objective():
    assert preset("paper", "LL") is PAPER_LL
    assert preset("fast", "MSE") is FAST_MSE
    with pytest.raises(PsrError, match="fast MSE, fast LL, got slow MSE"):
        preset("slow", "MSE")


def test_packages_keep_regulariser_and_normalised_mse_together():
    assert package("persona") == {"regulariser": 0.1, "normalise": True}
    ifeval = replace(PAPER_MSE, **package("ifeval"))
    assert (ifeval.regulariser, ifeval.normalise) == (0.0, False)
    assert package("axbench") == {"regulariser": 0.0, "normalise": True}
    with pytest.raises(PsrError, match="persona, ifeval, axbench"):
        package("glue")


def test_changing_a_package_changes_no_later_one():
    package("persona")["regulariser"] = 7.0
    assert package("persona")["regulariser"] == 0.1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("weight_decay", -1.0),
        ("regulariser", -0.1),
        ("regulariser", float("nan")),
        ("stop_below", 0.0),
        ("alpha_offset", float("inf")),
        ("label_span", "prompt"),
        ("init", "zeros"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(name, value):
    with pytest.raises(PsrError, match=name):
        FitSettings(**{name: value})


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        PAPER_MSE.lr = 1.0  # type: ignore[misc]
