"""The command that schedules the reproduction: `python -m flows.deploy` registers an inactive schedule and serves it.

It needs a permanent Prefect server (`prefect server start`, and PREFECT_API_URL set to its address). The schedule does
nothing until it is switched on in Prefect; starting a run there works at once.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from flows import environment, params
from psr.errors import PsrError
from tasks.engine.server import check_server

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

NAME = "nightly"
CRON = "0 3 * * *"


def deployment() -> RunnerDeployment:
    """The flow over all steps, every night at three, one run at a time; its schedule is switched off."""
    from prefect.schedules import Cron

    from flows.pipeline import reproduce

    scheduled = reproduce.to_deployment(
        NAME,
        schedule=Cron(CRON, active=False),
        parameters={"profile": params.DEFAULT_PROFILE},
        concurrency_limit=1,
        description="Bring the results up to date. Inactive until its schedule is switched on.",
    )
    return scheduled  # type: ignore[return-value]


def main() -> int:
    """Register the deployment and serve its runs until Ctrl-C."""
    root = environment.repository()
    os.chdir(root)
    try:
        if not os.environ.get("PREFECT_API_URL"):
            raise PsrError(
                "no Prefect server is named",
                where="PREFECT_API_URL",
                expected="http://127.0.0.1:4200/api",
                do="Start one with prefect server start.",
            )
        check_server()
        environment.set_defaults(root)
        from prefect import serve

        print(f"Serving reproduce/{NAME}; its schedule ({CRON}) is switched off.", flush=True)
        serve(deployment())
    except PsrError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
