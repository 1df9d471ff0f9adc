"""A module as hooks of TransformerLens: on what stands in for it here, and on itself in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import lens_checks
import pytest
import torch
from families import FAMILIES, LAYERS
from torch import Tensor, nn
from written import IDS, strong_module

from psr.errors import PsrError
from psr.export.transformer_lens import lens_hooks
from psr.lm.blocks import decoder_blocks
from psr.lm.cached import cache_argument
from psr.lm.loading import load_model
from psr.steering.module import save_module
from tests.pages import blocks

ROOT = Path(__file__).resolve().parents[2]
NEWEST, LAST_HOOKED = "4.3.0", "3.9.0"  # HookedTransformer left TransformerLens with 4.0


class StandIn:
    """Runs hooks as TransformerLens runs them: functions of an activation and of the point, whose result takes its place."""

    def __init__(self, model: nn.Module, point: str = "hook_out") -> None:
        self.model, self.point = model, point
        self.cfg = SimpleNamespace(n_layers=LAYERS, d_model=model.config.hidden_size)
        self.W_E = model.get_input_embeddings().weight
        self.hook_dict: dict[str, nn.Module] = {}
        for layer, block in enumerate(decoder_blocks(model)):
            attention = next(child for name, child in block.named_children() if name in ("self_attn", "attn"))
            self.hook_dict |= {f"blocks.{layer}.{point}": block, f"blocks.{layer}.attn.hook_pattern": attention}

    @contextmanager
    def hooks(self, fwd_hooks: list[tuple[str, Callable]]) -> Iterator[None]:
        handles = [self._set(name, function) for name, function in fwd_hooks]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _set(self, name: str, function: Callable):
        at = int(name.endswith("hook_pattern"))  # attention returns what it computed, and its pattern

        def hook(module: nn.Module, args: object, output: Tensor | tuple[Tensor, ...]) -> object:
            whole = isinstance(output, Tensor)
            new = function(output if whole else output[at], hook=SimpleNamespace(name=name))
            if new is None:
                return None
            return new if whole else (*output[:at], new, *output[at + 1 :])

        return self.hook_dict[name].register_forward_hook(hook)

    def run_with_hooks(self, ids: Tensor, fwd_hooks=(), attention_mask: Tensor | None = None) -> Tensor:
        positions = {} if attention_mask is None else {"position_ids": (attention_mask.cumsum(-1) - 1).clamp(min=0)}
        with self.hooks(fwd_hooks):
            return self.model(input_ids=ids, attention_mask=attention_mask, **positions).logits

    def generate(self, ids: Tensor, max_new_tokens: int, use_past_kv_cache: bool, **_: object) -> Tensor:
        name, cache = cache_argument(self.model), None
        for _step in range(max_new_tokens):
            given = ids if cache is None else ids[:, -1:]
            out = self.model(input_ids=given, use_cache=use_past_kv_cache, **({name: cache} if cache else {}))
            cache = out[name] if use_past_kv_cache else None
            ids = torch.cat([ids, out.logits[:, -1:].argmax(-1)], dim=1)
        return ids


@pytest.fixture(params=["llama", "gpt2"])
def model(request):
    return FAMILIES[request.param]()


@pytest.fixture
def lens():
    return StandIn(FAMILIES["llama"]())


@pytest.mark.parametrize("point", ["hook_out", "hook_resid_post"])
def test_the_logits_of_a_text_are_those_of_steering(model, point):
    lens_checks.check_texts(StandIn(model, point), model)


def test_answers_are_those_of_steering_with_a_cache_and_without(model):
    lens_checks.check_answers(StandIn(model), model)


def test_rows_with_padding_on_the_left_begin_each_where_it_says(model):
    lens_checks.check_rows(StandIn(model), model)


def test_alpha_is_the_recommended_one_and_nothing_is_hooked_without_strength(lens):
    module = strong_module("any")
    module.origin["recommended_alpha"] = 0.5
    texts = [lens.run_with_hooks(torch.tensor([IDS]), lens_hooks(lens, module, 7, alpha)) for alpha in (None, 0.5, 1)]
    assert torch.equal(texts[0], texts[1])
    assert not torch.equal(texts[0], texts[2])
    assert lens_hooks(lens, module, 7, 0) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"d_model": 16}, "another width"),
        ({"n_layers": 2}, "a layer that the model does not have"),
        ({"start": -1}, "a span cannot begin there"),
        ({"start": 1.5}, "a span cannot begin there"),
        ({"alpha": float("nan")}, "alpha is not a finite number"),
        ({"centred": True}, "was centred"),
        ({"without": "blocks.1.attn.hook_pattern"}, "no such hook point"),
        ({"without": "blocks.2.hook_out"}, "no such hook point"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(lens, changes, words):
    for name in lens.cfg.__dict__.keys() & changes.keys():
        setattr(lens.cfg, name, changes[name])
    lens.hook_dict.pop(changes.get("without"), None)
    if "centred" in changes:
        lens.W_E = lens.W_E - lens.W_E.mean(-1, keepdim=True)
    with pytest.raises(PsrError, match=words):
        lens_hooks(lens, strong_module("any"), changes.get("start", 7), changes.get("alpha"))


def test_rounding_to_bfloat16_hides_no_centring(lens):
    lens.W_E = (lens.W_E - lens.W_E.mean(-1, keepdim=True)).bfloat16()
    with pytest.raises(PsrError, match="was centred"):
        lens_hooks(lens, strong_module("any"), 7)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("start", "chunks", "words"),
    [
        (7, [IDS[:4]], "the span begins behind the text"),
        (7, [IDS[:1]], "the span begins behind the text"),
        (2, [IDS[:4], IDS[4:]], "several tokens at once after others"),
        ([7, 7], [IDS], "other rows than the model was given"),
    ],
    ids=str,
)
def test_tokens_whose_place_is_not_known_are_refused(lens, start, chunks, words):
    name, given = cache_argument(lens.model), {}
    with lens.hooks(lens_hooks(lens, strong_module("any", "QR"), start)):
        for chunk in chunks[:-1]:
            given = {name: lens.model(input_ids=torch.tensor([chunk]), use_cache=True)[name]}
        with pytest.raises(PsrError, match=words):
            lens.model(input_ids=torch.tensor([chunks[-1]]), use_cache=True, **given)


@torch.inference_mode()
def test_a_window_that_has_lost_the_beginning_of_the_span_is_refused():
    model, ids = FAMILIES["gemma3_text"](), torch.tensor([[*IDS, *IDS, *IDS]])  # the window is 16 tokens
    lens = StandIn(model)
    with lens.hooks(lens_hooks(lens, strong_module("any"), ids.shape[1] - 1)):
        first = model(input_ids=ids, use_cache=True)
        name = cache_argument(model)
        with pytest.raises(PsrError, match="got 16 that attention sees"):
            model(input_ids=ids[:, :1], **{name: first[name]})


def test_a_hook_whose_fellow_is_missing_refuses_and_steers_nothing(lens):
    hooks = [one for one in lens_hooks(lens, strong_module("any"), 7) if one[0].endswith("hook_out")]
    with pytest.raises(PsrError, match="an activation of another shape"):
        lens.run_with_hooks(torch.tensor([IDS]), hooks)


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """A fresh environment with TransformerLens, which adds it to the packages here and changes none of them."""
    folder = tmp_path_factory.mktemp("lens")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    site = subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True)
    (Path(site.strip()) / "outer.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*install, f"transformer-lens=={NEWEST}", "-c", ROOT / "constraints.txt"], check=True)
    older = [f"transformer-lens=={LAST_HOOKED}", "better-abc"]
    subprocess.run([*install, "--no-deps", "--target", folder / "older", *older], check=True)
    return folder


def ran(environment: Path, *arguments: str | Path, older: bool = False, where: Path = ROOT) -> str:
    """What Python prints in the fresh environment, where psr and the tests are found."""
    paths = [*([environment / "older"] if older else []), ROOT, ROOT / "tests" / "psr"]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "WANDB_MODE": "disabled"}
    command = [environment / "venv" / "bin" / "python", *arguments]
    done = subprocess.run(command, cwd=where, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bridge", "hooked"])
def test_transformer_lens_itself_is_steered_as_psr_steer_steers(kind, environment):
    assert ran(environment, lens_checks.__file__, kind, older=kind == "hooked").endswith("as psr.steer does\n")


@pytest.mark.slow
def test_the_page_followed_to_the_letter_works(environment, tmp_path):
    lm = load_model(ROOT / "data" / "testbed" / "model")
    save_module(strong_module(lm.fingerprint, "QR", layers=range(6), d=128), tmp_path / "my-pirate")
    (tmp_path / "data").symlink_to(ROOT / "data")
    [script] = [block.text for block in blocks("transformer-lens.md") if block.language == "python"]
    said = ran(environment, "-W", "ignore", "-c", script, where=tmp_path)
    assert "torch.Size([1, 9, 128])" in said
    assert "Tell me about trains." in said
