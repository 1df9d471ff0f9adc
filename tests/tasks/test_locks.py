"""One reproduction at a time: the other waits or says why not; a dead holder holds nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from psr.errors import PsrError
from tasks.engine.locks import reproducing

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys, time
from pathlib import Path
from tasks.engine.locks import reproducing
with reproducing(Path(sys.argv[1]), "the other one", wait=False, say=print):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def hold(folder: Path, seconds: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), str(seconds)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().strip() == "held"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    process.stdout.close()


def test_without_waiting_the_holder_is_named(tmp_path):
    other = hold(tmp_path, 99)
    with (
        pytest.raises(PsrError, match=rf"the other one runs since .*process {other.pid}"),
        reproducing(tmp_path, "me", wait=False, say=print),
    ):
        pass
    end(other)


def test_waiting_says_so_and_then_gets_it(tmp_path):
    other, said = hold(tmp_path, 0.5), []
    with reproducing(tmp_path, "me", wait=True, say=said.append):
        assert len(said) == 1
        assert str(other.pid) in said[0]
    other.wait()
    end(other)


def test_a_killed_holder_holds_nothing(tmp_path):
    other = hold(tmp_path, 99)
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    with reproducing(tmp_path, "me", wait=False, say=print):
        pass
    end(other)


def test_the_same_process_may_enter_again(tmp_path):
    with reproducing(tmp_path, "me", wait=False, say=print), reproducing(tmp_path, "me", wait=False, say=print):
        pass
    with reproducing(tmp_path, "me", wait=False, say=print):
        pass
