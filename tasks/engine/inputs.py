"""Hashes of the packages that a profile's plugs come from, which dvc.yaml cannot name."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from psr.types import short_hash


def plug_code(names: Iterable[str]) -> dict[str, str]:
    """dotted path -> a hash of the package that holds the plug, of those of `names` that are dotted paths.

    All of the package counts, since a plug may import any of it; packages that it imports do not.
    """
    return {name: _package(name.partition(":")[0].partition(".")[0]) for name in sorted(set(names)) if ":" in name}


def _package(name: str) -> str:
    """A hash of the Python files of a top-level package or module; empty where there is none."""
    spec = find_spec(name)
    if spec is None:
        return ""
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    files = sorted(file for folder in folders for file in folder.rglob("*.py")) or [Path(str(spec.origin))]
    home = folders[0] if folders else files[0].parent
    return short_hash("plug", [(file.relative_to(home).as_posix(), file.read_text(encoding="utf-8")) for file in files])
