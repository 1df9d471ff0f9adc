"""docs/how-to/serve.md, followed: its server runs, its Python and its curl get answers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest
import torch

from psr.lm.loading import load_model
from psr.steering.forms import form_named, init_params
from psr.steering.module import SteeringModule, save_module
from tests.conftest import ROOT
from tests.pages import blocks


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@pytest.mark.slow
def test_the_page_followed_with_a_module_of_the_toy_model(tmp_path):
    lm = load_model(ROOT / "data/testbed/model")
    params = init_params(form_named("PSR"), lm.n_layers, lm.d_model, torch.Generator().manual_seed(0))
    strong = {name: 6 * values.abs() for name, values in params.items()}
    save_module(
        SteeringModule("pirate", "PSR", tuple(range(lm.n_layers)), "QR", lm.fingerprint, strong),
        tmp_path / "my-modules/my-pirate",
    )
    (tmp_path / "data").symlink_to(ROOT / "data")
    port = str(free_port())
    [start] = [block.text for block in blocks("serve.md") if block.title == "serve"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "psr.cli", *start.split()[1:], "--port", port]
    server = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        said = server.stdout.readline()
        assert said == f"model and 1 module at http://127.0.0.1:{port}/v1\n"
        assert f"`{said.strip().replace(port, '8000')}`" in (ROOT / "docs/how-to/serve.md").read_text(encoding="utf-8")

        def ran(*command: str) -> str:
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr
            return done.stdout

        [script] = [block.text for block in blocks("serve.md") if block.language == "python"]
        names, plain, pirate, half = ran(sys.executable, "-c", script.replace("8000", port)).split("\n", 3)
        assert names == "['model', 'model:my-pirate']"
        assert len({plain, pirate, half}) == 3
        assert all((plain, pirate, half))
        [lines] = [block.text for block in blocks("serve.md") if block.language == "console" and not block.title]
        answers = [json.loads(ran("bash", "-c", line)) for line in lines.replace("8000", port).splitlines()]
        assert answers[0]["steer"] == [{"module": "my-pirate", "alpha": 1.0}]
        assert answers[1]["data"][1]["recommended_alpha"] == 1.0
        assert answers[2] == {"status": "ok", "running": 0, "waiting": 0}
    finally:
        server.terminate()
        server.wait()
