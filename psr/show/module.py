"""A steering module: its equation, where it acts, at which strength, how long its vectors are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from psr.show.curve import curve_html, curve_points
from psr.show.text import facts, number, text

TOKENS = {"R": "from the prompt's last token on", "QR": "the question and the answer"}
BAR = 110  # pixels of the longest


class Module(Protocol):
    """What is shown of a `psr.SteeringModule`."""

    @property
    def id(self) -> str: ...
    @property
    def form(self) -> str: ...
    @property
    def equation(self) -> str: ...
    @property
    def layers(self) -> tuple[int, ...]: ...
    @property
    def span(self) -> Any: ...
    @property
    def model(self) -> str: ...
    @property
    def base(self) -> Any: ...
    @property
    def tensors(self) -> Mapping[str, Any]: ...
    @property
    def origin(self) -> Mapping[str, Any]: ...


def module_html(module: Module) -> str:
    """What it is, its curve if it came with one, and the length of its vectors layer by layer. Its texts are whoever's made it."""
    alpha, safe = recommended(module)
    does = {"undoes" if module.origin.get("suppress") is True else "replaces": module.origin.get("instruction")}
    rows = {
        **{name: value for name, value in does.items() if isinstance(value, str)},
        "adds": module.equation,
        "layers": ranges(module.layers),
        "tokens": f"{TOKENS.get(module.span, '')} ({module.span})",
        "fitted on": f"{module.base} ({module.model})" if module.base.name else module.model,
        "α": "none was chosen: 1" if alpha is None else number(alpha),
        "range of α": "not measured" if safe is None else f"{number(safe[0])} to {number(safe[1])}",
        **{name: value for name in ("attribute", "method") if isinstance(value := module.origin.get(name), str)},
    }
    points = curve_points(module.origin.get("curve", ()))
    curve = curve_html(points, alpha=alpha, safe=safe) if points else ""
    return f"<h3>{text(module.id)}</h3>{facts(rows)}{curve}{_bars(module)}"


def recommended(module: Module) -> tuple[float | None, tuple[float, float] | None]:
    """The α that was chosen and the range in which answers make sense; None where the origin has no such numbers."""
    alpha, safe = module.origin.get("recommended_alpha"), module.origin.get("safe_alpha")
    chosen = float(alpha) if number(alpha) != "–" else None  # type: ignore[arg-type]
    pair = isinstance(safe, Sequence) and len(safe) == 2 and all(number(end) != "–" for end in safe)
    return chosen, (float(safe[0]), float(safe[1])) if pair else None  # type: ignore[index]


def norms(module: Module) -> dict[str, list[float]]:
    """Per layer: |z|, for gates |w| and b (|b| of several), the target t."""
    tensors = module.tensors
    return {
        name if tensor[0].dim() == 0 else f"|{name}|": [float(one if one.dim() == 0 else one.norm()) for one in tensor]
        for name, tensor in ((name, tensors[name]) for name in ("z", "w", "b", "t") if name in tensors)
    }


def ranges(layers: Sequence[int]) -> str:
    """`0-5` for consecutive layers, else a list."""
    consecutive = len(layers) > 1 and tuple(layers) == tuple(range(layers[0], layers[0] + len(layers)))
    return f"{layers[0]}-{layers[-1]}" if consecutive else ", ".join(map(str, layers))


def _bars(module: Module) -> str:
    """A table of the lengths, with a bar behind those of z."""
    lengths = norms(module)
    longest = max(lengths["|z|"], default=0.0) or 1.0
    head = "".join(f'<th scope="col">{name}</th>' for name in ("layer", *lengths, ""))
    lines = "".join(
        f'<tr><th scope="row">{layer}</th>{"".join(f"<td>{number(values[i], 4)}</td>" for values in lengths.values())}'
        f'<td><svg width="{BAR}" height="10" viewBox="0 0 {BAR} 10" aria-hidden="true">'
        f'<rect class="s7" width="{lengths["|z|"][i] / longest * BAR:.1f}" height="10"/></svg></td></tr>'
        for i, layer in enumerate(module.layers)
    )
    return f'<h4>by layer</h4><div class="wide" tabindex="0"><table><tr>{head}</tr>{lines}</table></div>'
