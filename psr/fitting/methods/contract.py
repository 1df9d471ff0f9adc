"""What a method is: the row of a table, and how its modules are learnt.

    TWICE = MethodPlug(Method("S", "Const", "Twice", "R"), Learning(twice))        in a file of your own, my_lab/methods.py
    psr.learn(lm, examples, method_named("my_lab.methods:TWICE"), (3,), module_id="m")

psr's own methods are the same objects, made from the table in psr/fitting/methods/__init__.py. This file imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from psr.errors import PsrError
from psr.fitting.presets import FitSettings
from psr.plugs import checked, plug
from psr.types import Method

if TYPE_CHECKING:
    from psr.fitting.request import FitRequest

CHANGES = ("seed", "epochs", "batch_size", "lr")  # what an experiment may change of a preset


@dataclass(frozen=True)
class Learning:
    """How modules are learnt.

    learn(request) -> psr.fitting.loop.Fitted. learn_many: as psr.fitting.joint.fit_many, where many are learnt in one pass.
    at_least: how few examples are enough. reads: which recordings the pipeline hands over, of INSTRUCTED and PLAIN.
    reads_above: whether of every layer from the lowest steered one on, as a distance of activations does, or of the steered alone.
    presets: "paper" and "fast" -> settings; none for a method without training. changes: which of their fields an
    experiment may change; packaged: whether a benchmark's package (regulariser, normalise) is for this method.
    imitates_runs: whether it follows what the model computes on x' y', so that any y' will do, and not y' itself.
    fits_likelihoods: whether it makes tokens likely, which is what a judge of likelihoods measures.
    """

    learn: Callable[[FitRequest], Any]
    learn_many: Callable[..., Any] | None = None
    at_least: int = 1
    reads: tuple[str, ...] = ()
    reads_above: bool = True
    presets: Mapping[str, FitSettings] = field(default_factory=dict)
    changes: tuple[str, ...] = CHANGES
    packaged: bool = False
    imitates_runs: bool = False
    fits_likelihoods: bool = False

    def layers_read(self, layers: Sequence[int], n_layers: int) -> range:
        """The layers, of a model's `n_layers`, whose recordings a fit at `layers` is handed: from the first to the last that it reads."""
        return range(min(layers), n_layers if self.reads_above else max(layers) + 1)

    def settings(
        self, preset: str = "fast", changes: Mapping[str, Any] | None = None, package: Mapping[str, Any] | None = None
    ) -> FitSettings | None:
        """The preset with what an experiment changes of it (None: nothing) and the benchmark's package.

        None for a method without training. Raises PsrError for an unknown preset.
        """
        if not self.presets:
            return None
        if preset not in self.presets:
            raise PsrError("unknown preset", expected=f"one of {', '.join(self.presets)}", got=repr(preset))
        changed = {name: (changes or {}).get(name) for name in self.changes}
        settings = replace(self.presets[preset], **{k: v for k, v in changed.items() if v is not None})
        return replace(settings, **(package or {})) if self.packaged else settings


LEARNING_NEEDS = {
    "learn": "learn(request) -> Fitted",
    "learn_many": "None, or as psr.fitting.joint.fit_many",
    "at_least": "how few examples are enough",
    "reads": "which recordings it is handed",
    "presets": "settings by name, none without training",
    "settings": "settings(preset, changes, package) -> FitSettings or None",
}


@dataclass(frozen=True)
class MethodPlug:
    """A method and how it is learnt. trained: whether fitting draws random numbers, so that another seed gives another module.

    how: a Learning, a function from the method to one, or the dotted path to either, imported when it is needed.
    path: the dotted path by which the plug was found; empty for psr's own.
    """

    method: Method
    how: Learning | Callable[[Method], Learning] | str
    trained: bool = False
    path: str = ""

    @property
    def learning(self) -> Learning:
        """How it is learnt. Raises PsrError where there is no such thing."""
        how = self.how
        if isinstance(how, str):
            how = plug("way of learning a method", how, {}, {})
        if callable(how):
            how = how(self.method)
        return checked("way of learning a method", self.path or self.method.slug, how, LEARNING_NEEDS)  # type: ignore[no-any-return]
