"""A real endpoint: transformers' own server with SmolLM2, which gives no log-probabilities; and SmolLM2 as the judge `local`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from psr.errors import PsrError
from psr.judges.endpoint import OpenAIJudge
from psr.judges.local import LocalJudge
from psr.types import Attribute, JudgeItem
from tasks.models import smollm2

ROOT = Path(__file__).resolve().parents[2]
MODEL = str(smollm2.FOLDER)
PIRATE = Attribute("persona", "pirate", (), (), (), (), (), "")
ITEMS = [
    JudgeItem("plain", "persona/pirate", "What is rain?", "Rain is water that falls from the clouds."),
    JudgeItem("pirate", "persona/pirate", "What is rain?", "Arr, matey! 'Tis water from the skies, ye scurvy dog!"),
    JudgeItem("salad", "persona/pirate", "What is rain?", "the of the of and the of of the the and"),
]  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder() -> str:
    command = [sys.executable, "-m", "flows.fetch", "smollm2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(done.stderr.strip())
    return MODEL


@pytest.fixture(scope="module")
def served(folder: str) -> Iterator[str]:
    """The server's base_url."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = (
        "import sys; from transformers.cli.serve import Serve; Serve(sys.argv[1], port=int(sys.argv[2]), device='cpu')"
    )
    command = [sys.executable, "-c", script, folder, str(port)]
    variables, quiet = {**os.environ, "HF_HUB_OFFLINE": "1"}, subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=quiet, stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 180
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    process.kill()
                    pytest.fail(f"transformers' server did not start: {process.communicate()[1][-500:]}")
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.communicate()


def judge(base_url: str, **settings) -> OpenAIJudge:
    return OpenAIJudge(
        "persona",
        {PIRATE.key: PIRATE},
        base_url=base_url,
        model=MODEL,
        key_variable="",
        concurrency=1,
        timeout=120,
        **settings,
    )


def test_a_server_without_log_probabilities_is_found_by_the_probe(served: str) -> None:
    with pytest.raises(PsrError, match="does not give the log-probabilities that this rubric reads"):
        judge(served)(ITEMS)


def test_the_same_server_is_a_judge_that_is_read_as_text(served: str) -> None:
    answers: dict = {}
    verdicts = judge(served, reading="text", answers=answers)(ITEMS)
    assert {one.rubric for one in verdicts.judgements} == {"persona-text-1"}
    assert len(answers) == 6
    for one in verdicts.judgements:
        assert (one.value is None) == bool(one.error)
        assert one.raw
        assert one.value is None or 0 <= one.value <= 100
    assert verdicts.usage.tokens_in > 6 * 50
    before = dict(answers)
    assert judge(served, reading="text", answers=answers)(ITEMS).judgements == verdicts.judgements
    assert answers == before


def test_as_the_judge_local_it_rarely_writes_a_number_and_says_so(folder: str) -> None:
    judge = LocalJudge("persona", {PIRATE.key: PIRATE}, model=str(ROOT / folder), dtype="bfloat16", device="cpu")
    for one in judge(ITEMS).judgements:  # it mostly begins with a word: too small a model to be this judge
        assert one.value is None
        assert one.error.startswith("the numbers have a weight of 0.")
