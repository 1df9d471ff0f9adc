"""The parts of README.md that come from a run or from the code, so that they cannot drift from either.

A part stands between `<!-- NAME -->` and `<!-- /NAME -->`. `headline` is drawn from the committed metrics, `sql-…` are
answers of results.duckdb, `claims` and `speed` are what flows.claims and flows.bench stored, `tree` is every file's own
first sentence.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from psr.errors import PsrError

SHOWN, PRINTED = "full", "quick"  # the profiles of the tables of results, and of the printed output
FOLDERS = {
    "psr": "the paper as functions and small frozen types; needs torch, transformers and safetensors alone",
    "psr/testbed": "the embedded instruct language: grammar, exact judges, trainer",
    "flows": "one file a step, like the paper's method section; and the commands",
    "tasks": "load, call psr, save; the only place that knows files, DuckDB, MLflow and DVC",
    "tasks/adaptation": "what flows.adapt compares: prompt, steering, LoRA and full fine-tuning on the same triplets",
    "tasks/ablation": "what flows.ablate compares: one layer against the prompt, by rank, objective, start and place",
    "tasks/bench": "what flows.bench measures: speed as ratios of alternating pairs",
}
QUESTIONS = {
    "sql-means": """SELECT method, round(avg(ta_cp), 1) AS ta_cp, round(avg(ta_c80), 1) AS ta_c80, bool_and(reached_cp) AS reached
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


def fill(text: str, parts: Mapping[str, str]) -> str:
    """`text` with every part replaced. Raises PsrError for a part that the text has no place for."""
    for name, part in parts.items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not place.search(text):
            raise PsrError("README.md has no place for a part", expected=f"<!-- {name} --> and <!-- /{name} -->")
        before, after = place.split(text, maxsplit=1)[1:3]
        text = place.sub(lambda _: "\0", text).replace("\0", f"{before}{part.rstrip()}\n{after}")
    return text


def steady_parts(root: Path) -> dict[str, str]:
    """The parts that follow from what is committed."""
    return {"headline": headline(read_metrics(root, SHOWN)), "tree": f"```\n{tree(root)}\n```"}


def answered_parts(root: Path) -> dict[str, str]:
    """The parts that results.duckdb answers: each question with its answer."""
    from tasks.shown.query import ask

    parts = {}
    for name, sql in QUESTIONS.items():
        answer = ask(root / "data" / "results.duckdb", sql)
        lines = [answer.columns, ["---"] * len(answer.columns), *answer.rows]
        table = "\n".join(f"| {' | '.join(_cell(value) for value in line)} |" for line in lines)
        parts[name] = f'```\npython -m flows.sql "{sql}"\n```\n\n{table}'
    return parts


def measured_parts(root: Path) -> dict[str, str]:
    """The parts that flows.claims and flows.bench measured on the profile that the tables show."""
    from tasks.shown.readme_tables import claims, speed
    from tasks.studies.bench.table import bench_rows
    from tasks.studies.claims.table import claim_rows

    data = root / "data" / SHOWN
    return {
        "claims": claims(claim_rows(data)),
        "speed": speed([row for row in bench_rows(data) if row["device"] == "cpu"]),
    }


def metrics_file(profile: str) -> Path:
    """Where the profile's committed metrics lie, from the root."""
    return Path("data") / profile / "results" / "headline.json"


def read_metrics(root: Path, profile: str) -> dict[str, Any]:
    """The profile's committed metrics: attribute -> method -> figures. Raises PsrError where there are none."""
    file = root / metrics_file(profile)
    try:
        return json.loads(file.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        raise PsrError(
            "the metrics are missing or damaged", where=file, do=f"Run python -m flows.reproduce --profile {profile}."
        ) from error


def headline(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """Trait alignment at the prompt's coherence, with 95 % intervals; the last column is TA@C80's mean."""
    methods = list(next(iter(metrics.values())))
    head = [
        "trait alignment at the prompt's coherence",
        *(name.partition("/")[2] for name in metrics),
        "mean",
        "mean at C80",
    ]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for method in methods:
        figures = [metrics[attribute][method] for attribute in metrics]
        means = [_mean([figure[column] for figure in figures]) for column in ("ta_cp", "ta_c80")]
        rows.append([figures[0]["name"], *(_figure(figure) for figure in figures), *means])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def tree(root: Path) -> str:
    """Every source file with its promise: the first sentence of its docstring."""
    lines = []
    for folder, promise in FOLDERS.items():
        lines.append(f"{folder + '/':<26}{promise}")
        for file in sorted((root / folder).glob("*.py")):
            if file.name != "__init__.py":
                lines.append(f"  {file.name:<24}{_promise(file)}")
    return "\n".join(lines)


def _promise(file: Path) -> str:
    first = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
    sentence = re.split(r"(?<=[a-z\])`])[.](?:\s|$)", " ".join(first.split()), maxsplit=1)[0]
    return sentence if len(sentence) <= 110 else sentence[:109].rsplit(" ", 1)[0] + " …"


def _figure(figure: Mapping[str, Any]) -> str:
    return f"{figure['ta_cp']:.1f} ({figure['ta_cp_low']:.0f}–{figure['ta_cp_high']:.0f})"


def _mean(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.1f}" if known and len(known) == len(values) else "–"


def _cell(value: Any) -> str:
    text = "–" if value is None else str(value)
    return text.replace("|", "\\|").replace("\n", "⏎").replace("<", "&lt;")


def write_figure(root: Path) -> None:
    """docs/figure.svg, drawn from the headline of the profile that the tables show."""
    from tasks.shown.report import figure_svg
    from tasks.tables.parquet import read_table

    rows = read_table(root / "data" / SHOWN / "results" / "headline.parquet", "headline")
    (root / "docs" / "figure.svg").write_text(figure_svg(rows), encoding="utf-8")
