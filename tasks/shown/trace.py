"""An item's ancestry, read from the index: from any number back to the pair it came from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from psr.errors import PsrError
from tasks.shown.query import Answer, asking

Question = Callable[..., Answer]
ITEM = "SELECT profile, kind, id, facts FROM items WHERE starts_with(id, ?) ORDER BY id, profile"
PARENTS = "SELECT parent FROM lineage WHERE profile = ? AND id = ? ORDER BY parent_kind, parent"


@dataclass(frozen=True)
class Node:
    """An item, what is known of it, and what it was made from. `hidden`: parents that are not listed.

    `seen`: it stands higher up in the tree already, and its parents with it.
    """

    kind: str
    id: str
    profile: str
    facts: tuple[tuple[str, str], ...]
    parents: tuple["Node", ...] = ()
    hidden: int = 0
    seen: bool = False


def trace(database: Path | str, key: str, *, profile: str | None = None, triplets: int | None = 3) -> Node:
    """The tree above the item whose id is `key` or begins with it; at most `triplets` triplets of a module.

    An item that several profiles share is traced in the first of them by name, unless `profile` says which.
    Raises PsrError when no item, or more than one, has such an id.
    """
    with asking(database) as question:
        return _node(question, _find(question, key, profile), triplets, set())


def _find(question: Question, key: str, profile: str | None) -> tuple[str, str, str, dict[str, str]]:
    found = [row for row in question(ITEM, [key]).rows if profile in (None, row[0])] if key else []
    ids = sorted({row[2] for row in found})
    if not ids:
        raise PsrError(
            "no item has this id",
            expected="the id of a judgement, completion, triplet, module or pair",
            got=repr(key),
            do='`python -m flows.sql "select kind, id from items"` lists them.',
        )
    if len(ids) > 1:
        raise PsrError(
            "several items have an id that begins so",
            expected="a longer piece of one of them",
            got=f"{key}: {', '.join(ids[:4])}{', …' if len(ids) > 4 else ''}",
        )
    return found[0]


def _node(question: Question, item: tuple[str, str, str, dict[str, str]], triplets: int | None, seen: set[str]) -> Node:
    profile, kind, key, facts = item
    known = tuple((name, str(value)) for name, value in facts.items())
    if key in seen:
        return Node(kind, key, profile, known, seen=True)
    seen.add(key)
    parents = [row[0] for row in question(PARENTS, [profile, key]).rows]
    shown = parents[:triplets] if kind == "module" else parents
    nodes = (_node(question, _find(question, parent, profile), triplets, seen) for parent in shown)
    return Node(kind, key, profile, known, tuple(nodes), len(parents) - len(shown))
