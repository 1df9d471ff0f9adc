"""What errors and docstrings tell a user to look at, to call or to run is there."""

import ast
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psr

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [path for folder in ("psr", "tasks", "flows") for path in sorted((ROOT / folder).rglob("*.py"))]


def strings(tree: ast.AST) -> Iterator[str]:
    return (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))


def told() -> Iterator[tuple[str, str]]:
    """(file, text) of everything that an error is raised with."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise):
                yield from ((path.relative_to(ROOT).as_posix(), text) for text in strings(node))


def test_errors_name_only_functions_that_psr_exports_under_that_name() -> None:
    named = [
        (file, text, name) for file, text in told() for name in re.findall(r"(?<!from )(?<!-m )\bpsr\.(\w+)", text)
    ]
    assert "learn" in {name for _, _, name in named}
    assert not [found for found in named if found[2] not in psr.__all__]


def test_commands_that_errors_tell_of_are_there() -> None:
    named = {module for _, text in told() for module in re.findall(r"python -m ((?:psr|tasks|flows)(?:\.\w+)+)", text)}
    assert named
    assert not [module for module in named if find_spec(module) is None]


def test_documents_that_the_code_refers_to_are_in_the_repository() -> None:
    named = {
        (path.relative_to(ROOT).as_posix(), document)
        for path in SOURCES
        for text in strings(ast.parse(path.read_text(encoding="utf-8")))
        for document in re.findall(r"[\w/.-]+\.md\b", text)
    }
    assert ("tasks/shown/readme.py", "README.md") in named
    assert not [found for found in named if not (ROOT / found[1]).is_file()]


def test_no_room_or_file_has_the_name_of_a_public_function() -> None:
    """Importing it would put the module where the function is looked for."""
    files = {path.stem for path in (ROOT / "psr").rglob("*.py")} | {path.name for path in (ROOT / "psr").rglob("*/")}
    assert sorted(files & set(psr.__all__)) == []
