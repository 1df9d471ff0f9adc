"""The decode loop's hooks read no tensor's value: nothing is copied to the host and no Python decision waits for the device.

On the CPU nobody would notice, so two devices are stood in for: tensors on `meta`, which have no values to read, and a
dispatch mode that refuses the operators by which Python gets at values.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager

import pytest
import torch
from families import D_MODEL, FAMILIES, LAYERS, family
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import DynamicCache

from psr.answers.batch import start
from psr.answers.generation import Request
from psr.answers.sampling import Sampling
from psr.lm.cached import cache_argument
from psr.lm.chats import Prompt
from psr.steering.forms import form_named, init_params
from psr.steering.hooks import Live, Steer, steered
from psr.steering.module import SteeringModule
from psr.steering.probe import check_steering

READS = ("aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::is_nonzero", "aten::equal", "aten::masked_select",
         "aten::unique_dim", "aten::_unique2")  # fmt: skip
FORMS = ("Const", "PSR", "PSR3", "Proj", "LoReFT2")


class NoReads(TorchDispatchMode):
    """Refuses what brings values to Python or makes a shape depend on them, and copies to another device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        if name in READS or (name == "aten::index" and any(i is not None and i.dtype == torch.bool for i in args[1])):
            raise AssertionError(f"a tensor's value is read on the host by {name}")
        made = func(*args, **(kwargs or {}))
        if name in ("aten::_to_copy", "aten::copy_") and made.device != args[0].device:
            raise AssertionError(f"a tensor is moved from {args[0].device} to {made.device}")
        return made


def module(form: str, span: str = "R") -> SteeringModule:
    params = init_params(form_named(form), LAYERS, D_MODEL, torch.Generator().manual_seed(0))
    return SteeringModule(form, form, tuple(range(LAYERS)), span, family("llama").fingerprint, params)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every hook of an open steering context runs under NoReads; the list says which ran."""
    ran: list[str] = []
    check_steering(family("llama").model)  # once a model, before its first steering: it reads what it compares

    def watch(name: str) -> None:
        hook = getattr(Live, name)

        def watching(self, *args):
            ran.append(name)
            with NoReads():
                return hook(self, *args)

        monkeypatch.setattr(Live, name, watching)

    for name in ("enter", "reach", "before", "after", "keep"):
        watch(name)
    return ran


@contextmanager
def generating(lm, forms, steps: int = 3):
    """Yields what makes step i (0: the prefill) of a batch whose rows carry different modules at different strengths."""
    modules = [module(form) for form in forms]
    asked = [Request(Prompt(tuple(range(5, 9 + i)), 1), i, m, 0.5 + i) for i, m in enumerate(modules)]
    asked.append(Request(Prompt((5, 6, 7), 1), 9))
    sampling = Sampling(steps)
    tokens = torch.zeros((len(asked), steps), dtype=torch.long)
    with torch.inference_mode():
        batch = start(lm, range(len(asked)), asked, [sampling] * len(asked))
        with batch.acting():
            yield lambda i: tokens.__setitem__((batch.rows, i), batch.step())


@pytest.mark.parametrize("forms", [(form,) for form in FORMS] + [("PSR", "PSR", "Const")])
def test_no_hook_of_prefill_or_decoding_reads_a_value(watched, forms):
    with generating(family("llama"), forms) as step:
        for i in range(3):
            step(i)
    assert watched.count("before") == 3
    assert watched.count("after") == 3 * LAYERS


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "gemma2"])
def test_a_whole_steered_decode_step_reads_no_value(name):
    """Not the hooks alone: the model's forward, sampling and the bookkeeping around them; the prefill may."""
    lm = family(name)
    params = init_params(form_named("PSR"), LAYERS, D_MODEL, torch.Generator().manual_seed(0))
    steering = SteeringModule("m", "PSR", tuple(range(LAYERS)), "R", lm.fingerprint, params)
    asked = [Request(Prompt(tuple(range(5, 9 + i)), 1), i, steering, 1.0) for i in range(2)]
    sampling = Sampling(3)
    tokens = torch.zeros((2, 3), dtype=torch.long)
    with torch.inference_mode():
        batch = start(lm, range(2), asked, [sampling] * 2)
        with batch.acting():
            tokens[batch.rows, 0] = batch.step()
            with NoReads():
                tokens[batch.rows, 1] = batch.step()
                tokens[batch.rows, 2] = batch.step()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ragged", [False, True])
def test_prefill_and_decoding_run_where_no_tensor_has_values(form, ragged):
    """On `meta` a copy to the host and every decision on a value are errors, .cpu(), .tolist() and .numpy() included."""
    model = copy.deepcopy(FAMILIES["llama"]()).to("meta")
    rows = [Steer(module(form), 1.0, 3), Steer(module(form, "QR") if ragged else None, 0.5, 1)]
    with torch.inference_mode(), steered(model, rows) as live:
        blocks_in = torch.empty((2, 6, D_MODEL), device="meta")
        attention = torch.ones((2, 6), dtype=torch.long, device="meta")
        ids, cache = torch.zeros((2, 6), dtype=torch.long, device="meta"), DynamicCache()
        live.before(model.base_model, (ids,), {"attention_mask": attention, cache_argument(model): cache})
        assert [live.after(layer, blocks_in).shape for layer in range(LAYERS)] == [blocks_in.shape] * LAYERS
        model(input_ids=ids, use_cache=True, **{cache_argument(model): cache})
        out = model(input_ids=ids[:, :1], use_cache=True, **{cache_argument(model): cache})
        live.keep(torch.zeros(1, dtype=torch.long, device="meta"))
    assert out.logits.shape[:2] == (2, 1)
    assert live.groups[0].mask.device.type == "meta"


@contextmanager
def sabotaged(monkeypatch: pytest.MonkeyPatch, how):
    after = Live.after
    with monkeypatch.context() as patch:
        patch.setattr(Live, "after", lambda self, layer, A: after(self, layer, how(A)))
        yield


@pytest.mark.parametrize("how", [
    lambda A: A if A.sum().item() < 1e9 else 0 * A, lambda A: A if bool((A != 7).all()) else 0 * A,
    lambda A: A * float(A.abs().max() > 0), lambda A: A if A[A > 0].numel() else 0 * A,
])  # fmt: skip
def test_a_hook_that_does_read_is_caught(monkeypatch, how):
    with sabotaged(monkeypatch, how), generating(family("llama"), ("PSR",)) as step:
        step(0)
        with pytest.raises(AssertionError, match="read on the host"), NoReads():
            step(1)


@pytest.mark.parametrize(
    "how", [lambda A: A.cpu().to(A.device), lambda A: A if A.tolist() else 0 * A, lambda A: A * A.mean().item()]
)
def test_a_copy_to_the_host_is_caught_where_there_are_no_values(monkeypatch, how):
    with sabotaged(monkeypatch, how), pytest.raises((NotImplementedError, RuntimeError), match=r"[Mm]eta|copy out"):
        test_prefill_and_decoding_run_where_no_tensor_has_values("PSR", False)
