"""The speed of requests that are answered together, each by a module of its own, as `psr serve` answers them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from statistics import median

from psr.answers.decoding import Event, Failed
from psr.answers.generation import Request, generate
from psr.answers.sampling import Sampling
from psr.errors import PsrError
from psr.serve.engine import Engine
from psr.steering.module import SteeringModule
from tasks.studies.bench.material import Material
from tasks.studies.bench.pairs import Figure, ratio
from tasks.studies.bench.running import endless, requests

ROWS, NEW_TOKENS = 16, 48


def served_requests(material: Material) -> Iterator[Figure]:
    """Simultaneous requests with as many modules, against the same unsteered; and those against one call of generate."""
    lm, sampling = endless(material.lm), Sampling(NEW_TOKENS)
    plain = requests(material, ROWS, instructed=False)
    steered = [replace(one, module=_another(material.module(), i), alpha=1.0) for i, one in enumerate(plain)]
    engine = Engine(lm, most=ROWS)
    try:
        runs = [partial(_answered, engine, batch, sampling) for batch in (steered, plain)]
        seconds = material.seconds([*runs, partial(generate, lm, plain, sampling, batch_size=ROWS)])
    finally:
        engine.close()
    with_modules, without, together = seconds
    rates = [f"{ROWS * NEW_TOKENS / median(times):.0f}" for times in seconds]
    what = f"{ROWS} requests at once, unsteered: new tokens/s"
    yield Figure(
        "serve",
        f"{ROWS} requests at once with {ROWS} modules: new tokens/s",
        what,
        ratio(without, with_modules),
        f"{rates[0]} against {rates[1]} tokens/s, {NEW_TOKENS} new tokens each, A-PSR on all layers",
        at_least=0.9,
    )
    yield Figure(
        "serve-generate",
        what,
        "one call of generate for the same: new tokens/s",
        ratio(together, without),
        f"{rates[1]} against {rates[2]} tokens/s",
    )


def _another(module: SteeringModule, i: int) -> SteeringModule:
    """A module that is not the same as `module`, and costs the same."""
    tensors = {name: values * (1 + i / 1000) for name, values in module.tensors.items()}
    return replace(module, id=f"{module.id}-{i}", tensors=tensors)


def _answered(engine: Engine, batch: Sequence[Request], sampling: Sampling) -> None:
    """Ask for all at once, and wait for the last token."""
    ended, failed = threading.Semaphore(0), list[Failed]()

    def emit(event: Event) -> None:
        if isinstance(event, Failed):
            failed.append(event)
        if isinstance(event, Failed) or event.end:
            ended.release()

    for request in batch:
        engine.submit(request, sampling, emit)
    for _ in batch:
        ended.acquire()
    if failed:
        raise PsrError("a request of the bench failed", got=failed[0].error)
