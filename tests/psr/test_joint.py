"""Modules fitted in one pass are those fitted alone, whatever shares the pass with them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psr.errors import PsrError
from psr.fitting import loop as fitting
from psr.fitting.joint import fit_many, passes
from psr.fitting.loop import Diverged, Fitted, fit
from psr.fitting.methods import parse_method
from psr.fitting.presets import FAST_MSE, FitSettings
from psr.fitting.stores import in_eight_bits
from psr.lm.recording import record
from tests.psr.drawn import drawn
from tests.psr.families import LAYERS, family
from tests.psr.toy import examples, toy

SETTINGS = replace(FAST_MSE, epochs=2, batch_size=3, lr=3e-3)
ALL = tuple(range(LAYERS))


def settings_of(objective: str) -> FitSettings:
    return SETTINGS if objective == "MSE" else replace(SETTINGS, normalise=False, soft_labels=False)


def same(one: Fitted | Diverged, other: Fitted, rtol: float = 2e-4, atol: float = 2e-5) -> None:
    assert isinstance(one, Fitted)
    for name, value in other.module.tensors.items():
        torch.testing.assert_close(one.module.tensors[name], value, rtol=rtol, atol=atol)
    assert one.dead == other.dead
    for a, b in zip(one.curve, other.curve, strict=True):
        assert (a.loss, a.objective, a.regulariser, a.dead) == pytest.approx(
            (b.loss, b.objective, b.regulariser, b.dead), rel=1e-4, abs=1e-6
        )


@pytest.mark.parametrize(
    "slug",
    ["a-psr-mse-qr", "s-psr4-mse-r", "a-const-mse-r", "a-psr-ll-r", "s-psr2-kl-qr", "s-loreft2-ll-r", "s-psr-reps-r"],
)
def test_each_module_is_the_one_fitted_alone(slug):
    """Sets of different sizes (so of different numbers of steps), seeds of their own, passes that cut through them."""
    lm, method = family("llama"), parse_method(slug)
    layers = (1,) if method.scope == "S" else ALL
    data = {name: drawn(n, n, method.span, rejected=True) for name, n in (("a", 5), ("b", 3), ("c", 7))}
    seeds, settings = {"a": 1, "b": 2, "c": 3}, settings_of(method.objective)
    joint = fit_many(lm, data, method, layers, settings, seeds=seeds, tokens=80)
    assert list(joint) == list(data)
    for name, own in data.items():
        alone = fit(lm, own, method, layers, replace(settings, seed=seeds[name]), module_id=name)
        same(joint[name], alone)
        assert joint[name].module.id == name
        assert joint[name].module.origin == alone.module.origin


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "qwen2_moe"])
def test_other_families_too(name):
    lm, method = family(name), parse_method("a-psr-mse-r")
    data = {"a": drawn(6, 1), "b": drawn(5, 2)}
    joint = fit_many(lm, data, method, ALL, SETTINGS)
    for own in data:
        same(joint[own], fit(lm, data[own], method, ALL, SETTINGS, module_id=own))


def test_the_same_examples_under_many_seeds_are_kept_once(monkeypatch):
    lm, method, own, asked = family("llama"), parse_method("a-psr-mse-r"), drawn(5, 1), []
    real = fitting.pose
    from psr.fitting import joint as module

    monkeypatch.setattr(module, "pose", lambda lm, pool, *rest: (asked.append(len(pool)), real(lm, pool, *rest))[1])
    data = {"a": own, "b": drawn(3, 2), "c": own}
    found = fit_many(lm, data, method, ALL, SETTINGS, seeds={"a": 1, "b": 1, "c": 2})
    assert asked == [8]
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        same(found[name], fit(lm, data[name], method, ALL, replace(SETTINGS, seed=seed), module_id=name))


def test_given_targets_are_used_and_8_bit_ones_too():
    lm, method = family("llama"), parse_method("a-psr-mse-r")
    data = {"a": drawn(5, 1), "b": drawn(4, 2)}
    kept = {
        name: record(
            lm, [one.tokens.instructed_ids for one in own], [one.tokens.instructed_start for one in own], ALL, span="R"
        )
        for name, own in data.items()
    }
    for targets in (kept, {name: in_eight_bits(one) for name, one in kept.items()}):
        joint = fit_many(lm, data, method, ALL, SETTINGS, targets=targets)
        for name in data:
            same(joint[name], fit(lm, data[name], method, ALL, SETTINGS, targets=targets[name], module_id=name))


def test_early_stops_are_each_attributes_own():
    lm, method = family("llama"), parse_method("a-psr-mse-r")
    data = {"a": drawn(6, 1), "b": drawn(6, 2)}
    curves = {
        name: fit(lm, own, method, ALL, replace(SETTINGS, epochs=8), module_id=name).curve for name, own in data.items()
    }
    ends = [point.objective for point in curves["a"]]
    bars = [(high + low) / 2 for high, low in pairwise(ends)]
    bar = next(
        bar for bar in bars if len({sum(point.objective >= bar for point in one) for one in curves.values()}) == 2
    )
    settings = replace(SETTINGS, epochs=8, stop_below=bar)
    joint = fit_many(lm, data, method, ALL, settings)
    for name, own in data.items():
        same(joint[name], fit(lm, own, method, ALL, settings, module_id=name))
    assert len(joint["a"].curve) != len(joint["b"].curve)


def test_one_that_diverges_is_reported_and_stops_no_other(monkeypatch):
    lm, method, real = family("llama"), parse_method("a-psr-mse-r"), fitting.initial_params
    data = {"a": drawn(6, 1), "bad": drawn(6, 2), "c": drawn(6, 3)}

    def poisoned(problem):
        params = real(problem)
        return {**params, "z": params["z"] * 1e30} if problem.settings.seed == 2 else params

    monkeypatch.setattr(fitting, "initial_params", poisoned)
    joint = fit_many(lm, data, method, ALL, replace(SETTINGS, regulariser=0.0), seeds={"a": 1, "bad": 2, "c": 3})
    assert isinstance(joint["bad"], Diverged)
    assert "fitting diverged (step 1 of 2 in epoch 1)" in str(joint["bad"])
    for name, seed in (("a", 1), ("c", 3)):
        settings = replace(SETTINGS, seed=seed, regulariser=0.0)
        same(joint[name], fit(lm, data[name], method, ALL, settings, module_id=name))


def test_dead_gates_are_reported_for_each(monkeypatch):
    lm, method, real = family("llama"), parse_method("a-psr-mse-r"), fitting.initial_params

    def start(problem):
        params = real(problem)
        bias = -1.0 if problem.settings.seed == 2 else 1.0
        return {**params, "w": torch.zeros_like(params["w"]), "b": torch.full_like(params["b"], bias)}

    monkeypatch.setattr(fitting, "initial_params", start)
    settings = replace(SETTINGS, epochs=1, lr=1e-4)
    joint = fit_many(
        lm, {"open": drawn(5, 1), "closed": drawn(5, 1)}, method, ALL, settings, seeds={"open": 1, "closed": 2}
    )
    assert (joint["open"].dead, joint["closed"].dead) == (False, True)
    assert joint["closed"].module.origin["dead"] is True


def test_progress_counts_every_example_of_every_epoch():
    seen = []
    fit_many(
        toy(),
        {"a": examples(), "b": examples()[:2]},
        parse_method("s-psr-mse-r"),
        (0,),
        replace(SETTINGS, batch_size=2),
        progress=seen.append,
    )
    assert sum(seen) == 2 * (3 + 2)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=50), st.integers(1, 120))
def test_passes_hold_every_row_once_and_stay_within_their_tokens(lengths, tokens):
    found = list(passes(torch.tensor(lengths), tokens))
    assert sorted(torch.cat(found).tolist()) == list(range(len(lengths)))
    for some in found:
        own = [lengths[i] for i in some.tolist()]
        assert len(own) * max(own) <= tokens or len(own) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"examples": {}}, "0 attributes"),
        ({"tokens": 0}, "passes of at least 1 token.*tokens 0"),
        ({"examples": {"a": []}}, "no examples to fit"),
        ({"layers": (7,)}, "no such layer"),
    ],
)
def test_nonsense_is_refused_in_one_line(change, message):
    told = {
        "examples": {"a": examples()},
        "method": parse_method("s-psr-mse-r"),
        "layers": (0,),
        "settings": SETTINGS,
        **change,
    }
    with pytest.raises(PsrError, match=message) as error:
        fit_many(toy(), **told)
    assert "\n" not in str(error.value)
