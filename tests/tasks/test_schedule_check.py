"""The doctor's check of schedules: on a real server, without the user's, and with nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from tasks.doctor import schedule as schedule_check
from tasks.doctor.schedule import schedules

ROOT = Path(__file__).resolve().parents[2]
DOOR = """
import runpy
from tasks.doctor import checks
checks.packages = lambda root: iter(())
checks.CHECKS = {"schedules": checks.schedules}
runpy.run_module("flows.doctor", run_name="__main__")
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made during a test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def servers() -> list[int]:
    """The server processes that this test started, also those that lost their parent."""
    found = []
    for process in psutil.process_iter():
        try:
            if "tasks.engine.server" in process.cmdline() and process.environ().get("TMPDIR") == os.environ["TMPDIR"]:
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def nothing_is_left(temporary: Path) -> bool:
    return list(temporary.iterdir()) == [] and servers() == []


@pytest.mark.slow
def test_a_schedule_creates_a_run_whatever_the_user_has_set(temporary, tmp_path, monkeypatch):
    mine = tmp_path / "mine"
    mine.mkdir()
    monkeypatch.setenv("PREFECT_HOME", str(mine))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", f"sqlite+aiosqlite:///{mine}/prefect.db")
    monkeypatch.setenv("PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED", "false")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    good, found = schedules(ROOT)
    assert good, found
    assert found.startswith("a run was created after ")
    assert list(mine.iterdir()) == []
    assert nothing_is_left(temporary)


@pytest.mark.slow
def test_a_scheduler_that_fails_is_bad_and_its_error_is_said(temporary, monkeypatch):
    monkeypatch.setattr(schedule_check, "LIMIT", 3600.0)  # it is not waited for
    settings = schedule_check.SETTINGS
    monkeypatch.setitem(
        settings, "PREFECT_SERVER_SERVICES_SCHEDULER_DEPLOYMENT_BATCH_SIZE", "0"
    )  # it takes the last of none
    assert schedules(ROOT) == (False, "no run is created: IndexError: list index out of range")
    assert nothing_is_left(temporary)


def test_what_the_last_exception_said_is_found_in_the_log(tmp_path):
    log = tmp_path / "server.log"
    log.write_text(
        "Traceback (most recent call last):\n  File x\nsqlalchemy.exc.OperationalError: database is locked\n"
        "(Background on this error at: https://sqlalche.me)\n12:00 | INFO | Scheduled 0 runs.\n"
    )
    server = schedule_check.Server(None, "", log)
    assert server.last_words() == "sqlalchemy.exc.OperationalError: database is locked"
    log.write_text("no free port on 127.0.0.1\n")
    assert server.last_words() == "no free port on 127.0.0.1"


@pytest.mark.slow
def test_a_scheduler_that_does_nothing_is_bad_although_the_server_answers(temporary, monkeypatch):
    monkeypatch.setitem(schedule_check.SETTINGS, "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED", "false")
    monkeypatch.setattr(schedule_check, "LIMIT", 3.0)
    good, found = schedules(ROOT)
    assert not good
    assert "no run is created: none in 3 s" in found
    assert nothing_is_left(temporary)


def test_a_server_that_cannot_start_is_bad(temporary, monkeypatch):
    monkeypatch.setitem(schedule_check.SETTINGS, "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS", "soon")
    good, found = schedules(ROOT)
    assert not good
    assert "ValidationError" in found
    assert nothing_is_left(temporary)


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_doctor_leaves_nothing(temporary, told):
    with subprocess.Popen(
        [sys.executable, "-c", DOOR],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as doctor:
        assert doctor.stdout.readline().startswith("ok   python")  # the server comes next
        while not servers():
            assert doctor.poll() is None
        time.sleep(1)
        assert not nothing_is_left(temporary)
        doctor.send_signal(told)
        out, err = doctor.communicate(timeout=60)
    assert (doctor.returncode, out, err) == (130, "", "Stopped.\n")
    assert nothing_is_left(temporary)
