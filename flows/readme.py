"""Brings the parts of README.md and docs/ that come from runs up to date: `python -m flows.readme`, or `--check` to only compare."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from flows.environment import repository
from psr.errors import PsrError
from tasks.shown.readme import answered_parts, fill, measured_parts, pages, steady_parts, write_figures


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0: up to date (now). 1: it is not, and only a comparison was asked for. 2: there is nothing to draw from."""
    parser = argparse.ArgumentParser(prog="python -m flows.readme", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare what follows from committed files; write nothing")
    check, root = parser.parse_args(argv).check, repository()
    try:
        parts = steady_parts(root) | ({} if check else answered_parts(root) | measured_parts(root))
        before = pages(root)
        after = fill(before, parts)
    except PsrError as error:
        print(error, file=sys.stderr)
        return 2
    stale = [file for file, text in after.items() if text != before[file]]
    if check:
        for file in stale:
            print(f"{file.relative_to(root)} is stale: run python -m flows.readme", file=sys.stderr)
        return int(bool(stale))
    write_figures(root)
    for file in stale:
        file.write_text(after[file], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
