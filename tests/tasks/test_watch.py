"""A run ends with one line when its server dies, and is stopped when somebody cancels it there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVED = """
import http.server, threading, time
from tasks.engine import watch

silent = 0.0

class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(silent)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Healthy)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/api"
watch.EVERY, watch.REFUSAL, watch.SILENCE = 0.1, 1.0, 3.0
"""
DIES = """
with watch.watched(url):
    time.sleep(0.5)
    print("computes", flush=True)
    server.shutdown()
    server.server_close()
    time.sleep(30)
"""
IS_BUSY = """
with watch.watched(url):
    silent = 2.0
    time.sleep(2.5)
    silent = 0.0
    time.sleep(1.0)
print("done")
"""
CANCELLED = """
import signal
states = iter(["RUNNING", "RUNNING"])
signal.signal(signal.SIGTERM, lambda *_: exit(143))
with watch.watched(url, lambda: next(states, "CANCELLING")) as cancelled:
    try:
        time.sleep(30)
    except SystemExit:
        print(cancelled.is_set(), flush=True)
        time.sleep(0.5)
        raise
"""
FAILS = """
def state():
    raise OSError("the server is going down")
with watch.watched(url, state) as cancelled:
    time.sleep(0.5)
print("done", cancelled.is_set())
"""


def ran(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", SERVED + code], cwd=ROOT, capture_output=True, text=True, timeout=25)


def test_a_server_that_dies_ends_the_run_with_one_line():
    done = ran(DIES)
    assert (done.returncode, done.stdout) == (1, "computes\n")
    (line,) = done.stderr.splitlines()
    assert line.startswith("the Prefect server died (http://127.0.0.1:")
    assert "what was finished is kept" in line


def test_a_server_that_is_only_slow_ends_nothing():
    done = ran(IS_BUSY)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_run_that_is_cancelled_gets_one_sigterm():
    done = ran(CANCELLED)
    assert (done.returncode, done.stdout, done.stderr) == (143, "cancelled in Prefect\nTrue\n", "")


def test_a_state_that_cannot_be_read_stops_nothing():
    done = ran(FAILS)
    assert (done.returncode, done.stdout) == (0, "done False\n")
