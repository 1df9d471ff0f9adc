"""The judge `openai`: a model behind any endpoint that speaks OpenAI's chat completions.

The package `openai` (extra `openai`) sends the questions: several at once, each with its own retries, which wait as long as
Retry-After says. What is no answer ends the run with one line: an endpoint that is down, slow, or another model than asked.
Whatever was answered until then is kept, and not asked again. A reply without a number is a judgement without a value.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from psr.errors import PsrError
from psr.judges.asking import Asking
from psr.judges.llm import SETTING, Keep, Question, Questionnaire
from psr.judges.rubrics import Reading
from psr.types import Attribute, JudgeItem, Verdicts


@dataclass(frozen=True)
class OpenAIJudge:
    """Judges one benchmark's answers by questions to a model behind an endpoint. `attributes`: key -> Attribute.

    answers: keeps what was answered, such as a dict. key_of: the key of an endpoint, by the name in `key_variable`.
    Raises PsrError for settings that cannot be, and, where it judges: no key, an endpoint that is down, slow or no such one,
    one that refuses the key or gives no log-probabilities, another model than asked, a budget that is used up.

    Example:
        judge = OpenAIJudge("persona", attributes, model="gpt-4.1-mini", key_of=os.environ.get)
        psr.judge_all(judge, [psr.JudgeItem("a", "persona/pirate", "What is rain?", "Arr, 'tis water, matey!")])
    """

    benchmark: str
    attributes: Mapping[str, Attribute]
    base_url: str = "https://api.openai.com/v1"
    """The endpoint, without /chat/completions."""
    model: str = ""
    """The model's name there. The name in a reply has to begin with it."""
    reading: Literal["logprobs", "text"] = "logprobs"
    """How persona's and IFEval's ratings are read; `text` makes another judge. AxBench's are always read as text."""
    concurrency: int = 8
    """Questions at once."""
    timeout: float = 60.0
    """Seconds without an answer after which a question is tried again."""
    retries: int = 4
    """How often a question is tried again: after 408, 409, 429, 5xx, a broken connection or the timeout."""
    max_calls: int | None = None
    """The most answers that may be kept of this judge, those of earlier runs among them; tries that failed do not count."""
    max_tokens: int | None = None
    """The same of tokens, of questions and replies together."""
    temperature: float = 0.0
    seed: int | None = 0
    """Sent with each question; null for an endpoint that takes none."""
    key_variable: str = "OPENAI_API_KEY"
    """The environment variable with the endpoint's key; empty for an endpoint that needs none."""
    answers: Any = field(default_factory=dict, repr=False, compare=False, metadata=SETTING)
    key_of: Callable[[str], str | None] | None = field(default=None, repr=False, compare=False, metadata=SETTING)

    def __post_init__(self) -> None:
        url = urlsplit(self.base_url)
        bare = url.scheme in ("http", "https") and url.hostname and not (url.username or url.password or url.query)
        budgets = [budget for budget in (self.max_calls, self.max_tokens) if budget is not None]
        wrong = {
            "base_url": "" if bare else "http://… or https://… without a user, a password or a query",
            "model": "" if self.model.strip() else "the name of a model at the endpoint",
            "concurrency": "" if self.concurrency >= 1 else "at least 1",
            "timeout": "" if 0 < self.timeout < math.inf else "seconds above 0",
            "retries": "" if self.retries >= 0 else "0 or more",
            "temperature": "" if 0 <= self.temperature < math.inf else "0 or more",
            "max_calls and max_tokens": "" if all(budget >= 0 for budget in budgets) else "0 or more, or null",
        }
        for name, expected in wrong.items():
            if expected:
                raise PsrError("a judge cannot be set like this", where=f"judge openai, {name}", expected=expected)
        _ = self._questionnaire  # refuses a benchmark without a rubric

    @property
    def id(self) -> str:
        return f"openai:{self.model}"

    @property
    def rubric(self) -> str:
        return self._questionnaire.id

    @property
    def dimensions(self) -> tuple[str, ...]:
        return self._questionnaire.dimensions

    @property
    def calls_per_item(self) -> int:
        """Questions to the model for each answer that is judged."""
        return len(self._questionnaire.rubrics)

    def refuses(self, attribute: Attribute) -> str:
        """Why it cannot judge the attribute; empty where it can."""
        return self._questionnaire.refuses(attribute)

    def reads(self, attribute: str) -> object:
        """What decides its verdicts beside answer, model and rubric: endpoint, sampling, the attribute's own words."""
        return self._questionnaire.reads(attribute)

    def key(self) -> str:
        """The endpoint's key, empty where none is needed. Raises PsrError where there is none."""
        key = self.key_of(self.key_variable) if self.key_variable and self.key_of is not None else None
        if self.key_variable and not (key or "").strip():
            raise PsrError(
                "there is no key for the endpoint",
                where=f"judge {self.id} at {self.base_url}",
                expected=f"one in the environment variable {self.key_variable}",
                do="Set it; or set judge.key_variable to '' for an endpoint that needs none.",
            )
        return (key or "").strip()

    def __call__(self, items: Sequence[JudgeItem]) -> Verdicts:
        """A judgement for each item and dimension, item by item; one without a number has no value and says why."""
        return self._questionnaire.judged(items, self.answers, self._ask)

    @property
    def _reading(self) -> Reading:
        return "text" if self.benchmark == "axbench" else self.reading

    @property
    def _questionnaire(self) -> Questionnaire:
        sampling = (self.base_url.rstrip("/"), float(self.temperature), self.seed)
        return Questionnaire(self.benchmark, self.attributes, self.id, self._reading, sampling)

    def _ask(self, questions: Sequence[Question], keep: Keep) -> None:
        """In a thread with an event loop of its own: a notebook has one that runs already."""
        names = "base_url model concurrency timeout retries max_calls max_tokens temperature seed answers key_variable"
        asking = Asking(
            judge=self.id, rubric=self.rubric, as_text=self._reading == "text", waiting=deque(questions), keep=keep, key=self.key(),
            **{name: getattr(self, name) for name in names.split()},
        )  # fmt: skip
        with ThreadPoolExecutor(1) as pool:
            try:
                pool.submit(asyncio.run, asking.all()).result()
            finally:
                asking.waiting.clear()  # after Ctrl-C nothing more is asked
