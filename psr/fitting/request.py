"""What a method is given when it has to learn a module, and how it hands one back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from psr.fitting.loop import Fitted
from psr.fitting.presets import FitSettings
from psr.lm.recording import Targets
from psr.steering.module import SteeringModule
from psr.types import CurvePoint, Example, Method

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel


@dataclass(frozen=True, eq=False)
class FitRequest:
    """What a method is given. layers: in order, each of the model's; settings: None for a method without training.

    instructed: recordings of x' y' on the method's span, and plain: of own plain answers x y on span R, at `layers` at
    least; either may be None, and the method then records what it needs (psr.record). progress(n): n examples are done.
    """

    lm: LanguageModel
    examples: Sequence[Example]
    method: Method
    layers: tuple[int, ...]
    settings: FitSettings | None
    module_id: str
    origin: Mapping[str, Any] = field(default_factory=dict)
    instructed: Targets | None = None
    plain: Targets | None = None
    progress: Callable[[int], None] | None = None

    def fitted(self, tensors: Mapping[str, Tensor], curve: Sequence[CurvePoint] = (), **origin: Any) -> Fitted:
        """The module of the method's form that `tensors` are ([layer, *shape] each), with `origin` added to its own.

        Raises PsrError where they do not fit the form or are not finite.
        """
        module = SteeringModule(
            id=self.module_id,
            form=self.method.form,
            layers=self.layers,
            span=self.method.span,
            model=self.lm.fingerprint,
            tensors={name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()},
            origin={**self.origin, **origin},
        )
        return Fitted(module, tuple(curve))
