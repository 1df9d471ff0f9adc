"""One door to every method: what the examples and the method say is enough.

    fitted = psr.learn(lm, examples, psr.parse_method("s-psr4-kl-r"), layers=(3,), module_id="…")
    fitted.module       a SteeringModule, or for LoRA and full fine-tuning an Adapter (psr/fitting/lora.py)

The formulas stand with each method (psr/fitting/methods/__init__.py lists where). What a method needs recorded and is
not given is recorded by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from psr.errors import PsrError
from psr.fitting.checks import check_enough, checked_layers
from psr.fitting.loop import Fitted
from psr.fitting.methods import MethodPlug
from psr.fitting.methods.named import plug_of
from psr.fitting.presets import FitSettings
from psr.fitting.request import FitRequest
from psr.lm.recording import Targets
from psr.types import Dropped, Example, Method

if TYPE_CHECKING:
    from psr.fitting.lora import Adapted
    from psr.lm.models import LanguageModel


def learn(
    lm: LanguageModel,
    examples: Sequence[Example],
    method: Method | MethodPlug,
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

    method: one of psr's, or a plug of your own (psr.fitting.methods.named.method_named). settings: of methods with training;
    None: the fast preset. targets: instructed runs of x' y' on the method's span, for MSE and differences of means over
    answers. plain: runs of own plain answers x y on span R, for DiM; without them the examples' rejected answers are run.
    dropped: what selection left out, to be named when too few are left.
    Raises PsrError for bad input, Diverged when training does.
    """
    one = method if isinstance(method, MethodPlug) else plug_of(method)
    method, learning = one.method, one.learning
    check_enough(len(examples), dropped, learning.at_least, method.name)
    request = FitRequest(
        lm,
        examples,
        method,
        tuple(layers) if method.adapts else checked_layers(lm, method, layers),
        settings or learning.settings(),
        module_id,
        {**(origin or {}), "method": method.slug},
        targets,
        plain,
        progress,
    )
    fitted = learning.learn(request)
    return _checked(fitted, request)


def _checked(fitted: Any, request: FitRequest) -> Any:
    """`fitted`, unless its module is none that was asked for."""
    method = request.method
    if not all(hasattr(fitted, name) for name in ("module", "curve", "dead")):
        raise PsrError(
            "a method learnt no module",
            where=method.name,
            expected="psr.Fitted, such as request.fitted(…) returns",
            got=type(fitted).__name__,
        )
    expected: dict[str, Any] = {"id": request.module_id, "model": request.lm.fingerprint}
    if not method.adapts:
        expected |= {"form": method.form, "layers": request.layers, "span": method.span}
    got = {name: getattr(fitted.module, name, None) for name in expected}
    if got != expected:
        raise PsrError(
            "a method learnt another module than it was asked for", where=method.name, expected=expected, got=got
        )
    if isinstance(fitted, Fitted):
        return replace(fitted, module=replace(fitted.module, base=request.lm.name))
    return fitted
