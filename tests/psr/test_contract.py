"""One contract for every method: fit → finite → saved and loaded bit-exact → steers what it says and nothing else."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch

from psr.errors import PsrError
from psr.fitting.learning import learn
from psr.fitting.lora import Adapted, adapted
from psr.fitting.methods import METHODS, parse_method
from psr.fitting.methods.named import plug_of
from psr.fitting.presets import FitSettings
from psr.lm.models import LanguageModel
from psr.lm.recording import recorded
from psr.steering.adapter import load_adapter, save_adapter
from psr.steering.hooks import Steer, steer, steered
from psr.steering.module import load_module, save_module
from tests.psr.families import LAYERS, family, tokenizer
from tests.psr.toy import example

RANKED = ("s-psr4-mse-r", "a-psr4-mse-qr", "s-psr2-kl-r", "a-psr8-ll-r", "s-psr3-reps-r", "s-loreft4-ll-r",
          "a-loreft2-mse-qr", "s-loreft2-kl-r", "s-loreft1-reps-r", "lora4-ll")  # fmt: skip
ALL = [*METHODS, *map(parse_method, RANKED)]
STEERING = [method for method in ALL if not method.adapts]
ADAPTING = [method for method in ALL if method.adapts]
CLOSED = ("DiM", "DiM-same", "CAA", "ActAdd", "PCA", "Stolfo")
every = pytest.mark.parametrize("method", ALL, ids=lambda method: method.slug)
steering = pytest.mark.parametrize("method", STEERING, ids=lambda method: method.slug)
adapting = pytest.mark.parametrize("method", ADAPTING, ids=lambda method: method.slug)
IDS = torch.tensor([[5, 40, 61, 90, 33, 12, 77, 8], [9, 21, 35, 66, 54, 18, 70, 25]])
START = 4


@cache
def triplets(span: str):
    generator = torch.Generator().manual_seed(5)

    def draw(n: int) -> list[int]:
        return torch.randint(6, 250, (n,), generator=generator).tolist()

    return [
        replace(example(draw(a), draw(b), 0.8, span, word=251), rejected=tuple(draw(4)))
        for a, b in ((5, 9), (2, 7), (3, 12))
    ]


def settings(method, seed: int) -> FitSettings | None:
    if method.objective in CLOSED:
        return None
    base = plug_of(method).learning.settings()
    assert base is not None
    return replace(base, epochs=1, batch_size=2, seed=seed)


def fitted(method, seed: int = 1):
    layers = (1,) if method.scope == "S" else tuple(range(LAYERS))
    return learn(
        family("llama"), triplets(method.span), method, layers, settings(method, seed), module_id=f"id {method.slug}"
    )


once = cache(fitted)


def streams(lm: LanguageModel, ids=IDS):
    with torch.inference_mode(), recorded(lm.model, range(LAYERS)) as A:
        logits = lm.model(input_ids=ids).logits
        return torch.stack([A[layer] for layer in range(LAYERS)]), logits


@every
def test_a_fit_is_finite_and_says_where_it_comes_from(method):
    made = once(method)
    module = made.module
    assert all(bool(torch.isfinite(tensor).all()) for tensor in module.tensors.values())
    assert module.origin["method"] == method.slug
    assert (module.id, module.model) == (f"id {method.slug}", family("llama").fingerprint)
    assert not made.dead
    assert bool(made.curve) == (method.objective not in CLOSED)
    if not method.adapts:
        assert (module.form, module.span) == (method.form, method.span)
        assert module.layers == ((1,) if method.scope == "S" else (0, 1, 2))


@every
def test_save_and_load_is_bit_exact(method, tmp_path):
    module = once(method).module
    save, load = (save_adapter, load_adapter) if method.adapts else (save_module, load_module)
    again = load(save(module, tmp_path / "m"))
    assert {k: v for k, v in vars(again).items() if k not in ("tensors", "origin")} == {
        k: v for k, v in vars(module).items() if k not in ("tensors", "origin")
    }
    assert again.origin["method"] == method.slug
    assert set(again.tensors) == set(module.tensors)
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in module.tensors.items())


@every
def test_the_same_seed_gives_the_same_module_and_another_seed_another_where_chance_plays_a_part(method):
    once_more, other = fitted(method).module, fitted(method, seed=2).module
    first = once(method).module
    assert all(torch.equal(once_more.tensors[name], tensor) for name, tensor in first.tensors.items())
    changed = any(not torch.equal(other.tensors[name], tensor) for name, tensor in first.tensors.items())
    assert changed == (method.objective not in CLOSED)


@steering
def test_alpha_zero_is_bit_exact_and_alpha_one_is_not(method):
    lm, module = family("llama"), once(method).module
    A, logits = streams(lm)
    for alpha, same in ((0.0, True), (1.0, False)):
        with steered(lm.model, [Steer(module, alpha, START), Steer(module, alpha, START)]):
            B, steered_logits = streams(lm)
        assert torch.equal(A, B) == same
        assert torch.equal(logits, steered_logits) == same
    assert torch.equal(streams(lm)[1], logits)


@steering
def test_only_the_span_and_only_from_the_first_layer_on_is_steered(method):
    lm, module = family("llama"), once(method).module
    A, _ = streams(lm)
    with steered(lm.model, [Steer(module, 1.0, START), Steer(module, 1.0, START)]):
        B, _ = streams(lm)
    assert torch.equal(A[:, :, :START], B[:, :, :START])
    first = min(module.layers)
    assert torch.equal(A[:first], B[:first])
    assert not torch.equal(A[first, :, START:], B[first, :, START:])


@steering
def test_rows_are_each_as_if_alone_beside_another_method(method):
    lm, other = family("llama"), once(parse_method("a-psr-mse-qr")).module
    plans = [Steer(once(method).module, 1.3, 3), Steer(other, 0.7, 5)]
    with steered(lm.model, plans):
        together, _ = streams(lm)
    for row, plan in enumerate(plans):
        with steered(lm.model, [plan]):
            alone, _ = streams(lm, IDS[row : row + 1])
        torch.testing.assert_close(together[:, row], alone[:, 0], rtol=1e-4, atol=1e-4)


@steering
def test_a_foreign_model_is_refused(method):
    module = once(method).module
    with (
        pytest.raises(PsrError, match="fitted on another model or tokenizer"),
        steer(family("mistral").model, module, 1.0, tokenizer("system")),
    ):
        pass


@adapting
def test_an_adapter_changes_every_row_alike_and_leaves_the_model_as_it_was(method):
    lm, made = family("llama"), once(method)
    assert isinstance(made, Adapted)
    before = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    kinds, (_, logits) = [type(one) for one in lm.model.modules()], streams(lm)
    with adapted(lm, made.module, 0.0):
        assert torch.equal(streams(lm)[1], logits)
    with adapted(lm, made.module):
        _, together = streams(lm)
        _, alone = streams(lm, IDS[1:])
    assert not torch.equal(together, logits)
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-4)
    after = lm.model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert [type(one) for one in lm.model.modules()] == kinds
    assert not any(one.requires_grad for one in lm.model.parameters())
    assert torch.equal(streams(lm)[1], logits)


@adapting
def test_an_adapter_refuses_a_foreign_model_and_a_bad_alpha(method):
    module = once(method).module
    with pytest.raises(PsrError, match="fitted on another model or tokenizer"), adapted(family("mistral"), module):
        pass
    with pytest.raises(PsrError, match="alpha is not a finite number"), adapted(family("llama"), module, float("nan")):
        pass
