"""Can this installation run the pipeline? `python -m flows.doctor` prints a line for each thing that has to be right."""

from __future__ import annotations

import sys

from flows import environment
from tasks.checks import findings
from tasks.terminal import clean


def main() -> int:
    """Exit status 0 when everything is well, else 1."""
    root = environment.repository()
    environment.set_defaults(root)
    well = True
    for finding in findings(root):
        well = well and finding.good
        print(f"{'ok ' if finding.good else 'BAD'}  {finding.name}: {clean(finding.found)}", flush=True)
    print("All well." if well else "Mend what is BAD: pip install -e . brings the versions that work together.")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
