"""The page itself: its fields, what follows on each of them, and the server that shows it to this machine alone.

Nothing is fetched from elsewhere, and no browser would do it: the page's content security policy allows this server only.
Gradio's routes for files, uploads and proxies are closed, since the page has no files.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from psr.errors import PsrError
from psr.lm.models import LanguageModel
from psr.serve.door import Door
from psr.serve.engine import place_of
from psr.serve.registry import Registry
from psr.steering.module import CONFIG
from psr.ui import cards
from psr.ui.answers import LENGTH, Asked, Side, ask, python, read, room

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "frame-ancestors 'none'"
)
FIRST_QUESTION = "Tell me about trains."
NONE = ("none", "")  # the choice of no module
_CLOSED = re.compile(r"(/gradio_api)?/(upload|file|proxy|stream)")
_OFTEN = 0.08  # seconds between two pictures of answers that come
_log = logging.getLogger("psr.ui")
Update = dict[Any, Any]


@dataclass(frozen=True)
class Source:
    """How the model and the modules are opened again, for the lines of Python. options: of `load_model`."""

    model: str
    folder: Path | None = None
    options: Mapping[str, object] = field(default_factory=dict)

    def module(self, name: str) -> str:
        """The folder of a module by the name that it is offered under."""
        folder = self.folder or Path()
        return str(folder / name if (folder / name / CONFIG).is_file() else folder)


def build(lm: LanguageModel, registry: Registry, source: Source) -> gr.Blocks:
    """The page for this model and these modules."""
    names = list(registry.modules)
    first = names[0] if names else ""
    with gr.Blocks(analytics_enabled=False, title=f"psr: {registry.base}") as page:
        gr.HTML(cards.box(f"<h1>Steering, token by token</h1><p>{cards.model_words(registry)}</p>"))
        with gr.Row():
            question = gr.Textbox(FIRST_QUESTION, label="Question", lines=2, max_length=20_000, scale=3)
            instruction = gr.Textbox(
                cards.instruction_of(registry.modules.get(first)), label="Instruction of the prompted answer", lines=2,
                max_length=20_000, scale=3, info="Empty: no prompted answer.",
            )  # fmt: skip
        with gr.Row():
            module, alpha = _module_fields("Module", names, first, registry)
            other, other_alpha = _module_fields("Compared with", names, "", registry)
        with gr.Row():
            button = gr.Button("Ask", variant="primary")
            stop = gr.Button("Stop")
        with gr.Accordion("Sampling", open=False), gr.Row():
            seed = gr.Number(0, label="Seed", precision=0)
            temperature = gr.Number(1.0, label="Temperature", info="0: always the most likely token", step=0.1)
            longest = gr.Number(LENGTH, label="Longest answer", info="in tokens", precision=0)
        message = gr.HTML()
        answers = gr.HTML()
        choice = gr.Dropdown(
            cards.view_choices(list(registry.modules.values())), value="sum", label="Tokens shaded by λ of", min_width=160
        )  # fmt: skip
        acted = gr.HTML()
        curve = gr.HTML(_curves(registry, first, ""))
        code = gr.Code(language="python", label="The same in Python", interactive=False, wrap_lines=True)
        sides = gr.State(())

        def answer(
            question: str, instruction: str, module: str, alpha: float, other: str, other_alpha: float,
            seed: int, temperature: float, longest: int, choice: str,
        ) -> Iterator[Update]:  # fmt: skip
            steer = [(module, alpha), (other, other_alpha)]
            asked = read(registry, question, instruction, steer, seed=seed, temperature=temperature, longest=longest)
            yield {message: "", code: _python(lm, source, asked)}
            shown, state = 0.0, tuple[Side, ...]()
            for state in ask(lm, asked):
                if time.monotonic() - shown > _OFTEN:
                    yield {answers: cards.cards(state, choice)}
                    shown = time.monotonic()
            yield {answers: cards.cards(state, choice), acted: cards.acted(state, choice), sides: state}

        def repaint(state: tuple[Side, ...], choice: str) -> Iterator[Update]:
            yield {answers: cards.cards(state, choice), acted: cards.acted(state, choice)}

        def choose(module: str, other: str) -> Iterator[Update]:
            new = registry.named(module) if module else None
            yield {
                alpha: _slider(new),
                instruction: cards.instruction_of(new),
                curve: _curves(registry, module, other),
                message: "",
            }

        def compare(module: str, other: str) -> Iterator[Update]:
            new = registry.named(other) if other else None
            yield {other_alpha: _slider(new), curve: _curves(registry, module, other), message: ""}

        fields = [question, instruction, module, alpha, other, other_alpha, seed, temperature, longest, choice]
        shown = [message, answers, acted, code, sides]
        run: dict[str, Any] = {
            "fn": _in_one_line(answer, message), "inputs": fields, "outputs": shown, "show_progress": "hidden",
            "concurrency_limit": 2, "concurrency_id": "answers", "trigger_mode": "always_last", "api_visibility": "private",
        }  # fmt: skip
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        asking = [button.click(**run), question.submit(**run), instruction.submit(**run)]
        asking += [one.input(**run) for one in (alpha, other_alpha)]
        chosen = module.input(
            _in_one_line(choose, message), [module, other], [alpha, instruction, curve, message], **quiet
        )
        compared = other.input(_in_one_line(compare, message), [module, other], [other_alpha, curve, message], **quiet)
        asking += [one.success(**run) for one in (chosen, compared)]
        choice.input(_in_one_line(repaint, message), [sides, choice], [answers, acted, message], **quiet)
        stop.click(None, cancels=asking, api_visibility="private")  # type: ignore[arg-type]  # a list of events, which Gradio takes
    return page


def _module_fields(label: str, names: list[str], name: str, registry: Registry) -> tuple[gr.Dropdown, gr.Slider]:
    """A module and its strength. Other names can be typed, so that a page says why one is not offered."""
    with gr.Column(min_width=280):
        choices = [NONE, *((one, one) for one in names)]
        module = gr.Dropdown(choices, value=name, label=label, allow_custom_value=True)
        marks = cards.strengths(registry.modules[name]) if name else cards.UNSTEERED
        alpha = gr.Slider(
            marks.low, marks.high, marks.start, step=0.05, label="Strength α", visible=bool(name),
            info=cards.strength_words(registry.modules[name]) if name else None,
        )  # fmt: skip
    return module, alpha


def _slider(module: Any) -> Any:
    if module is None:
        return gr.update(visible=False)
    marks = cards.strengths(module)
    return gr.update(
        minimum=marks.low, maximum=marks.high, value=marks.start, visible=True, info=cards.strength_words(module)
    )


def _curves(registry: Registry, *names: str) -> str:
    shown = dict.fromkeys(name for name in names if name)
    return "".join(cards.module_card(name, registry.named(name)) for name in shown)


def _python(lm: LanguageModel, source: Source, asked: Asked) -> str:
    longest = room(lm, asked)
    return "\n\n".join(
        python(source.model, source.module(one.name), asked, one, longest, source.options) for one in asked.steering
    )


def _in_one_line(fn: Callable[..., Iterator[Update]], message: gr.HTML) -> Callable[..., Iterator[Update]]:
    """`fn` with its errors as a line on the page. What was shown by then stays."""

    def run(*values: Any) -> Iterator[Update]:
        try:
            yield from fn(*values)
        except PsrError as error:
            yield {message: cards.message(str(error))}
        except Exception as error:  # of ours or of Gradio's; its text may hold anything
            _log.error("psr: %s", place_of(error))
            yield {message: cards.message(f"the page could not do that, got {type(error).__name__}")}

    return run


class Closed:
    """The application with a content security policy on every answer, and without the routes that it does not need."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _CLOSED.match(scope["path"]):
            await PlainTextResponse("this page has no files", 404)(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"content-security-policy", POLICY.encode())]
            await send(message)

        await self._app(scope, receive, guarded)


def server(page: gr.Blocks) -> uvicorn.Server:
    """What shows the page. It answers names of this machine only and logs no request; give `run` a socket on loopback."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Closed)
    app.add_middleware(Door)
    fonts = ["system-ui", "sans-serif"]
    theme = gr.themes.Base(font=fonts, font_mono=["ui-monospace", "monospace"])
    readable = {"block_info_text_color": "*neutral_600", "body_text_color_subdued": "*neutral_600"}
    theme.set(**readable, **{f"{name}_dark": "*neutral_300" for name in readable})
    gr.mount_gradio_app(
        app, page.queue(), "/", server_name="127.0.0.1", theme=theme, head=cards.HEAD, footer_links=["settings"],
        show_error=False, ssr_mode=False, enable_monitoring=False, pwa=False, mcp_server=False,
    )  # fmt: skip
    return uvicorn.Server(
        uvicorn.Config(app, log_level="error", access_log=False, server_header=False, timeout_graceful_shutdown=1)
    )
