"""The command for the cells of runs: `python -m flows.cells` shows their size, `--prune DAYS` removes old ones.

A cell can be made again at any time. Results do not need them: they are in data/ and in DVC's cache.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from flows import environment
from flows.doors import answered
from tasks.engine.cells import prune, sizes
from tasks.engine.locks import reproducing


def main(argv: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Exit status 0: done. 2: something the user can mend, in one line. 130: stopped by Ctrl-C."""
    args = _parser().parse_args(argv)
    return answered(lambda: _cells(root or environment.repository(), args.prune), "Stopped.")


def _cells(root: Path, days: float | None) -> None:
    if days is not None:
        with reproducing(root, "python -m flows.cells --prune", wait=True, say=print):
            count, freed = prune(root, days)
        print(f"{count} parts removed, {freed / 1e6:.1f} MB")
    for kind, (count, size) in sizes(root).items():
        print(f"{kind:12} {count:7} parts {size / 1e6:10.1f} MB")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows.cells", description="Show or remove what runs keep.")
    parser.add_argument("--prune", type=float, metavar="DAYS", help="remove what no run has used for so long; 0: all")
    return parser


if __name__ == "__main__":
    sys.exit(main())
