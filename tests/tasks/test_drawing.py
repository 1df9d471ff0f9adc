"""The charts as SVG: a mark for each figure where it belongs, names as they are, the page's colours, the same bytes twice."""

import itertools
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from tasks.engine.progress import clean
from tasks.shown.drawing import COLOUR, Axis, Line, Mark, Panel, plot, plots, rows

SVG = "{http://www.w3.org/2000/svg}"
X, Y = Axis("layer", 0, 4), Axis("error", 0, 2)
HOSTILE = "<b>&\"' $x^2$ \x1b[31m \u6f22\u5b57 ]"


def panel(*lines: Line, x: Axis = X, y: Axis = Y, title: str = "gloomy", guide: float | None = None) -> Panel:
    return Panel(title, list(lines), x, y, guide)


def line(*values: float, style: str = "m0", name: str = "A-PSR") -> Line:
    marks = [
        Mark(i, value, f"{name}, layer {i}: {value:g}", value - 0.1, value + 0.1) for i, value in enumerate(values)
    ]
    return Line(name, style, marks)


def marks(text: str) -> list[tuple[str, float, float]]:
    """(title, x, y) of each mark, in the order of the file."""
    uses = ElementTree.fromstring(text).iter(f"{SVG}use")
    return [(use.findtext(f"{SVG}title") or "", float(use.attrib["x"]), float(use.attrib["y"])) for use in uses]


def words(text: str) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.fromstring(text).iter(f"{SVG}text")]


def test_each_figure_is_a_mark_with_its_words_where_its_value_stands() -> None:
    found = marks(plot(panel(line(0.0, 1.0, 2.0, 0.5), line(1.0, style="m1 single", name="S-PSR"))))
    assert [title for title, _, _ in found] == [
        *(f"A-PSR, layer {i}: {value}" for i, value in enumerate(("0", "1", "2", "0.5"))),
        "S-PSR, layer 0: 1",
    ]
    xs, ys = ([mark[i] for mark in found] for i in (1, 2))
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.02)
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.02)  # up is more
    assert ys[4] == ys[1]
    assert ys[3] == pytest.approx((ys[0] + ys[1]) / 2, abs=0.02)


def test_charts_side_by_side_share_one_legend() -> None:
    both = plots([panel(line(0.0, 1.0)), panel(line(1.0, 2.0), line(0.5, name=HOSTILE))], "two attributes")
    drawn = words(both)
    assert [drawn.count(name) for name in ("A-PSR", "gloomy", "layer")] == [1, 2, 2]
    assert [title for title, _, _ in marks(both) if title] == [
        *(f"A-PSR, layer {i}: {i}" for i in (0, 1)),
        *(f"A-PSR, layer {i}: {i + 1}" for i in (0, 1)),
        clean(f"{HOSTILE}, layer 0: 0.5"),
    ]


@pytest.mark.parametrize("panels", [1, 3])
def test_a_legend_of_many_long_names_stays_within_the_figure(panels: int) -> None:
    names = [f"S-Const of somebody's own and much longer {i:02}·QR" for i in range(14)]
    drawn = plots([panel(*(line(0.0, 1.0, name=name) for name in names))] * panels, "many methods")
    root = ElementTree.fromstring(drawn)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    legend = [one for one in root.iter(f"{SVG}text") if "".join(one.itertext()) in names]
    assert len(legend) == len(names)
    for one in legend:
        assert float(one.attrib["x"]) + 5.5 * len(names[0]) < width
        assert 0 < float(one.attrib["y"]) < height


def test_a_logarithmic_axis_has_equal_steps_for_equal_factors() -> None:
    ys = [y for _, _, y in marks(plot(panel(line(1.0, 0.1, 0.01), y=Axis("loss", 0.01, 1, log=True))))]
    assert ys[1] - ys[0] == pytest.approx(ys[2] - ys[1], abs=0.02)


def test_a_value_outside_stands_at_the_edge_and_says_its_own() -> None:
    (_, _, inside), (title, _, outside) = marks(plot(panel(line(2.0, 7.0))))
    assert (outside, title) == (inside, "A-PSR, layer 1: 7")


@pytest.mark.parametrize("axis", [Axis("", 3, 3), Axis("", 3, 3, log=True), Axis("", 0, 0, log=True)])
def test_an_axis_with_one_value_has_room_around_it(axis: Axis) -> None:
    assert axis.limits[0] < axis.limits[1]
    assert len(marks(plot(panel(Line("A", "m0", [Mark(1, axis.low, "one")]), y=axis)))) == 1


def test_names_and_titles_stay_text_and_none_is_cut() -> None:
    text = plot(panel(line(1.0, name=HOSTILE), title=HOSTILE))
    clean = HOSTILE.replace("\x1b", "\\x1b")
    assert words(text)[-1] == clean  # no formula, no tag
    assert marks(text)[0][0] == f"{clean}, layer 0: 1"
    name = "S-Const a method with a very long name of somebody's own·QR"
    shown = rows([panel(line(1.0), x=Axis("", 0, 100))], [name], "Alignment")
    label = next(e for e in ElementTree.fromstring(shown).iter(f"{SVG}text") if e.text == name)
    assert label.attrib["text-anchor"] == "end"
    assert float(label.attrib["x"]) > 6.5 * len(name)  # left of it there is room for its letters


def test_a_long_title_is_broken_into_lines_that_fit() -> None:
    title = "references-to-the-sea-and-its-waves-and-all-that-swims-in-it, acc"
    shown = [w for w in words(plot(panel(line(1.0), title=title))) if w[:3] in title and len(w) > 3]
    assert max(len(w) for w in shown) <= 42


def test_rows_stand_in_the_order_of_their_names_and_intervals_lie_along_x() -> None:
    lines = [Line(name, "m0", [Mark(50 + 10 * i, i, name, 40, 90)]) for i, name in enumerate(("first", "second"))]
    x, y = Axis("", 0, 100), Axis("", -0.5, 1.5)
    text = rows([panel(*lines, x=x, y=y, title=title) for title in "abcd"], ["first", "second"], "Alignment")
    found = marks(text)
    assert [title for title, _, _ in found] == ["first", "second"] * 4
    assert found[0][2] < found[1][2]  # from the top
    assert [words(text).count(label) for label in ("first", "second", "100")] == [
        2,
        2,
        4,
    ]  # 3 columns, so 2 rows of panels


@pytest.mark.parametrize("style", ["m0", "m5 square", "m7 triangle single", "plain", "prompt"])
def test_every_colour_is_the_pages_and_nothing_is_fetched(style: str) -> None:
    text = plot(panel(line(1.0, 0.5, style=style), guide=2))
    colours = set(re.findall(r'(?:fill|stroke)="([^"]*)"', text))
    assert colours <= {"none", *(f"var(--{name})" for name in COLOUR)}
    assert not re.search(r"url\(|style|<image|<script|https?://(?!www\.w3\.org/2000/svg)", text)
    assert set(re.findall(r'href="#([^"]*)"', text)) == set(re.findall(r' id="([^"]*)"', text))


def test_the_style_sheet_has_every_colour_in_light_and_dark() -> None:
    css = Path("tasks/shown/templates/marks.css").read_text(encoding="utf-8")
    assert all(css.count(f"--{name}: ") == 2 for name in COLOUR)


# what a reader without one kind of cone sees of linear red, green and blue (Machado, Oliveira and Fernandes 2009, severity 1)
EYES = {
    "all cones": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(number: str, eye: str) -> np.ndarray:
    """A colour #rrggbb as CIELAB, in which equal distances look about equally far."""
    rgb = np.array([int(number[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.clip(np.array(EYES[eye]) @ np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4), 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = (to_xyz @ linear) / to_xyz.sum(axis=1)
    x, y, z = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_every_reader_tells_the_colours_apart(eye: str, theme: int) -> None:
    css = Path("tasks/shown/templates/marks.css").read_text(encoding="utf-8").split("@media")[theme]
    colours = {name: lab(number, eye) for name, number in re.findall(r"--(c\d): (#\w{6})", css)}
    assert len(colours) == 8
    filled_or_not = [{a, b} for a in ("c0", "c1") for b in ("c2", "c3")]  # single layers are hollow, all layers are not
    distances = {
        (a, b): float(np.linalg.norm(colours[a] - colours[b]))
        for a, b in itertools.combinations(colours, 2)
        if {a, b} not in filled_or_not
    }
    assert min(distances.values()) > 15, min(distances, key=lambda pair: distances[pair])


def test_equal_charts_give_equal_bytes_whatever_the_readers_settings_are() -> None:
    code = (
        "import matplotlib; matplotlib.rcParams['axes.labelsize'] = 30\n"
        "from tests.tasks.test_drawing import line, panel\n"
        "from tasks.shown.drawing import plot\n"
        "import sys; sys.stdout.buffer.write(plot(panel(line(0.3, 1.7))).encode())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    before = matplotlib.rcParams["font.size"], matplotlib.rcParams["svg.hashsalt"]
    assert other.decode() == plot(panel(line(0.3, 1.7)))
    assert (matplotlib.rcParams["font.size"], matplotlib.rcParams["svg.hashsalt"]) == before


def test_two_charts_share_no_id_and_no_window_is_kept() -> None:
    one, two = (plot(panel(line(1.0), title=title)) for title in ("gloomy", "pirate"))
    ids = [set(re.findall(r' id="([^"]*)"', text)) for text in (one, two)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
