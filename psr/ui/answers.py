"""What happens on Ask: a question answered plainly, with an instruction and steered, in one batch, as the tokens come.

    for sides in ask(lm, asked): …      # all sides, after each token; at the end with the strengths at each token

A module that was distilled to undo its instruction is asked with the instruction, as it was fitted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from psr.answers.decoding import Failed, stream
from psr.answers.request import Request
from psr.answers.sampling import Sampling
from psr.answers.text_stream import TextStream
from psr.errors import PsrError
from psr.evaluation.shown import show_answer
from psr.lm.chats import encode_chat
from psr.lm.models import LanguageModel
from psr.lm.pieces import pieces
from psr.serve.registry import Registry
from psr.show.answer import ShownAnswer
from psr.steering.module import SteeringModule, check_alpha
from psr.steering.strengths import token_strengths
from psr.types import Chat, Message

LENGTH = 128  # tokens of the longest answer, where nothing else is said
PLAIN, PROMPTED = "plain", "prompted"


@dataclass(frozen=True, eq=False)
class Steering:
    """A module by the name that it is offered under, and its strength."""

    name: str
    module: SteeringModule
    alpha: float

    @property
    def undoes(self) -> bool:
        """Whether it was distilled to undo its instruction."""
        return self.module.origin.get("suppress") is True


@dataclass(frozen=True, eq=False)
class Asked:
    """What is asked. instruction: "" for no prompted answer. longest: the most new tokens; fewer where the context ends."""

    question: str
    instruction: str
    steering: tuple[Steering, ...]
    seed: int = 0
    temperature: float = 1.0
    longest: int = LENGTH

    @property
    def plain(self) -> Chat:
        return (Message("user", self.question),)

    @property
    def instructed(self) -> Chat:
        return (Message("system", self.instruction), *self.plain) if self.instruction else self.plain


@dataclass(frozen=True, eq=False)
class Side:
    """One of the answers. end: "" while it goes on, then "stop", "length" or "failed". shown: the strengths, once it has ended."""

    title: str
    chat: Chat
    steering: Steering | None = None
    text: str = ""
    thinking: str = ""
    token_ids: tuple[int, ...] = ()
    end: str = ""
    shown: ShownAnswer | None = None
    error: str = ""


def read(
    registry: Registry,
    question: str | None,
    instruction: str | None,
    steer: Sequence[tuple[str | None, float | None]],
    *,
    seed: int | None = 0,
    temperature: float | None = 1.0,
    longest: int | None = LENGTH,
) -> Asked:
    """What the page's fields ask. steer: names of modules and strengths; "" is none.

    Raises PsrError for an empty question, an unknown module, a strength that is no number or out of range, and numbers
    that are none.
    """
    texts = [(one or "").strip() for one in (question, instruction)]
    if not texts[0]:
        raise PsrError("the question is empty", do="Ask something.")
    if any(0xD800 <= ord(c) <= 0xDFFF for one in texts for c in one):
        raise PsrError(
            "the text holds half a character", expected="Unicode without lone surrogates", do="Type it again."
        )
    named = [(name, check_alpha(alpha)) for name, alpha in steer if name]  # type: ignore[arg-type]
    steering = tuple(Steering(*one) for one in registry.steering(registry.base, named))
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise PsrError("the seed is no whole number", expected="a number such as 0", got=seed)
    if not isinstance(longest, int) or temperature is None:
        raise PsrError("a field is empty", expected="the longest answer and the temperature as numbers")
    Sampling(longest, temperature)  # refuses what cannot be used
    return Asked(texts[0], texts[1], steering, seed, float(temperature), longest)


def ask(lm: LanguageModel, asked: Asked) -> Iterator[tuple[Side, ...]]:
    """All sides, after each token. Closed early, it computes no further.

    A side that fails ends alone, with its error. Raises PsrError as `encode_chat` and `generate` do.
    """
    sides = _sides(asked)
    prompts = [encode_chat(lm.tokenizer, side.chat, context=lm.context) for side in sides]
    sampling = Sampling(room(lm, asked), asked.temperature)
    requests = [
        Request(prompt, asked.seed) if one is None else Request(prompt, asked.seed, one.module, one.alpha)
        for prompt, one in zip(prompts, (side.steering for side in sides), strict=True)
    ]
    said = [TextStream(lm.tokenizer, prompt.ids) for prompt in prompts]
    yield tuple(sides)
    for event in stream(lm, requests, sampling):
        side, text = sides[event.number], said[event.number]
        if isinstance(event, Failed):
            sides[event.number] = replace(side, end="failed", error=str(event.error))
        else:
            thinking = text.add(event.id).thinking if event.end != "stop" else ""
            thinking += text.end().thinking if event.end else ""
            sides[event.number] = replace(
                side, text=text.shown, thinking=side.thinking + thinking, token_ids=(*side.token_ids, event.id), end=event.end
            )  # fmt: skip
        yield tuple(sides)
    yield tuple(_with_strengths(lm, asked, side) for side in sides)


def room(lm: LanguageModel, asked: Asked) -> int:
    """The most new tokens of each side: as asked for, or what the context leaves beside the longest prompt."""
    prompts = (encode_chat(lm.tokenizer, chat, context=lm.context) for chat in (asked.plain, asked.instructed))
    return min(asked.longest, lm.context - max(len(prompt.ids) for prompt in prompts))


def _sides(asked: Asked) -> list[Side]:
    prompted = [Side(PROMPTED, asked.instructed)] if asked.instruction else []
    steered = [
        Side(f"{one.name}, α {one.alpha:g}", asked.instructed if one.undoes else asked.plain, one) for one in asked.steering
    ]  # fmt: skip
    return [Side(PLAIN, asked.plain), *prompted, *steered]


def _with_strengths(lm: LanguageModel, asked: Asked, side: Side) -> Side:
    """λ at each token of a steered answer and, where there is a prompt that it stands for, the prompt's own effect."""
    one, ids = side.steering, side.token_ids
    if one is None or not ids or side.end == "failed":
        return side
    try:
        if one.undoes:
            prompt = encode_chat(lm.tokenizer, side.chat, context=lm.context)
            lam = token_strengths(lm, one.module, prompt, ids, one.alpha)
            tokens = pieces(lm.tokenizer, (*prompt.ids, *ids))[prompt.start(one.module.span) :]
            shown = ShownAnswer(tuple(tokens), len(ids), one.module.layers, tuple(map(tuple, lam.tolist())))
        else:
            shown = show_answer(lm, one.module, asked.question, ids, one.alpha, instruction=asked.instruction or None)
        return replace(side, shown=replace(shown, title=side.title))
    except PsrError as error:
        return replace(side, error=f"no strengths: {error}")


def python(model: str, folder: str, asked: Asked, one: Steering, longest: int, options: Mapping[str, object]) -> str:
    """The five lines that make the steered answer. options: of `load_model`, those that are not its defaults."""
    chosen = "".join(f", {name}={value!r}" for name, value in options.items())
    turns = ", ".join(
        f"psr.Message({turn.role!r}, {turn.content!r})" for turn in (asked.instructed if one.undoes else asked.plain)
    )
    return "\n".join(
        (
            "import psr",
            f"lm, module = psr.load_model({model!r}{chosen}), psr.load_module({folder!r})",
            f"prompt = psr.encode_chat(lm.tokenizer, ({turns},))",
            f"request = psr.Request(prompt, seed={asked.seed}, module=module, alpha={one.alpha!r})",
            f"print(psr.generate(lm, [request], psr.Sampling({longest}, {asked.temperature!r}))[0].text)",
        )
    )
