"""The parts of README.md and docs/ that come from a run or from the code, so that they cannot drift from either.

A part stands between `<!-- NAME -->` and `<!-- /NAME -->`, in whichever pages want it. `headline` is drawn from the
committed metrics, `sql-…` are answers of results.duckdb, `claims` and `speed` are what flows.claims and flows.bench stored,
`tree` is every folder's own first paragraph. A part of a profile that was not run here stays as it stands.
"""

from __future__ import annotations

import ast
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from psr.errors import PsrError
from tasks.benchmarks.catalogue import benchmark_named
from tasks.figures.summaries import figures_of_headline
from tasks.shown.claims import claims_table
from tasks.shown.figures import figure_tables
from tasks.shown.index import database
from tasks.shown.query import asking
from tasks.shown.report import coherence_svg, figure_svg
from tasks.shown.studies import bench_table
from tasks.shown.tables import markdown, table
from tasks.steps.results import measure_rows
from tasks.studies.bench.table import bench_rows
from tasks.studies.claims.table import claim_rows
from tasks.tables.parquet import write_table

METRICS = "data/{profile}/headline.json"
PRINTED = "quick"  # the profile of the printed output
SHOWN = {"headline": "smollm2", "headline-testbed": "full"}  # part -> whose table of results it is
CLAIMS = {"claims": "smollm2", "claims-testbed": "full"}
FIGURES = {"coherence.svg": (SHOWN["headline"], coherence_svg), "testbed.svg": (SHOWN["headline-testbed"], figure_svg)}
SPEED = {"speed": "full", "speed-pretrained": "smollm2-quick"}
QUESTIONS = {
    "sql-means": """SELECT method, round(avg(ta_cp), 1) AS ta_cp, round(avg(ta_cp2), 1) AS ta_cp2,
round(avg(ta_c80), 1) AS ta_c80, bool_and(reached_cp) AS reached
FROM headline WHERE profile = 'quick' GROUP BY method ORDER BY ta_cp DESC""",
    "sql-suite": """SELECT method, round(avg(f.strict), 1) AS strict, round(avg(f.coherence), 1) AS coherence,
round(avg(c.overall), 3) AS concepts, round(avg(c.fluency), 2) AS fluency
FROM ifeval f JOIN axbench c USING (profile, method) WHERE profile = 'full' GROUP BY method ORDER BY strict DESC""",
    "sql-curve": """SELECT alpha, round(trait, 1) AS trait, round(coherence, 1) AS coherence FROM trait_coherence
WHERE profile = 'quick' AND attribute = 'persona/pirate' AND method = 'a-psr-mse-qr' ORDER BY alpha""",
    "sql-dropped": """SELECT attribute, reason, count(*) AS completions FROM dropped
WHERE profile = 'quick' GROUP BY ALL ORDER BY ALL""",
    "sql-strengths": """SELECT token, round(avg(strength), 2) AS strength, count(*) AS n FROM token_strengths
WHERE profile = 'quick' AND attribute = 'persona/pirate' AND method = 'a-psr-mse-qr'
GROUP BY token ORDER BY strength DESC LIMIT 6""",
    "sql-fits": """SELECT attribute, method, round(arg_min(objective, epoch), 2) AS first_epoch,
round(arg_max(objective, epoch), 2) AS last_epoch FROM curves WHERE profile = 'quick' GROUP BY ALL ORDER BY ALL LIMIT 5""",
}


def pages(root: Path) -> dict[Path, str]:
    """The texts that may have parts: README.md and every page of docs/."""
    files = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    return {file: file.read_text(encoding="utf-8") for file in files}


def fill(texts: Mapping[Path, str], parts: Mapping[str, str]) -> dict[Path, str]:
    """`texts` with every part replaced. Raises PsrError for a part that no text has marks for."""
    filled = dict(texts)
    for name, part in parts.items():
        marks = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
        if not any(map(marks.search, texts.values())):
            raise PsrError(
                "no page has marks for a part",
                where="README.md, docs/",
                expected=f"<!-- {name} --> and <!-- /{name} -->",
                do="Put them where the part shall stand.",
            )
        body = f"{part.rstrip()}\n".replace("\\", r"\\")
        filled = {file: marks.sub(body, text) for file, text in filled.items()}
    return filled


def steady_parts(root: Path) -> dict[str, str]:
    """The parts that follow from what is committed."""
    return {name: headline(read_metrics(root, profile)) for name, profile in SHOWN.items()} | {"tree": tree(root)}


def answered_parts(root: Path) -> dict[str, str]:
    """The parts that results.duckdb answers: each question with its answer."""
    parts = {}
    with asking(database(root)) as question:
        for name, sql in QUESTIONS.items():
            answer = question(sql)
            if not answer.rows:
                continue
            rows = [["–" if value is None else str(value).replace("\n", "⏎") for value in row] for row in answer.rows]
            shown = markdown(table(answer.columns, rows, align="l" * len(answer.columns)))
            parts[name] = f'```\npython -m flows.sql "{sql}"\n```\n\n{shown}'
    return parts


def measured_parts(root: Path) -> dict[str, str]:
    """The parts that flows.claims and flows.bench measured."""
    claims = {name: claim_rows(root / "data" / profile) for name, profile in CLAIMS.items()}
    speed = {
        name: [row for row in bench_rows(root / "data" / profile) if row["device"] == "cpu"]
        for name, profile in SPEED.items()
    }
    parts = {name: markdown(claims_table(rows, details=False)) for name, rows in claims.items() if rows}
    return parts | {name: markdown(bench_table(rows, details=False)) for name, rows in speed.items() if rows}


def read_metrics(root: Path, profile: str) -> dict[str, Any]:
    """The profile's committed metrics: attribute -> method -> figures. Raises PsrError where there are none."""
    file = root / METRICS.format(profile=profile)
    try:
        return json.loads(file.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        raise PsrError(
            "the metrics are missing or damaged", where=file, do=f"Run python -m flows.reproduce --profile {profile}."
        ) from error


def headline(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """Trait alignment at the prompt's coherence, with 95 % intervals; then the means at the other points."""
    with tempfile.TemporaryDirectory() as spare:
        results = Path(spare) / "shown" / "results"
        write_table(results / "figures.parquet", "figures", figures_of_headline(metrics))
        write_table(results / "measures.parquet", "measures", measure_rows(benchmark_named("persona"), 0))
        return markdown(*figure_tables(results.parent))


def tree(root: Path) -> str:
    """Every folder of code with its promise: the first paragraph of its docstring."""
    folders = [path.parent for name in ("psr", "flows", "tasks") for path in sorted((root / name).rglob("__init__.py"))]
    rows = [[f"`{folder.relative_to(root).as_posix()}/`", promise(folder)] for folder in folders]
    return markdown(table(("folder", "what it holds and promises"), rows, align="ll"))


def promise(folder: Path) -> str:
    """The first paragraph of the folder's docstring, on one line."""
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split())


def write_figures(root: Path) -> None:
    """The pages' figures, each drawn from its profile's results where they were made here."""
    for page, (profile, draw) in FIGURES.items():
        data = root / "data" / profile
        if (data / "results/figures.parquet").is_file():
            (root / "docs" / page).write_text(draw(data), encoding="utf-8")
