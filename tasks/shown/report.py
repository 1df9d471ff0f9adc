"""data/report/index.html: everything measured, as one self-contained page without a script.

Model text is escaped by the templates, and a content security policy lets the browser run and fetch nothing. Equal
results give equal bytes: no time, no machine, no random number.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from prefect import task
from prefect.cache_policies import NO_CACHE

from psr.errors import PsrError
from psr.fitting.methods import BY_SLUG
from tasks.engine.terminal import clean
from tasks.figures.published import PUBLISHED
from tasks.shown.charts import rank, styles
from tasks.shown.report_ablation import ablation_sections
from tasks.shown.report_adaptation import adaptation_section
from tasks.shown.report_bench import speed_sections
from tasks.shown.report_benchmarks import sections
from tasks.shown.report_charts import alignment, attributes, coherence, training
from tasks.shown.report_claims import claim_sections
from tasks.shown.report_faithfulness import faithfulness
from tasks.shown.report_tokens import LAYERS, SHADES, shaded
from tasks.tables.parquet import read_table

TEMPLATES = Path(__file__).with_name("templates")
BESIDE = ("bench", "claims", "adaptation", "ablation")  # tables of commands outside DVC, a folder of that name each
Row = dict[str, Any]


@task(cache_policy=NO_CACHE)
def write_report(data: Path, out: Path, *, title: str = "Prompt Steering Replacement") -> Path:
    """Read a profile's folder `data` and write out/index.html. Raises PsrError: a table that is missing or damaged."""
    return build(data, out, title=title)


def build(
    data: Path | str,
    out: Path | str,
    *,
    title: str = "Prompt Steering Replacement",
    beside: Mapping[str, Sequence[Row]] | None = None,
) -> Path:
    """As `write_report`, as a plain function; `beside`: rows of the tables in BESIDE. Returns the page's path."""
    data, out = Path(data), Path(out)
    page = render({**_read(data), **{name: list(rows) for name, rows in (beside or {}).items()}}, title)
    out.mkdir(parents=True, exist_ok=True)
    part = out / ".index.html.part"
    part.write_text(page, encoding="utf-8")
    part.replace(out / "index.html")
    return out / "index.html"


def build_beside(data: Path, title: str) -> Path:
    """The report with what the commands outside DVC have stored, DATA/page/index.html. Returns the page's path."""
    places = {name: data / name / f"{name}.parquet" for name in BESIDE}
    found = {name: read_table(path, name) for name, path in places.items() if path.exists()}
    return build(data, data / "page", title=title, beside=found)


def figure_svg(rows: Sequence[Mapping[str, Any]]) -> str:
    """The figure of the README out of the headline's rows: trait alignment at the prompt's coherence, by method."""
    style = styles(row["method"] for row in rows)
    panels = alignment(rows, style)
    names = [(name, style[slug]) for slug, name in _names(rows).items()]
    return _environment().get_template("figure.svg").render(panels=panels, names=names)


def render(tables: Mapping[str, list[Row]], title: str) -> str:
    """The page as text, out of the tables' rows by name."""
    headline = tables["headline"]
    figured = [*headline, *tables["ifeval"], *tables["axbench"]]
    if not figured:
        raise PsrError("there is nothing to report", expected="rows in the headline table", got="none")
    names = _names(figured) | {
        row["method"]: _name(row["method"])
        for row in tables["curve"] + tables["modules"]
        if row["method"] not in {r["method"] for r in figured}
    }
    style = styles(names)
    css = (
        _environment()
        .get_template("style.css")
        .render(shades=range(1, SHADES + 1), last=SHADES, views=range(LAYERS + 1))
    )
    return (
        _environment()
        .get_template("report.html")
        .render(
            title=title,
            css=Markup(css),  # noqa: S704
            policy=_policy(css),
            head=figured[0],
            names=names,
            style=style,
            measured=_measured(figured),
            sections=sections(tables),
            keys=attributes(headline),
            methods=_methods(headline),
            published=PUBLISHED.get(figured[0]["benchmark"]),
            claims=_claims(headline),
            claimed=claim_sections(tables.get("claims", [])),
            alignment=alignment(headline, style),
            legend=[(names[s], style[s]) for s in names],
            aligned=[(name, style[slug]) for slug, name in _names(headline).items()],
            coherence=coherence(_first_seed(tables["curve"]), names, style),
            training=training(tables["curves"], _first_seed(tables["modules"]), names, style),
            answers=shaded(
                tables["headline_seeds"],
                tables["strengths"],
                tables["completions"],
                tables["pairs"],
                tables["modules"],
                names,
            ),
            faithful=faithfulness(tables, names, style),
            speed=speed_sections(tables.get("bench", [])),
            adaptation=adaptation_section(tables.get("adaptation", [])),
            ablation=ablation_sections(tables.get("ablation", [])),
        )
    )


def _read(data: Path) -> dict[str, list[Row]]:
    places = {
        "headline": "results",
        "headline_seeds": "results",
        "ifeval": "results",
        "axbench": "results",
        "curve": "results",
        "curves": "distill",
        "modules": "distill",
        "strengths": "steer",
        "completions": "steer",
        "pairs": "steer",
        **dict.fromkeys(("faithfulness", "delta", "delta_strengths", "readability"), "faithfulness"),
    }
    return {name: read_table(data / stage / f"{name}.parquet", name) for name, stage in places.items()}


def _measured(rows: Sequence[Row]) -> str:
    """How many attributes of which benchmarks: "3 attributes of persona, 1 attribute of ifeval"."""
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["benchmark"], set()).add(row["attribute"])
    return ", ".join(f"{len(keys)} attribute{'' if len(keys) == 1 else 's'} of {name}" for name, keys in found.items())


def _first_seed(rows: Sequence[Row]) -> list[Row]:
    """One repetition, for curves: those of the first seed, and what has none."""
    first = min((row["seed"] for row in rows if row["seed"] is not None), default=None)
    return [row for row in rows if row["seed"] in (None, first)]


def _environment() -> jinja2.Environment:
    """Everything is escaped; an unknown name is an error and not an empty place."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"number": _number, "short": _short, "clean": clean}
    return environment


def _policy(css: str) -> str:
    """Nothing may run or be fetched; the one style sheet is known by its hash."""
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _names(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Method -> printed name, in the order of the tables."""
    names = {row["method"]: row["name"] for row in rows}
    return {slug: names[slug] for slug in sorted(names, key=rank)}


def _name(slug: str) -> str:
    return BY_SLUG[slug].name if slug in BY_SLUG else slug


def _methods(headline: Sequence[Row]) -> list[dict[str, Any]]:
    """A row a method: its cells by attribute, and its means where every attribute has a figure."""
    keys = attributes(headline)
    cells = {(row["method"], row["attribute"]): row for row in headline}
    return [
        {
            "slug": slug,
            "name": name,
            "cells": [cells.get((slug, key)) for key in keys],
            "cp": _mean(headline, slug, "ta_cp"),
            "c80": _mean(headline, slug, "ta_c80"),
        }
        for slug, name in _names(headline).items()
    ]


def _mean(headline: Sequence[Row], slug: str, column: str) -> float | None:
    values = [row[column] for row in headline if row["method"] == slug]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _claims(headline: Sequence[Row]) -> list[dict[str, Any]]:
    """The paper's claims about mean TA@Cp as differences: what, there, here (None: a method was not measured)."""
    here = {slug: _mean(headline, slug, "ta_cp") for slug in _names(headline)}
    published = PUBLISHED.get(headline[0]["benchmark"]) if headline else None
    there = (
        {slug: row[0] for slug, row in published.rows.items()} if published and published.columns[0] == "TA@Cp" else {}
    )
    pairs = (
        ("PSR above constant, one layer", ("s-psr-mse-qr",), ("s-const-dim-r", "s-const-mse-qr")),
        ("PSR above constant, all layers", ("a-psr-mse-qr",), ("a-const-mse-qr",)),
        ("all layers above one layer, PSR", ("a-psr-mse-qr",), ("s-psr-mse-qr",)),
        ("all-layer PSR at least the prompt", ("a-psr-mse-qr",), ("prompt",)),
    )
    claims = [
        {"what": what, "there": _difference(there, a, b), "here": _difference(here, a, b)} for what, a, b in pairs
    ]
    return [claim for claim in claims if claim["here"] is not None]


def _difference(means: Mapping[str, float | None], ours: Sequence[str], others: Sequence[str]) -> float | None:
    """The best of `ours` less the best of `others`."""
    left, right = ([means[slug] for slug in side if means.get(slug) is not None] for side in (ours, others))
    return max(left) - max(right) if left and right else None  # type: ignore[type-var, operator]


def _number(value: float | None, digits: int = 1, sign: bool = False) -> str:
    return "–" if value is None else f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def _short(value: float) -> str:
    """Two decimals at most: 1, 1.5, 0.25."""
    return f"{round(value, 2):g}"
