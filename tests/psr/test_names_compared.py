"""No code asks which objective or method it has by comparing its name: what differs stands in the file that defines it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from psr.fitting.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]
NAMES = {method.objective for method in METHODS}
FILES = sorted(path for folder in ("psr", "tasks", "flows") for path in (ROOT / folder).rglob("*.py"))
REGISTRY = ROOT / "psr" / "fitting" / "objectives" / "__init__.py"  # its keys are the names


def chosen_by(code: str) -> list[str]:
    """Names of objectives that `code` compares something with, matches it against, or looks it up by."""
    found, tree = [], ast.parse(code)
    lists = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple | ast.List | ast.Set | ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            compared = (node.left, *node.comparators)
            sides: list[ast.expr | None] = [
                lists.get(one.id, one) if isinstance(one, ast.Name) else one for one in compared
            ]
        elif isinstance(node, ast.MatchValue):
            sides = [node.value]
        elif isinstance(node, ast.Dict):
            chosen = (ast.Name, ast.Attribute, ast.Lambda)  # code; a table of others' figures has numbers here
            sides = [key for key, value in zip(node.keys, node.values, strict=True) if isinstance(value, chosen)]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("startswith", "endswith", "get"):
            sides = [*node.args]
        else:
            continue
        constants = [
            one for side in sides if side is not None for one in ast.walk(side) if isinstance(one, ast.Constant)
        ]
        found += [one.value for one in constants if one.value in NAMES]
    return found


@pytest.mark.parametrize(
    "code",
    [
        'x.objective == "MSE"',
        'x in ("LL", "KL")',
        'RUNS = ("MSE", "KL")\nx.objective in RUNS',
        '{"PCA": f}[x]',
        'x.startswith("DiM")',
        "match x:\n    case 'RePS': pass",
    ],
)
def test_what_is_looked_for_is_seen(code):
    assert chosen_by(code)


def test_no_file_compares_the_name_of_an_objective():
    found = {
        str(path.relative_to(ROOT)): chosen_by(path.read_text(encoding="utf-8")) for path in FILES if path != REGISTRY
    }
    assert {path: names for path, names in found.items() if names} == {}
