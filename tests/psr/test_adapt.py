"""LoRA against peft used by hand, full fine-tuning against a plain loop; neither loop uses the library."""

from __future__ import annotations

import builtins
import copy
import json
import warnings
from dataclasses import replace

import pytest
import torch

from psr.errors import PsrError
from psr.fitting.lora import AdapterDiverged, adapted, default_settings, fit_adapter
from psr.fitting.methods import parse_method
from psr.fitting.presets import FAST_ADAPTER
from psr.steering.adapter import load_adapter, save_adapter
from psr.steering.module import CONFIG, WEIGHTS
from tests.psr.families import FAMILIES, family
from tests.psr.test_contract import IDS, streams, triplets

SETTINGS = replace(FAST_ADAPTER, epochs=3, batch_size=8, weight_decay=0.1, lr=1e-2, seed=7)


def by_hand(model, parameters) -> list[float]:
    """Full-batch AdamW with torch's own classes, one sequence at a time. Returns the loss before each step."""
    optimiser = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1)
    losses = []
    for step in range(3):
        for group in optimiser.param_groups:
            group["lr"] = 1e-2 * (1 - step / 3)
        optimiser.zero_grad()
        total = []
        for t in (one.tokens for one in triplets("R")):
            ids, n = torch.tensor([t.plain_ids]), t.response
            logits = model(input_ids=ids).logits[0]
            total.append(-sum(logits[-i - 1].log_softmax(-1)[ids[0, -i]] for i in range(1, n + 1)) / n)
        loss = torch.stack(total).mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_lora_is_what_peft_makes_of_the_same_examples(name):
    from peft import LoraConfig, get_peft_model

    fitted = fit_adapter(family(name), triplets("R"), parse_method("lora4-ll"), SETTINGS, module_id="m")
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        torch.manual_seed(7)
        model = get_peft_model(
            copy.deepcopy(FAMILIES[name]()),
            LoraConfig(r=4, lora_alpha=4, target_modules="all-linear", task_type="CAUSAL_LM"),
        )
    losses = by_hand(model, [one for one in model.parameters() if one.requires_grad])
    assert [point.loss for point in fitted.curve] == pytest.approx(losses, rel=1e-4)
    inner = {n.removeprefix("base_model.model."): one for n, one in model.named_parameters() if "lora_" in n}
    assert set(inner) == set(fitted.module.tensors)
    for key, value in inner.items():
        torch.testing.assert_close(fitted.module.tensors[key], value.detach(), rtol=1e-2, atol=1e-3)
    with adapted(family(name), fitted.module):
        _, logits = streams(family(name))
    torch.testing.assert_close(logits, model(input_ids=IDS).logits.detach(), rtol=1e-2, atol=1e-2)


def test_full_fine_tuning_is_a_plain_loop_over_all_weights():
    lm = family("llama")
    fitted = fit_adapter(lm, triplets("R"), parse_method("full-ll"), SETTINGS, module_id="m")
    model = copy.deepcopy(FAMILIES["llama"]()).requires_grad_(True)
    losses = by_hand(model, list(model.parameters()))
    assert [point.loss for point in fitted.curve] == pytest.approx(losses, rel=1e-3)
    with adapted(lm, fitted.module):
        _, logits = streams(lm)
    torch.testing.assert_close(logits, model(input_ids=IDS).logits.detach(), rtol=5e-2, atol=5e-2)


def test_alpha_scales_loras_b_and_interpolates_full_weights():
    lm = family("llama")
    lora = fit_adapter(lm, triplets("R"), parse_method("lora2-ll"), SETTINGS, module_id="m").module
    halved = replace(lora, tensors={n: one * (0.5 if "lora_B" in n else 1) for n, one in lora.tensors.items()})
    with adapted(lm, lora, 0.5):
        _, half = streams(lm)
    with adapted(lm, halved):
        assert torch.equal(streams(lm)[1], half)
    full = fit_adapter(lm, triplets("R"), parse_method("full-ll"), SETTINGS, module_id="m").module
    name = next(iter(full.tensors))
    own = dict(lm.model.named_parameters())[name].clone()
    for alpha in (0.25, 1.0):
        with adapted(lm, full, alpha):
            inside = dict(lm.model.named_parameters())[name]
            torch.testing.assert_close(inside.data, own + alpha * (full.tensors[name] - own))


def test_the_model_comes_back_after_an_exception():
    lm = family("llama")
    _, before = streams(lm)
    for slug in ("lora-ll", "full-ll"):
        adapter = fit_adapter(lm, triplets("R"), parse_method(slug), replace(SETTINGS, epochs=1), module_id="m").module
        keys = set(vars(lm.model))
        with pytest.raises(RuntimeError, match="stop"), adapted(lm, adapter):
            raise RuntimeError("stop")
        assert torch.equal(streams(lm)[1], before)
        assert set(vars(lm.model)) == keys


def test_divergence_names_its_epoch_and_keeps_what_was_good():
    lm = family("llama")
    with pytest.raises(AdapterDiverged, match=r"fitting diverged \(epoch \d") as caught:
        fit_adapter(lm, triplets("R"), parse_method("full-ll"), replace(SETTINGS, lr=1e36), module_id="m")
    good = caught.value.last_good
    assert good is None or all(bool(torch.isfinite(one).all()) for one in good.tensors.values())


def test_lora_without_peft_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def none(name, *rest, **more):
        if name == "peft":
            raise ImportError("no peft here")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", none)
    with pytest.raises(PsrError, match=r"needs the library peft.*pip install peft"):
        fit_adapter(family("llama"), triplets("R"), parse_method("lora-ll"), SETTINGS, module_id="m")


@pytest.mark.parametrize("damage", ["missing", "truncated", "format", "names"])
def test_a_damaged_adapter_gets_one_clear_line(tmp_path, damage):
    lm = family("llama")
    adapter = fit_adapter(
        lm, triplets("R"), parse_method("lora2-ll"), replace(SETTINGS, epochs=1), module_id="m"
    ).module
    folder = save_adapter(adapter, tmp_path)
    if damage == "missing":
        (folder / CONFIG).unlink()
    elif damage == "truncated":
        (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:50])
    elif damage == "format":
        (folder / CONFIG).write_text(json.dumps({"format": "psr-1"}))
    else:
        some = dict(list(adapter.tensors.items())[1:])
        with pytest.raises(PsrError, match="other names"), adapted(lm, replace(adapter, tensors=some)):
            pass
        return
    with pytest.raises(PsrError) as caught:
        load_adapter(folder)
    assert "\n" not in str(caught.value)


def test_full_fine_tuning_learns_at_a_tenth_of_loras_rate():
    assert default_settings(parse_method("full-ll")).lr == pytest.approx(
        default_settings(parse_method("lora-ll")).lr / 10
    )
