"""Questions on their way to an endpoint: several at once, within a budget, each failure as one line.

The client of the package `openai` tries again, and waits as Retry-After says. The budget is put aside before a question is
asked: a byte of text is a token at most, and what was not used is put back. The key is in no error and in no answer.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NoReturn

from psr.errors import PsrError
from psr.judges.llm import Answer, Keep, Question
from psr.judges.rubrics import REPLY, TOP, Rubric, Value, in_text, of_tokens, weighted
from psr.types import Message, Usage, short_hash

PROBE = Rubric("probe", 100, "Reply with the number 50 and nothing else.")
AROUND = 64  # tokens that a chat template adds to a message, at most
# what a refusal of one text, and not of all, says
PASSED_OVER = ("content_filter", "context_length_exceeded", "maximum context length")
AGAIN = "What was answered is kept: run again to go on."


@dataclass
class Asking:
    """The questions of one call, on their way to an endpoint.

    judge, rubric: ids; as_text: whether replies are read as text, and not by their log-probabilities; key: the endpoint's,
    empty for none; answers: what is kept already, which the budget counts; waiting: the questions; keep: called with each
    answer. The rest is as in psr.judges.endpoint.OpenAIJudge.
    """

    judge: str
    rubric: str
    base_url: str
    model: str
    as_text: bool
    concurrency: int
    timeout: float
    retries: int
    max_calls: int | None
    max_tokens: int | None
    temperature: float
    seed: int | None
    answers: Any
    waiting: deque[Question]
    keep: Keep
    key_variable: str
    key: str = field(repr=False)

    def __post_init__(self) -> None:
        self.spent = _spent(self.answers, self.judge)
        self.failures: list[PsrError] = []

    async def all(self) -> None:
        """Ask what waits, until one thing fails; what is on its way then is waited for and kept."""
        async with _package().AsyncOpenAI(
            api_key=self.key or "none", base_url=self.base_url, timeout=self.timeout, max_retries=self.retries
        ) as self.client:
            await self._probe()
            await asyncio.gather(*(self._work() for _ in range(min(self.concurrency, len(self.waiting)))))
        if self.failures:
            raise self.failures[0]

    async def _work(self) -> None:
        while self.waiting and not self.failures:
            try:
                self.keep(await self._answer(self.waiting.popleft()))
            except PsrError as failure:
                self.failures.append(failure)

    async def _probe(self) -> None:
        """Ask once, whatever run it is, whether the endpoint gives log-probabilities; raise PsrError where it does not."""
        if self.as_text:
            return
        chat = (Message("user", PROBE.wording),)
        key = short_hash("probe", self.judge, self.base_url.rstrip("/"), TOP)
        if self.answers.get(key) is not None:
            return
        question = Question(key, self.judge, self.rubric, PROBE, chat)
        answer = await self._answer(question)
        got = len(json.loads(answer.reply)) if answer.reply.startswith('[["') else 0  # else it is text
        if got < TOP:
            raise PsrError(
                "the endpoint does not give the log-probabilities that this rubric reads",
                where=self._where,
                expected=f"{TOP} log-probabilities of the first token",
                got=got or answer.error or "none",
                do="Use another endpoint, or set judge.reading to text, which is another judge.",
            )
        self.answers[key] = answer

    async def _answer(self, question: Question) -> Answer:
        """One question, its budget put aside before it is asked. Raises PsrError for anything but an answer."""
        most = sum(len(one.content.encode()) + AROUND for one in question.chat) + (REPLY if self.as_text else 1)
        self._set_aside(most)
        sent: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": one.role, "content": one.content} for one in question.chat],
            "temperature": self.temperature,
            "max_tokens": REPLY if self.as_text else 1,
            **({} if self.seed is None else {"seed": self.seed}),
            **({} if self.as_text else {"logprobs": True, "top_logprobs": TOP}),
        }
        try:
            reply = await self.client.chat.completions.create(**sent)
        except Exception as error:
            if why := self._passed_over(error):
                self._settle(most, 0, 0)
                return question.answered(self.model, "", (None, why), 0, 0)
            if question.rubric is PROBE and getattr(error, "status_code", 0) in (400, 422) and "logprob" in str(error):
                return question.answered(self.model, "", (None, self._clean(error)), 0, 0)
            self._fail(error)
        model, choices = getattr(reply, "model", None), getattr(reply, "choices", None)
        if not isinstance(choices, list) or not choices:
            raise PsrError("the endpoint answers without a choice", where=self._where, expected="a chat completion",
                           got=self._clean(reply), do=AGAIN)  # fmt: skip
        if not isinstance(model, str) or not model.startswith(self.model):
            raise PsrError("another model answers than was asked", where=self._where, expected=self.model,
                           got=self._clean(model), do="Give the name that the endpoint itself uses as judge.model.")  # fmt: skip
        said, value = self._read(choices[0], question.rubric)
        tokens_in, tokens_out = _used(reply, most)
        self._settle(most, tokens_in, tokens_out)
        return question.answered(self._clean(model), said, value, tokens_in, tokens_out)

    def _read(self, choice: Any, rubric: Rubric) -> tuple[str, Value]:
        """A choice of a reply: the judge's words or, as JSON, its log-probabilities; and the value in them."""
        message, content = getattr(choice, "message", None), getattr(getattr(choice, "logprobs", None), "content", None)
        said = self._hidden(str(getattr(message, "content", None) or ""))
        if getattr(choice, "finish_reason", None) == "content_filter":
            return said, (None, "the endpoint's content filter withheld the reply")
        if refused := getattr(message, "refusal", None):
            return said, (None, f"the judge refused: {self._clean(refused)!r}")
        if self.as_text:
            return said, in_text(said, rubric.scale)
        likely = getattr(content[0], "top_logprobs", None) if isinstance(content, list) and content else None
        top = [
            (self._hidden(one.token), float(one.logprob))
            for one in (likely if isinstance(likely, list) else ())
            if isinstance(getattr(one, "token", None), str) and isinstance(getattr(one, "logprob", None), int | float)
        ]
        if not top:
            return said, (None, "the reply has no log-probabilities")
        return json.dumps(top), weighted(of_tokens((token, math.exp(min(logprob, 0.0))) for token, logprob in top))

    def _set_aside(self, tokens: int) -> None:
        """Count a call before it is made. Raises PsrError where the budget would not cover it."""
        after = Usage(self.spent.calls + 1, self.spent.tokens_in + tokens, self.spent.tokens_out)
        for name, limit, would in (
            ("max_calls", self.max_calls, after.calls),
            ("max_tokens", self.max_tokens, after.tokens_in + after.tokens_out),
        ):
            if limit is not None and would > limit:
                used = self.spent.calls if name == "max_calls" else self.spent.tokens_in + self.spent.tokens_out
                raise PsrError(
                    "the judge's budget is used up",
                    where=f"{self._where}, {name}",
                    expected=f"at most {limit}",
                    got=f"{used} used or set aside, {would - used} more for the next question",
                    do=f"Raise judge.{name}. {AGAIN}",
                )
        self.spent = after

    def _settle(self, aside: int, tokens_in: int, tokens_out: int) -> None:
        self.spent = Usage(
            self.spent.calls, self.spent.tokens_in - aside + tokens_in, self.spent.tokens_out + tokens_out
        )

    def _passed_over(self, error: Exception) -> str:
        """Why the endpoint will not read this one text; empty where it would read none."""
        text = f"{getattr(error, 'code', '')} {error}".lower()
        is_one = getattr(error, "status_code", 0) == 400 and any(sign in text for sign in PASSED_OVER)
        return f"the endpoint refuses this text: {self._clean(error)}" if is_one else ""

    def _fail(self, error: Exception) -> NoReturn:
        """Raise what went wrong as one line. The client has tried again where that may help."""
        openai, do = _package(), AGAIN
        tries = f" ({self.retries + 1} tries)" if self.retries else ""
        status, got = getattr(error, "status_code", None), self._clean(error)
        if isinstance(error, openai.APITimeoutError):
            what, got = "the endpoint is too slow", f"no answer in {self.timeout:g} s{tries}"
            do = f"Raise judge.timeout, or lower judge.concurrency. {AGAIN}"
        elif isinstance(error, openai.APIConnectionError):
            what = "the endpoint cannot be reached, or breaks off"
            got = f"{self._clean(error.__cause__ or error)}{tries}"
        elif status in (401, 403):
            what, got = "the endpoint refuses the key", f"status {status}"  # its message may show a part of the key
            do = f"Set the environment variable {self.key_variable or 'that judge.key_variable names'} to a key for it."
        elif status == 404:
            what, do = "the endpoint does not know the model, or is none", "Correct judge.model or judge.base_url."
        elif status == 429:
            what, got = "the endpoint takes no more questions", f"{got}{tries}"
        elif status is not None and status >= 500:
            what, got = "the endpoint fails", f"{got}{tries}"
        elif status is not None:
            what, do = "the endpoint refuses the question", "Correct the judge's settings."
        elif isinstance(error, openai.APIError | ValueError):
            what = "the endpoint answers with something else than a chat completion"
        else:
            raise error
        raise PsrError(what, where=self._where, got=got, do=do) from None

    @property
    def _where(self) -> str:
        return f"judge {self.judge} at {self.base_url}"

    def _hidden(self, text: str) -> str:
        """`text` without the key."""
        return text.replace(self.key, "…") if self.key else text

    def _clean(self, thing: object) -> str:
        """What somebody else said, short, on one line, without the key."""
        text = " ".join(self._hidden(str(thing)).split())
        return text if len(text) <= 160 else f"{text[:157]}..."


def _used(reply: Any, most: int) -> tuple[int, int]:
    """Tokens of question and answer; the most that it may be where the endpoint does not say."""
    usage = getattr(reply, "usage", None)
    asked, said = getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None)
    return (asked, said) if isinstance(asked, int) and isinstance(said, int) else (most, 0)


def _spent(answers: Any, judge: str) -> Usage:
    """What the kept answers of a judge cost."""
    if hasattr(answers, "spent"):
        return answers.spent(judge)  # type: ignore[no-any-return]
    own = [one for one in answers.values() if one.judge == judge]
    return Usage(len(own), sum(one.tokens_in for one in own), sum(one.tokens_out for one in own))


def _package() -> Any:
    try:
        import openai
    except ImportError:
        raise PsrError(
            "the judge openai needs the package openai",
            do="pip install 'prompt-steering-replacement[openai]'",
        ) from None
    return openai
