"""One door to every method: what the examples and the method's name say is enough.

    from psr.fitting.learning import learn
    fitted = learn(lm, examples, parse_method("s-psr4-kl-r"), layers=(3,), module_id="…")
    fitted.module       a SteeringModule, or for LoRA and full fine-tuning an Adapter (psr/fitting/lora.py)

The formulas stand with each method (psr/fitting/methods/__init__.py lists where). Recordings that a method needs and that are
not given are made here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from psr.answers.selection import check_enough
from psr.errors import PsrError
from psr.fitting.difference import difference_of_means
from psr.fitting.loop import Fitted, fit
from psr.fitting.methods import GRADIENT
from psr.fitting.methods.actadd import single_pair
from psr.fitting.methods.pairs import prompt_ends
from psr.fitting.methods.pca import principal_direction
from psr.fitting.methods.reft_r1 import fit_reft_r1
from psr.fitting.methods.stolfo import projection_to_target
from psr.fitting.presets import FitSettings, preset
from psr.fitting.problem import checked_layers
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
    told = {**(origin or {}), "method": method.slug}
    if method.adapts:
        from psr.fitting.lora import default_settings, fit_adapter

        return fit_adapter(
            lm,
            examples,
            method,
            settings or default_settings(method),
            module_id=module_id,
            origin=told,
            progress=progress,
        )
    layers = checked_layers(lm, method, layers)
    if method.objective in GRADIENT:
        return fit(
            lm,
            examples,
            method,
            layers,
            settings or preset("fast", method.objective),
            targets=targets,
            module_id=module_id,
            origin=told,
            progress=progress,
        )
    if method.objective == "ReFT-r1":
        return fit_reft_r1(
            lm,
            examples,
            method,
            layers,
            settings or preset("fast", "ReFT-r1"),
            module_id=module_id,
            origin=told,
            progress=progress,
        )
    return Fitted(_closed(lm, examples, method, layers, targets, plain, module_id, told), ())


def _closed(
    lm: LanguageModel,
    examples: Sequence[Example],
    method: Method,
    layers: Sequence[int],
    targets: Targets | None,
    plain: Targets | None,
    module_id: str,
    told: Mapping[str, Any],
) -> SteeringModule:
    """The methods without training."""
    if method.objective in ("DiM", "DiM-same"):
        return _means(lm, examples, method, layers, targets, plain, module_id, told)
    instructed, without = prompt_ends(lm, examples, layers)
    if method.objective == "CAA":
        return difference_of_means(
            instructed,
            without,
            layers,
            method.span,
            module_id=module_id,
            kind="last",
            origin=told,
            responses=([0] * len(examples), [0] * len(examples)),
        )
    return WITHOUT_TRAINING[method.objective](
        instructed, without, layers, method.span, module_id=module_id, origin=told
    )


def _means(
    lm: LanguageModel,
    examples: Sequence[Example],
    method: Method,
    layers: Sequence[int],
    targets: Targets | None,
    plain: Targets | None,
    module_id: str,
    told: Mapping[str, Any],
) -> SteeringModule:
    """A mean over answer tokens: `own` answers on each side, or the `same` y' on both."""
    same = method.objective == "DiM-same"
    answers = [one.tokens.response for one in examples]
    instructed = (
        targets.last([n + 1 for n in answers], "R")
        if targets is not None
        else record(
            lm,
            [one.tokens.instructed_ids for one in examples],
            [len(one.tokens.instructed_ids) - one.tokens.response - 1 for one in examples],
            layers,
            span="R",
        )
    )
    if same:
        plain = _answers(
            lm,
            [one.prompt_ids for one in examples],
            [one.tokens.plain_ids[-one.tokens.response :] for one in examples],
            layers,
        )
    elif plain is None:
        rejected = [one.rejected or () for one in examples]
        missing = [i for i, ids in enumerate(rejected) if not ids]
        if missing:
            raise PsrError(
                "a difference of means over own answers needs plain answers too",
                where=f"example {missing[0]}",
                expected="plain=…, or rejected tokens in every example",
                got="none",
            )
        plain = _answers(lm, [one.prompt_ids for one in examples], rejected, layers)
    return difference_of_means(
        instructed, plain, layers, method.span, module_id=module_id, kind="same" if same else "own", origin=told
    )


def _answers(
    lm: LanguageModel, prompts: Sequence[tuple[int, ...]], answers: Sequence[tuple[int, ...]], layers: Sequence[int]
) -> Targets:
    """Runs of prompt + answer, recorded on span R."""
    sequences = [(*prompt, *answer) for prompt, answer in zip(prompts, answers, strict=True)]
    return record(lm, sequences, [len(prompt) - 1 for prompt in prompts], layers, span="R")
