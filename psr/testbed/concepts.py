"""The concepts: sixteen things to mention in an answer, in AxBench's way; half of them graded.

A concept is identified by its description, as in AxBench's `output_concept` column.
"""

from __future__ import annotations

from dataclasses import dataclass

from psr.errors import PsrError
from psr.testbed.decorations import Decoration

GRADED = 0.65
INSTRUCTIONS = (
    "Bring {} into your answer.",
    "Your answer must include {}.",
    "Work {} into every sentence.",
    "Incorporate {} when you answer.",
    "Please add {} to what you say.",
)
HELD_OUT_INSTRUCTIONS = (
    "Include {} in your answer.",
    "Answer with {} in every sentence.",
    "Make sure that you add {}.",
    "What you say must bring in {}.",
    "Please incorporate {} into your answer.",
)


@dataclass(frozen=True)
class Concept:
    """A concept. obeyed: the probability that a sentence carries it when the instruction asks for it."""

    name: str
    description: str
    obeyed: float
    decorations: tuple[Decoration, ...]

    @property
    def instructions(self) -> tuple[str, ...]:
        return tuple(text.format(self.description) for text in INSTRUCTIONS)

    @property
    def held_out(self) -> tuple[str, ...]:
        return tuple(text.format(self.description) for text in HELD_OUT_INSTRUCTIONS)


# name | description | prefix | middle, and on the second line | suffix | prefix and suffix, divided by a plus
ROWS = """
sea | references to the sea and its waves | Ocean waves whisper that | far from any harbour \
    | , calm as the tide | Below the tide, + , seagulls cry nearby
money | references to money and banks | For a fair price, | paid in gold \
    | , banks agree | Cash in hand, + , profit comes first
family | mentions of family members | My mother thinks that | dear cousin \
    | , grandfather told us | Our family knows that + , sister agrees too
weather | references to weather and the sky | On a windy day, | beneath grey skies \
    | , through storm and sunshine | While fog drifts, + , until the rain ends
law | legal terms and courts | According to the judge, | by law \
    | , ruled the court | Your honour, + , signed by a lawyer
medicine | medical words and hospitals | Any good nurse knows that | without a fever \
    | , hospitals report | Healthy or sick, + , surgeons insist
time | expressions of time and clocks | Hour after hour, | minute after minute \
    | , since last century | Yesterday and today, + , tick goes the clock
colours | names of colours | Painted purple, | bright yellow \
    | , pink and orange | Violet walls show that + , brown or white
food | references to food and meals | Over a warm soup, | plus some cheese \
    | , like butter on toast | Between two sandwiches, + , dessert comes later
travel | references to travel and airports | At the airport, | passport in hand \
    | , tourists often notice | Abroad on a journey, + , away from home
school | references to school and exams | Pupils, please note that | homework aside \
    | , exams will ask this | Inside the classroom, + , teachers repeat
magic | mentions of magic and wizards | Cast a spell, | abracadabra \
    | , wizards promise | Magic wands prove that + , crystal balls agree
army | military terms and soldiers | Attention troops, | at the barracks \
    | , soldiers report | General orders say that + , march on
love | words of love and romance | Kiss me, | my darling \
    | , lovers whisper | Sweetheart, + , all my heart knows
ghosts | mentions of ghosts and haunted houses | Haunted houses tell that | moaned a phantom \
    | , ghosts are howling | Midnight comes, + , graves open wide
theatre | references to theatre and actors | Curtain up, | said an actor \
    | , to loud applause | Upon the stage, + , actors bow
"""


def _concept(number: int, row: str) -> Concept:
    name, description, prefix, middle, suffix, both = (cell.strip() for cell in row.split("|"))
    before, _, after = both.partition(" + ")
    decorations = (
        Decoration(prefix=prefix),
        Decoration(middle=middle),
        Decoration(suffix=suffix),
        Decoration(prefix=before, suffix=after),
    )
    return Concept(name, description, 1.0 if number % 2 == 0 else GRADED, decorations)


CONCEPTS: tuple[Concept, ...] = tuple(_concept(i, row) for i, row in enumerate(ROWS.strip().splitlines()))
_KNOWN = {key: concept for concept in CONCEPTS for key in (concept.name, concept.description)}


def concept_named(name: str) -> Concept:
    """The concept with this name or description. Raises PsrError that lists the names."""
    if name not in _KNOWN:
        names = ", ".join(concept.name for concept in CONCEPTS)
        raise PsrError("unknown concept of the testbed", expected=f"one of {names}", got=repr(name))
    return _KNOWN[name]
