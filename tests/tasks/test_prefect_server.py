"""The run's server: on the loopback interface, gone with the run, and clear about what keeps it from starting."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from psr.errors import PsrError
from tasks.engine import server as prefect_server
from tasks.engine.server import answers, check_server, server

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place, with no server named."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return tmp_path


def starting(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let `code` run instead of the server."""

    def start(folder: Path, log: Path, environment: object) -> subprocess.Popen[str]:
        with open(log, "w") as file:
            return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=file, text=True)

    monkeypatch.setattr(prefect_server, "start", start)


def test_no_free_port_is_said(here, monkeypatch, capsys):
    def refuse(*_: object) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(socket, "create_server", refuse)
    assert prefect_server.main() == 1
    said = capsys.readouterr().err
    assert "no free port on 127.0.0.1" in said
    starting(monkeypatch, f"import sys; sys.exit({said!r})")
    with pytest.raises(PsrError, match=r"did not start.*no free port on 127\.0\.0\.1.*flows\.doctor"), server(here):
        pass
    assert "PREFECT_API_URL" not in os.environ


def test_a_server_that_dies_while_starting_is_said(here, monkeypatch):
    starting(monkeypatch, "print('http://127.0.0.1:9/api', flush=True); raise TypeError('min_items')")
    with pytest.raises(PsrError, match=r"did not start.*TypeError: min_items"), server(here):
        pass
    assert "PREFECT_API_URL" not in os.environ


def test_a_named_server_that_does_not_answer_is_said(here, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with pytest.raises(PsrError, match=r"does not answer \(http://127\.0\.0\.1:9/api\)"), server(here):
        pass
    with pytest.raises(PsrError, match="unset PREFECT_API_URL"):
        check_server()


def test_without_a_named_server_there_is_nothing_to_check(here):
    check_server()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/api", "nonsense", "http://"])
def test_nonsense_does_not_answer(url):
    assert not answers(url, 1)


def test_its_pages_ask_its_own_address(tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with (
        server(tmp_path) as url,
        urllib.request.urlopen(url.removesuffix("/api") + "/ui-settings", timeout=30) as reply,
    ):
        assert json.load(reply)["api_url"] == url
