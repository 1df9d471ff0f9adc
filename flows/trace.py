"""Where a number comes from: python -m flows.trace ID prints an item's whole ancestry, up to the pair.

ID: of a judgement, a completion, a triplet, a pair or a module (a headline row names its module), or the beginning of
one. All triplets of a module are shown with --all.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from psr.errors import PsrError
from tasks.engine.terminal import clean
from tasks.shown.trace import Node, trace

ROOT = Path(__file__).resolve().parents[1]
TEXTS = ("question", "instruction", "text")
FEW = 3  # triplets of a module that are shown unless all are asked for


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tree; status 2 and one line on stderr when there is none."""
    options = _parser().parse_args(argv)
    try:
        node = trace(options.database, options.id, profile=options.profile, triplets=None if options.all else FEW)
    except PsrError as error:
        print(clean(error), file=sys.stderr)
        return 2
    console = Console() if sys.stdout.isatty() else Console(width=120)
    console.print(_tree(node))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows.trace", description="Print what an item was made from.")
    parser.add_argument("id", help="an id, or the beginning of one")
    parser.add_argument("--profile", help="where to look, when several profiles share the item")
    parser.add_argument("--all", action="store_true", help="show all triplets of a module")
    parser.add_argument("--database", type=Path, default=ROOT / "data" / "results.duckdb", metavar="FILE")
    return parser


def _tree(node: Node, branch: Tree | None = None) -> Tree:
    tree = Tree(_label(node)) if branch is None else branch.add(_label(node))
    for parent in node.parents:
        _tree(parent, tree)
    if node.hidden:
        tree.add(Text(f"and {node.hidden} more (--all shows them)", style="dim"))
    return tree


def _label(node: Node) -> Text:
    """The item and its facts; everything a model or a user wrote goes through `clean` and is never markup."""
    label = Text.assemble((node.kind, "bold"), " ", (node.id, "cyan"))
    if node.seen:
        return label.append("  (see above)", style="dim")
    label.append(f"  {node.profile}", style="dim")
    facts = [(name, clean(value).replace("\n", " ⏎ ")) for name, value in node.facts]
    short = [f"{name} {value}" for name, value in facts if name not in TEXTS]
    if short:
        label.append(f"\n{' · '.join(short)}")
    for name, value in facts:
        if name in TEXTS:
            label.append(f"\n{name}: ", style="dim").append(value)
    return label


if __name__ == "__main__":
    sys.exit(main())
