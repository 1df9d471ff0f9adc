"""`psr distill` behind its options: bars while it runs, a table at the end, and the files that are kept.

DIR/adapter_config.json, adapter_model.safetensors    the module
README.md in DIR                                       its card, with what was measured
DIR/answers.jsonl                                     evaluation questions with their plain, prompted and steered answers;
                                                      where it failed, every answer with its verdicts
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from psr.answers.sampling import Sampling
from psr.artefact.card import write_card
from psr.artefact.facts import distilled_facts
from psr.cli_text import clean
from psr.errors import PsrError
from psr.from_prompt.distilling import LONGEST, distill
from psr.steering.module import save_module

if TYPE_CHECKING:
    from psr.from_prompt.asked import Progress as OnProgress
    from psr.from_prompt.result import Computed, Distilled
    from psr.lm.models import LanguageModel

ANSWERS = "answers.jsonl"


def distill_into(
    out: Path,
    lm: LanguageModel,
    instruction: str,
    questions: Path | None,
    max_new_tokens: int | None,
    temperature: float,
    *,
    license: str = "",
    harmful: bool | None = None,
    **options: Any,
) -> None:
    """Distil, save into `out` with a card, print a table. license, harmful: of the card.

    Raises PsrError as `psr.distill` does; answers made by then are saved too.
    """
    sampling = Sampling(min(LONGEST, lm.context // 2) if max_new_tokens is None else max_new_tokens, temperature)
    asked = None if questions is None else questions_in(questions)
    try:
        with bars() as progress:
            result = distill(lm, instruction, questions=asked, sampling=sampling, progress=progress, **options)
    except PsrError as error:
        computed: Computed | None = getattr(error, "computed", None)
        if computed is not None and computed.completions:
            _write(out, _all_answers(computed))
            error.do = f"{error.do} The answers are in {out / ANSWERS}.".strip()
            raise PsrError(
                error.what, where=error.where, expected=error.expected, got=error.got, do=error.do
            ) from error
        raise
    save_module(result.module, out)
    write_card(out, distilled_facts(result, license=license, harmful=harmful))
    _write(out, (said._asdict() for said in result.answers))
    for table in tables(result):
        Console().print(table)
    Console().print(Text(clean(f'{out}: psr steer --model … --module {out} "question"')), soft_wrap=True)


def questions_in(file: Path) -> list[str]:
    """The questions in a file, one a line; blank lines at its end are none."""
    try:
        return file.read_text(encoding="utf-8").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PsrError("the file of questions cannot be read", where=file, expected="text, a question a line",
                       got=f"{type(error).__name__}: {error}") from error  # fmt: skip


@contextmanager
def bars() -> Iterator[OnProgress]:
    """A bar for each step, on stderr; what it yields is a `progress` for psr.distill."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    shown: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def advance(step: str, n: int, total: int) -> None:
            if step not in shown:
                shown[step] = progress.add_task(step, total=0)
            task = progress.tasks[shown[step]]
            if task.completed >= (task.total or 0):  # the step begins, or begins again
                progress.update(shown[step], total=task.completed + total)
            progress.advance(shown[step], n)

        yield advance


def tables(result: Distilled) -> list[Table]:
    """The figures on unseen questions, and the curve on which the strength was chosen."""
    rows = {"plain": result.plain, "prompted": result.prompted, f"steered at {result.alpha:g}": result.steered}
    figures = _table("", "effect", "coherence")
    for name, measured in rows.items():
        figures.add_row(name, *(f"{one.value:.0f} ({one.low:.0f} to {one.high:.0f})" for one in measured))
    steps = _table("alpha", "effect", "coherence")
    for alpha, effect, coherence in result.curve:
        steps.add_row(f"{alpha:g}", f"{effect:.0f}", f"{coherence:.0f}")
    low, high = result.interval
    facts = Table(show_header=False, box=None)
    dropped = ", ".join(f"{n} {reason}" for reason, n in result.dropped.items())
    for name, value in {
        "follows": f"{result.followed:.0f} of 100 by judge {result.judge}",
        "answers": f"{result.kept} kept" + (f", dropped: {dropped}" if dropped else ""),
        "alpha": f"{result.alpha:g} ({low:g} to {high:g}), safe from {result.safe[0]:g} to {result.safe[1]:g}"
        + ("" if result.reached else "; less effect than the prompt"),
    }.items():
        facts.add_row(name, Text(clean(value), overflow="fold"))
    return [facts, figures, steps]


def _table(*headers: str) -> Table:
    table = Table(box=None)
    for header in headers:
        table.add_column(header, justify="right")
    return table


def _all_answers(computed: Computed) -> Iterator[dict[str, Any]]:
    """Every answer with what the judge said of it."""
    verdicts: dict[str, dict[str, float | None]] = {}
    for one in computed.judgements:
        verdicts.setdefault(one.completion, {})[one.dimension] = one.value
    for made in computed.completions:
        question = computed.pairs[made.pair].question
        yield {"question": question, "method": made.method, "alpha": made.alpha, "text": made.text,
               **verdicts.get(made.id, {})}  # fmt: skip


def _write(folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    (folder / ANSWERS).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
