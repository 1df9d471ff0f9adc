"""The exit status of every command, and its error as one line."""

from __future__ import annotations

import sys
from collections.abc import Callable

from psr.errors import PsrError
from tasks.engine.disk import disk_error
from tasks.engine.progress import clean


def answered(work: Callable[[], None], stopped: str) -> int:
    """Call `work`. Exit status 0: done. 1: a step failed. 2: something the user can mend, in one line. 130: Ctrl-C, 143:
    SIGTERM, both with the line `stopped`. Any other exception is a bug, and passes through."""
    try:
        work()
    except Exception as error:
        problem = error if isinstance(error, PsrError) else disk_error(error)
        if problem is None:
            raise
        print(clean(problem), file=sys.stderr, flush=True)
        return 2 if getattr(problem, "input_error", True) else 1
    except (KeyboardInterrupt, SystemExit) as stop:
        print(stopped, file=sys.stderr, flush=True)
        return stop.code if isinstance(stop, SystemExit) and isinstance(stop.code, int) else 130
    return 0
