"""data/report/index.html: everything measured, as one self-contained page without a script.

Model text is escaped by the templates, and a content security policy lets the browser run and fetch nothing. Equal
results give equal bytes: no time, no machine, no random number. The stage's report has nothing of what the commands outside
DVC store (flows.bench, adapt, ablate): some of it is seconds, which do not come out equal. They add it themselves.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from psr.errors import PsrError
from psr.fitting.methods import BY_SLUG
from tasks.engine.progress import clean
from tasks.figures.published import PUBLISHED
from tasks.shown import charts, drawing
from tasks.shown.claims import DIGITS
from tasks.shown.headline import BENCHMARKS, HEADLINE_MEANS, Benchmark, attributes_of, lines, prompt_last
from tasks.shown.order import rank, short, styles
from tasks.shown.report_faithfulness import faithfulness
from tasks.shown.report_tokens import LAYERS, SHADES, shaded
from tasks.studies.ablation import goal
from tasks.studies.ablation.table import best_first, summary
from tasks.studies.adaptation import table as adaptation
from tasks.tables.parquet import read_table

TEMPLATES = Path(__file__).with_name("templates")
STAGES = {
    "results": ("headline", "headline_seeds", "ifeval", "axbench", "curve"),
    "distill": ("curves", "modules"),
    "steer": ("strengths", "completions", "pairs"),
    "faithfulness": ("faithfulness", "delta", "delta_strengths", "readability"),
    "claims": ("claims",),
}
ALIGNMENT = "Trait alignment at the prompt's coherence, by method, with 95 % intervals"
BESIDE = ("bench", "adaptation", "ablation")  # tables of commands outside DVC, a folder of that name each
Row = dict[str, Any]


def build(
    data: Path | str,
    out: Path | str,
    *,
    title: str = "Prompt Steering Replacement",
    beside: Mapping[str, Sequence[Row]] | None = None,
) -> Path:
    """Read a profile's folder `data` and write out/index.html. beside: rows of the tables in BESIDE. Returns the page's path.

    Raises PsrError: a table that is missing or damaged, or no figures at all.
    """
    out = Path(out)
    stages = {name: Path(data) / stage / f"{name}.parquet" for stage, names in STAGES.items() for name in names}
    tables = {name: read_table(path, name) for name, path in stages.items()}
    page = render({**tables, **{name: [] for name in BESIDE}, **(beside or {})}, title)
    out.mkdir(parents=True, exist_ok=True)
    part = out / ".index.html.part"
    part.write_text(page, encoding="utf-8")
    return part.replace(out / "index.html")


def build_beside(data: Path, title: str) -> Path:
    """The report with what the commands outside DVC have stored, DATA/page/index.html. Returns the page's path."""
    places = {name: data / name / f"{name}.parquet" for name in BESIDE}
    stored = {name: read_table(path, name) for name, path in places.items() if path.exists()}
    return build(data, data / "page", title=title, beside=stored)


def figure_svg(rows: Sequence[Row]) -> str:
    """The figure of the README out of the headline's rows: trait alignment at the prompt's coherence, by method."""
    names = _names(rows)
    css = (TEMPLATES / "marks.css").read_text(encoding="utf-8")
    return drawing.rows(charts.alignment(rows, styles(names)), list(names.values()), ALIGNMENT, css) + "\n"


def render(tables: Mapping[str, Sequence[Row]], title: str) -> str:
    """The page as text, out of the tables' rows by name."""
    headline = sorted(tables["headline"], key=lambda row: rank(row["method"]))
    figures = [*headline, *(row for name in BENCHMARKS for row in tables[name])]
    if not figures:
        raise PsrError("there is nothing to report", expected="rows in the headline table", got="none")
    names = _names([*tables["curve"], *tables["modules"], *figures])
    style = styles(names)
    keys = sorted(attributes_of(headline))
    methods, published = lines(headline, keys, HEADLINE_MEANS), PUBLISHED.get(figures[0]["benchmark"])
    environment = _environment()
    sheet = {"shades": range(1, SHADES + 1), "last": SHADES, "views": range(LAYERS + 1)}
    css = environment.get_template("style.css").render(sheet)
    return environment.get_template("report.html").render(
        {name: tables[name] for name in (*BESIDE, "claims")},
        title=title,
        css=Markup(css),  # noqa: S704
        policy=_policy(css),
        head=figures[0],
        names=names,
        style=style,
        measured=_measured(figures),
        keys=keys,
        methods=methods,
        published=published,
        sections=[_section(benchmark, tables[name]) for name, benchmark in BENCHMARKS.items() if tables[name]],
        alignment=charts.alignment(headline, style),
        coherence=charts.coherence(_first_seed(tables["curve"]), names, style),
        training=charts.training(tables["curves"], _first_seed(tables["modules"]), names, style),
        answers=shaded(tables, names),
        faithful=faithfulness(tables, names, style),
    )


def _section(benchmark: Benchmark, rows: Sequence[Row]) -> dict[str, Any]:
    attributes = attributes_of(rows)
    methods = lines(prompt_last(rows), attributes, benchmark.means)
    return {"benchmark": benchmark, "rows": rows, "attributes": attributes, "lines": methods}


def _measured(rows: Sequence[Row]) -> str:
    """How many attributes of which benchmarks: "3 attributes of persona, 1 attribute of ifeval"."""
    keys: dict[str, set[str]] = {}
    for row in rows:
        keys.setdefault(row["benchmark"], set()).add(row["attribute"])
    return ", ".join(f"{len(own)} attribute{'' if len(own) == 1 else 's'} of {name}" for name, own in keys.items())


def _first_seed(rows: Sequence[Row]) -> list[Row]:
    """One repetition, for curves: those of the first seed, and what has none."""
    first = min((row["seed"] for row in rows if row["seed"] is not None), default=None)
    return [row for row in rows if row["seed"] in (None, first)]


def _names(rows: Sequence[Row]) -> dict[str, str]:
    """Method -> printed name, in the order of the tables. Rows of what was fitted have no name: it follows from the method."""
    names = {slug: BY_SLUG[slug].name if slug in BY_SLUG else slug for slug in {row["method"] for row in rows}}
    names |= {row["method"]: row["name"] for row in rows if "name" in row}
    return {slug: names[slug] for slug in sorted(names, key=rank)}


def _environment() -> jinja2.Environment:
    """Everything is escaped; an unknown name is an error and not an empty place."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "number": _number,
        "plot": drawing.plot,
        "rows": lambda panels, names: drawing.rows(panels, names, ALIGNMENT),
        "short": lambda value: f"{round(value, 2):g}",
        "clean": clean,
        "bare": short,
        "within": goal.within,
    }
    environment.globals |= {
        "DIGITS": DIGITS,
        "columns": adaptation.COLUMNS,
        "cells": adaptation.cells,
        "goal": goal,
        "best_first": best_first,
        "summary": summary,
    }
    return environment


def _policy(css: str) -> str:
    """Nothing may run or be fetched; the one style sheet is known by its hash."""
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _number(value: float | None, digits: int = 1, sign: bool = False) -> str:
    return "–" if value is None else f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")
