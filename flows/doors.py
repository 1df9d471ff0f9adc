"""How a command that works on a finished profile answers: its exit status, and one clear line where it cannot go on."""

from __future__ import annotations

import sys
from collections.abc import Callable

from psr.errors import PsrError
from tasks.engine.disk import disk_error
from tasks.engine.terminal import clean


def answered(work: Callable[[], None], stopped: str) -> int:
    """Do `work`. Exit status 0: done. 2: something the user can mend, in one line. 130: Ctrl-C, answered by `stopped`.

    An OSError that is no full or read-only disk is a fault of ours and is raised.
    """
    try:
        work()
    except (PsrError, OSError) as error:
        problem = error if isinstance(error, PsrError) else disk_error(error)
        if problem is None:
            raise
        print(clean(problem), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return 130
    return 0
