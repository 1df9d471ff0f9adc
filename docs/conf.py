"""The site: `sphinx-build -W --keep-going docs site` builds it into site/ and fails at the first dead link.

Sphinx with MyST reads the pages' Markdown and the tutorial's. What follows from the code is written when the site is built: a line
`<!-- generated: NAME -->` in a page gives way to `generated.PARTS[NAME]()`.
"""

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from generated import PARTS  # noqa: E402

project = html_title = "Prompt Steering Replacement"
extensions = ["myst_nb"]  # MyST, of pages and of notebooks
nb_execution_mode = "off"  # a test runs them
myst_heading_anchors = 3
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
smartquotes = False  # x' is the instructed chat
html_copy_source = False
html_show_copyright = html_show_sphinx = False
python_maximum_signature_line_length = 100
toc_object_entries_show_parents = "hide"


def filled(_app: Any, _page: str, source: list[str]) -> None:
    """The page with its generated parts."""
    source[0] = re.sub(r"^<!-- generated: (\w+) -->$", lambda mark: PARTS[mark[1]](), source[0], flags=re.MULTILINE)


def setup(app: Any) -> None:
    app.connect("source-read", filled)
