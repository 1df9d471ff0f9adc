"""What the spinning of OpenMP's waiting threads costs: a step of the toy model alone and beside other work.

`python -m tasks.studies.bench.company SECONDS` is one worker: it makes steps for SECONDS whenever a line comes, and says how many
a second. Workers run with and without the setting of flows/environment.py, which is read when torch is loaded.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from psr.errors import PsrError
from tasks.studies.bench.figures import Figure, Goal
from tasks.studies.bench.pairs import ratio

if TYPE_CHECKING:
    from tasks.studies.bench.material import Material

SETTING = "GOMP_SPINCOUNT"
SECONDS = 2.0
BATCH, TOKENS, VOCABULARY = 16, 60, 1204
BUSY = "import sys\nprint('ready', flush=True)\nwhile True: pass"


def company(material: Material) -> list[Figure]:
    """Steps a second with the setting, alone, two at once, and beside a process that computes something else."""
    setting = os.environ.get(SETTING)
    if setting is None:
        raise PsrError(
            "nothing says how long OpenMP's threads spin",
            where=SETTING,
            expected="a number",
            got="nothing",
            do="Run it as python -m flows.bench.",
        )
    free: list[float] = []
    alone: list[float] = []
    both: list[list[float]] = []
    beside: list[float] = []
    with ExitStack() as stack:
        without, one, other = (stack.enter_context(_worker(value)) for value in (None, setting, setting))
        for repeat in range(material.repeats + 1):  # the first warms up
            found = _steps(without), _steps(one), _steps(one, other), _beside(one)
            if repeat:
                free, alone, both, beside = free + found[0], alone + found[1], [*both, found[2]], beside + found[3]
                material.advance(1)
    shares = [sum(two) / 2 for two in both]
    halves = [value / 2 for value in free]
    step = f"a step of the toy model with {SETTING}={setting}"
    return [
        Figure(
            "company-alone", f"{step}, alone: 1/s", "the same without the setting: 1/s", ratio(alone, free), Goal(0.85)
        ),
        Figure(
            "company-two",
            f"{step}, two processes at once, each: 1/s",
            "half of one alone without the setting: 1/s",
            ratio(shares, halves),
            Goal(0.45),
        ),
        Figure(
            "company-busy",
            f"{step}, beside a busy process: 1/s",
            "half of one alone without the setting: 1/s",
            ratio(beside, halves),
            Goal(0.45),
        ),
    ]


@contextmanager
def _worker(setting: str | None) -> Iterator[subprocess.Popen[str]]:
    environment = {name: value for name, value in os.environ.items() if name != SETTING}
    environment |= {} if setting is None else {SETTING: setting}
    with _child([sys.executable, "-m", "tasks.studies.bench.company", str(SECONDS)], environment) as process:
        yield process


@contextmanager
def _child(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process that has said that it is ready, and ends with the context."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        if _line(process) != "ready":
            raise PsrError("a worker of the bench did not start", where=command[-2], got=f"status {process.poll()}")
        yield process
    finally:
        process.kill()
        process.wait()


def _steps(*workers: subprocess.Popen[str]) -> list[float]:
    """Steps a second of each of these workers, at once."""
    for worker in workers:
        if worker.stdin is not None:
            worker.stdin.write("go\n")
            worker.stdin.flush()
    return [float(_line(worker)) for worker in workers]


def _beside(worker: subprocess.Popen[str]) -> list[float]:
    with _child([sys.executable, "-c", BUSY], dict(os.environ)):
        return _steps(worker)


def _line(process: subprocess.Popen[str]) -> str:
    return process.stdout.readline().strip() if process.stdout else ""


def main() -> None:
    """One worker, until its input ends."""
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
