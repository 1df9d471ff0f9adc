"""Forms as formulas: r directions written out, orthonormal rows, and modules of several forms in one batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psr.errors import PsrError
from psr.steering.forms import PSR, form_named, init_params, steer_activation
from psr.steering.module import SteeringModule, load_module, save_module


def params(form, d: int, layers: int = 1, seed: int = 0):
    return form.settle(init_params(form, layers, d, torch.Generator().manual_seed(seed)))


@given(st.integers(1, 6), st.integers(1, 9), st.integers(1, 3), st.booleans(), st.sampled_from(["PSR", "LoReFT"]))
def test_r_directions_are_added_as_written_out_by_hand(r, d, rows, shared, family):
    if family == "LoReFT" and r > d:
        r = d
    form = form_named(f"{family}{r}")
    p = params(form, d, 1 if shared else rows)
    A = torch.randn(rows, 4, d, generator=torch.Generator().manual_seed(1))
    alpha = torch.tensor([0.0, 0.0, 1.0, 1.7]).expand(rows, -1)
    after = steer_activation(A, alpha, form.strength(A, p), p["z"])
    assert torch.equal(after[:, :2], A[:, :2])
    for i in range(rows):
        one = {name: value[0 if shared else i] for name, value in p.items()}
        for t in (2, 3):
            added = torch.zeros(d)
            for k in range(r):
                z, w, b = one["z"][k], one["w"][k], one["b"][k]
                lam = torch.relu(A[i, t] @ w + b) if family == "PSR" else A[i, t] @ w + b - A[i, t] @ z
                added += lam * z
            torch.testing.assert_close(after[i, t], A[i, t] + alpha[i, t] * added, rtol=1e-4, atol=1e-5)


def test_one_gate_of_rank_one_is_the_papers_module():
    A, p = torch.randn(2, 3, 8), params(PSR, 8)
    one = {"z": p["z"].unsqueeze(1), "w": p["w"].unsqueeze(1), "b": p["b"].unsqueeze(1)}
    ranked = form_named("PSR1")
    ours = steer_activation(A, torch.ones(2, 3), ranked.strength(A, one), one["z"])
    torch.testing.assert_close(ours, steer_activation(A, torch.ones(2, 3), PSR.strength(A, p), p["z"]))


@given(st.integers(1, 5), st.integers(5, 12), st.integers(1, 3), st.integers(0, 99))
def test_rows_become_orthonormal_and_stay_what_they_are(r, d, layers, seed):
    z = torch.randn(layers, r, d, generator=torch.Generator().manual_seed(seed))
    settle = form_named(f"LoReFT{r}").settle
    R = settle({"z": z})["z"]
    torch.testing.assert_close(R @ R.transpose(1, 2), torch.eye(r).expand(layers, r, r), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(settle({"z": R})["z"], R, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["PSR4", "LoReFT3", "Proj"])
def test_modules_of_any_form_are_saved_and_loaded_bit_exact(tmp_path, name):
    form = form_named(name)
    module = SteeringModule("id", name, (0, 2), "R", "f", params(form, 8, layers=2))
    again = load_module(save_module(module, tmp_path))
    assert (again.form, again.d_model) == (name, 8)
    assert all(torch.equal(again.tensors[key], value) for key, value in module.tensors.items())


@pytest.mark.parametrize("name", ["PSR0", "PSR04", "psr4", "PSR-4", "LoReFT", "Magic", "", None])
def test_an_unknown_form_gets_the_known_ones(name):
    with pytest.raises(PsrError, match="Const, PSR, Proj, or PSR or LoReFT with a rank"):
        form_named(name)


def test_the_same_name_is_the_same_form():
    assert form_named("PSR4") is form_named("PSR4")
