"""A real server on loopback for the tests: the toy model, and random modules that change its answers."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import torch

from psr.answers.generation import Answer, Request, generate
from psr.answers.sampling import Sampling
from psr.lm.chats import encode_chat
from psr.lm.models import LanguageModel
from psr.serve.api import Service, create_app, server
from psr.serve.engine import Engine
from psr.serve.registry import Registry
from psr.steering.module import SteeringModule
from psr.types import Message

QUESTIONS = [
    "Tell me about trains.",
    "What is special about comets?",
    "Tell me about owls.",
    "Why do people like coffee?",
]
ASKED = [{"role": "user", "content": QUESTIONS[0]}]


def random_module(lm: LanguageModel, seed: int, size: float = 0.3, span: str = "R", **origin: Any) -> SteeringModule:
    """An all-layer PSR module that changes answers and leaves them text."""
    generator = torch.Generator().manual_seed(seed)
    layers, d = tuple(range(lm.n_layers)), lm.d_model
    tensors = {name: torch.randn(len(layers), d, generator=generator) * size for name in ("z", "w")}
    tensors["w"] /= d**0.5
    tensors["b"] = torch.rand(len(layers), generator=generator)
    return SteeringModule(f"random-{seed}", "PSR", layers, span, lm.fingerprint, tensors, origin)


@dataclass(frozen=True)
class Served:
    """A server that runs: base_url for OpenAI's clients."""

    address: tuple[str, int]
    engine: Engine
    registry: Registry

    @property
    def base_url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}/v1"

    def post(self, body: Any, path: str = "/v1/chat/completions", **headers: str) -> tuple[int, dict[str, str], Any]:
        """Status, headers and JSON of an answer. body: as JSON, unless it is bytes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask("POST", path, data, {"Content-Type": "application/json", **headers})

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], Any]:
        return self.ask("GET", path, None, headers)

    def ask(
        self, method: str, path: str, data: bytes | None, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], Any]:
        connection = HTTPConnection(*self.address, timeout=60)
        try:
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            return (
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                json.loads(response.read()),
            )
        finally:
            connection.close()

    def expected(
        self, content: str = QUESTIONS[0], seed: int = 0, sampling: Sampling | None = None, **steer: float
    ) -> Answer:
        """What psr.generate answers to the same, alone. steer: strengths by module."""
        lm = self.engine.lm
        modules = [self.registry.modules[name] for name in steer]
        request = Request(encode_chat(lm.tokenizer, (Message("user", content),)), seed, modules, list(steer.values()))
        return generate(lm, [request], sampling or Sampling(24))[0]


@contextmanager
def serving(
    lm: LanguageModel, registry: Registry, *, most: int = 32, queue: int = 128, longest: int = 2048, key: str = ""
) -> Iterator[Served]:
    """A server of this model, in threads of this process."""
    engine = Engine(lm, most=most, queue=queue)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        running = server(create_app(Service(engine, registry, longest, key)), engine, "127.0.0.1", 0)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            until(lambda: running.started)
            yield Served(bound.getsockname(), engine, registry)
        finally:
            running.handle_exit(signal.SIGTERM, None)
            thread.join()
            engine.close()


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until it is true. Raises AssertionError where it never is."""
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.01)


def folder_of(modules: dict[str, SteeringModule], folder: Path) -> Path:
    """The modules saved in a folder, each in one of its own."""
    from psr.steering.module import save_module

    for name, module in modules.items():
        save_module(module, folder / name)
    return folder
