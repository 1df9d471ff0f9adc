"""The routes: OpenAI's chat completions and models, and whether the server is well.

    POST /v1/chat/completions     an answer, whole or as it comes (server-sent events)
    GET  /v1/models               the model, and every module as `model:module`, with its strengths
    GET  /health                  how many requests run and wait

Beside OpenAI's fields an answer says by which modules it was steered, how strongly, and its seed, with which it can be had again.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from psr.answers.batch import NotFinite
from psr.answers.decoding import Event, Failed, Token
from psr.answers.request import Request
from psr.answers.sampling import Sampling
from psr.answers.text_stream import TextStream
from psr.errors import PsrError
from psr.lm.chats import Prompt, encode_chat
from psr.serve.answers import AnswerStream, Delta, Vocabulary, choice, chunk, completion, usage
from psr.serve.door import Door, Refused, read_body
from psr.serve.engine import Engine, QueueFull, Stopped
from psr.serve.registry import Registry, Steering, Unknown
from psr.serve.schemas import ChatRequest, refusal

_COLDEST = 1e-3  # temperatures below it are 0: divided by them, logits overflow
_SHOWN = 400  # characters of an error's line


@dataclass(frozen=True, eq=False)
class Service:
    """What the routes work with. longest: the most new tokens of an answer. key: "" for none."""

    engine: Engine
    registry: Registry
    longest: int = 2048
    key: str = ""


@dataclass(frozen=True, eq=False)
class _Asked:
    """A chat that can be answered."""

    chat: ChatRequest
    prompt: Prompt
    request: Request
    sampling: Sampling
    facts: Mapping[str, Any]


def create_app(service: Service) -> FastAPI:
    """The application. It has no pages, and answers no other site's scripts."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Door, key=service.key)
    lm, began = service.engine.lm, int(time.time())
    vocabulary = Vocabulary(lm.tokenizer)
    reader = ThreadPoolExecutor(1, thread_name_prefix="psr-reader")  # long chats must not hold up the others' tokens

    @app.exception_handler(HTTPException)
    async def no_route(request: HttpRequest, error: HTTPException) -> Response:
        line = f"no such address: {request.method} {request.url.path[:80]}"
        return Refused(error.status_code, line, code="unknown_url").response()

    @app.get("/health")
    async def health() -> Response:
        facts = {"running": service.engine.running, "waiting": service.engine.waiting}
        return JSONResponse({"status": "ok", **facts})

    @app.get("/v1/models")
    async def models() -> Response:
        return JSONResponse(
            {"object": "list", "data": [_model(service, name, began) for name in service.registry.names]}
        )

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        with _refusing("model"):
            service.registry.steering(name, None)
        return JSONResponse(_model(service, name, began))

    @app.post("/v1/chat/completions")
    async def chat(request: HttpRequest) -> Response:
        body = await read_body(request.scope, request.receive)
        asked = await asyncio.get_running_loop().run_in_executor(reader, _asked, service, body)
        events = _events(service, asked, request)
        said = AnswerStream(vocabulary, TextStream(lm.tokenizer, asked.prompt.ids, asked.chat.stops))
        first = await anext(events)  # what is refused now is refused with a status of its own
        if asked.chat.stream:
            headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
            return StreamingResponse(_sse(asked, said, first, events), media_type="text/event-stream", headers=headers)
        whole = Delta()
        async with aclosing(events):
            whole += said.add(first)
            while said.finish is None:
                whole += said.add(await anext(events))
        spent = usage(len(asked.prompt.ids), said.tokens)
        return JSONResponse(completion(asked.facts, whole, bool(asked.chat.logprobs), said.finish, spent))

    return app


def server(app: FastAPI, engine: Engine, host: str, port: int) -> uvicorn.Server:
    """What runs the application. It logs no request, and stops within seconds: the signal that ends it stops the engine as well."""
    running = uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http="h11",
            ws="none",
            lifespan="off",
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=3,
        )
    )
    leave = running.handle_exit

    def handle_exit(number: int, frame: FrameType | None) -> None:
        engine.stop()
        leave(number, frame)

    running.handle_exit = handle_exit  # type: ignore[method-assign, assignment]
    return running


def _asked(service: Service, body: bytes) -> _Asked:
    """The body read, checked and encoded. Raises Refused."""
    try:
        chat = ChatRequest.model_validate_json(body)
    except ValidationError as error:
        line, param, code = refusal(error)
        raise Refused(400, line[:_SHOWN], param=param, code=code) from None
    lm = service.engine.lm
    steer = None if chat.steer is None else [(one.module, one.alpha) for one in chat.steer]
    with _refusing("steer"):
        steering = service.registry.steering(chat.model, steer)
    with _refusing("messages"):
        prompt = encode_chat(lm.tokenizer, chat.chat)
    longest = _longest(chat, service, lm.context - len(prompt.ids))
    seed = secrets.randbits(63) if chat.seed is None else chat.seed
    temperature = 1.0 if chat.temperature is None else chat.temperature
    sampling = Sampling(
        longest, temperature if temperature >= _COLDEST else 0.0, 1.0 if chat.top_p is None else chat.top_p
    )
    request = Request(prompt, seed, [one for _, one, _ in steering], [alpha for *_, alpha in steering])
    return _Asked(chat, prompt, request, sampling, _facts(service, chat.model, seed, steering))


def _longest(chat: ChatRequest, service: Service, free: int) -> int:
    """The most new tokens. Raises Refused where they do not fit."""
    if free < 1 or (chat.longest or 1) > free:
        context = service.engine.lm.context
        got = f"{context - free} of the messages" + (f" + {chat.longest} new" if chat.longest else "")
        line = f"messages and answer do not fit the model's context, expected at most {context} tokens, got {got}"
        raise Refused(400, line, param="messages", code="context_length_exceeded")
    if (chat.longest or 1) > service.longest:
        line = f"the answer would be too long, expected at most {service.longest} new tokens, got {chat.longest}"
        raise Refused(400, line, param="max_tokens", code="invalid_value")
    return chat.longest or min(free, service.longest)


def _facts(service: Service, model: str, seed: int, steering: Steering) -> dict[str, Any]:
    """What every part of an answer says of it."""
    return {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": service.engine.lm.fingerprint,
        "seed": seed,
        "steer": [{"module": name, "alpha": alpha} for name, _, alpha in steering],
    }


@contextmanager
def _refusing(param: str | None) -> Iterator[None]:
    """What psr refuses becomes an answer of HTTP."""
    try:
        yield
    except Unknown as error:
        raise Refused(404, str(error), param=error.where, code="model_not_found") from None
    except QueueFull as error:
        raise Refused(429, str(error), code="rate_limit_exceeded", headers={"Retry-After": "1"}) from None
    except Stopped as error:
        raise Refused(503, str(error), code="stopping") from None
    except PsrError as error:
        raise Refused(400, str(error)[:_SHOWN], param=param, code="invalid_value") from None


async def _events(service: Service, asked: _Asked, request: HttpRequest) -> AsyncGenerator[Token, None]:
    """The tokens of an answer. The engine makes no more once this is closed, or the client has left.

    Raises Refused where no answer comes, and ClientDisconnect.
    """
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[Event | None]()

    def emit(event: Event) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(queue.put_nowait, event)

    top = (asked.chat.top_logprobs or 0) if asked.chat.logprobs else None
    with _refusing(None):
        number = service.engine.submit(asked.request, asked.sampling, emit, top)
    left = asyncio.create_task(_left(request))
    left.add_done_callback(lambda _: queue.put_nowait(None))
    try:
        while True:
            event = await queue.get()
            if event is None:
                raise ClientDisconnect
            if isinstance(event, Failed):
                raise _no_answer(event.error, asked.request)
            yield event
    finally:
        left.cancel()
        service.engine.cancel(number)


def _no_answer(error: PsrError, request: Request) -> Refused:
    """What is said where the engine fails: the client's own fault is only to steer so strongly that nothing can be computed."""
    if isinstance(error, Stopped):
        return Refused(503, str(error), code="stopping")
    if isinstance(error, NotFinite) and any(one.active for one in request.steers):
        return Refused(400, str(error), param="steer", code="no_answer")
    return Refused(500, str(error)[:_SHOWN], code="no_answer")


async def _left(request: HttpRequest) -> None:
    """Wait until the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _sse(
    asked: _Asked, said: AnswerStream, first: Token, events: AsyncGenerator[Token, None]
) -> AsyncIterator[str]:
    """The answer as server-sent events."""
    counted = asked.chat.stream_options is not None and asked.chat.stream_options.include_usage
    named = bool(asked.chat.logprobs)

    def part(choices: list[dict[str, Any]], spent: Mapping[str, int] | None = None) -> str:
        return _line({**chunk(asked.facts, choices), **({"usage": spent} if counted else {})})

    async with aclosing(events):
        yield part([choice({"role": "assistant", "content": ""}, None, None)])
        event = first
        try:
            while True:
                delta = said.add(event)
                if delta:
                    yield part([choice(delta.message(), delta.logprobs if named else None, None)])
                if said.finish is not None:
                    break
                event = await anext(events)
        except Refused as error:
            yield _line(error.body)
            return
    yield part([choice({}, None, said.finish)])
    if counted:
        yield part([], usage(len(asked.prompt.ids), said.tokens))
    yield "data: [DONE]\n\n"


def _line(value: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _model(service: Service, name: str, created: int) -> dict[str, Any]:
    """An entry of the list of models; with a module, the strengths that it was measured at."""
    base = service.registry.base
    entry = {"id": name, "object": "model", "created": created, "owned_by": "psr"}
    if name == base:
        return {**entry, "fingerprint": service.engine.lm.fingerprint}
    own = name.removeprefix(f"{base}:")
    module = service.registry.modules[own]
    safe = module.origin.get("safe_alpha")
    return {**entry, "parent": base, "module": own, "form": module.form, "span": module.span,
            "recommended_alpha": module.recommended_alpha, "safe_alpha": None if safe is None else list(safe)}  # fmt: skip
