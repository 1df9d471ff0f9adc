"""A stage handed over to the warm process is the stage run here: its streams, its status, its end, its code of now."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tasks.engine import warm

ROOT = Path(__file__).resolve().parents[2]
CLIENT = "import sys; from tasks import warm; status = warm.hand_over(sys.argv[1:]); sys.exit(99 if status is None else status)"
STAGE = """
import os, sys, time
from tasks.engine import watch
def main(argv):
    watch.follow()
    what = argv[0]
    print("out", what, os.getcwd(), os.environ.get("TOLD"), flush=True)
    print("err", what, file=sys.stderr)
    if what == "fail":
        return 2
    if what == "raise":
        raise ValueError("broken")
    if what == "kill":
        os.kill(os.getpid(), 9)
    if what == "wait":
        print(os.getpid(), flush=True)
        time.sleep(99)
    return 0
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose `flows.stage` is the one above, with this project's tasks."""
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows/stage.py").write_text(textwrap.dedent(STAGE))
    for name in ("tasks", "psr"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.delenv(warm.ADDRESS, raising=False)
    monkeypatch.setattr(warm, "PRELOADED", ())
    return tmp_path


@pytest.fixture
def offered(home: Path) -> Iterator[Path]:
    with warm.warm(home):
        yield home


def start(home: Path, *argv: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT, *argv],
        cwd=home,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **more},
    )


def run(home: Path, *argv: str, **more: str) -> tuple[int, str, str]:
    process = start(home, *argv, **more)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def running(pid: int) -> bool:
    """A process that ends between two looks has ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ended(pid: int, seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while running(pid):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_it_runs_in_the_clients_folder_with_its_variables_and_streams(offered):
    status, out, err = run(offered, "fine", TOLD="something")
    assert (status, out, err) == (0, f"out fine {offered} something\n", "err fine\n")


def test_its_status_is_the_clients(offered):
    assert run(offered, "fail")[0] == 2
    status, _, err = run(offered, "raise")
    assert status == 1
    assert "ValueError: broken" in err
    assert run(offered, "kill")[0] == -signal.SIGKILL


def test_it_runs_what_the_files_say_when_it_starts(offered):
    assert run(offered, "fine")[0] == 0
    (offered / "flows/stage.py").write_text("def main(argv):\n    return 7\n")
    assert run(offered, "fine")[0] == 7


def test_two_run_at_once(offered):
    slow = start(offered, "wait")
    assert slow.stdout.readline().startswith("out wait")
    assert run(offered, "fine")[0] == 0
    slow.kill()
    slow.communicate()


def test_a_killed_client_takes_its_stage_along_at_once(offered):
    client = start(offered, "wait")
    client.stdout.readline()
    pid = int(client.stdout.readline())
    client.kill()
    client.communicate()
    assert ended(pid)


def test_the_end_of_the_context_takes_every_stage_along(home):
    with warm.warm(home):
        client = start(home, "wait")
        client.stdout.readline()
        pid = int(client.stdout.readline())
    assert ended(pid)
    client.communicate(timeout=30)
    assert client.returncode == 1


def test_without_a_warm_process_the_stage_runs_where_it_is(home, monkeypatch):
    assert warm.hand_over(["fine"]) is None
    monkeypatch.setenv(warm.ADDRESS, str(home / "gone"))
    assert warm.hand_over(["fine"]) is None


def test_nothing_stays_in_the_environment(home):
    with warm.warm(home):
        assert warm.ADDRESS in os.environ
    assert warm.ADDRESS not in os.environ
