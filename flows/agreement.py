"""The command that compares judges: `python -m flows.agreement [--profile quick] [--judge NAME [--set KEY=VALUE] |
--export FILE | --import FILE --as NAME]`.

Every two judges that have judged a finished profile's evaluation answers are compared, attribute by attribute: equal verdicts,
Cohen's kappa, AUC, rank correlation, distance. --judge has a further judge rate the same answers. --export writes answers for
people to rate without knowing what gave them, and --import reads the sheet back as one more judge. No figure of the profile
changes. Stored in data/PROFILE/agreement, which DVC keeps, in the views `agreement` and `verdicts` and in the report.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from flows import environment, params
from flows.doors import answered
from psr.errors import PsrError
from tasks.asking.models import ModelSettings
from tasks.benchmarks.catalogue import attributes_of, benchmarks_of
from tasks.engine.cells import HOME, Cells
from tasks.engine.inputs import plug_code
from tasks.engine.lockfiles import code_of
from tasks.engine.locks import reproducing
from tasks.engine.pipeline import add_output
from tasks.shown.studies import agreement_table
from tasks.shown.tables import terminal
from tasks.studies import CODE
from tasks.studies.agreement.answers import NEEDED, Answers, load_answers, spread
from tasks.studies.agreement.compare import compared, outdated
from tasks.studies.agreement.judging import Asked, judged_again
from tasks.studies.agreement.sheet import read_sheet, write_sheet
from tasks.studies.agreement.table import store_agreement, store_verdicts
from tasks.studies.bench.material import check_finished

WIDE = 160  # columns without a terminal
ON_A_SHEET = 100  # answers, where --answers does not say
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


def main(argv: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Exit status 0: compared, or exported. 2: something the user can mend, in one line. 130: stopped by Ctrl-C."""
    args = _parser().parse_args(argv)
    root = root or environment.repository()
    environment.set_defaults(root)
    return answered(lambda: _agree(root, args), "Stopped. What was judged is kept.")


def _agree(root: Path, args: argparse.Namespace) -> None:
    _check(args)
    sheets = {name: Path(file).resolve() for name in ("export", "import") if (file := getattr(args, name))}
    profile, data = params.load(root, args.profile), root / "data" / args.profile
    check_finished(data, args.profile, NEEDED, "the comparison")
    os.chdir(root)  # the parameters' paths are relative to it
    answers = load_answers(data, attributes_of(profile.benchmarks))
    if "export" in sheets:
        shown = spread(answers, args.answers or ON_A_SHEET, args.seed)
        write_sheet(sheets["export"], shown, answers, args.seed)
        print(f"{len(shown)} answers to rate: {args.export}. Read it back with --import {args.export} --as NAME.")
        return
    with reproducing(root, f"python -m flows.agreement --profile {args.profile}", wait=True, say=print):
        if "import" in sheets:
            people = read_sheet(sheets["import"], answers, benchmarks_of(profile.benchmarks), args.name)
            store_verdicts(data, people, answers)
        if args.judge:
            drawn = spread(answers, args.answers, args.seed) if args.answers else answers.completions
            cells = Cells(root / HOME, code_of(root, *CODE) + "".join(plug_code([args.judge]).values()))
            model = ModelSettings(**profile.model.model_dump())
            asked = Asked(args.judge, _settings(args.set), args.name, data, model, cells)
            store_verdicts(data, judged_again(asked, answers, drawn), answers)
        _publish(root, data, answers, profile.results.model_dump(), profile.report.title)


def _publish(root: Path, data: Path, answers: Answers, bootstrap: dict[str, Any], title: str) -> None:
    """Compare all judges, store and print that, add the folder to DVC, update the views and the profile's report."""
    from tasks.shown.index import rebuild
    from tasks.shown.report import build_beside

    rows = compared(data, answers, bootstrap)
    store_agreement(data, rows)
    add_output(root, data / "agreement")
    rebuild(root)
    if (data / "results/figures.parquet").is_file():
        build_beside(data, title)
    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    console.print(terminal(agreement_table(rows)))
    for judge, count in outdated(data, answers).items():
        print(f"{judge}: {count} answers that it judged are not there any more, and left out.")


def _settings(changes: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE, the value in YAML, as a mapping."""
    settings: dict[str, Any] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise PsrError("nothing can be set by this", where="--set", expected="KEY=VALUE", got=repr(change))
        try:
            settings[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise PsrError("the value is no YAML", where="--set", got=repr(change)) from None
    return settings


def _check(args: argparse.Namespace) -> None:
    """Raise PsrError for options that do not go together."""
    needs = {
        "--set": (args.set, ("judge",)),
        "--as": (args.name, ("judge", "import")),
        "--answers": (args.answers is not None, ("judge", "export")),
    }
    for option, (given, users) in needs.items():
        if given and not any(getattr(args, user) for user in users):
            raise PsrError(
                "an option has no use by itself", where=option, expected=" or ".join(f"--{u}" for u in users)
            )
    if args.answers is not None and args.answers < 1:
        raise PsrError("nothing would be judged", where="--answers", expected="at least 1", got=args.answers)
    if getattr(args, "import") and not args.name:
        raise PsrError("whose ratings are these", where="--import", expected="--as NAME beside it")
    if args.name and not NAME.fullmatch(args.name):
        raise PsrError(
            "a judge cannot have this name", where="--as", expected="letters, digits, . _ and -", got=repr(args.name)
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.agreement", description="Compare judges, and people, on a profile's evaluation answers."
    )
    add = parser.add_argument
    add("--profile", default=params.DEFAULT_PROFILE, help="whose answers to judge (default: %(default)s)")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument(
        "--judge", metavar="NAME", help="have this judge rate the answers too, as params.yaml would name it"
    )
    ways.add_argument("--export", metavar="FILE", help="write a CSV sheet for people to rate")
    ways.add_argument("--import", metavar="FILE", help="read a filled sheet")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of --judge; may be given again")
    add("--as", dest="name", metavar="NAME",
        help="who filled the sheet; or the name to store --judge under (default: its id and what is set)")  # fmt: skip
    add("--answers", type=int, metavar="N",
        help=f"of how many answers, drawn evenly (default: all for --judge, {ON_A_SHEET} for --export)")  # fmt: skip
    add("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
