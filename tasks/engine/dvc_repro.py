"""`python -m tasks.engine.dvc_repro STAGE`: dvc --wait-for-lock repro --single-item STAGE, in a process that watches its parent.

DVC's own lines about what it is doing are left out (the stage's come through); its errors are said in one line.
"""

from __future__ import annotations

import logging
import os
import sys

from tasks.engine import watch
from tasks.engine.dvc_lock import hasten


def main(argv: list[str]) -> int:
    """DVC's exit status: 0 when the stage ran, was restored from the cache, or was up to date."""
    watch.follow()
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # DVC's chatter; a stage writes to the descriptor itself
        sys.stdout = nowhere
        from dvc.cli import main as dvc

        for name in ("dvc", "dvc_data", "dvc_objects"):
            for handler in logging.getLogger(name).handlers:
                handler.addFilter(lambda record: record.levelno >= logging.ERROR)
        hasten()
        return dvc(["--wait-for-lock", "repro", "--single-item", *argv])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
