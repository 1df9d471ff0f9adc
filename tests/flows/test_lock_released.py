"""The repository's lock is free within seconds after a run is stopped, while it plans and while it publishes as in a step
(tests/flows/test_kill.py), and the next run finishes what this one began."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from repository import ITEMS, build, environment, family, journal, reproduce, started, until

from psr.errors import PsrError
from tasks.engine.locks import reproducing

pytestmark = pytest.mark.slow
FREED = 10.0  # seconds on a loaded machine; an idle one needs one or two

BLOCK = '''

def _blocked(moment):
    """Wait where a test wants to stop the run."""
    import os
    import time
    from pathlib import Path

    if os.environ.get("PSR_TEST_BLOCK") == moment:
        Path(".psr", moment).touch()
        time.sleep(120)
'''
PLANNING = (
    BLOCK
    + '''

_checked = check_questions


def check_questions(*arguments, **more):
    """The check, and before it a moment to be stopped in."""
    _blocked("planning")
    _checked(*arguments, **more)
'''
)
PUBLISHING = (
    BLOCK
    + '''

_ran = run


def run(root, profile):
    """The tracker, and before it a moment to be stopped in."""
    _blocked("publishing")
    _ran(root, profile)
'''
)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small repository that can be stopped while it plans and while it publishes, with Prefect's database made."""
    folder = build(tmp_path_factory.mktemp("lock"))
    for file, more in (("flows/settings.py", PLANNING), ("tasks/shown/track.py", PUBLISHING)):
        with open(folder / file, "a", encoding="utf-8") as code:
            code.write(more)
    code = "from pathlib import Path; from tasks.engine.server import server\nwith server(Path.cwd()): pass"
    subprocess.run(
        [sys.executable, "-c", code], cwd=folder, check=True, start_new_session=True,
        env=environment(PREFECT_HOME=str(folder / ".psr/prefect")),
    )  # fmt: skip
    return folder


@pytest.fixture
def folder(empty: Path, tmp_path: Path) -> Path:
    return shutil.copytree(empty, tmp_path / "copy", symlinks=True)


def is_free(folder: Path) -> bool:
    try:
        with reproducing(folder, "a test", wait=False, say=print):
            return True
    except PsrError:
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", ["planning", "publishing"])
def test_a_run_that_is_stopped_frees_the_lock_and_the_next_one_finishes(folder: Path, moment: str, number: int):
    with started(folder, "--profile", "smoke", PSR_TEST_BLOCK=moment) as run:
        until((folder / ".psr" / moment).exists, 200)
        assert not is_free(folder)
        os.kill(run.pid, number)
        sent = time.monotonic()
        until(lambda: is_free(folder), FREED)
        until(lambda: family(folder) == [], 3 * FREED)
        said = run.communicate(timeout=60)[0]
    assert time.monotonic() - sent < 5 * FREED
    assert run.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[number], said
    if number != signal.SIGKILL:
        assert "Traceback" not in said
        assert said.splitlines()[-1] == "Stopped. What was finished is kept: run again to go on."
    made = len(journal(folder))
    assert made == (0 if moment == "planning" else 4 * ITEMS)
    done = reproduce(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("Nothing to do" in done.stdout) == (moment == "publishing")
    assert len(journal(folder)) == 4 * ITEMS
    assert (folder / ".psr/tracked.txt").read_text().splitlines().count("smoke") >= 1
