"""The fenced blocks of the how-to pages, for the tests that follow them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

PAGES = Path(__file__).resolve().parents[1] / "docs" / "how-to"
FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a page; title: the file that it is, empty for none."""

    language: str
    title: str
    text: str


def blocks(page: str) -> list[Block]:
    return [Block(*groups) for groups in FENCE.findall((PAGES / page).read_text(encoding="utf-8"))]
