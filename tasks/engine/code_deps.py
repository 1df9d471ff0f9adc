"""Which of this repository's files a stage runs on, read from its imports (those inside functions too).

dvc.yaml has to name every one of them, or an edit would leave stale results called up to date. A test compares;
`python -m tasks.engine.code_deps` writes them into dvc.yaml.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("psr", "tasks", "flows")
DOOR = "flows.stage"


def code_of(root: Path, stage: str) -> tuple[str, ...]:
    """The files of `stage`, sorted: its door, its flow, and everything they import from this repository."""
    return closure(root, [DOOR, f"flows.{stage}"])


def closure(root: Path, modules: list[str]) -> tuple[str, ...]:
    """The files of `modules` and of all they import from this repository, and the packages they lie in."""
    found: set[str] = set()
    todo = list(modules)
    while todo:
        module = todo.pop()
        path = _file(root, module)
        if path is None or path in found:
            continue
        found.add(path)
        parents = [module.rsplit(".", depth)[0] for depth in range(1, module.count(".") + 1)]
        todo += [*parents, *_imports(root / path, module)]
    return tuple(sorted(found))


def _imports(path: Path, module: str) -> Iterator[str]:
    """Every module of this repository that the file names; `from a import b` may name a.b."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)


def _file(root: Path, module: str) -> str | None:
    if module.split(".")[0] not in PACKAGES:
        return None
    path = root.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate.relative_to(root).as_posix()
    return None


def write(root: Path) -> None:
    """Replace the code among every stage's deps in dvc.yaml by what it imports now; the rest of the file stays."""
    from tasks.engine.dvc_file import stage_names
    from tasks.engine.files import write_text

    lines = (root / "dvc.yaml").read_text(encoding="utf-8").splitlines()
    stages, current, kept = stage_names(root), "", []
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        bare = line.partition(" #")[0].rstrip()
        if bare.startswith("  ") and bare[2:3].strip() and bare.endswith(":"):
            current = bare.strip().rstrip(":")
        entry = line.strip().removeprefix("- ")
        if line.strip().startswith("- ") and entry.endswith(".py") and entry.split("/")[0] in PACKAGES:
            continue
        kept.append(line)
        if current in stages and line.strip() == "deps:":
            indent = below[: len(below) - len(below.lstrip())]
            kept += [f"{indent}- {path}" for path in code_of(root, current)]
    write_text(root / "dvc.yaml", "\n".join(kept) + "\n")


if __name__ == "__main__":
    write(Path(__file__).resolve().parents[2])
    sys.exit(0)
