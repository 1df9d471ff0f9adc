"""The one style sheet of what is shown, light and dark, and the shades of strength.

A shade mixes the paper with one hue, so that it gets darker (on a dark page: brighter) with the strength, in blue for λ
and in orange for Δ, which colour-blind readers tell apart; text on the deepest one keeps a contrast of 4.5 (WCAG AA).
Light or dark is the reader's setting, or that of the page around it: of Jupyter, VS Code, a site by furo, Gradio, or
`color-scheme` on the element itself.
"""

from __future__ import annotations

SHADES = 9
LAYERS = 12  # at most so many layers of an answer get a view of their own beside the mean
Colour = tuple[int, int, int]
PAPER: tuple[Colour, Colour] = ((255, 255, 255), (20, 23, 28))  # light, dark
INK = "#1b1f24", "#e6e9ee"
DEEPEST: dict[str, tuple[Colour, Colour]] = {
    "s": ((95, 141, 240), (42, 91, 208)),  # λ
    "d": ((226, 148, 52), (150, 79, 15)),  # Δ
}


def shades(hue: str) -> list[tuple[str, str]]:
    """The colours of shade 1 to SHADES, light and dark."""
    return [
        (_mix(PAPER[0], DEEPEST[hue][0], at), _mix(PAPER[1], DEEPEST[hue][1], at))
        for at in (0.1 + 0.9 * i / (SHADES - 1) for i in range(SHADES))
    ]


def _mix(start: Colour, end: Colour, at: float) -> str:
    return "#" + "".join(f"{round(a + (b - a) * at):02x}" for a, b in zip(start, end, strict=True))


def _shade_rules() -> str:
    return "".join(
        f".psr .{hue}{i}{{background:light-dark({light},{dark});fill:light-dark({light},{dark})}}\n"
        for hue in DEEPEST
        for i, (light, dark) in enumerate(shades(hue), 1)
    )


def _view_rules() -> str:
    """The first view is shown until another is chosen."""
    return "".join(
        f".psr .answer:has(.pick{i}:checked) .view{i}{{display:block}}\n"
        f".psr .answer:has(.pick{i}:checked) .view0{{display:none}}\n"
        for i in range(1, LAYERS + 1)
    )


STYLE = f"""\
.psr {{
  color-scheme: light dark;
  --ink: light-dark({INK[0]}, {INK[1]}); --muted: light-dark(#5b636c, #9aa4b0); --rule: light-dark(#dfe3e8, #2f3640);
  --paper: light-dark(#ffffff, #14171c); --soft: light-dark(#f3f5f8, #1f252d);
  --one: light-dark(#1d4ed8, #7aa5ff); --two: light-dark(#b45309, #f0a35e);
  background: var(--paper); color: var(--ink); font: 15px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif;
  padding: 12px 14px; border-radius: 8px; overflow-wrap: anywhere; text-align: left;
}}
[data-jp-theme-light="true"] .psr, [data-theme="light"] .psr, .vscode-light .psr, .psr.light {{ color-scheme: light; }}
[data-jp-theme-light="false"] .psr, [data-theme="dark"] .psr, .vscode-dark .psr, .dark .psr, .psr.dark {{ color-scheme: dark; }}
.psr * {{ box-sizing: border-box; }}
.psr h3, .psr h4 {{ margin: 0 0 6px; font-size: 15px; color: inherit; }}
.psr section {{ margin-top: 16px; }}
.psr section:first-child {{ margin-top: 0; }}
.psr h4 {{ margin-top: 14px; font-size: 14px; }}
.psr p, .psr small, .psr dt, .psr summary, .psr figcaption {{ color: var(--muted); font-size: 13px; margin: 4px 0; }}
.psr dl {{ display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 2px 14px; margin: 6px 0; }}
.psr dt, .psr dd {{ margin: 0; }}
.psr dd {{ white-space: pre-wrap; }}
.psr .wide {{ overflow-x: auto; max-width: 100%; }}
.psr table {{ border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; margin: 6px 0; color: inherit; }}
.psr th, .psr td {{ padding: 3px 10px 3px 0; border-bottom: 1px solid var(--rule); text-align: right; background: none; }}
.psr th {{ color: var(--muted); font-weight: 600; }}
.psr tr > :first-child {{ text-align: left; }}
.psr svg {{ display: block; height: auto; max-width: 100%; font: 11px system-ui, -apple-system, "Segoe UI", sans-serif; }}
.psr .wide svg {{ max-width: none; }}
.psr svg text {{ fill: var(--muted); }}
.psr svg .strong {{ fill: var(--ink); font-weight: 600; }}
.psr figure {{ margin: 8px 0; max-width: 460px; }}
.psr .grid {{ stroke: var(--rule); }}
.psr .band {{ fill: var(--soft); }}
.psr .frame {{ fill: none; stroke: var(--rule); }}
.psr .mark {{ stroke: var(--ink); stroke-width: 1.5; }}
.psr .one {{ stroke: var(--one); fill: var(--one); }}
.psr .two {{ stroke: var(--two); fill: var(--two); }}
.psr path.one, .psr path.two {{ fill: none; stroke-width: 2; stroke-linejoin: round; }}
.psr path.two {{ stroke-dasharray: 6 3; }}
.psr .choose {{ display: inline-block; margin: 0 12px 6px 0; font-size: 13px; cursor: pointer; }}
.psr .view {{ display: none; }}
.psr .view0 {{ display: block; }}
.psr .said {{ display: grid; grid-template-columns: 70px minmax(0, 1fr); gap: 4px 10px; margin: 6px 0; align-items: baseline; }}
.psr .tokens {{ line-height: 2; white-space: pre-wrap; overflow-wrap: anywhere; }}
.psr .tokens > span {{ padding: 3px 0; border-radius: 3px; -webkit-box-decoration-break: clone; box-decoration-break: clone; }}
.psr .tokens > .below {{ text-decoration: underline dashed 1px; text-underline-offset: 4px; }}
.psr .answer:has(.figures:checked) .tokens > span::after {{ content: attr(title); font-size: 10px; margin: 0 3px 0 1px;
  vertical-align: sub; }}
.psr .scale span {{ display: inline-block; width: 14px; height: 11px; vertical-align: -1px; print-color-adjust: exact; }}
.psr :focus-visible {{ outline: 2px solid var(--one); outline-offset: 2px; }}
@media (max-width: 520px) {{ .psr .said {{ grid-template-columns: minmax(0, 1fr); }} .psr {{ padding: 8px; }} }}
@media print {{ .psr .tokens > span {{ print-color-adjust: exact; }} }}
{_shade_rules()}{_view_rules()}"""


def widget(*parts: str) -> str:
    """HTML of this folder with its style sheet, to stand anywhere in a page."""
    return f'<style>{STYLE}</style><div class="psr">{"".join(parts)}</div>'
