"""The command that writes a profile's resolved parameters: `python -m flows.settings --profile quick`, first in dvc.yaml.

It writes data/PROFILE/settings.yaml, which the other steps read, and refuses parameters that cannot be run.
`dvc repro` runs it every time, since DVC does not see changes to what it hashes (the model's folder, a user's judge).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from flows import environment, params
from flows.doors import answered
from flows.sections import Profile
from flows.storage import settled
from tasks.asking.kept import check_keys
from tasks.benchmarks.catalogue import attributes_of, benchmarks_of
from tasks.benchmarks.judges import check_judges, judges_named
from tasks.engine.files import write_text
from tasks.engine.lockfiles import SETTINGS
from tasks.engine.pipeline import Pipeline, opened


@contextmanager
def resolved(
    root: Path, profile: str, settings: Profile, pipeline: Pipeline, *, dry_run: bool = False
) -> Iterator[None]:
    """Write settings.yaml from `settings`; a dry run restores the previous file on exit, and does with inputs that are not here."""
    path = root / SETTINGS.format(profile=profile)
    before = path.read_text(encoding="utf-8") if path.exists() else None
    absent = missing(root, settings) if dry_run else {}
    params.write_settings(root, profile, settings, lambda name: "" if name in absent else pipeline.content(name))
    try:
        yield
    finally:
        if dry_run and before is None:
            path.unlink()
            with suppress(OSError):  # other files lie there
                path.parent.rmdir()
        elif dry_run and before is not None:
            write_text(path, before)


def missing(root: Path, settings: Profile) -> dict[str, str]:
    """path -> what it should be, of the model and the benchmarks' files that are not on this machine. Of a model of the hub
    whose commit is given nothing is said: it is fetched."""
    inputs = {} if settings.model.revision else {settings.model.path: "the model"}
    inputs |= {one.path: f"the files of {one.name}" for one in settings.benchmarks}
    return {path: what for path, what in inputs.items() if not (root / path).exists()}


def plugs(settings: Profile) -> tuple[str, ...]:
    """The dotted paths to the user's own benchmarks, judge and methods."""
    methods = [*settings.methods, *(method for one in settings.benchmarks for method in one.methods or ())]
    names = [*(one.name for one in settings.benchmarks), settings.judge.name, *methods]
    return tuple(sorted({name for name in names if ":" in name}))


def check_questions(settings: Profile, absent: Container[str] = (), *, judging: bool = False) -> None:
    """Raise PsrError for an attribute that its benchmark does not have, or that the judge cannot judge.

    absent: paths of benchmarks of which nothing can be said. judging: whether the judge will be asked, for which its endpoint
    needs a key."""
    attributes = attributes_of(one for one in settings.benchmarks if one.path not in absent)
    judges = judges_named(attributes, **settings.judge.model_dump())
    check_judges(judges, attributes, benchmarks_of(settings.benchmarks))
    if judging:
        check_keys(judges)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0: written. 2: something the user can mend, in one line. 130: stopped by Ctrl-C."""
    args = _parser().parse_args(argv)
    root = environment.repository()
    os.chdir(root)
    environment.set_defaults(root)
    return answered(lambda: _write(root, args.profile), "Stopped.")


def _write(root: Path, profile: str) -> None:
    settings = settled(root, params.load(root, profile))
    check_questions(settings)
    with opened(root) as pipeline:
        params.write_settings(root, profile, settings, pipeline.content)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.settings", description="Write what a profile sets, resolved."
    )
    parser.add_argument("--profile", default=params.DEFAULT_PROFILE, help="(default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
