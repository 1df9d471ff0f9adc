"""What a module's card says beside the module itself, and where `psr.distill`'s result has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, NamedTuple

from psr.fitting.presets import FitSettings

if TYPE_CHECKING:
    from psr.from_prompt.result import Distilled

HARMFUL = frozenset({"evil", "sycophantic", "sycophancy", "hallucinating", "hallucination"})
MODULE = "this module"


class CardData(NamedTuple):
    """What was fitted on, chosen by or measured on: how many, and a hash of them."""

    what: str
    n: int | None
    digest: str


class CardFigure(NamedTuple):
    """A figure with its 95 % interval. of: whose; value: None where it is missing. n: over how many answers; `unscored`
    more have no value. alpha: the strength of steering, None where nothing is steered. judge: who rated, empty for arithmetic."""

    of: str
    measure: str
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    unscored: int = 0
    alpha: float | None = None
    judge: str = ""


@dataclass(frozen=True)
class CardFacts:
    """What a card is made from. What is left empty is said not to be known or not to have been measured.

    attribute: "benchmark/name". instructions: the wordings of the prompt that the module replaces; suppress: it undoes them.
    judged: how well the judge tells answers apart, a sentence of Markdown. chosen: what the recommended strength was chosen
    for, likewise. curve, side_effects, faithfulness: more figures. reproduce: code or commands, a text each. license: its name
    on the hub. harmful: whether the trait is; None: whether its name is one of HARMFUL.
    """

    attribute: str = ""
    instructions: tuple[str, ...] = ()
    suppress: bool = False
    data: tuple[CardData, ...] = ()
    figures: tuple[CardFigure, ...] = ()
    judged: str = ""
    chosen: str = ""
    curve: tuple[CardFigure, ...] = ()
    side_effects: tuple[CardFigure, ...] = ()
    faithfulness: tuple[CardFigure, ...] = ()
    reproduce: tuple[str, ...] = ()
    license: str = ""
    harmful: bool | None = None

    @property
    def is_harmful(self) -> bool:
        """As it was declared; else by the trait's name."""
        named = self.attribute.rpartition("/")[2].lower() in HARMFUL
        return named if self.harmful is None else self.harmful


def distilled_facts(result: Distilled, *, license: str = "", harmful: bool | None = None) -> CardFacts:
    """What `psr.distill` found, for the card of its module. Raises nothing: what the result does not hold is left empty.

    Example:
        folder = psr.save_module(result.module, "pirate")
        psr.write_card(folder, psr.distilled_facts(result, license="apache-2.0"))
    """
    origin = result.module.origin
    sides = (("plain", result.plain, None), ("prompt", result.prompted, None), (MODULE, result.steered, result.alpha))
    n = len(result.answers)
    figures = [
        CardFigure(of, name, *interval, n, 0, alpha, result.judge)
        for of, measured, alpha in sides
        for name, interval in zip(("effect", "coherence"), measured, strict=True)
    ]
    asked = origin.get("questions", {})
    curve = [
        CardFigure(MODULE, name, value, None, None, asked.get("search", 0), 0, point.alpha, result.judge)
        for point in result.curve
        for name, value in (("effect", point.effect), ("coherence", point.coherence))
    ]
    dropped = ", ".join(f"{count} {reason}" for reason, count in result.dropped.items())
    return CardFacts(
        attribute=str(origin.get("attribute", "")),
        instructions=tuple(filter(None, [origin.get("instruction", "")])),
        suppress=bool(origin.get("suppress", False)),
        data=(
            CardData("questions, for fitting, search and figures", _total(asked), asked.get("hash", "")),
            CardData(
                "answers fitted on, of the model itself" + (f" (dropped: {dropped})" if dropped else ""),
                result.kept,
                origin.get("answers", ""),
            ),
            CardData("questions that chose the strength", asked.get("search"), ""),
            CardData("questions of the figures, which chose nothing", n, ""),
        ),
        figures=tuple(figures),
        judged=f"The judge tells prompted answers from plain ones by {result.followed:.0f} of 100 (0: not at all). Effect: 0 as plain "
        "answers, 100 as prompted ones, where the judge is `likelihood`. Coherence: 0 to 100.",
        chosen="the smallest that does as much as the prompt while answers make sense"
        if result.reached
        else "the largest effect while answers make sense, which is less than the prompt's",
        curve=tuple(curve),
        reproduce=("\n".join(_call(result)),),
        license=license,
        harmful=harmful,
    )


def _total(asked: Any) -> int | None:
    return sum(asked[side] for side in ("fitting", "search", "evaluate")) if asked else None


def _call(result: Distilled) -> Iterator[str]:
    """The call of `psr.distill` that makes the module again."""
    module, origin = result.module, result.module.origin
    asked = origin.get("questions", {})
    yield f"import psr  # {installed()}"
    yield ""
    of = f", revision={module.base.revision!r}" if module.base.revision else ""
    yield f"lm = psr.load_model({module.base.name or '…'!r}{of}, dtype={origin.get('dtype', 'float32')!r})  # {module.model}"
    yield "result = psr.distill("
    yield "    lm,"
    yield f"    {origin.get('instruction', '')!r},"
    if not asked.get("everyday"):
        yield f"    questions=questions,  # {_total(asked)} of them, {asked.get('hash')}"
    if result.judge == "likelihood":
        yield f"    paraphrases={list(result.wordings)!r},"
    else:
        yield f"    judge=judge,  # {result.judge}"
    yield f"    attribute={origin.get('attribute', '')!r},"
    yield f"    method={origin.get('method', '')!r},"
    yield f"    layers={_layers(module.layers)},"
    if origin.get("settings"):
        yield f"    settings=psr.FitSettings({', '.join(_changed(origin['settings']))}),"
    yield f"    sampling=psr.Sampling({', '.join(f'{name}={value!r}' for name, value in origin.get('sampling', {}).items())}),"
    yield f"    seed={origin.get('seed', 0)},"
    for name in ("suppress", "force"):
        if origin.get(name):
            yield f"    {name}=True,"
    yield ")"


def _layers(layers: Sequence[int]) -> str:
    consecutive = tuple(layers) == tuple(range(layers[0], layers[-1] + 1))
    return f"range({layers[0]}, {layers[-1] + 1})" if consecutive else repr(tuple(layers))


def _changed(settings: Any) -> Iterator[str]:
    """The settings that are not the defaults, as arguments."""
    defaults = {field.name: field.default for field in fields(FitSettings)}
    for name, value in settings.items():
        value = tuple(value) if isinstance(value, list) else value
        if name not in defaults or value != defaults[name]:
            yield f"{name}={value!r}"


def installed() -> str:
    """This package with its version."""
    name = "prompt-steering-replacement"
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:  # run from a folder
        return name
