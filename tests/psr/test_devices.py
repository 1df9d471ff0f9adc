"""What "auto" comes to on a machine, and a model that is larger than what is free there."""

import copy

import pytest
import torch
from families import FAMILIES, tokenizer
from test_models import _edit_config, _save
from transformers import AutoModelForCausalLM

from psr.errors import PsrError
from psr.lm import devices
from psr.lm.devices import available, check_dtype, resolved
from psr.lm.loading import load_model


def says(monkeypatch, **capabilities):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)


def has_gpu(monkeypatch, bfloat16):
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: gpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bfloat16 or including_emulation)


def test_what_is_named_stays():
    assert resolved("float16", "cuda:3") == ("float16", "cuda:3")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True, "avx512_bf16": False}, "bfloat16"),
        ({"avx2": True, "avx512_f": True, "amx_bf16": False}, "float32"),
        ({}, "float32"),
    ],
)
def test_on_a_processor_it_is_what_the_processor_says(capabilities, expected, monkeypatch):
    says(monkeypatch, **capabilities)
    assert resolved("auto", "cpu") == (expected, "cpu")


def test_torch_asks_the_processor_itself():
    with open("/proc/cpuinfo", encoding="ascii") as file:
        flags = next((line for line in file if line.startswith("flags")), "").split()
    expected = "bfloat16" if {"avx512_bf16", "amx_bf16"}.intersection(flags) else "float32"
    assert resolved("auto", "cpu")[0] == expected


@pytest.mark.parametrize(("bfloat16", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_on_a_gpu_it_is_what_the_gpu_says_and_not_the_processor(bfloat16, expected, monkeypatch):
    says(monkeypatch, avx512_bf16=not bfloat16)
    has_gpu(monkeypatch, bfloat16)
    assert resolved("auto", "auto") == (expected, "cuda")
    assert resolved("auto", "cuda:1") == (expected, "cuda:1")
    assert resolved("auto", "balanced") == (expected, "balanced")


def test_without_a_gpu_the_device_is_the_processor(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
    assert resolved("float32", "auto") == ("float32", "cpu")


def test_a_loaded_model_says_what_it_came_to(tmp_path, monkeypatch):
    says(monkeypatch, avx512_bf16=True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
    lm = load_model(_save(tmp_path), dtype="auto", device="auto")
    assert (lm.dtype, lm.device.type) == (torch.bfloat16, "cpu")
    assert {parameter.dtype for parameter in lm.model.parameters()} == {torch.bfloat16}


def test_balanced_without_a_gpu_is_refused(tmp_path, monkeypatch):
    folder = _save(tmp_path)

    def no_gpu(*shape, device):
        raise RuntimeError(f"no {device} here")

    monkeypatch.setattr(torch, "zeros", no_gpu)
    with pytest.raises(PsrError, match=r"this device is not available.*'balanced': no cuda here"):
        load_model(folder, device="balanced")


@pytest.fixture
def placed(monkeypatch):
    """Whom transformers is asked to place the weights by, at each loading; they are placed on the processor."""
    maps, whole = [], AutoModelForCausalLM.from_pretrained

    def from_pretrained(folder, *, device_map=None, **settings):
        maps.append(device_map)
        settings["config"].__dict__.pop("quantization_config", None)
        return whole(folder, **settings)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", from_pretrained)
    monkeypatch.setattr(torch.nn.Module, "to", lambda *_: pytest.fail("it was moved once more"))
    return maps


def test_balanced_is_for_accelerate_to_place(tmp_path, monkeypatch, placed):
    monkeypatch.setattr("psr.lm.loading.check_device", lambda name: None)
    monkeypatch.setattr(devices, "available", lambda device: None)
    lm = load_model(_save(tmp_path), device="balanced")
    assert placed == ["balanced"]
    assert all(torch.equal(a, b) for a, b in zip(lm.model.parameters(), FAMILIES["llama"]().parameters(), strict=True))


def test_quantised_weights_are_placed_while_they_are_loaded(tmp_path, placed):
    _edit_config(_save(tmp_path), quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    load_model(tmp_path)
    assert placed == ["cpu"]


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2)])
def test_a_model_larger_than_memory_is_refused_with_both_numbers_before_a_weight_is_read(
    dtype, size, tmp_path, monkeypatch
):
    parameters = sum(parameter.numel() for parameter in FAMILIES["llama"]().parameters())
    weights = _save(tmp_path) / "model.safetensors"
    weights.write_bytes(b"nobody reads this")
    monkeypatch.setattr(devices, "available", lambda device: size * parameters - 1)
    with pytest.raises(PsrError, match="the model does not fit the memory") as caught:
        load_model(tmp_path, dtype=dtype)
    assert f"{parameters:,} parameters of {size} bytes" in str(caught.value)
    assert f"{(size * parameters - 1) / 1e9:.3g} GB" in str(caught.value)
    monkeypatch.setattr(devices, "available", lambda device: size * parameters)
    with pytest.raises(PsrError, match="weights cannot be read"):
        load_model(tmp_path, dtype=dtype)


def test_tied_weights_are_counted_once(tmp_path, monkeypatch):
    model = copy.deepcopy(FAMILIES["llama"]())
    model.config.tie_word_embeddings = True
    model.tie_weights()
    _save(tmp_path, model, tokenizer("system"))
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    monkeypatch.setattr(devices, "available", lambda device: size)
    load_model(tmp_path)


def test_quantised_weights_are_not_counted(monkeypatch):
    config = copy.deepcopy(FAMILIES["llama"]().config)
    config.quantization_config = {"quant_method": "bitsandbytes"}
    monkeypatch.setattr(devices, "available", lambda device: 0)
    devices.check_fits(None, config, torch.float32, "cpu", "a model")


def test_counting_takes_no_memory_and_no_random_number(tmp_path, monkeypatch):
    _save(tmp_path)
    state = torch.random.get_rng_state()
    load_model(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_what_is_free_is_what_the_system_says():
    psutil = pytest.importorskip("psutil")
    free = available("cpu")
    assert free is not None
    assert free <= psutil.virtual_memory().total
    assert free <= psutil.virtual_memory().available + (1 << 30)
    assert available("mps") is None


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    limit, stat = tmp_path / "memory.max", tmp_path / "memory.stat"
    monkeypatch.setattr(devices, "_LIMITS", ((str(limit), str(stat), "anon"),))
    whole = available("cpu")
    limit.write_text("max\n")
    stat.write_text("anon 1000\nfile 700\n")
    assert available("cpu") > whole / 2
    limit.write_text("5000\n")
    assert available("cpu") == 4000


def test_an_unknown_dtype_is_refused_with_the_known_ones():
    with pytest.raises(PsrError, match="auto or one of float32, bfloat16, float16"):
        check_dtype("int3")
