"""The command that compares two experiments, paired: python -m flows.compare quick quick-lr3

Each is a profile, or the folder of one in another checkout (../bob/data/quick). A row is a method on an attribute: the second's
figure less the first's with its 95 % interval, on the questions that both were asked, seed by seed. Better and worse are said of
the second, where the interval is on one side of 0. Answers of another model or ratings of another judge are not compared.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from flows import environment, params
from flows.doors import answered
from psr.errors import PsrError
from tasks.benchmarks.catalogue import benchmarks_of

if TYPE_CHECKING:
    from tasks.shown.tables import Table
    from tasks.studies.comparison import Compared, Experiment

WIDE = 190  # columns without a terminal
NEEDED = ("distill", "search", "steer", "judge")


def main(argv: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Exit status 0: shown. 2: something the user can mend, in one line. 130: stopped by Ctrl-C."""
    args = _parser().parse_args(argv)
    return answered(
        lambda: _show(root or environment.repository(), args.first, args.second, args.figure, args.format), "Stopped."
    )


def _show(root: Path, first: str, second: str, figure: str, form: str) -> None:
    from tasks.shown.tables import markdown, terminal
    from tasks.studies.comparison import compared

    experiments = experiment(root, first), experiment(root, second)
    shown = comparison_table(compared(*experiments, figure), first, second)
    if form == "markdown":
        print(markdown(shown))
    else:
        console = Console() if sys.stdout.isatty() else Console(width=WIDE)
        console.print(terminal(shown))


def experiment(root: Path, name: str) -> Experiment:
    """The finished profile called `name`, or in the folder `name`. Raises PsrError where it has no results."""
    from tasks.studies.comparison import Experiment

    folder = root / "data" / name if "/" not in name else Path(name).resolve()
    missing = [step for step in NEEDED if not (folder / step).is_dir()]
    if missing or folder.parent.name != "data":
        raise PsrError(
            "the results of this experiment are not here",
            where=folder,
            expected=f"data/PROFILE with {', '.join(NEEDED)}",
            got=f"no {', '.join(missing)}" if missing else "another folder",
            do=f"Run `python -m flows.reproduce --profile {folder.name}`, or `dvc pull` what a teammate pushed.",
        )
    settings = params.written(folder.parents[1], folder.name)
    draws = {"resamples": settings.results.resamples, "seed": settings.results.seed}
    return Experiment(name, folder, benchmarks_of(settings.benchmarks), draws)


def comparison_table(rows: Sequence[Compared], first: str, second: str) -> Table:
    """A line a row, means in bold."""
    from tasks.shown.tables import table
    from tasks.studies.comparison import MEAN

    lines = [
        (
            f"{row.benchmark} {MEAN}" if row.attribute == MEAN else row.attribute, row.method, row.figure,
            f"{row.first:.2f}", f"{row.second:.2f}", f"{row.difference.value:+.2f}",
            f"{row.difference.low:+.2f} to {row.difference.high:+.2f}", row.verdict, f"{row.seeds} × {row.questions}",
        )
        for row in rows
    ]  # fmt: skip
    chance = f"Of {len(rows)} rows, {len(rows) / 20:.1f} are decided by chance where nothing differs (95 % intervals)."
    head = (
        "attribute",
        "method",
        "figure",
        first,
        second,
        "difference",
        "95 % interval",
        "verdict",
        "seeds × questions",
    )
    means = [i for i, row in enumerate(rows) if row.attribute == MEAN]
    return table(head, lines, align="lllrrrrlr", strong=means, below=chance)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows.compare", description="Two experiments compared, paired.")
    parser.add_argument("first", help="a profile, or its folder in another checkout")
    parser.add_argument("second", help="likewise: what is better or worse than the first")
    parser.add_argument("--figure", default="", help="such as ta_c80; without it each benchmark's main figure")
    parser.add_argument("--format", choices=("table", "markdown"), default="table")
    return parser


if __name__ == "__main__":
    sys.exit(main())
