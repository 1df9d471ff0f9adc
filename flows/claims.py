"""The step that judges the paper's seven claims, and the command that shows its verdicts: `python -m flows.claims`.

It runs no model. Its table is also the view `claims`; each row has the SQL query that gives its figure.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flows import environment, params
from flows.doors import answered
from flows.sections import Benchmark, Faithfulness, Results
from tasks.benchmarks.catalogue import benchmarks_of
from tasks.engine.context import StepContext
from tasks.studies.claims.table import measured, write_claims

WIDE = 190  # columns without a terminal


def claims(
    context: StepContext, benchmarks: tuple[Benchmark, ...], results: Results, faithfulness: Faithfulness
) -> None:
    """Each claim's differences with intervals against its margin: holds, fails or undecided."""
    drawn = [{"resamples": section.resamples, "seed": section.seed} for section in (results, faithfulness)]
    write_claims(
        context.root / "data" / context.profile, context.profile, context.out, benchmarks_of(benchmarks), *drawn
    )


def main(argv: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Exit status 0: shown. 2: something the user can mend, in one line. 130: stopped by Ctrl-C."""
    args = _parser().parse_args(argv)
    return answered(lambda: _show(root or environment.repository(), args.profile), "Stopped.")


def _show(root: Path, profile: str) -> None:
    params.load(root, profile)
    from tasks.shown.claims import claims_table, questions
    from tasks.shown.tables import terminal

    rows = measured(root / "data" / profile, profile)
    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    console.print(terminal(claims_table(rows)))
    print("\n" + "\n".join(questions(rows)), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.claims", description="The paper's claims on a finished profile."
    )
    parser.add_argument("--profile", default=params.DEFAULT_PROFILE, help="whose claims to show (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
