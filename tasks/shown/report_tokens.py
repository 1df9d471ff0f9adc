"""An answer with its tokens shaded by λ: which token was steered how strongly, by which layer."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tasks.engine.progress import clean
from tasks.shown.order import Names, Row, grouped

SHADES = 9
LAYERS = 12  # at most so many layers get a view of their own beside the mean


class Token(NamedTuple):
    """A token's text, its λ, and how dark it is: 0 (λ is 0) to SHADES."""

    text: str
    strength: float
    shade: int


class View(NamedTuple):
    """The tokens under one layer, or under the mean over all; `largest` is the λ of the darkest shade."""

    label: str
    largest: float
    asked: list[Token]
    answered: list[Token]


def shaded(tables: Mapping[str, Sequence[Row]], scores: Mapping[str, float], names: Names) -> list[dict[str, Any]]:
    """One answer per attribute: of the gated module with the highest figure among those whose strengths were kept.

    scores: module -> its main figure.
    """
    pairs, modules, answers = ({row["id"]: row for row in tables[name]} for name in ("pairs", "modules", "completions"))
    strengths: dict[str, list[Row]] = {}
    for row in tables["strengths"]:
        strengths.setdefault(row["completion"], []).append(row)
    best: dict[str, Row] = {}
    for answer in (answers[key] for key in strengths if key in answers and answers[key]["method"] in modules):
        chosen = best.setdefault(modules[answer["method"]]["attribute"], answer)
        if scores.get(answer["method"], -math.inf) > scores.get(chosen["method"], -math.inf):
            best[modules[answer["method"]]["attribute"]] = answer
    return [
        {
            "attribute": attribute,
            "pair": pairs[answer["pair"]],
            "method": names[modules[answer["method"]]["method"]],
            "answer": answer,
            "beside": {
                row["method"]: row["text"]
                for row in tables["completions"]
                if (row["pair"], row["seed"]) == (answer["pair"], answer["seed"])
            },
            "views": views(strengths[answer["id"]], len(answer["token_ids"])),
            "spaced": not any(row["token"].startswith((" ", "▁", "Ġ")) for row in strengths[answer["id"]]),
        }
        for attribute, answer in best.items()
    ]


def views(rows: Sequence[Row], answer: int) -> list[View]:
    """The mean over layers, then the layers (evenly chosen when they are many); `answer`: tokens of the answer."""
    texts = {row["position"]: clean(row["token"]).replace("\n", "⏎") or "∅" for row in rows}  # line ends are shown
    by_layer = {layer: {row["position"]: row["strength"] for row in own} for layer, own in grouped(rows, "layer")}
    layers = list(by_layer)
    mean = {p: sum(by_layer[layer].get(p, 0.0) for layer in layers) / len(layers) for p in texts}
    if len(layers) > LAYERS:
        layers = [layers[i * (len(layers) - 1) // (LAYERS - 1)] for i in range(LAYERS)]
    shown = {"mean": mean} if len(layers) > 1 else {}
    shown |= {f"layer {layer}": by_layer[layer] for layer in layers}
    return [_view(label, strengths, texts, answer) for label, strengths in shown.items()]


def _view(label: str, strengths: Mapping[int, float], texts: Mapping[int, str], answer: int) -> View:
    largest = max(strengths.values(), default=0.0)
    lam = {position: strengths.get(position, 0.0) for position in sorted(texts)}
    tokens = [Token(texts[position], value, shade(value, largest)) for position, value in lam.items()]
    border = max(0, len(tokens) - answer)
    return View(label, largest, tokens[:border], tokens[border:])


def shade(strength: float, largest: float) -> int:
    """0 for a closed gate, else 1 to SHADES in proportion to the largest."""
    if strength <= 0 or largest <= 0:
        return 0
    return min(SHADES, 1 + int(strength / largest * SHADES))
