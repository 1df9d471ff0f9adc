"""The cost of spinning OpenMP threads: a training step of the toy model alone and beside another process.

`python -m tasks.studies.bench.company SECONDS` is one worker: for each line of input it runs steps for SECONDS, and
prints their number per second. Workers run with and without the setting of flows/environment.py, read as torch loads.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from psr.errors import PsrError
from tasks.studies.bench.pairs import Figure, ratio

if TYPE_CHECKING:
    from tasks.studies.bench.material import Material

SETTING = "GOMP_SPINCOUNT"
SECONDS = 2.0
BATCH, TOKENS, VOCABULARY = 16, 60, 1204
BUSY = "print('ready', flush=True)\nwhile True: pass"


def company(material: Material) -> Iterator[Figure]:
    """Steps per second with the setting: alone, two workers at once, and beside a busy process."""
    setting = os.environ.get(SETTING)
    if setting is None:
        raise PsrError(
            "nothing says how long OpenMP's threads spin",
            where=SETTING,
            expected="a number",
            got="nothing",
            do="Run it as python -m flows.bench.",
        )
    worker = [sys.executable, "-m", "tasks.studies.bench.company", str(SECONDS)]
    without = {name: value for name, value in os.environ.items() if name != SETTING}
    rates: list[tuple[float, ...]] = []
    with _child(worker, without) as plain, _child(worker, os.environ) as one, _child(worker, os.environ) as other:
        for repeat in range(material.repeats + 1):
            quiet = _steps(plain)[0], _steps(one)[0], sum(_steps(one, other)) / 2
            with _child([sys.executable, "-c", BUSY], os.environ):
                beside = _steps(one)[0]
            if repeat:  # the first warms up
                rates.append((*quiet, beside))
                material.advance(1)
    free, alone, two, busy = zip(*rates, strict=True)
    halves = [rate / 2 for rate in free]
    step, half = f"a step of the toy model with {SETTING}={setting}", "half of one alone without the setting: 1/s"
    against = "the same without the setting: 1/s"
    yield Figure("company-alone", f"{step}, alone: 1/s", against, ratio(alone, free), at_least=0.85)
    yield Figure("company-two", f"{step}, two processes at once, each: 1/s", half, ratio(two, halves), at_least=0.45)
    yield Figure("company-busy", f"{step}, beside a busy process: 1/s", half, ratio(busy, halves), at_least=0.45)


@contextmanager
def _child(command: list[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process that has printed "ready", and ends with the context. Raises PsrError where it does not start."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        if _line(process) != "ready":
            raise PsrError("a worker of the bench did not start", where=command[-2], got=f"status {process.poll()}")
        yield process
    finally:
        process.kill()
        process.wait()


def _steps(*workers: subprocess.Popen[str]) -> list[float]:
    """Steps per second of each worker, running at the same time."""
    for worker in workers:
        assert worker.stdin is not None  # noqa: S101 - it is a pipe
        worker.stdin.write("go\n")
        worker.stdin.flush()
    return [float(_line(worker)) for worker in workers]


def _line(process: subprocess.Popen[str]) -> str:
    return process.stdout.readline().strip() if process.stdout else ""


def main() -> None:
    """Run one worker until its input ends."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(2)
    torch.manual_seed(0)
    size = {"hidden_size": 128, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 384}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **size))  # type: ignore[arg-type]
    ids = torch.randint(VOCABULARY, (BATCH, TOKENS))
    print("ready", flush=True)
    for _ in sys.stdin:
        began, steps = time.perf_counter(), 0
        while time.perf_counter() - began < float(sys.argv[1]):
            model(input_ids=ids, labels=ids).loss.backward()
            steps += 1
        print(steps / (time.perf_counter() - began), flush=True)


if __name__ == "__main__":
    main()
