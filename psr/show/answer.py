"""An answer with what acted at each of its tokens, from `psr.show_answer` or from stored rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from psr.show.style import LAYERS, widget
from psr.show.text import details, text
from psr.show.tokens import DELTA, LAMBDA, View, heatmap, in_view, tokens_html


@dataclass(frozen=True)
class ShownAnswer:
    """An answer with the strength of steering at each of its tokens; as the last value of a notebook's cell it shows itself.

    tokens: texts, from the first token of the module's span to the last of the answer. answered: how many of them are the
    answer's. layers: the module's. strengths: λ, [layer][token]. delta: ‖Δ_acc‖ of the prompt at these layers and tokens, or
    None. title: a line above it.
    """

    tokens: tuple[str, ...]
    answered: int
    layers: tuple[int, ...]
    strengths: tuple[tuple[float, ...], ...]
    delta: tuple[tuple[float, ...], ...] | None = None
    title: str = ""

    def _repr_html_(self) -> str:
        return widget(answer_html(self))


def answer_html(answer: ShownAnswer, view: View | None = None) -> str:
    """The tokens shaded by λ, the prompt's own effect at the same tokens below, and both by layer and token.

    view: a layer, "mean" or "sum"; None: the reader chooses between the mean and the layers (evenly chosen when they are many).
    Raises PsrError for a view that there is not.
    """
    shown = views(answer.layers) if view is None else [view]
    bodies = [_strips(answer, one) for one in shown]
    group = "psr" + hashlib.sha256("".join((text(answer.title), *bodies)).encode()).hexdigest()[:12]
    choices = "".join(
        f'<label class="choose"><input type="radio" name="{group}" class="pick{i}"{"" if i else " checked"}> {label(one)}</label>'
        for i, one in enumerate(shown if len(shown) > 1 else ())
    )
    numbers = '<label class="choose"><input type="checkbox" class="figures"> numbers</label>'
    strips = "".join(f'<div class="view view{i}">{body}</div>' for i, body in enumerate(bodies))
    maps = heatmap(answer.tokens, answer.strengths, answer.layers, answered=answer.answered)
    if answer.delta is not None:
        maps += heatmap(answer.tokens, answer.delta, answer.layers, answered=answer.answered, of=DELTA)
    title = f"<h3>{text(answer.title)}</h3>" if answer.title else ""
    return f'<section class="answer">{title}{choices}{numbers}{strips}{details("by layer and token", maps)}</section>'


def views(layers: Sequence[int]) -> list[View]:
    """The mean, then the layers, at most LAYERS of them."""
    if len(layers) < 2:
        return list(layers)
    some = [layers[i * (len(layers) - 1) // (LAYERS - 1)] for i in range(LAYERS)] if len(layers) > LAYERS else layers
    return ["mean", *some]


def label(view: View) -> str:
    """What a view is called."""
    return view if isinstance(view, str) else f"layer {view}"


def _strips(answer: ShownAnswer, view: View) -> str:
    values = in_view(answer.strengths, answer.layers, view)
    html = tokens_html(answer.tokens, values, answered=answer.answered, of=LAMBDA)
    if answer.delta is None:
        return html
    own = in_view(answer.delta, answer.layers, view)
    return (
        f"{html}<h4>the prompt’s own effect</h4>{tokens_html(answer.tokens, own, answered=answer.answered, of=DELTA)}"
    )
