"""A server on loopback that speaks OpenAI's chat completions, well or badly: what judges are tested against."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "judge-1"
KEY = "sk-a-very-secret-key"
TOP = [(str(number), math.log(0.04)) for number in range(60, 80)]  # 20 tokens: weight 0.8, mean 69.5


def completion(
    content: str | None = "[[70]]", top: list[tuple[str, float]] | None = TOP, model: str = MODEL, **choice: Any
) -> dict[str, Any]:
    """A chat completion. top: the log-probabilities of its first token, None for null."""
    likely = None if top is None else [{"token": token, "logprob": logprob, "bytes": None} for token, logprob in top]
    logprobs = None if likely is None else {"content": [{"token": likely[0]["token"] if likely else "", "logprob": 0.0,
                                                         "bytes": None, "top_logprobs": likely}]}  # fmt: skip
    message = {"role": "assistant", "content": content, "refusal": choice.pop("refusal", None)}
    one = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "stop", **choice}
    usage = {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": model, "choices": [one], "usage": usage}


@dataclass
class Reply:
    """What the server sends: a status, headers, a body (JSON unless it is text), and how it breaks off."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hang: float = 0.0
    cut: bool = False


Script = Callable[[dict[str, Any], int], Reply | dict[str, Any]]


@dataclass
class Endpoint:
    """base_url, and all that was asked: bodies and headers, in order; `most`: the largest number at once."""

    base_url: str
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    at_once: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def texts(self) -> list[str]:
        """The questions, the probe aside."""
        said = [body["messages"][-1]["content"] for body in self.asked]
        return [text for text in said if not text.startswith("Reply with the number 50")]


@contextmanager
def endpoint(script: Script = lambda body, n: completion()) -> Iterator[Endpoint]:
    """Serve `script(body, n)`, n counting requests from 0."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with served.lock:
                n = len(served.asked)
                served.asked.append(body)
                served.headers.append({name.lower(): value for name, value in self.headers.items()})
                served.at_once += 1
                served.most = max(served.most, served.at_once)
            try:
                reply = script(body, n)
                self._send(reply if isinstance(reply, Reply) else Reply(reply))
            finally:
                with served.lock:
                    served.at_once -= 1

        def _send(self, reply: Reply) -> None:
            ended.wait(reply.hang)
            is_text = isinstance(reply.body, str)
            data = reply.body.encode() if is_text else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            kind = "text/html" if is_text else "application/json"
            for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if reply.cut else data)
            self.close_connection = reply.cut or reply.hang > 0

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that has left is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    served = Endpoint(f"http://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
