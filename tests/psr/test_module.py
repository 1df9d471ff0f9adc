"""Modules go to disk and back bit-exact, and refuse what does not fit."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psr.errors import PsrError
from psr.steering.forms import FORMS, init_params
from psr.steering.module import CONFIG, WEIGHTS, SteeringModule, check_alpha, check_model, load_module, save_module
from psr.types import ModelName


def module(form: str = "PSR", layers: tuple[int, ...] = (0, 2), d: int = 8, seed: int = 0) -> SteeringModule:
    params = init_params(FORMS[form], len(layers), d, torch.Generator().manual_seed(seed))
    return SteeringModule("an-id", form, layers, "QR", "fingerprint", params, {"attribute": "persona/pirate"})


@given(
    st.sampled_from(list(FORMS)),
    st.sets(st.integers(0, 40), min_size=1, max_size=5),
    st.integers(1, 33),
    st.integers(0, 99),
)
def test_save_then_load_is_bit_exact(tmp_path_factory, form, layers, d, seed):
    before = module(form, tuple(sorted(layers)), d, seed)
    after = load_module(save_module(before, tmp_path_factory.mktemp("module")))
    assert {k: v for k, v in vars(after).items() if k != "tensors"} == {
        k: v for k, v in vars(before).items() if k != "tensors"
    }
    assert all(torch.equal(after.tensors[name], tensor) for name, tensor in before.tensors.items())


def test_saving_twice_writes_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        save_module(module(), tmp_path / name)
    for file in (WEIGHTS, CONFIG):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_files_are_named_as_peft_names_them(tmp_path):
    assert sorted(p.name for p in save_module(module(), tmp_path).iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


@pytest.mark.parametrize(
    "damage",
    [
        "missing",
        "truncated weights",
        "config no json",
        "config without layers",
        "other format",
        "other shapes",
        "unknown form",
        "unknown span",
    ],
)
def test_a_damaged_folder_gets_one_clear_line(tmp_path, damage):
    folder = save_module(module(), tmp_path)
    config = json.loads((folder / CONFIG).read_text())
    changes = {
        "config without layers": ("layers", None),
        "other format": ("format", "other"),
        "other shapes": ("layers", [0]),
        "unknown form": ("form", "Magic"),
        "unknown span": ("span", "Q"),
    }
    if damage == "missing":
        (folder / WEIGHTS).unlink()
    elif damage == "truncated weights":
        (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:40])
    elif damage == "config no json":
        (folder / CONFIG).write_text("{")
    else:
        key, value = changes[damage]
        (folder / CONFIG).write_text(json.dumps({**config, key: value}))
    with pytest.raises(PsrError) as caught:
        load_module(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fingerprint", "d", "layers", "reason"),
    [
        ("other", 8, 4, "fitted on another model or tokenizer"),
        ("fingerprint", 16, 4, "another width"),
        ("fingerprint", 8, 2, "a layer that the model does not have"),
    ],
)
def test_another_model_is_refused_with_the_reason(fingerprint, d, layers, reason):
    with pytest.raises(PsrError, match=reason):
        check_model(module(), fingerprint, d, layers)
    check_model(module(), "fingerprint", 8, 4)


def test_values_that_are_not_finite_are_refused():
    tensors = {**module().tensors, "b": torch.tensor([0.0, float("nan")])}
    with pytest.raises(PsrError, match="not finite"):
        SteeringModule("x", "PSR", (0, 2), "R", "f", tensors)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_alpha_is_taken_as_it_is(alpha):
    assert check_alpha(alpha) == alpha


def test_the_config_says_what_it_is_without_reading_code(tmp_path):
    given = replace(
        module(),
        origin={"attribute": "persona/pirate", "recommended_alpha": 1.25, "safe_alpha": [0.0, 2.0]},
        base=ModelName("maker/tiny", "0123456789abcdef0123456789abcdef01234567"),
    )
    config = json.loads((save_module(given, tmp_path) / CONFIG).read_text())
    assert config["format"] == "psr-2"
    assert (config["base_model_name_or_path"], config["revision"]) == given.base
    assert config["fingerprint"] == "fingerprint"
    assert "residual stream after each decoder block" in config["hook"]
    assert config["equation"] == "A' = A + α · λ(A) · z, λ(A) = ReLU(A · w + b)"
    assert (config["recommended_alpha"], config["safe_alpha"]) == (1.25, [0.0, 2.0])
    assert config["origin"] == {"attribute": "persona/pirate"}, "each thing stands once"
    assert load_module(tmp_path).origin == given.origin
    assert load_module(tmp_path).base == given.base


def test_a_folder_of_the_first_format_loads_as_before(tmp_path):
    folder = save_module(module(), tmp_path)
    first = {"peft_type": "PSR", "format": "psr-1", "id": "old", "form": "PSR", "layers": [0, 2], "span": "QR", "d_model": 8,
             "model": "fingerprint", "origin": {"recommended_alpha": 1.5, "safe_alpha": [0, 3]}}  # fmt: skip
    (folder / CONFIG).write_text(json.dumps(first))
    old = load_module(folder)
    assert (old.id, old.model, old.recommended_alpha, old.base) == ("old", "fingerprint", 1.5, ModelName())
    assert all(torch.equal(old.tensors[name], tensor) for name, tensor in module().tensors.items())


@pytest.mark.parametrize(("key", "value"), [("format", "psr-3"), ("hook", "attention output"), ("fingerprint", None)])
def test_a_newer_format_or_another_place_is_refused_in_one_line(tmp_path, key, value):
    folder = save_module(module(), tmp_path)
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(
        json.dumps({name: kept for name, kept in (config | {key: value}).items() if kept is not None})
    )
    with pytest.raises(PsrError, match=r"psr-3|hook|fingerprint") as caught:
        load_module(folder)
    assert "\n" not in str(caught.value)
