"""The command that shows where a number comes from: python -m flows.trace ID prints an item's ancestry, up to the pair.

ID: of a judgement, a completion, a triplet, a pair or a module (a headline row names its module), or the beginning of
one. --all shows all triplets of a module.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from psr.errors import PsrError
from tasks.engine.progress import clean
from tasks.shown.query import Question, asking

ROOT = Path(__file__).resolve().parents[1]
TEXTS = ("question", "instruction", "text")
FEW = 3  # triplets shown of a module, without --all
ITEM = "SELECT profile, kind, id, facts FROM items WHERE starts_with(id, ?) ORDER BY id, profile"
PARENTS = "SELECT parent FROM lineage WHERE profile = ? AND id = ? ORDER BY parent_kind, parent"
Item = tuple[str, str, str, Mapping[str, object]]  # profile, kind, id, facts


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tree; status 2 and one line on stderr where there is no such item."""
    parser = argparse.ArgumentParser(prog="python -m flows.trace", description="Print what an item was made from.")
    parser.add_argument("id", help="an id, or the beginning of one")
    parser.add_argument("--profile", help="where to look, when several profiles share the item")
    parser.add_argument("--all", action="store_true", help="show all triplets of a module")
    parser.add_argument("--database", type=Path, default=ROOT / "data" / "results.duckdb", metavar="FILE")
    options = parser.parse_args(argv)
    try:
        with asking(options.database) as question:
            tree = _tree(question, _find(question, options.id, options.profile), None if options.all else FEW, set())
    except PsrError as error:
        print(clean(error), file=sys.stderr)
        return 2
    console = Console() if sys.stdout.isatty() else Console(width=120)
    console.print(tree)
    return 0


def _find(question: Question, key: str, profile: str | None) -> Item:
    """The item whose id is `key` or begins with it; of an item in several profiles, that of the first profile by name.

    Raises PsrError where no item, or more than one, has such an id.
    """
    items = [row for row in question(ITEM, [key]).rows if profile in (None, row[0])] if key else []
    ids = sorted({row[2] for row in items})
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
    return items[0]  # type: ignore[return-value]


def _tree(question: Question, item: Item, triplets: int | None, seen: set[str]) -> Tree:
    """The tree of an item and its ancestors, of a module at most `triplets` parents. seen: ids that are in it already."""
    profile, kind, key, facts = item
    label = Text.assemble((kind, "bold"), " ", (key, "cyan"))
    if key in seen:
        return Tree(label.append("  (see above)", style="dim"))
    seen.add(key)
    tree = Tree(label.append(f"  {profile}", style="dim").append_text(_facts(facts)))
    parents = [parent for (parent,) in question(PARENTS, [profile, key]).rows]
    shown = parents[:triplets] if kind == "module" else parents
    for parent in shown:
        tree.children.append(_tree(question, _find(question, parent, profile), triplets, seen))
    if len(shown) < len(parents):
        tree.add(Text(f"and {len(parents) - len(shown)} more (--all shows them)", style="dim"))
    return tree


def _facts(facts: Mapping[str, object]) -> Text:
    """The facts of an item as lines. Text of a model or a user goes through `clean` and is never markup."""
    values = {name: clean(value).replace("\n", " ⏎ ") for name, value in facts.items()}
    short = " · ".join(f"{name} {value}" for name, value in values.items() if name not in TEXTS)
    text = Text(f"\n{short}" if short else "")
    for name in values:
        if name in TEXTS:
            text.append(f"\n{name}: ", style="dim").append(values[name])
    return text


if __name__ == "__main__":
    sys.exit(main())
