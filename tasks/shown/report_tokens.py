"""An answer with its tokens shaded by λ: which token was steered how strongly, by which layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.engine.terminal import clean

Row = Mapping[str, Any]
SHADES = 9
LAYERS = 12  # at most so many layers get a view of their own beside the mean


@dataclass(frozen=True)
class Token:
    """A token's text, its λ, and how dark it is: 0 (λ is 0) to SHADES."""

    text: str
    strength: float
    shade: int


@dataclass(frozen=True)
class View:
    """The tokens under one layer, or under the mean over all; `largest` is the λ of the darkest shade."""

    label: str
    largest: float
    asked: tuple[Token, ...]
    answered: tuple[Token, ...]


@dataclass(frozen=True)
class Shaded:
    """One steered answer beside what the plain and the instructed model answered to the same question."""

    attribute: str
    question: str
    instruction: str
    method: str
    alpha: float
    plain: str
    instructed: str
    completion: str
    views: tuple[View, ...]
    spaced: bool


def views(rows: Sequence[Row], answer: int) -> tuple[View, ...]:
    """The mean over layers, then the layers (evenly chosen when they are many); `answer`: tokens of the answer."""
    strengths: dict[int, dict[int, float]] = {}
    text: dict[int, str] = {}
    for row in rows:
        strengths.setdefault(row["layer"], {})[row["position"]] = row["strength"]
        text[row["position"]] = visible(row["token"])
    layers, positions = sorted(strengths), sorted(text)
    mean = {p: sum(strengths[layer].get(p, 0.0) for layer in layers) / len(layers) for p in positions}
    chosen = layers if len(layers) <= LAYERS else [layers[i * (len(layers) - 1) // (LAYERS - 1)] for i in range(LAYERS)]
    shown = [("mean", mean), *((f"layer {layer}", strengths[layer]) for layer in chosen)]
    if len(layers) == 1:
        shown = shown[1:]
    return tuple(_view(label, lam, [(p, text[p]) for p in positions], answer) for label, lam in shown)


def _view(label: str, lam: Mapping[int, float], tokens: Sequence[tuple[int, str]], answer: int) -> View:
    largest = max(lam.values(), default=0.0)
    made = [Token(text, lam.get(p, 0.0), shade(lam.get(p, 0.0), largest)) for p, text in tokens]
    border = max(0, len(made) - answer)
    return View(label, largest, tuple(made[:border]), tuple(made[border:]))


def shade(strength: float, largest: float) -> int:
    """0 for a closed gate, else 1 to SHADES in proportion to the largest."""
    if strength <= 0 or largest <= 0:
        return 0
    return min(SHADES, 1 + int(strength / largest * SHADES))


def visible(token: str) -> str:
    """A token as one can read it: line ends and control characters are shown."""
    return clean(token).replace("\n", "⏎") or "∅"


def shaded(
    headline: Sequence[Row],
    strengths: Sequence[Row],
    completions: Sequence[Row],
    pairs: Sequence[Row],
    modules: Sequence[Row],
    names: Mapping[str, str],
) -> list[Shaded]:
    """One answer per attribute: of the gated module with the highest TA@Cp among those whose strengths were kept."""
    kept = {row["id"]: row for row in completions}
    by_completion: dict[str, list[Row]] = {}
    for row in strengths:
        if row["completion"] in kept:
            by_completion.setdefault(row["completion"], []).append(row)
    score = {
        row["module"]: row["ta_cp"]
        for row in headline
        if row["module"] and row["ta_cp"] is not None and not row["method"].endswith("+prompt")
    }
    home = {row["id"]: row for row in modules}
    asked = {row["id"]: row for row in pairs}
    found: dict[str, tuple[float, str]] = {}
    for key in by_completion:
        module = kept[key]["method"]
        if module in home and kept[key]["pair"] in asked:
            attribute, value = home[module]["attribute"], score.get(module, -1.0)
            if attribute not in found or value > found[attribute][0]:
                found[attribute] = (value, key)
    return [_shaded(kept[key], by_completion[key], completions, asked, home, names) for _, key in found.values()]


def _shaded(
    answer: Row,
    rows: Sequence[Row],
    completions: Sequence[Row],
    asked: Mapping[str, Row],
    home: Mapping[str, Row],
    names: Mapping[str, str],
) -> Shaded:
    pair, module = asked[answer["pair"]], home[answer["method"]]
    beside = {
        row["method"]: row["text"]
        for row in completions
        if row["pair"] == answer["pair"] and row["seed"] == answer["seed"]
    }
    spaced = not any(row["token"].startswith((" ", "▁", "Ġ")) for row in rows)
    return Shaded(
        module["attribute"],
        pair["question"],
        pair["instruction"],
        names[module["method"]],
        answer["alpha"],
        beside.get("plain", ""),
        beside.get("instructed", ""),
        answer["id"],
        views(rows, len(answer["token_ids"])),
        spaced,
    )
