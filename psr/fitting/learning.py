"""One door to every method: what the examples and the method's name say is enough.

    fitted = psr.learn(lm, examples, psr.parse_method("s-psr4-kl-r"), layers=(3,), module_id="…")
    fitted.module       a SteeringModule, or for LoRA and full fine-tuning an Adapter (psr/fitting/lora.py)

The formulas stand with each method (psr/fitting/methods/__init__.py lists where). What a method needs recorded and is
not given is recorded here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from psr.errors import PsrError
from psr.fitting.checks import check_enough, checked_layers
from psr.fitting.difference import difference_of_means
from psr.fitting.loop import Fitted, fit
from psr.fitting.methods.actadd import single_pair
from psr.fitting.methods.pairs import prompt_ends
from psr.fitting.methods.pca import principal_direction
from psr.fitting.methods.reft_r1 import fit_reft_r1
from psr.fitting.methods.stolfo import projection_to_target
from psr.fitting.presets import GRADIENT, FitSettings, preset
from psr.lm.recording import Targets, record
from psr.steering.module import SteeringModule
from psr.types import Dropped, Example, Method

if TYPE_CHECKING:
    from psr.fitting.lora import Adapted
    from psr.lm.models import LanguageModel

WITHOUT_TRAINING: dict[str, Callable[..., SteeringModule]] = {
    "ActAdd": single_pair,
    "PCA": principal_direction,
    "Stolfo": projection_to_target,
}


def learn(
    lm: LanguageModel,
    examples: Sequence[Example],
    method: Method,
    layers: Sequence[int],
    settings: FitSettings | None = None,
    *,
    targets: Targets | None = None,
    plain: Targets | None = None,
    module_id: str,
    origin: Mapping[str, Any] | None = None,
    dropped: Sequence[Dropped] = (),
    progress: Callable[[int], None] | None = None,
) -> Fitted | Adapted:
    """What `method` makes of `examples` at `layers` (ignored by LoRA and full fine-tuning).

    settings: of methods with training; None: the fast preset. targets: instructed runs of x' y' on the method's span,
    for MSE and differences of means over answers. plain: runs of own plain answers x y on span R, for DiM; without
    them the examples' rejected answers are run. dropped: what selection left out, to be told when too few are left.
    Raises PsrError for bad input, Diverged when training does.
    """
    check_enough(len(examples), dropped, 2 if method.objective == "PCA" else 1, method.name)
    named: dict[str, Any] = {"module_id": module_id, "origin": {**(origin or {}), "method": method.slug}}
    if method.adapts:
        from psr.fitting.lora import default_settings, fit_adapter

        return fit_adapter(lm, examples, method, settings or default_settings(method), progress=progress, **named)
    layers = checked_layers(lm, method, layers)
    if method.objective in GRADIENT:
        settings = settings or preset("fast", method.objective)
        return fit(lm, examples, method, layers, settings, targets=targets, progress=progress, **named)
    if method.objective == "ReFT-r1":
        settings = settings or preset("fast", "ReFT-r1")
        return fit_reft_r1(lm, examples, method, layers, settings, progress=progress, **named)
    if method.objective in ("DiM", "DiM-same"):
        same = method.objective == "DiM-same"
        instructed, without = _answers(lm, examples, layers, same, targets, plain)
        named["kind"] = "same" if same else "own"
        return Fitted(difference_of_means(instructed, without, layers, method.span, **named), ())
    instructed, without = prompt_ends(lm, examples, layers)
    if method.objective == "CAA":
        named |= {"kind": "last", "responses": ([0] * len(examples), [0] * len(examples))}
        return Fitted(difference_of_means(instructed, without, layers, method.span, **named), ())
    return Fitted(WITHOUT_TRAINING[method.objective](instructed, without, layers, method.span, **named), ())


def _answers(
    lm: LanguageModel,
    examples: Sequence[Example],
    layers: Sequence[int],
    same: bool,
    targets: Targets | None,
    plain: Targets | None,
) -> tuple[Targets, Targets]:
    """Answers with the instruction and without, on span R: each side's own, or the `same` y' on both. Runs what is not given."""

    def recorded(sequences: list[tuple[int, ...]], answers: list[int]) -> Targets:
        starts = [len(ids) - n - 1 for ids, n in zip(sequences, answers, strict=True)]
        return record(lm, sequences, starts, layers, span="R")

    lengths = [one.tokens.response for one in examples]
    if targets is not None:
        instructed = targets.last([n + 1 for n in lengths], "R")
    else:
        instructed = recorded([one.tokens.instructed_ids for one in examples], lengths)
    if same:
        return instructed, recorded([one.tokens.plain_ids for one in examples], lengths)
    if plain is not None:
        return instructed, plain
    rejected = [one.rejected or () for one in examples]
    missing = [i for i, ids in enumerate(rejected) if not ids]
    if missing:
        raise PsrError(
            "a difference of means over own answers needs plain answers too",
            where=f"example {missing[0]}",
            expected="plain=…, or rejected tokens in every example",
            got="none",
        )
    sequences = [(*one.prompt_ids, *ids) for one, ids in zip(examples, rejected, strict=True)]
    return instructed, recorded(sequences, [len(ids) for ids in rejected])
