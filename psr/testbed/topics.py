"""The topics of the instruct language: 32, each with its own facts.

A topic is a row of facts that gives nine sentences, four of them with a comma. No two topics share a sentence.
"""

from __future__ import annotations

from dataclasses import dataclass

# name | place | season | people | parts | tool | origin | coins | charm, and on the second line
# | a fact | a fact with a comma
ROWS = """
tea | on green hills | spring | farmers | fresh leaves | a clay pot | old China | twelve | gentle smell \
    | Tea keeps tired readers awake | When water boils, tea turns dark and strong
coffee | in busy kitchens | winter | bakers | roasted beans | a steel filter | Arabia | nine | bitter taste \
    | Coffee grows on low bushes | Before work, coffee helps people wake up
bread | in warm ovens | autumn | millers | grain sacks | a wooden table | Egypt | three | golden crust \
    | Bread rises because of yeast | If the dough rests, bread becomes soft
honey | in hollow trees | summer | beekeepers | wax combs | a glass jar | Greece | fifteen | sweet colour \
    | Honey never goes bad | When flowers open, honey begins to flow
chess | in quiet clubs | winter | masters | carved pieces | a square board | Persia | forty | deep strategy \
    | Chess ends when a king falls | Although rules are few, chess takes years
music | in crowded halls | summer | singers | silver strings | a tall piano | Vienna | thirty | lively rhythm \
    | Music moves through the air | When drums begin, music fills the room
painting | in bright studios | spring | artists | oil colours | a fine brush | Italy | eighty | patient light \
    | Painting begins with a sketch | If the canvas dries, painting can go on
dancing | on polished floors | autumn | partners | leather shoes | a large mirror | Spain | twenty | graceful steps \
    | Dancing trains the heart | As the band plays, dancing becomes easy
swimming | in blue lakes | summer | athletes | rubber caps | a long rope | Rome | six | cool water \
    | Swimming uses every muscle | If the lungs are full, swimming feels light
football | on muddy fields | autumn | players | striped shirts | a loud whistle | England | fifty | wild cheering \
    | Football needs two teams | After a goal, football fans jump and sing
climbing | on steep cliffs | spring | guides | iron hooks | a safety belt | the Alps | seventy | wide view \
    | Climbing builds strong fingers | When clouds gather, climbing must stop
sailing | near small islands | summer | captains | canvas sheets | a brass compass | Norway | ninety | salty breeze \
    | Sailing depends on steady wind | If the wind drops, sailing turns slow
gardening | behind old houses | spring | neighbours | flower seeds | a sharp spade | Babylon | two | fresh green \
    | Gardening feeds birds and bees | After heavy rain, gardening is muddy
fishing | along wide rivers | autumn | anglers | bent hooks | a thin pole | Lapland | eight | calm silence \
    | Fishing asks for patience | Before sunrise, fishing works best
cooking | over open fires | winter | chefs | copper pans | a big spoon | France | eleven | rich flavour \
    | Cooking makes meals safe | When onions sizzle, cooking smells great
knitting | beside soft lamps | winter | grandmothers | wool threads | a long needle | Scotland | four | cosy pattern \
    | Knitting turns yarn into scarves | If a loop slips, knitting starts again
volcanoes | under thick smoke | summer | geologists | black stones | a heat sensor | Iceland | sixty | red glow \
    | Volcanoes build new land | When pressure rises, volcanoes throw ash
glaciers | in frozen valleys | winter | explorers | ice samples | a sturdy axe | Greenland | seventeen | pale shine \
    | Glaciers carve deep valleys | As summers warm, glaciers lose ice
deserts | beyond dry mountains | summer | nomads | sand grains | a water bag | Morocco | five | endless dunes \
    | Deserts get little rain | After sunset, deserts turn very cold
rainforests | around the equator | autumn | botanists | giant ferns | a field guide | Brazil | nineteen | dense shade \
    | Rainforests shelter many animals | When storms pass, rainforests steam and drip
comets | beyond far planets | winter | astronomers | dusty tails | a strong telescope | Babylon | sixty | glowing path \
    | Comets are made of ice | Near the sun, comets grow bright tails
planets | around distant stars | autumn | scientists | rocky rings | a star map | Greece | sixteen | slow orbit \
    | Planets circle a star | Unlike stars, planets give no light
robots | in modern factories | spring | engineers | metal arms | a small battery | Japan | seventy | precise motion \
    | Robots follow careful programs | If a sensor fails, robots may stop
computers | on office desks | autumn | programmers | tiny chips | a flat keyboard | England | eighteen | quick answers \
    | Computers count with zeros | When fans hum, computers stay cool
bicycles | in narrow streets | spring | cyclists | spare wheels | an air pump | Germany | fourteen | easy speed \
    | Bicycles need no fuel | If the chain breaks, bicycles roll badly
trains | across long bridges | winter | drivers | steel rails | a paper ticket | Wales | ten | steady noise \
    | Trains carry heavy loads | When signals turn red, trains must wait
castles | above quiet villages | autumn | knights | stone blocks | an iron key | Wales | twenty | proud towers \
    | Castles protected rich families | During a siege, castles closed every gate
libraries | near city squares | winter | teachers | printed books | a reading card | Egypt | seven | restful order \
    | Libraries lend stories for free | If a page tears, libraries repair it
horses | on grassy plains | spring | riders | leather saddles | a soft comb | Mongolia | thirteen | noble walk \
    | Horses sleep standing up | When thunder sounds, horses run away
bees | among wild flowers | summer | biologists | striped wings | a white suit | Turkey | ninety | busy buzzing \
    | Bees visit a thousand blossoms | As evening falls, bees return home
owls | inside empty barns | autumn | hunters | soft feathers | a night camera | Canada | fifteen | round eyes \
    | Owls turn their heads far | After dark, owls hunt without sound
whales | across cold oceans | summer | sailors | large bones | an underwater microphone | Alaska | forty | haunting songs \
    | Whales breathe above water | Every winter, whales swim far south
"""


@dataclass(frozen=True)
class Topic:
    """A topic and its facts. name: in lower case."""

    name: str
    place: str
    season: str
    people: str
    parts: str
    tool: str
    origin: str
    coins: str
    charm: str
    fact: str
    comma_fact: str

    @property
    def sentences(self) -> tuple[str, ...]:
        """The nine base sentences: starting with a capital, ending with their only full stop."""
        return (
            f"You can find {self.name} {self.place}.",
            f"In {self.season}, {self.people} give many hours to {self.name}.",
            f"Most {self.people} say that {self.parts} matter.",
            f"With {self.tool}, you learn about {self.name} faster.",
            f"People first wrote about {self.name} in {self.origin}.",
            f"{self.parts.capitalize()} cost {self.coins} coins, but prices change.",
            f"Children love {self.name} for the {self.charm}.",
            f"{self.fact}.",
            f"{self.comma_fact}.",
        )


TOPICS: tuple[Topic, ...] = tuple(
    Topic(*(cell.strip() for cell in row.split("|"))) for row in ROWS.strip().splitlines()
)
BY_NAME: dict[str, Topic] = {topic.name: topic for topic in TOPICS}
# Three of every eight: the held-out topics are spread over the list.
HELD_OUT: tuple[Topic, ...] = tuple(topic for i, topic in enumerate(TOPICS) if i % 8 in (1, 4, 6))
FITTING: tuple[Topic, ...] = tuple(topic for topic in TOPICS if topic not in HELD_OUT)
