"""`psr steer` and `psr chat` behind their options: a model with its module, and a conversation with both sides of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from psr.cli_text import clean
from psr.errors import PsrError
from psr.types import Chat, Message

if TYPE_CHECKING:
    from psr.answers.generation import Answer
    from psr.lm.models import LanguageModel
    from psr.steering.module import SteeringModule

DEFAULT_LENGTH = 128
HELP = "/alpha NUMBER changes the strength, /quit ends, anything else is a question."


@dataclass(frozen=True, eq=False)
class Setup:
    """A model, a module that fits it and its strength, and how answers are sampled."""

    lm: LanguageModel
    module: SteeringModule
    alpha: float
    length: int | None
    temperature: float

    def answer(self, rows: list[tuple[Chat, float]], seed: int) -> list[Answer]:
        """An answer to each chat, steered at its alpha, in one batch with the same random numbers."""
        from psr.answers.generation import Request, generate
        from psr.answers.sampling import Sampling
        from psr.lm.chats import encode_chat

        prompts = [encode_chat(self.lm.tokenizer, chat, context=self.lm.context) for chat, _ in rows]
        free = self.lm.context - max(len(prompt.ids) for prompt in prompts)
        length = min(DEFAULT_LENGTH, free) if self.length is None else self.length
        requests = [Request(prompt, seed, self.module, alpha) for prompt, (_, alpha) in zip(prompts, rows, strict=True)]
        return generate(self.lm, requests, Sampling(length, self.temperature))


def open_setup(
    model: Path,
    revision: str | None,
    module: Path,
    module_revision: str | None,
    alpha: float | None,
    dtype: str,
    device: str,
    length: int | None,
    temperature: float,
    template: str,
) -> Setup:
    """Load both. What is wrong with alpha or the module is said before the model is loaded."""
    with Console(stderr=True).status("loading"):
        from psr.lm.loading import load_model
        from psr.steering.module import check_alpha, check_model, load_module

        loaded = load_module(module, revision=module_revision)
        strength = check_alpha(loaded.recommended_alpha if alpha is None else alpha)
        lm = load_model(model, revision=revision, dtype=dtype, device=device, template=template_options(template))
        check_model(loaded, lm.fingerprint, lm.d_model, lm.n_layers)
    return Setup(lm, loaded, strength, length, temperature)


def template_options(text: str) -> dict[str, object]:
    """Options of a chat template, written as a JSON object."""
    try:
        options = json.loads(text)
    except ValueError:
        options = None
    if not isinstance(options, dict):
        raise PsrError(
            "the template's options are no JSON object",
            where="--template",
            got=repr(text),
            expected='such as {"enable_thinking": false}',
        )
    return options


@dataclass
class Talk:
    """A running chat: the strength, the seed of the next turn, and what each side remembers."""

    alpha: float
    seed: int
    remember: bool
    plain: Chat = ()
    steered: Chat = ()
    turns: int = 0

    def command(self, line: str) -> bool:
        """Do what a line that begins with / says; False for a question. Raises PsrError for an unknown command."""
        if not line.startswith("/"):
            return False
        name, _, value = line.partition(" ")
        from psr.steering.module import check_alpha

        if name != "/alpha":
            raise PsrError("unknown command", got=repr(name), do=HELP)
        try:
            self.alpha = check_alpha(float(value))
        except ValueError:
            raise PsrError("alpha is not a number", expected="/alpha 0.8", got=repr(line)) from None
        return True

    def ask(self, setup: Setup, question: str) -> Table:
        """Both answers, side by side."""
        turn = Message("user", question)
        rows = [((*self.plain, turn), 0.0), ((*self.steered, turn), self.alpha)]
        plain, steered = setup.answer(rows, self.seed + self.turns)
        self.turns += 1
        if self.remember:
            self.plain = (*rows[0][0], Message("assistant", plain.text))
            self.steered = (*rows[1][0], Message("assistant", steered.text))
        table = Table.grid(expand=True, padding=(0, 1))
        table.add_column(ratio=1)
        table.add_column(ratio=1)
        sides = {"plain": plain, f"alpha {self.alpha:g}": steered}
        table.add_row(*(Panel(shown(answer), title=title) for title, answer in sides.items()))
        return table


def shown(answer: Answer) -> Text:
    """The answer's text, never as markup, with what was thought dim before it; … where it was cut off."""
    said = Text(clean(answer.text) + ("" if answer.finished else " …"))
    return Text("\n\n").join([Text(clean(answer.thinking), style="dim"), said]) if answer.thinking else said


def next_line(console: Console, alpha: float) -> str | None:
    """The next line that is not empty; None for /quit or the end of the input."""
    while True:
        try:
            line = console.input(Text(f"alpha {alpha:g} > ", style="bold")).strip()
        except EOFError:
            return None
        if line == "/quit":
            return None
        if line:
            return line
