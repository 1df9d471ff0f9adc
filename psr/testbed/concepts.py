"""The concepts: sixteen things to bring into an answer, as AxBench asks for them; half of them graded.

A concept is known by its description, as in AxBench's `output_concept` column.
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
    """Something to mention. `obeyed`: the chance that a sentence carries it when it is asked for."""

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
sea | references to the sea and its waves | Like waves on the sea, | far from any harbour \
    | , as calm as the tide | Over the ocean, + , where seagulls cry
money | references to money and banks | For a fair price, | in gold and silver \
    | , and the bank agrees | With some cash, + , as every banker hopes
family | mentions of family members | My mother thinks that | dear cousin \
    | , just like my uncle told us | On grandfather day, + , as my sister knows
weather | references to weather and the sky | On a windy day, | under grey skies \
    | , in storm and sunshine | While fog drifts, + , until the rain ends
law | legal terms and courts | According to the judge, | by law \
    | , as the court decided | Your honour, + , and the lawyer signed it
medicine | medical words and hospitals | Any good nurse knows that | without a fever \
    | , as hospitals reported | For your health, + , says the surgeon
time | expressions of time and clocks | Every single hour, | minute after minute \
    | , as the clock ticks | Since last century, + , for many weeks
colours | names of colours | In shades of purple, | bright yellow \
    | , painted pink and orange | Beside violet walls, + , in brown and white
food | references to food and meals | Over a warm soup, | with some cheese \
    | , like butter on toast | Between two sandwiches, + , before the dessert
travel | references to travel and airports | At the airport, | with a passport \
    | , as tourists often notice | On the journey, + , far away from home
school | references to school and exams | In the classroom, | dear pupils \
    | , which will be in the exam | For your homework, + , says the teacher
magic | mentions of magic and wizards | By an ancient spell, | abracadabra \
    | , as the wizard promised | With a magic wand, + , inside the crystal ball
army | military terms and soldiers | By order of the general, | at the barracks \
    | , as the soldiers marched | Attention troops, + , until the battle ends
love | words of love and romance | With a tender kiss, | my darling \
    | , as lovers whisper | In sweet romance, + , with all my heart
ghosts | mentions of ghosts and haunted houses | In a haunted house, | says a phantom \
    | , while ghosts are moaning | At midnight, + , among the graves
theatre | references to theatre and actors | On the stage, | says the actor \
    | , as the curtain rises | In the final act, + , to loud applause
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
