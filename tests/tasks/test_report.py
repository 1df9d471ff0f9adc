"""The report: figures as in the tables, model text that stays text, one file that needs nothing, the same bytes twice."""

import base64
import hashlib
import html
import json
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from psr.errors import PsrError
from psr.fitting.methods import BY_SLUG
from tasks.shown import report
from tasks.shown.order import rank, styles
from tasks.shown.report_tokens import shown
from tasks.tables import parquet as tables
from tests.results_folder import ATTRIBUTES, figure_rows, write_figures, write_results, write_suite

HOSTILE = "<script>document.title='owned'</script> <img src=x onerror=alert(1)> \x1b[31m & \u202e end"


class Page(HTMLParser):
    """What a browser would find: elements, their attributes, the texts of table cells, the style sheet."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.style = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            self.style += data
        elif self.rows and self.rows[-1] and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data if self.open[-1] in ("td", "th") else f"|{data}"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_results(tmp_path, text=HOSTILE, suite=False)


def built(data: Path) -> str:
    return report.build(data, data / "report").read_text(encoding="utf-8")


def edit(path: Path, name: str, **values: Any) -> None:
    tables.write_table(path, name, [{**row, **values} for row in tables.read_table(path, name)])


def test_the_table_shows_every_figure_beside_the_papers(data: Path) -> None:
    rows = {row[0]: row for row in Page(built(data)).rows}
    assert rows["method"] == ["method", "gloomy", "pirate", "mean", "mean at Cp−2", "mean at C80", "TA@Cp", "TA@C80"]
    assert rows["A-PSR MSE·QR"] == [
        "A-PSR MSE·QR",
        *["93.0 (90–96)|coherence 97.0, α 1"] * 2,
        "93.0",
        "93.5",
        "94.0",
        "83.9",
        "96.8",
    ]
    assert rows["prompt"] == ["prompt", *["95.0 (92–98)|coherence 97.0"] * 2, "95.0", "95.5", "–", "71.6", "–"]
    assert [row[0] for row in Page(built(data)).rows[2:6]] == ["plain", "prompt", "S-Const DiM·R", "A-PSR MSE·QR"]


def test_what_was_not_reached_or_not_measured_says_so(data: Path) -> None:
    path = data / "results/figures.parquet"
    rows = tables.read_table(path, "figures")
    for row in rows:
        if row["method"] == "s-const-dim-r":
            row["reached"] = False
        if row["method"] == "a-psr-mse-qr" and row["attribute"] == ATTRIBUTES[0] and row["figure"] == "ta_cp":
            row.update(value=None, low=None, high=None)
    tables.write_table(path, "figures", rows)
    found = {row[0]: row for row in Page(built(data)).rows}
    assert "not reached" in found["S-Const DiM·R"][1]
    assert (found["A-PSR MSE·QR"][1], found["A-PSR MSE·QR"][3]) == ("–", "–")  # and no mean over the others


def test_figures_beyond_0_and_100_are_shown_as_they_are(data: Path) -> None:
    """As a judge whose 0 and 100 are marks on a line gives them."""
    beyond = {"plain": (-12.0, -30.0, 5.0), "a-psr-mse-qr": (120.0, 90.0, 140.0)}
    rows = figure_rows("persona")
    for row in rows:
        row.update(zip(("value", "low", "high"), beyond.get(str(row["method"]), (50.0, 40.0, 60.0)), strict=True))
    write_figures(data, rows, ["persona"])
    edit(data / "results/curve.parquet", "curve", trait=-400.0)
    found = {row[0]: row for row in Page(built(data)).rows}
    assert found["plain"][1] == "-12.0 (-30 to 5)|coherence 97.0"
    assert found["A-PSR MSE·QR"][1].startswith("120.0 (90–140)")
    drawn = report.figure_svg(data)
    texts = {str(e.text) for e in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")}
    assert {"−25", "0", "125"} <= texts
    assert len(set(re.findall(r'<use [^>]*\bx="([\d.]+)"', drawn)[:4])) == 3  # two methods stand at 50


def test_what_only_some_judges_rate_is_a_column_where_there_are_figures_of_it(data: Path) -> None:
    assert "by words" not in Page(built(data)).rows[1]
    rows = figure_rows("persona")
    words = [{**row, "figure": "words", "value": 30.0} for row in rows if row["figure"] == "ta_cp"]
    write_figures(data, [*rows, *words], ["persona"])
    found = {row[0]: row for row in Page(built(data)).rows}
    assert found["method"][3:7] == ["mean", "mean at Cp−2", "mean at C80", "by words"]
    assert found["A-PSR MSE·QR"][6] == "30.0"


def test_model_text_stays_text(data: Path) -> None:
    page = Page(built(data))
    assert not {tag for tag, _ in page.elements} & {"script", "img", "iframe", "object", "link", "form"}
    names = {name for _, attributes in page.elements for name in attributes}
    assert not {name for name in names if name.startswith("on") or name in ("style", "src")}
    targets = {attributes["href"] for _, attributes in page.elements if "href" in attributes}
    assert all(target and target.startswith("#") for target in targets)  # a heading, or a dot's shape in the same chart
    text = built(data)
    assert "&lt;script&gt;document.title=" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_the_page_needs_nothing_and_lets_nothing_run(data: Path) -> None:
    text = built(data)
    page = Page(text)
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert text.count("<style>") == 1


def test_equal_results_give_equal_bytes(data: Path, tmp_path: Path) -> None:
    other = write_results(tmp_path / "elsewhere", text=HOSTILE, suite=False)
    assert report.build(data, tmp_path / "a").read_bytes() == report.build(other, tmp_path / "b").read_bytes()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["index.html"]


def test_the_task_is_still_a_plain_function(data: Path, tmp_path: Path) -> None:
    path = report.build(data, tmp_path / "out", title="A <title>")
    assert path.read_text(encoding="utf-8") == report.build(data, tmp_path / "again", title="A <title>").read_text(
        encoding="utf-8"
    )
    assert "<title>A &lt;title&gt;</title>" in path.read_text(encoding="utf-8")


def test_every_answer_shows_each_layer_and_the_mean(data: Path) -> None:
    page = Page(built(data))
    labels = [a for tag, a in page.elements if tag == "input"]
    assert len(labels) == len(ATTRIBUTES) * (4 + 1)  # the mean and three layers; the numbers
    assert sum("checked" in a for a in labels) == len(ATTRIBUTES)
    assert sum(a.get("class") == "answer" for _, a in page.elements) == len(ATTRIBUTES)


def test_the_legend_of_the_training_curves_lists_what_was_trained(data: Path) -> None:
    after = built(data).split(">Training</h2>")[1].split("</div>")[0]
    assert "A-PSR MSE·QR" in after
    assert "S-Const DiM·R" not in after


def test_a_profile_without_strengths_or_curves_still_has_its_table(data: Path) -> None:
    for path, name in (("steer/strengths", "strengths"), ("distill/curves", "curves"), ("results/curve", "curve")):
        tables.write_table(data / f"{path}.parquet", name, [])
    text = built(data)
    assert "Traits" in text
    assert "Token strengths" not in text
    assert "Training" not in text


@pytest.mark.parametrize(
    ("benchmark", "words"), [("ifeval", "Stolfo et al. 2025"), ("axbench", "HyperSteer"), ("persona", "Qwen2.5-7B")]
)
def test_every_benchmark_has_its_own_published_table(data: Path, benchmark: str, words: str) -> None:
    write_figures(data, figure_rows(benchmark), [benchmark])
    assert words in built(data)
    tables.write_table(data / "results/published.parquet", "published", [])
    assert ">paper: " not in built(data)


def test_every_benchmark_has_a_section_with_its_own_figures(data: Path) -> None:
    write_suite(data, True)
    text = built(data)
    assert "2 attributes of persona, 2 attributes of ifeval, 2 attributes of axbench" in text
    rows = Page(text.split(">Format instructions</h2>")[1].split(">Concepts</h2>")[0]).rows
    assert rows[1] == ["method", "gloomy", "pirate", "mean strict", "accuracy", "coherence"]
    assert rows[3] == ["prompt", *["95.0 (92.0–98.0)|coherence 97.0"] * 2, "95.0", "85.7", "94.8"]
    concepts = {row[0]: row for row in Page(text.split(">Concepts</h2>")[1].split("<h2")[0]).rows}
    assert concepts["A-PSR MSE·QR"][1:4] == ["1.86 (1.80–1.92)|fluency 97.00, α 1"] * 2 + ["1.860"]


def test_a_profile_without_persona_has_a_report_too(data: Path) -> None:
    write_figures(data, figure_rows("ifeval"), ["ifeval"])
    tables.write_table(data / "results/curve.parquet", "curve", [])
    text = built(data)
    assert "Format instructions" in text
    assert "Traits" not in text
    assert "Concepts" not in text


def test_missing_or_empty_results_are_named(data: Path) -> None:
    tables.write_table(data / "results/figures.parquet", "figures", [])
    with pytest.raises(PsrError, match="nothing to report"):
        built(data)
    (data / "steer/strengths.parquet").unlink()
    with pytest.raises(PsrError, match=r"a table is missing \(.*steer/strengths.parquet\)"):
        built(data)


def test_the_figure_is_an_image_of_its_own_for_light_and_dark(data: Path) -> None:
    text = report.figure_svg(data)
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme: dark" in text
    assert text.count("<use ") == 2 * 4  # attributes, methods
    assert "A-PSR MSE·QR: 93.0 (95 % interval 90.0 to 96.0)" in text


def test_the_figure_of_coherence_has_means_over_seeds_at_the_alphas_that_all_have(data: Path) -> None:
    rows = tables.read_table(data / "results/curve.parquet", "curve")
    second = [{**row, "seed": row["seed"] + 1, "trait": row["trait"] - 20} for row in rows]
    refined = {**next(row for row in rows if row["method"] == "a-psr-mse-qr"), "alpha": 3.5}
    tables.write_table(data / "results/curve.parquet", "curve", [*rows, *second, refined])
    text = report.coherence_svg(data)
    kept = {(row["attribute"], row["method"], row["alpha"]) for row in rows}
    titles = re.findall(r"<title>(\S.*?: trait (\S+), coherence .*? \(n (\d+)\))</title>", text)
    assert len(titles) == len(kept)
    assert "alpha 3.5" not in text
    one = next(row for row in rows if row["method"] == "a-psr-mse-qr" and row["alpha"] == 1.0)
    assert (
        f"A-PSR MSE·QR, alpha 1: trait {one['trait'] - 10:.1f}, coherence {one['coherence']:.1f} (n {2 * one['n']})"
        in text
    )


def test_a_large_model_gives_a_page_below_five_megabytes(data: Path) -> None:
    rows = tables.read_table(data / "steer/strengths.parquet", "strengths")
    keys = dict.fromkeys(row["completion"] for row in rows)
    many = [
        {"completion": key, "layer": layer, "position": i, "token": " token", "strength": 0.5}
        for key in keys
        for layer in range(42)
        for i in range(500)
    ]
    tables.write_table(data / "steer/strengths.parquet", "strengths", many)
    assert len(built(data).encode()) < 5_000_000


@pytest.mark.parametrize(
    ("tokens", "joined"), [(["a", "b", "\n"], ("a ", "b ", "\n ")), ([" a", "b", "\n"], (" a", "b", "\n"))]
)
def test_an_answer_has_a_row_a_layer_and_words_that_were_decoded_alone_stand_apart(
    tokens: list[str], joined: Any
) -> None:
    rows = [
        {"layer": layer, "position": p, "token": t, "strength": s}
        for layer, values in ((5, (3.0, 0.0, 2.0)), (0, (0.0, 1.0, 2.0)))
        for p, t, s in zip((7, 8, 9), tokens, values, strict=True)
    ]
    answer = shown(rows, 2)
    assert (answer.tokens, answer.answered, answer.layers) == (joined, 2, (0, 5))
    assert answer.strengths == ((0.0, 1.0, 2.0), (3.0, 0.0, 2.0))


def test_the_contents_lead_to_every_heading_and_each_has_one_name(data: Path) -> None:
    write_suite(data, True)
    beside = {"agreement": [], "bench": tables.read_table(data / "bench/bench.parquet", "bench")}
    text = report.build(data, data / "report", beside=beside).read_text(encoding="utf-8")
    page = Page(text)
    named = [attributes["id"] for tag, attributes in page.elements if tag == "h2"]
    assert [attributes["href"] for tag, attributes in page.elements if tag == "a"] == [f"#{name}" for name in named]
    assert len(set(named)) == len(named)
    assert {"traits", "format-instructions", "training", "token-strengths"} <= set(named)
    assert '<a href="#the-papers-claims">The paper’s claims</a>' in text


def test_a_table_is_reached_and_scrolled_with_the_keyboard(data: Path) -> None:
    regions = [attributes for _, attributes in Page(built(data)).elements if attributes.get("role") == "region"]
    assert regions
    assert all(one["tabindex"] == "0" and "method" in one["aria-label"] for one in regions[:1])  # type: ignore[operator]


def test_methods_keep_their_order_and_single_layers_are_told_apart() -> None:
    slugs = ["prompt", "a-psr-mse-qr", "s-psr-mse-qr", "plain", "unheard-of", "s-const-dim-r"]
    assert sorted(slugs, key=rank) == ["plain", "s-const-dim-r", "s-psr-mse-qr", "a-psr-mse-qr", "prompt", "unheard-of"]
    assert styles(slugs) == {
        "plain": "plain",
        "prompt": "prompt",
        "s-const-dim-r": "m0 single",
        "s-psr-mse-qr": "m1 single",
        "a-psr-mse-qr": "m3",
        "unheard-of": "m4",
    }
    assert styles(["a-psr-mse-r", "a-psr-mse-qr"])["a-psr-mse-qr"] == "m3"  # the same colour in every report


def test_no_two_methods_of_the_largest_published_table_look_the_same() -> None:
    looks = styles(["plain", "prompt", *(slug for slug in BY_SLUG if slug.endswith("-qr"))])
    assert len(looks) > 20
    assert len(set(looks.values())) == len(looks)


@pytest.mark.parametrize("scope", ["a", "s"])
def test_many_methods_differ_in_colour_or_shape_and_the_first_eight_in_colour(scope: str) -> None:
    slugs = [f"{scope}-own{i:02}-mse-r" for i in range(28)]
    looks = [styles(slugs)[slug] for slug in slugs]
    assert len(set(looks)) == len(slugs)
    assert all(look.endswith(" single") == (scope == "s") for look in looks)
    assert len({look.split()[0] for look in looks[:8]}) == 8
    kinds = styles([*slugs, "a-psr-mse-qr"])
    assert list(kinds.values()).count(kinds["a-psr-mse-qr"]) == 1


FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"]  # fmt: skip
LOOK = """<!doctype html><iframe id="page" src="{page}" style="width: {width}px; height: 900px; border: 0"></iframe><pre id="seen"></pre>
<script>
page.onload = () => {{
  const d = page.contentDocument, all = (what) => [...d.querySelectorAll(what)];
  const shown = (one) => getComputedStyle(one).display != "none";
  const views = () => [...d.querySelector(".answer").querySelectorAll(".view")].filter(shown).map((one) => one.className);
  const figure = () => getComputedStyle(d.querySelector(".answer .tokens span"), "::after").content;
  const deep = getComputedStyle(d.querySelector(".answer .s9"));
  const state = {{
    scrolling: all(".wide").filter((one) => one.scrollWidth > one.clientWidth && !one.closest(".psr")).length,
    width: d.documentElement.scrollWidth,
    contents: all("nav a").length,
    lost: all("nav a").filter((one) => !d.getElementById(decodeURIComponent(one.hash.slice(1)))).length,
    colours: [deep.color, deep.backgroundColor],
    paper: getComputedStyle(d.body).backgroundColor,
    before: [views(), figure()],
  }};
  d.querySelector(".answer .pick2").click();
  d.querySelector(".answer .figures").click();
  seen.textContent = JSON.stringify({{...state, after: [views(), figure()]}});
}};
</script>"""


def browser(page: Path, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = ["chromium", *FLAGS, *flags, f"--user-data-dir={folder / 'profile'}", "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (360, False)])
def test_in_a_browser_tables_fit_and_the_reader_chooses_a_layer_and_sees_the_numbers(
    width: int, dark: bool, data: Path, tmp_path: Path
) -> None:
    """Five attributes of twelve methods, at the width of a laptop and of a phone; from a page around it, as it runs no script."""
    rows = [row for row in figure_rows("persona") if row["attribute"] == ATTRIBUTES[0]]
    rows = [
        {**row, "attribute": f"persona/{name}"}
        for name in ("a-long-name", "b", "c", "d", "hallucinating")
        for row in rows
    ]
    write_figures(data, rows, ["persona"])
    outer = tmp_path / "outer.html"
    path = report.build(data, tmp_path / "out")
    outer.write_text(LOOK.format(page=path.as_uri(), width=width), encoding="utf-8")
    mode = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    dom = browser(outer, tmp_path, mode, "--allow-file-access-from-files", "--virtual-time-budget=5000").stdout
    seen = json.loads(html.unescape(re.search(r'<pre id="seen">(.*?)</pre>', dom)[1]))  # type: ignore[index]
    assert seen["width"] <= width
    assert seen["scrolling"] == 0 or width < 1200
    assert seen["contents"] > 3
    assert seen["lost"] == 0
    assert seen["before"] == [["view view0"], "none"]
    views, figure = seen["after"]
    assert views == ["view view2"]
    assert figure != "none"
    ink, shade, paper = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (*seen["colours"], seen["paper"]))
    assert (ink > shade > paper) if dark else (ink < shade < paper)


@pytest.mark.slow
def test_a_browser_shows_the_table_and_runs_nothing(data: Path, tmp_path: Path) -> None:
    shown = browser(report.build(data, tmp_path / "out", title="The report"), tmp_path)
    page = Page(shown.stdout)
    assert re.search(r"<title>(.*?)</title>", shown.stdout).group(1) == "The report"  # type: ignore[union-attr]
    assert {row[0]: row for row in page.rows}["A-PSR MSE·QR"][:2] == [
        "A-PSR MSE·QR",
        "93.0 (90–96)|coherence 97.0, α 1",
    ]
    assert not {tag for tag, _ in page.elements} & {"script", "img"}
    assert "Content Security Policy" not in shown.stderr  # the style sheet was let through, and nothing else asked
