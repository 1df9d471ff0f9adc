"""The page's own HTML: the answers side by side, what acted in the steered ones, a module's strengths, an error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from psr.serve.registry import LARGEST, Registry
from psr.show.answer import answer_html
from psr.show.answer import label as view_label
from psr.show.curve import curve_html, curve_points
from psr.show.module import recommended
from psr.show.style import STYLE
from psr.show.text import details, facts, number, text
from psr.show.tokens import View, deepest, in_view, tokens_html
from psr.steering.module import SteeringModule
from psr.ui.answers import Side

ENDS = {"": "…", "stop": "", "length": "cut at the longest answer", "failed": "no answer"}
CARDS = """\
body:not(.dark) .psr { color-scheme: light; }
.psr h1 { font-size: 20px; margin: 0; color: inherit; }
.psr .cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 220px), 1fr)); gap: 12px; }
.psr .card { border: 1px solid var(--rule); border-radius: 8px; padding: 10px 12px; min-width: 0; margin: 0; }
.psr .card .said { grid-template-columns: minmax(0, 1fr); }
.psr .card .said > small { display: none; }
.psr .card .words { white-space: pre-wrap; min-height: 3em; }
.psr .trouble { border-left: 3px solid var(--two); padding: 4px 10px; color: var(--ink); font-size: 15px; }
"""
HEAD = f"<style>{STYLE}{CARDS}</style>"


class Strengths(NamedTuple):
    """Where the slider of α goes from and to, and where it stands at first."""

    low: float
    high: float
    start: float


UNSTEERED = Strengths(0.0, 2.0, 1.0)


def strengths(module: SteeringModule) -> Strengths:
    """From 0, or below where the module was tried there, to well beyond what is recommended, safe or tried."""
    alpha, safe = recommended(module)
    start = min(max(1.0 if alpha is None else alpha, -LARGEST), LARGEST)
    marks = [0.0, start, *(safe or ()), *(point[0] for point in curve_points(module.origin.get("curve", ())))]
    low, high = (min(max(one, -LARGEST), LARGEST) for one in (min(marks), max(2.0, 1.5 * start, *marks)))
    return Strengths(low, high, start)


def strength_words(module: SteeringModule) -> str:
    """The recommended strength and the range in which answers make sense, in one line."""
    alpha, safe = recommended(module)
    first = "none was chosen: 1" if alpha is None else f"recommended {number(alpha)}"
    return (
        f"{first}; answers make sense from {number(safe[0])} to {number(safe[1])}"
        if safe
        else f"{first}; range not measured"
    )


def instruction_of(module: SteeringModule | None) -> str:
    """The instruction that the module was distilled from, as its config says."""
    value = None if module is None else module.origin.get("instruction")
    return value if isinstance(value, str) else ""


def model_words(registry: Registry) -> str:
    """The model and what is not offered, as HTML."""
    refused = "".join(f"<li>{text(reason)}</li>" for reason in registry.refused.values())
    return text(registry.base) + (f"</p><p>Not offered:</p><ul>{refused}</ul><p>" if refused else "")


def module_card(name: str, module: SteeringModule) -> str:
    """The module's own curve with the recommended α and the safe range; the range alone where it came without a curve."""
    points = curve_points(module.origin.get("curve", ()))
    alpha, safe = recommended(module)
    body = curve_html(points, alpha=alpha, safe=safe) if points else facts({"α": strength_words(module)})
    return box(f"<h3>{text(name)}</h3>{body}")


def view_choices(modules: Sequence[SteeringModule]) -> list[tuple[str, str]]:
    """What tokens can be shaded by: the sum over the layers, or one of them. (label, value) of a choice."""
    layers = sorted({layer for module in modules for layer in module.layers})
    return [("sum over the layers", "sum"), *((f"layer {layer}", str(layer)) for layer in layers)]


def view_of(choice: str | None, layers: Sequence[int]) -> View:
    """The view of a module with these layers: the sum where it does not act at the chosen one."""
    return int(choice) if choice and choice.isdecimal() and int(choice) in layers else "sum"


def cards(sides: Sequence[Side], choice: str | None) -> str:
    """The answers side by side; steered ones shaded by λ once they have ended."""
    return box(f'<div class="cards">{"".join(_card(side, choice) for side in sides)}</div>') if sides else ""


def _card(side: Side, choice: str | None) -> str:
    ending = text(ENDS[side.end])
    if side.shown is None:
        thinking = details("thinking", f'<div class="words">{text(side.thinking)}</div>') if side.thinking else ""
        body = f'{thinking}<div class="words" dir="auto">{text(side.text)}</div><small>{ending}</small>'
    else:
        view = view_of(choice, side.shown.layers)
        values = in_view(side.shown.strengths, side.shown.layers, view)
        answered = side.shown.answered
        strip = tokens_html(side.shown.tokens[-answered:], values[-answered:], largest=deepest([values], answered))
        body = f"{strip}<small>{text(view_label(view))} {ending}</small>"
    return f'<section class="card"><h3>{text(side.title)}</h3>{body}{_trouble(side.error)}</section>'


def acted(sides: Sequence[Side], choice: str | None) -> str:
    """What acted at each token of the steered answers, and the prompt's own effect at the same tokens."""
    shown = [answer_html(side.shown, view_of(choice, side.shown.layers)) for side in sides if side.shown is not None]
    return box("".join(shown)) if shown else ""


def message(error: str) -> str:
    """What could not be done, in one line."""
    return box(_trouble(error)) if error else ""


def _trouble(error: str) -> str:
    return f'<p class="trouble" role="alert">{text(error)}</p>' if error else ""


def box(html: str) -> str:
    """HTML of `psr.show` where its style sheet is in the page's head."""
    return f'<div class="psr">{html}</div>'
