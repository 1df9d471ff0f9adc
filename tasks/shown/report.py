"""data/report/index.html: everything measured, as one self-contained page without a script.

Model text is escaped by the templates, and a content security policy lets the browser run and fetch nothing. Equal
results give equal bytes: no time, no machine, no random number. The stage's report has nothing of what the commands outside
DVC store (flows.bench, adapt, ablate, side_effects, agreement): some of it is seconds, which do not come out equal. They add it
themselves.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from psr.errors import PsrError
from psr.fitting.methods import BY_SLUG
from psr.show.style import STYLE
from tasks.engine.progress import clean
from tasks.shown import charts, drawing, figures
from tasks.shown.claims import claims_table
from tasks.shown.index import profile_index
from tasks.shown.order import Names, grouped, rank, styles
from tasks.shown.query import Question
from tasks.shown.report_faithfulness import faithfulness
from tasks.shown.report_tokens import answers
from tasks.shown.studies import (
    ablation_table,
    adaptation_table,
    agreement_table,
    bench_table,
    machine_line,
    side_effects_table,
    spared_table,
)
from tasks.shown.tables import Table
from tasks.studies.ablation.goal import MARGIN
from tasks.studies.ablation.table import spared, summary
from tasks.tables.parquet import read_table

TEMPLATES = Path(__file__).with_name("templates")
STAGES = {
    "results": ("curve",),
    "distill": ("curves", "modules"),
    "steer": ("strengths", "completions", "pairs"),
    "faithfulness": ("faithfulness", "delta", "delta_strengths", "readability"),
    "claims": ("claims",),
}
ALIGNMENT = "Trait alignment at the prompt's coherence, by method, with 95 % intervals"
FIGURES = (*figures.TABLES, "figures_seeds")
ALIGNED = """SELECT f.benchmark, f.attribute, f.method AS name, f.slug AS method, f.value, f.low, f.high
    FROM figures f JOIN measures m USING (profile, benchmark, figure) WHERE m.position = 0 ORDER BY f.attribute, f.position"""
COHERENCE = "Trait against coherence on search questions, along alpha"
COMMON = """SELECT attribute, method, alpha, avg(trait) AS trait, avg(coherence) AS coherence, sum(n)::INT AS n
    FROM trait_coherence WHERE starts_with(attribute, 'persona/') GROUP BY ALL
    HAVING count(*) = (SELECT count(DISTINCT seed) FROM trait_coherence) ORDER BY ALL"""
OF_MODULES = """SELECT f.module, f.value FROM figures_seeds f JOIN measures m USING (profile, benchmark, figure)
    WHERE m.position = 0 AND NOT suffix(f.slug, '+prompt') AND f.value IS NOT NULL AND f.module IS NOT NULL"""
ADAPTATION = (
    "Prompt, steering, LoRA and full fine-tuning on the same triplets ({triplets} an attribute), each at the prompt’s "
    "coherence: modules at their α, learned changes of weights scaled to W0 + α·ΔW, both chosen on search questions by one "
    "rule. Figures are of the evaluation questions, with their 95 % intervals. Drift: KL of the untouched model to the changed "
    "one on {answers} plain answers to questions that other attributes are evaluated on. What can be switched per row drifts "
    "only in the rows that ask for it."
)
ABLATION = (
    "What a single layer needs to do what the prompt does: its rank (gates and directions a layer), its objective, a warm "
    "start of z, its place. Each cell is the module’s figure less the prompt’s on the same questions, with its 95 % interval "
    "over questions and seeds. Variants stand in the order of their search questions, where settings are chosen (* the "
    "chosen one); the cells are of other questions. Coherence: less the prompt’s."
)
SPARED = (
    "Each variant at the α at which it does as much as the prompt on the search questions (where it never does: the α at which, "
    "while coherent, it does most). Drift: KL of the untouched model to the steered one, nats a token, on {} plain answers to unrelated "
    "questions, none of them a negative’s; “of” the prompt’s own, and how much more, with its 95 % interval over answers and "
    "seeds. Effect: less the prompt’s on the evaluation questions. It holds where the effect is reached and the whole interval of "
    "the drift lies at or below the prompt’s."
)
SIDE_EFFECTS = (
    "What the prompt and its modules change besides what they are for, each module at the α at which its effect on the search "
    "questions is the prompt’s (“not reached”: at its largest effect while coherent). Effect and coherence: on the evaluation "
    "questions. Drift: KL of the untouched model to the changed one on plain answers to unrelated questions. Formats obeyed: of "
    "questions with a format instruction behind them, by checkers. English, tokens, ended: of the answers to the unrelated questions; "
    "ended: not cut at the longest answer. Intervals are 95 %, over repetitions × questions. A prompt that says how to speak is meant "
    "for every answer, so its own figures are what modules are to be held against. Signs randomised: the same module, at the same α, "
    "with a random sign at each coordinate of its directions."
)
TURNS = (
    "Turns: effect and coherence in each turn of conversations whose key-value cache is kept, so that what was steered stays so. "
    "Each answer is judged with its own question."
)
AGREEMENT = (
    "Judges and people on the same answers, two by two, with 95 % intervals over questions. A verdict is yes from half of the "
    "scale up; κ is Cohen’s, of the verdicts; AUC is of the ratings of the first against the verdicts of the second, below it the "
    "other way round; ρ is the correlation of ranks; distance is the mean difference on a scale from 0 to 1. – is what these "
    "answers cannot tell: a judge always says the same."
)
SPEED = (
    "Each figure is a ratio, timed in alternating pairs in one process: the median of n pairs, with its quartiles. Other "
    "machines give other figures; the goals were fixed beforehand."
)
BESIDE = (
    "bench",
    "adaptation",
    "ablation",
    "side_effects",
    "agreement",
)  # tables of commands outside DVC, a folder of that name each
HEADING = re.compile(r'<h2 id="([^"]*)">(.*?)</h2>')  # of the page itself: text of models has no element
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
    with profile_index(Path(data), FIGURES) as ask:
        page = render({**tables, **{name: [] for name in BESIDE}, **(beside or {})}, ask, title)
    out.mkdir(parents=True, exist_ok=True)
    part = out / ".index.html.part"
    part.write_text(page, encoding="utf-8")
    return part.replace(out / "index.html")


def build_beside(data: Path, title: str) -> Path:
    """The report with what the commands outside DVC have stored, DATA/page/index.html. Returns the page's path."""
    places = {name: data / name / f"{name}.parquet" for name in BESIDE}
    stored = {name: read_table(path, name) for name, path in places.items() if path.exists()}
    return build(data, data / "page", title=title, beside=stored)


def figure_svg(data: Path) -> str:
    """The figure of the testbed's page out of a profile's folder: trait alignment at the prompt's coherence, by method."""
    with profile_index(data, FIGURES) as ask:
        rows = [row for row in ask(ALIGNED).dicts() if row["benchmark"] == "persona"]
    names = _names(rows)
    css = (TEMPLATES / "marks.css").read_text(encoding="utf-8")
    return drawing.rows(charts.alignment(rows, styles(names)), list(names.values()), ALIGNMENT, css) + "\n"


def coherence_svg(data: Path) -> str:
    """Trait against coherence along alpha, out of a profile's folder: means over its seeds, at the alphas that all have."""
    with profile_index(data, ("curve",)) as ask:
        rows = ask(COMMON).dicts()
    names = _names(rows)
    css = (TEMPLATES / "marks.css").read_text(encoding="utf-8")
    return drawing.plots(charts.coherence(rows, names, styles(names)), COHERENCE, css) + "\n"


def render(tables: Mapping[str, Sequence[Row]], ask: Question, title: str) -> str:
    """The page as text, out of the tables' rows by name and the views of figures."""
    aligned = ask(ALIGNED).dicts()
    if not aligned:
        raise PsrError("there is nothing to report", expected="rows in the table of figures", got="none")
    names = _names([*tables["curve"], *tables["modules"], *aligned, *tables["side_effects"]])
    style = styles(names)
    sections = figures.sections(ask, style)
    scores = {row["module"]: row["value"] for row in ask(OF_MODULES).dicts()}
    environment = _environment()
    css = environment.get_template("style.css").render(shown=Markup(STYLE))  # noqa: S704
    return environment.get_template("report.html").render(
        title=title,
        css=Markup(css),  # noqa: S704
        policy=_policy(css),
        model=sections[0].model,
        names=names,
        style=style,
        measured=_measured(sections),
        sections=sections,
        alignment={section.benchmark: _alignment(section, aligned, style) for section in sections},
        claims=claims_table(tables["claims"]) if tables["claims"] else None,
        coherence=charts.coherence(_first_seed(tables["curve"]), names, style),
        training=charts.training(tables["curves"], _first_seed(tables["modules"]), names, style),
        answers=answers(tables, scores, names),
        faithful=faithfulness(tables, names, style),
        beside=[*_beside(tables, style)],
    )


def _alignment(section: figures.Section, rows: Sequence[Row], style: Names) -> Markup:
    """The chart of a benchmark that is measured at the prompt's coherence."""
    own = [row for row in rows if row["benchmark"] == section.benchmark]
    if section.figure != "ta_cp":
        return Markup("")
    return drawing.rows(charts.alignment(own, style), list(_names(own).values()), ALIGNMENT)


def _beside(
    tables: Mapping[str, Sequence[Row]], style: Names
) -> Iterator[tuple[str, str, Table, str, list[drawing.Panel]]]:
    """(heading, about, table, note, charts) of what the commands outside DVC stored."""
    if rows := tables["side_effects"]:
        repetitions = max(row["seeds"] for row in rows)
        note = f"{TURNS} {repetitions} repetition{'' if repetitions == 1 else 's'}; model {rows[0]['model']}."
        yield "Side effects", SIDE_EFFECTS, side_effects_table(rows), note, charts.turns(rows, style)
    if rows := tables["adaptation"]:
        machine = f"{rows[0]['device']}, {rows[0]['threads']} torch threads"
        note = f"Seconds of one fit on {machine}, targets included; model {rows[0]['model']}, repetition {rows[0]['seed']}."
        answers, triplets = (
            ", ".join(map(str, sorted({row[name] for row in rows}))) for name in ("drift_answers", "triplets")
        )
        about = ADAPTATION.format(triplets=triplets, answers=answers)
        yield "Adaptation compared", about, adaptation_table(rows), note, []
    for benchmark in MARGIN:
        own = [row for row in tables["ablation"] if row["benchmark"] == benchmark]
        if own:
            seeds = max(row["seeds"] for row in own)
            note = f"{summary(own, benchmark)} {seeds} seed{'' if seeds == 1 else 's'}."
            yield f"Beyond the paper: one layer, {benchmark}", ABLATION, ablation_table(own, benchmark), note, []
            answers, note = max(row["drift_answers"] for row in own), " ".join(spared(own, benchmark))
            heading = f"Drift at the prompt’s effect, {benchmark}"
            yield heading, SPARED.format(answers), spared_table(own, benchmark), note, []
    if rows := tables["agreement"]:
        yield "Judges compared", AGREEMENT, agreement_table(rows), "", []
    for device, own in grouped(tables["bench"], "device"):
        met, goals = (sum(row["verdict"] in verdicts for row in own) for verdicts in (("met",), ("met", "missed")))
        yield f"Speed on {device}: {met} of {goals} goals met", SPEED, bench_table(own), machine_line(own[0]), []


def _measured(sections: Sequence[figures.Section]) -> str:
    """How many attributes of which benchmarks: "3 attributes of persona, 1 attribute of ifeval"."""
    return ", ".join(
        f"{one.attributes} attribute{'' if one.attributes == 1 else 's'} of {one.benchmark}" for one in sections
    )


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
    filters: dict[str, Callable[..., Any]] = {
        "number": _number,
        "plot": drawing.plot,
        "clean": clean,
        "headings": HEADING.findall,
        "anchor": lambda title: re.sub(r"\W+", "-", title.lower()).strip("-"),
    }
    environment.filters |= filters
    return environment


def _policy(css: str) -> str:
    """Nothing may run or be fetched; the one style sheet is known by its hash."""
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _number(value: float | None, digits: int = 1, sign: bool = False) -> str:
    return "–" if value is None else f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")
