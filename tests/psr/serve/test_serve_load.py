"""Many clients at once: no answer is lost or another's, and memory stays as it was."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from served import QUESTIONS, random_module, serving

from psr.answers.sampling import Sampling
from psr.serve.registry import Registry
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def wanted(i, names, longest):
    """The i-th request, and what psr.generate needs to answer it."""
    steer = {} if i % 5 == 0 else {names[i % len(names)]: (0.5, 1.0, 1.5)[i % 3]}
    sampling = Sampling(longest[i % len(longest)], (1.0, 0.7, 0.0, 1.2)[i % 4], (1.0, 0.9)[i % 2])
    content = f"{QUESTIONS[i % 4]}{' Please.' * (i % 7)}"
    body = {
        "model": "toy",
        "messages": [{"role": "user", "content": content}],
        "seed": i,
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "steer": [{"module": name, "alpha": alpha} for name, alpha in steer.items()],
    }
    return body, content, sampling, steer


def asked_of(served, requests, clients):
    """The text of every answer, half of them streamed."""

    def one(i):
        body = {**requests[i][0], "stream": i % 2 == 1}
        if not body["stream"]:
            return served.post(body)[2]["choices"][0]["message"]["content"]
        import http.client

        connection = http.client.HTTPConnection(*served.address, timeout=300)
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        lines = [line for line in connection.getresponse().read().decode().split("\n\n") if line]
        connection.close()
        assert lines[-1] == "data: [DONE]"
        parts = [json.loads(line.removeprefix("data: "))["choices"][0]["delta"] for line in lines[:-1]]
        return "".join(part.get("content", "") for part in parts)

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(one, range(len(requests))))


def test_two_hundred_requests_of_thirty_two_clients(toy):
    registry = Registry("toy", {f"m{i}": random_module(toy, i, span=("R", "QR")[i % 2]) for i in range(16)})
    requests = [wanted(i, list(registry.modules), (10, 40, 3, 80, 25)) for i in range(200)]
    with serving(toy, registry) as served:
        asked_of(served, requests, 32)  # once, so that all that is kept for good is there
        gc.collect()
        before = psutil.Process().memory_info().rss
        texts = asked_of(served, requests, 32)
        gc.collect()
        grown = psutil.Process().memory_info().rss - before
        assert texts == [
            served.expected(content, body["seed"], sampling, **steer).text
            for body, content, sampling, steer in requests
        ]
        assert served.engine.open == 0
    assert grown < 40_000_000


def test_thirty_two_requests_of_smollm2():
    from psr.lm.loading import load_model
    from tasks.models import smollm2

    done = subprocess.run(
        [sys.executable, "-m", "flows.fetch", "smollm2"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lm = load_model(ROOT / smollm2.FOLDER, dtype="float32")
    registry = Registry("toy", {f"m{i}": random_module(lm, i, 0.1) for i in range(8)})
    requests = [wanted(i, list(registry.modules), (8, 20, 3)) for i in range(32)]
    with serving(lm, registry) as served:
        texts = asked_of(served, requests, 32)
        expected = [
            served.expected(content, body["seed"], sampling, **steer).text
            for body, content, sampling, steer in requests
        ]
        assert texts == expected
    assert len(set(texts)) > 25
