"""What hooks of TransformerLens have to do, for a model of TransformerLens or what stands in for one: the same as psr.steer.

`python lens_checks.py bridge` and `… hooked`, in an environment with TransformerLens, check its own classes.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import tempfile
import warnings
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES, tokenizer
from torch import Tensor
from transformers import PreTrainedModel
from written import GREEDY, IDS, left_padded, strong_module

from psr.errors import PsrError
from psr.export.transformer_lens import lens_hooks
from psr.lm.blocks import recorded
from psr.steering.hooks import steer
from psr.steering.module import SteeringModule

NEW = 5
FORMS = ("Const", "PSR", "PSR2", "Proj", "LoReFT2")
START = {"R": len(IDS) - 1, "QR": 2}
ROWS = ((5, 40, 61, 90, 33, 12, 77, 8), (40, 61, 7), (9, 9, 61, 90, 12))
GENERATE = {"max_new_tokens": NEW, "do_sample": False, "stop_at_eos": False, "verbose": False}


def modules() -> list[SteeringModule]:
    """Each form on each span, all layers or one."""
    settings = [(form, span, layers) for form in FORMS for span in START for layers in ((0, 1, 2), (1,))]
    return [strong_module("any", span, form, layers, seed=i) for i, (form, span, layers) in enumerate(settings)]


def close(got: Tensor, expected: Tensor, plain: Tensor) -> bool:
    """Logits are equal within rounding, up to a number that softmax does not see. Returns whether steering changed them."""
    got, expected, plain = (one.detach().log_softmax(-1) for one in (got, expected, plain))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=2e-4)
    error, change = (float((expected - other).abs().max()) for other in (got, plain))
    return change > max(50 * error, 1e-3)


@torch.inference_mode()
def check_texts(lens: Any, model: PreTrainedModel) -> None:
    """One text in one forward: the logits of every token."""
    ids = torch.tensor([IDS])
    plain, changed = model(input_ids=ids).logits, 0
    for alpha, module in zip((1.0, 0.7, -0.5) * 7, modules(), strict=False):
        start = START[module.span]
        with steer(model, module, alpha, start=start):
            expected = model(input_ids=ids).logits
        changed += close(lens.run_with_hooks(ids, fwd_hooks=lens_hooks(lens, module, start, alpha)), expected, plain)
    assert changed > 0.7 * len(modules())  # not all: a gate may stay closed
    torch.testing.assert_close(lens.run_with_hooks(ids).log_softmax(-1), plain.log_softmax(-1), rtol=1e-4, atol=2e-4)


@torch.inference_mode()
def check_answers(lens: Any, model: PreTrainedModel) -> None:
    """Greedy answers, token by token, with a cache and without."""
    ids = torch.tensor([IDS])
    plain = model.generate(ids, max_new_tokens=NEW, **GREEDY)
    same = 0
    for module in modules():
        start = START[module.span]
        with steer(model, module, start=start):
            expected = model.generate(ids, max_new_tokens=NEW, **GREEDY)
        with lens.hooks(fwd_hooks=lens_hooks(lens, module, start)):
            for cached in (True, False):
                got = lens.generate(ids, use_past_kv_cache=cached, **GENERATE)
                assert got.tolist() == expected.tolist(), (module.id, module.span, cached)
        same += int(got.tolist() == plain.tolist())
    assert same < len(modules()) / 2


@torch.inference_mode()
def check_rows(lens: Any, model: PreTrainedModel) -> None:
    """A batch with padding on the left, each row with a start of its own."""
    ids, mask = left_padded(ROWS)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    padding = (mask == 0).sum(-1).tolist()
    plain = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
    for starts in ([7, 2, 4], [2, 0, 1]):
        module = strong_module("any", "QR")
        with steer(model, module, start=starts):
            expected = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
        columns = [skip + start for skip, start in zip(padding, starts, strict=True)]
        got = lens.run_with_hooks(ids, fwd_hooks=lens_hooks(lens, module, columns), attention_mask=mask)
        assert close(got[mask == 1], expected[mask == 1], plain[mask == 1])


@torch.inference_mode()
def check_cached(lens: Any, model: PreTrainedModel) -> None:
    """What run_with_cache keeps while the hooks are set is the steered residual stream."""
    ids, module, layers = torch.tensor([IDS]), strong_module("any"), (0, 1, 2)
    with steer(model, module), recorded(model, layers) as expected:
        model(input_ids=ids)
    hooks = lens_hooks(lens, module, START["R"])
    with lens.hooks(fwd_hooks=hooks):
        _, cache = lens.run_with_cache(ids)
    for layer, (point, _) in zip(layers, hooks[1::2], strict=True):
        torch.testing.assert_close(cache[point], expected[layer], rtol=1e-4, atol=1e-4)


def check(lens: Any, model: PreTrainedModel) -> None:
    check_texts(lens, model)
    check_answers(lens, model)
    check_rows(lens, model)


def refused(words: str, lens: Any) -> None:
    with pytest.raises(PsrError, match=words):
        lens_hooks(lens, strong_module("any"), START["R"])


def bridge() -> None:
    """TransformerBridge, as loaded and in its compatibility mode."""
    from transformer_lens.model_bridge import TransformerBridge

    for name in ("llama", "gpt2", "qwen2"):

        def boot(name: str = name) -> Any:
            return TransformerBridge.boot_transformers(
                name, hf_model=copy.deepcopy(FAMILIES[name]()), tokenizer=saved(name)
            )

        check(boot(), FAMILIES[name]())
        check_cached(boot(), FAMILIES[name]())
        compatible = boot()
        compatible.enable_compatibility_mode(no_processing=True)
        check(compatible, FAMILIES[name]())
        processed = boot()
        processed.enable_compatibility_mode()
        if name == "gpt2":  # an RMS norm has nothing to centre
            refused("was centred", processed)
        else:
            check_texts(processed, FAMILIES[name]())


def hooked() -> None:
    """HookedTransformer, of names that it knows: folders of these names hold the tiny models."""
    from transformer_lens import HookedTransformer

    for name, known in (("gpt2", "gpt2"), ("qwen2", "Qwen/Qwen2-0.5B")):
        save_config(name, known)
        arguments = {"hf_model": FAMILIES[name](), "tokenizer": saved(name)}
        unprocessed = HookedTransformer.from_pretrained_no_processing(known, **arguments)
        check(unprocessed, FAMILIES[name]())
        check_cached(unprocessed, FAMILIES[name]())
        processed = HookedTransformer.from_pretrained(known, **arguments)
        if name == "gpt2":
            refused("was centred", processed)
        else:
            check_texts(processed, FAMILIES[name]())


def save_config(name: str, folder: str) -> None:
    """The config as published ones are: GPT-2's names its context twice."""
    FAMILIES[name]().save_pretrained(folder)
    file = Path(folder) / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "n_ctx": config.get("n_positions")}))


def saved(name: str) -> Any:
    """A tokenizer that was loaded from a folder, as TransformerLens expects."""
    from transformers import AutoTokenizer

    tokenizer().save_pretrained(f"tokenizer-{name}")
    return AutoTokenizer.from_pretrained(f"tokenizer-{name}")


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder, chdir(Path(folder)):
        {"bridge": bridge, "hooked": hooked}[sys.argv[1]]()
    print("as psr.steer does")
