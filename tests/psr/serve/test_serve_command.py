"""`psr serve`: what it refuses before it loads a model, and one real process from start to Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from http.client import HTTPConnection

import pytest
from served import ASKED
from typer.testing import CliRunner

from psr import cli, cli_serve
from tests.conftest import ROOT

MODEL = str(ROOT / "data/testbed/model")


def refused(*arguments, **variables):
    result = CliRunner().invoke(cli.app, ["serve", "--model", "missing", *arguments], env=variables)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_an_address_that_others_can_reach_needs_a_key():
    assert "there is no key" in refused("--host", "0.0.0.0", PSR_SERVE_KEY="")
    said = refused("--host", "0.0.0.0", "--port", "0", PSR_SERVE_KEY="secret")
    assert "missing" in said  # the model: the key was taken
    assert "secret" not in said
    assert "cannot be sent" in refused("--port", "0", PSR_SERVE_KEY="a\nb")


def test_a_port_that_is_taken_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "address cannot be used" in refused("--port", str(taken.getsockname()[1]))
    assert "address cannot be used" in refused("--port", "70000")
    assert "address cannot be used" in refused("--host", "no.such.host.invalid", PSR_SERVE_KEY="k")


def test_without_the_extra_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(cli_serve, "find_spec", lambda name: None)
    assert "no fastapi, uvicorn. Install the extra `serve`." in refused()


@pytest.mark.slow
def test_a_process_serves_the_folder_until_it_is_interrupted(modules):
    command = [sys.executable, "-m", "psr.cli", "serve", "--model", MODEL, "--modules", str(modules), "--port", "0"]
    environment = {**os.environ, "PSR_SERVE_KEY": "secret", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )
    try:
        first = process.stdout.readline()
        found = re.fullmatch(r"model and 4 modules at http://127\.0\.0\.1:(\d+)/v1\n", first)
        assert found, (first, process.stderr.read() if process.poll() is not None else "")
        connection = HTTPConnection("127.0.0.1", int(found[1]), timeout=60)
        body = json.dumps({"model": "model:bold", "messages": ASKED, "max_tokens": 5})
        connection.request(
            "POST", "/v1/chat/completions", body, {"Content-Type": "application/json", "Authorization": "Bearer secret"}
        )
        assert json.loads(connection.getresponse().read())["steer"] == [{"module": "bold", "alpha": 1.5}]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "secret" not in first + out + err
