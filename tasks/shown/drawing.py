"""Charts drawn by matplotlib as SVG that stands in a page: its colours, its fonts, a title on each mark, nothing fetched.

matplotlib writes colours as numbers and styles as attributes that the page's policy forbids. So each colour of the style
sheet has a number here, and the written SVG gets the style sheet's variables in its place: light or dark is the reader's
choice. Text stays text in the reader's font. Equal charts give equal bytes.
"""

import io
import json
import math
import re
import textwrap
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from tasks.engine.progress import clean

VARIABLES = ("paper", "ink", "muted", "line", *(f"c{i}" for i in range(8)))  # of marks.css
COLOUR = {name: f"#0000{i + 16:02x}" for i, name in enumerate(VARIABLES)}
MARKERS = {"square": "s", "diamond": "D", "triangle": "^"}
FONTS = "system-ui, -apple-system, 'Segoe UI', sans-serif"
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a $ in a name is a dollar
    "font.size": 11,
    "text.color": COLOUR["ink"],
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.facecolor": "none",
    "axes.titlelocation": "left",
    "axes.labelcolor": COLOUR["muted"],
    "xtick.labelcolor": COLOUR["muted"],
    "ytick.labelcolor": COLOUR["muted"],
    "grid.color": COLOUR["line"],
    "grid.linewidth": 1,
    **{f"axes.spines.{side}": False for side in ("left", "right", "top", "bottom")},
    **{f"{axis}.{key}": value for axis in ("xtick", "ytick") for key, value in (("major.size", 0), ("major.pad", 6))},
    "figure.constrained_layout.h_pad": 0.05,
    "figure.constrained_layout.w_pad": 0.05,
    "figure.constrained_layout.wspace": 0.06,
    "figure.constrained_layout.hspace": 0.06,
}
SVG = "{http://www.w3.org/2000/svg}"
HREF = "{http://www.w3.org/1999/xlink}href"
ElementTree.register_namespace("", SVG[1:-1])


class Mark(NamedTuple):
    """A dot with its words; low and high are the ends of its interval, where it has one."""

    x: float
    y: float
    title: str
    low: float | None = None
    high: float | None = None


class Line(NamedTuple):
    """A method's marks, left to right. style: its classes."""

    name: str
    style: str
    marks: list[Mark]


class Axis(NamedTuple):
    """What an axis shows and its ends; a value outside stands at the edge."""

    label: str
    low: float
    high: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The value where it is drawn."""
        low, high = self.limits if self.log else (self.low, self.high)
        return min(max(value, low), high)

    @property
    def limits(self) -> tuple[float, float]:
        """Both ends with some room: never equal, and above 0 on a logarithmic scale."""
        if self.log:
            low, high = max(self.low, 1e-12), max(self.high, 1e-12)
            return (low, high) if low < high else (low / 2, high * 2)
        room = 0.04 * (self.high - self.low) or 0.5
        return self.low - room, self.high + room


class Panel(NamedTuple):
    """One attribute's chart; only y may be logarithmic. guide: the x that a dashed line marks."""

    title: str
    lines: list[Line]
    x: Axis
    y: Axis
    guide: float | None = None


def plot(panel: Panel, size: float = 7) -> Markup:
    """A chart of lines with intervals along y. size: of a dot that is part of a line, in pixels."""
    with _figure(310, 250) as figure:
        _panel(figure.subplots(), panel, size)
        return _svg(figure, f"{panel.title}: {panel.y.label} against {panel.x.label}")


def plots(panels: Sequence[Panel], title: str, css: str = "") -> Markup:
    """Such charts side by side over one legend. css: a style sheet, for an image of its own."""
    width = 40 + 330 * len(panels)
    with _figure(width, 340) as figure:
        legend: dict[str, Line2D] = {}
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True):
            legend |= _panel(axes, panel, 7)
        wide = 50 + 6.5 * max((len(name) for name in legend), default=0)  # pixels of an entry, at this size of letters
        columns = max(1, min(2 * len(panels), int(width // wide)))
        figure.set_figheight(figure.get_figheight() + 18 / 72 * max(0, -(-len(legend) // columns) - 3))
        figure.legend(legend.values(), legend.keys(), loc="outside lower left", ncols=columns, frameon=False)
        return _svg(figure, title, css, {"class": "figure", "width": str(width)})


def _panel(axes: Axes, panel: Panel, size: float) -> dict[str, Line2D]:
    """Draw a chart's lines, title, axes and their labels. Returns the lines by name."""
    drawn = _lines(axes, panel, size)
    axes.set_title(textwrap.fill(clean(panel.title), 40), y=1.06, pad=0)
    axes.set_xlabel(panel.x.label, loc="right")
    axes.set_ylabel(panel.y.label, rotation=0, ha="right", va="baseline")
    axes.yaxis.set_label_coords(-0.03, 1.06)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)) if panel.y.log else MaxNLocator(6))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.minorticks_off()
    return drawn


def rows(panels: Sequence[Panel], names: Sequence[str], title: str, css: str = "") -> Markup:
    """Panels side by side with a row for each name and intervals along x. css: a style sheet, for an image of its own."""
    columns = min(len(panels), 3)
    deep = -(-len(panels) // columns)
    width, height = 180 + 260 * columns, deep * (26 * len(names) + 62)
    with _figure(width, height) as figure:
        grid = figure.subplots(deep, columns, squeeze=False).flat
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        for i, (axes, panel) in enumerate(zip(grid, panels, strict=False)):
            _lines(axes, panel, 10, across=True)
            axes.set_title(textwrap.fill(clean(panel.title), 36))
            axes.set_xticks(range(math.ceil(panel.x.low / 25) * 25, math.floor(panel.x.high) + 1, 25))
            axes.invert_yaxis()
            labels = ["" if i % columns else clean(name) for name in names]
            axes.set_yticks(range(len(names)), labels, color=COLOUR["ink"], size=12)
        return _svg(figure, title, css, {"class": "figure", "width": str(width)})


def _lines(axes: Axes, panel: Panel, size: float, across: bool = False) -> dict[str, Line2D]:
    """Draw a panel's guide and lines. Returns the lines by name."""
    drawn: dict[str, Line2D] = {}
    if panel.guide is not None:
        axes.axvline(panel.guide, color=COLOUR["muted"], linewidth=1, dashes=(3, 3), clip_on=False)
    for line in panel.lines:
        look = line.style.split()
        colour = COLOUR[{"plain": "muted", "prompt": "ink"}.get(look[0], f"c{look[0][1:]}")]
        hollow = "single" in look
        stroke: dict[str, Any] = {"linestyle": (0, (2.5, 1.5)) if hollow else "solid", "linewidth": 2, "clip_on": False}
        inside = panel.x if across else panel.y
        for mark in line.marks:
            if mark.low is not None and mark.high is not None:
                ends, at = [inside(mark.low), inside(mark.high)], [mark.y if across else mark.x] * 2
                axes.plot(*((ends, at) if across else (at, ends)), color=colour, **stroke)
        [drawn[clean(line.name)]] = axes.plot(
            [panel.x(mark.x) for mark in line.marks],
            [panel.y(mark.y) for mark in line.marks],
            gid=json.dumps([clean(mark.title) for mark in line.marks]),
            color=colour,
            marker=next((MARKERS[name] for name in look if name in MARKERS), "o"),
            markersize=size if len(line.marks) > 1 else 10,
            markerfacecolor=COLOUR["paper"] if hollow else colour,
            markeredgecolor=colour if hollow else COLOUR["paper"],
            markeredgewidth=2 if hollow else 1,
            **stroke,
        )
    axes.set(yscale="log" if panel.y.log else "linear")
    axes.set(xlim=panel.x.limits, ylim=panel.y.limits)
    axes.grid(axis="x" if across else "y", clip_on=False)
    return drawn


@contextmanager
def _figure(width: float, height: float) -> Iterator[Figure]:
    """A figure of so many pixels under this file's settings and nobody's own, which hold until it is written."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        # the reader's browser has the letters that matplotlib's own font, by which it measures, lacks
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        yield Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained", frameon=False)


def _svg(figure: Figure, title: str, css: str = "", attributes: Mapping[str, str] | None = None) -> Markup:
    """The figure as an SVG element: titles on marks, variables for colours, no id but those that are pointed at."""
    title = clean(title)
    matplotlib.rcParams["svg.hashsalt"] = title  # the same ids each time, and no other chart's
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    root = ElementTree.fromstring(text.getvalue())  # noqa: S314 - matplotlib's own output
    for line in root.iterfind(f".//{SVG}g[@id]"):
        if line.attrib["id"].startswith("["):
            for mark, words in zip(line.iter(f"{SVG}use"), json.loads(line.attrib["id"]), strict=True):
                ElementTree.SubElement(mark, f"{SVG}title").text = words
    for element in root.iter():
        _plain(element)
    root.remove(root[0])  # a style sheet, of which the page has its own
    del root.attrib["width"], root.attrib["height"]
    root.attrib |= {"role": "img", "font-family": FONTS, "stroke-linejoin": "round", **(attributes or {})}
    for tag, words in (("style", css), ("title", title)):
        if words:
            element = ElementTree.Element(f"{SVG}{tag}")
            element.text = words
            root.insert(0, element)
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704


def _plain(element: ElementTree.Element) -> None:
    """Style as attributes, colours as variables, places to a hundredth of a pixel, no id but those of shapes."""
    element.text, element.tail = (element.text or "").strip() or None, None
    own = element.attrib
    for declaration in filter(None, own.pop("style", "").split(";")):
        name, _, value = declaration.partition(":")
        own[name.strip()] = value.strip()
    own.pop("font-family", None)
    if HREF in own:
        own["href"] = own.pop(HREF)
    if element.tag != f"{SVG}path":
        own.pop("id", None)
    if own.get("transform", "").startswith("rotate(-0 "):
        own.pop("transform")
    for name in {"x", "y", "d", "transform"} & set(own):
        own[name] = " ".join(re.sub(r"-?\d+\.\d+", lambda m: f"{round(float(m[0]), 2) + 0:g}", own[name]).split())
    for name in {"fill", "stroke"} & set(own):
        own[name] = next((f"var(--{key})" for key, number in COLOUR.items() if number == own[name]), own[name])
