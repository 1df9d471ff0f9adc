"""The command by which a team shares results: `python -m flows.share push|pull [--profile quick] [--dry-run]`.

It sends a profile's outputs to DVC's remote, or fetches them: those of its steps, of its studies and of its model, as far as the
commit records them. It first says how much travels. What the remote lacks is named, with what makes it, and the rest arrives.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from flows import environment, params
from flows.doors import answered
from tasks.engine import sharing
from tasks.engine.checkout import uncommitted
from tasks.engine.lockfiles import LOCKS
from tasks.engine.progress import say


def main(argv: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Exit status 0: done, as far as there was something to send or fetch. 2: something the user can mend, in one line. 130:
    stopped by Ctrl-C."""
    args = _parser().parse_args(argv)
    root = root or environment.repository()
    os.chdir(root)
    environment.set_defaults(root)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    stopped = "Stopped. What has arrived stays: run again to go on."
    return answered(lambda: _share(root, args.way, args.profile or [params.DEFAULT_PROFILE], args.dry_run), stopped)


def push(root: Path, profile: str, *, dry_run: bool = False) -> tuple[sharing.Output, ...]:
    """Send what the profile's finished steps and its studies made, and its model where DVC keeps it. See `sharing.push`."""
    return sharing.push(root, profile, _inputs(root, profile), dry_run=dry_run)


def pull(root: Path, profile: str, *, dry_run: bool = False) -> tuple[sharing.Output, ...]:
    """Fetch what `push` sends, and what the profile reads. See `sharing.pull`."""
    return sharing.pull(root, profile, _inputs(root, profile), dry_run=dry_run)


def _inputs(root: Path, profile: str) -> set[str]:
    settings = params.load(root, profile)
    return {settings.model.path, *(one.path for one in settings.benchmarks)}


def _share(root: Path, way: str, profiles: Sequence[str], dry_run: bool) -> None:
    for profile in profiles:
        outputs = (push if way == "push" else pull)(root, profile, dry_run=dry_run)
        for one in (one for one in outputs if dry_run and one.files):
            say(f"  {one.path}: {one.files} files, {one.bytes / 1e6:.1f} MB")
    names = [*LOCKS, *(f"data/{profile}" for profile in profiles)]
    if way == "push" and (left := [name for name in names if uncommitted(root, name)]):
        say(f"Others find it by what git has: `git add {' '.join(left)}`, commit and `git push`.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.share", description="Send a profile's outputs to DVC's remote, or fetch them."
    )
    parser.add_argument("way", choices=["push", "pull"], help="send or fetch")
    add = parser.add_argument
    add("--profile", action="append", metavar="NAME",
        help=f"a profile of params.yaml; may be given again (default: {params.DEFAULT_PROFILE})")  # fmt: skip
    add("--dry-run", action="store_true", help="only say what would travel")
    return parser


if __name__ == "__main__":
    sys.exit(main())
