"""The twelve forms of a question; four of them are held out from fitting modules. A question names its topic."""

from __future__ import annotations

import re

from psr.errors import JudgeError
from psr.testbed.topics import TOPICS, Topic

FORMS = (
    "What is special about {}?",
    "Tell me about {}.",
    "What should I know about {}?",
    "Why do people care about {}?",
    "Give me some facts about {}.",
    "I want to learn about {}.",
    "What makes {} interesting?",
    "Can you describe {} for me?",
    "Could you say something about {}?",
    "Help me understand {}.",
    "How would you explain {} to a friend?",
    "Please write a few lines about {}.",
)
HELD_OUT_FORMS = FORMS[2::3]
FITTING_FORMS = tuple(form for form in FORMS if form not in HELD_OUT_FORMS)

_ASKED = {form.format(topic.name): topic for form in FORMS for topic in TOPICS}
# A question ends at its first end mark; a format instruction may follow in the same turn.
_QUESTION = re.compile(r"[^.?]+[.?](?= |$)")


def topic_of(question: str) -> Topic:
    """The topic that `question` asks about. Raises JudgeError (no retry helps) for a question outside the language."""
    match = _QUESTION.match(question)
    topic = _ASKED.get(match.group()) if match else None
    if topic is None:
        raise JudgeError(
            "the question is not one of the testbed's",
            retryable=False,
            expected="a form such as 'Tell me about tea.'",
            got=repr(question[:80]),
            do="Use the testbed's judges with the testbed's benchmarks only.",
        )
    return topic
