"""dvc.lock written in a twentieth of the time, and never half.

After every stage DVC reads and writes the whole lock by a loader that keeps comments, which takes a second for the thousands
of lines that an honest list of dependencies makes. The lock has no comments: here it goes through PyYAML's C loader and
dumper, whose text is the same (a test compares), and is moved into place, where DVC writes over it.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import yaml

from tasks.engine.files import parse_yaml, write_text


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """PyYAML's, which shall know DVC's ordered mappings too."""

    def ignore_aliases(self, data: object) -> bool:
        """The same value twice is written twice, as DVC does."""
        return True


_Dumper.add_representer(
    OrderedDict, lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data.items())
)


def dump(data: Any) -> str:
    """The text that DVC writes for a lock."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=False, allow_unicode=True)


@contextmanager
def modify_lock(path: str | os.PathLike[str]) -> Iterator[Any]:
    """The lock's content, written back when the context ends well. Raises yaml.YAMLError when it is damaged."""
    file = Path(path)
    data = (parse_yaml(file.read_text(encoding="utf-8")) or {}) if file.exists() else {}
    yield data
    write_text(file, dump(data))


def hasten() -> None:
    """Make DVC, in this process, keep its lock by `modify_lock`. A DVC that does it in another way is left alone."""
    from dvc import dvcfile

    theirs = getattr(dvcfile, "modify_yaml", None)
    if theirs is None:
        return

    def modify(path: str | os.PathLike[str], fs: Any = None) -> AbstractContextManager[Any]:
        return modify_lock(path) if Path(path).name == "dvc.lock" else theirs(path, fs=fs)

    dvcfile.modify_yaml = modify
