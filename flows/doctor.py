"""The command that checks the installation: `python -m flows.doctor` prints a line for each check.

It takes half a minute, because it starts Prefect's server and waits for a scheduled run.
"""

from __future__ import annotations

import signal
import sys

from flows import environment
from tasks.doctor.checks import findings
from tasks.engine.progress import clean

MEND = "Mend what is BAD: pip install -e '.[pipeline]' -c constraints.txt brings the versions that were run together."


def main() -> int:
    """Exit status 0: every check passed. 1: one failed. 130: stopped by Ctrl-C."""
    root = environment.repository()
    environment.set_defaults(root)
    well = True
    try:
        for finding in findings(root):
            well = well and finding.good
            print(f"{'ok ' if finding.good else 'BAD'}  {finding.name}: {clean(finding.detail)}", flush=True)
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    print("All well." if well else MEND)
    return 0 if well else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that child processes are ended too
    sys.exit(main())
