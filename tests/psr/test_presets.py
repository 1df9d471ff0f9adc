from dataclasses import FrozenInstanceError, replace

import pytest

from psr.errors import PsrError
from psr.fitting.methods.named import method_named, preset
from psr.fitting.presets import FAST_LL, FAST_MSE, PAPER_LL, PAPER_MSE, REFT_R1, FitSettings, package


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
    assert preset("fast", "KL") is preset("fast", "RePS") is FAST_LL
    assert preset("paper", "ReFT-r1") is REFT_R1
    for name, objective in (("slow", "MSE"), ("fast", "DiM"), ("fast", "Stolfo")):
        with pytest.raises(PsrError, match=f"paper or fast, of MSE, LL, KL, RePS, ReFT-r1, got {name} {objective}"):
            preset(name, objective)


def test_what_an_experiment_sets_of_a_preset_is_the_methods_to_say():
    mse, ll, reft, dim = (
        method_named(f"s-{name}-r").learning for name in ("psr-mse", "psr-ll", "reft-r1", "const-dim")
    )
    changes = {"preset": "fast", "seed": 7, "epochs": 3, "batch_size": None, "lr": 0.5}
    package = {"regulariser": 0.4, "normalise": True}
    assert mse.settings("fast", changes, package) == replace(FAST_MSE, seed=7, epochs=3, lr=0.5, **package)
    assert ll.settings("paper", changes, package) == replace(PAPER_LL, seed=7, epochs=3, lr=0.5)
    assert reft.settings("fast", changes, package) == replace(REFT_R1, seed=7)
    assert dim.settings("fast", changes, package) is None
    assert mse.settings() == FAST_MSE
    with pytest.raises(PsrError, match="unknown preset, expected one of paper, fast, got 'slow'"):
        mse.settings("slow")


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
