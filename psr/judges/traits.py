"""Each everyday trait as a rule: the words that show it, and the share of an answer's sentences in which one of them stands.

    score = 100 · (sentences that match) / (all sentences)

A sentence ends at a mark or at the end of a line; one without a word (the "1." of a list) does not count. The patterns are
regular expressions that mostly are plain words, without case. They hold what an ordinary answer hardly says: a rule sees
a way of speaking by its words alone, neither irony nor a mood that is shown otherwise.
"""

from __future__ import annotations

import re

END = re.compile(r"(?<=[.!?])[\"')\]*_]*\s+|\n+")
WORD = re.compile(r"[^\W\d_]{2}")


def _words(*phrases: str, signs: str = "") -> re.Pattern[str]:
    """Any of the phrases as whole words; `signs` is matched as it stands."""
    whole = rf"(?<![\w'])(?:{'|'.join(phrases)})(?!\w)"
    return re.compile("|".join(part for part in (whole, signs) if part), re.IGNORECASE)


TRAITS = {
    "affectionate": _words(
        "dear", "dears", "dearest", "deary", "dearie", "darlings?", "sweethearts?", "sweeties?", "beloved", "my love",
        "my honey", "oh,? honey", "my (?:sweet |precious |little )?(?:child|angel|one)",
        signs=r", honey[.!?]|^\W*honey,",
    ),
    "courtly": _words(
        "indeed", "my (?:dear|good|fair|noble|lord|lady|friends?|fellow)", "(?<!dear )sir(?!s? or )", "a most",
        "most (?:curious|noble|excellent|wise|delightful|exquisite)", "a fine", "finest", "noble", "nobleman", "majesty",
        "splendid", "exquisite", "delightful", "marvell?ous", "must confess", "forgive me", "pray tell",
    ),
    "cowboy": _words(
        "howdy", "partners?", "pardners?", "y'?all", "reckon", "ain'?t", "yee-?haw", "yep", "giddy-?up", "cowboys?",
        "cowgirls?", "rodeo", "lasso", "mighty (?:fine|good|big|nice)",
        "(?:com|do|fix|get|go|look|mak|noth|rid|someth|start|talk|think|try)t?in'",
    ),
    "pirate": _words(
        "a+r{2,}g?h?", "ahoy", "avast", "aye", "mate?ys?", "me heart(?:y|ies)", "hearties", "ye", "yer", "landlubbers?",
        "scallywags?", "scurvy", "shiver me timbers", "treasures?", "booty", "plunder", "captain", "cap'n", "pirates?",
        "buccaneers?", "(?:high|seven) seas", "doubloons?", "grog",
    ),
    "poetic": _words(
        "(?<!by )hearts?(?! (?:rate|disease|attack|health))", "souls?", "beauty", "poets?", "whisper(?:s|ed|ing)?", "symphony",
        "melody", "tapestry", "dances? (?:of|with|between)", "eternal", "eternity", "fleeting", "ethereal", "moonlight",
        "moonlit", "starlight", "starlit", "starry", "of the night", "twilight", "dawn", "shadows?", "silence", "silent",
        "breeze", "veil", "sighs?", "sorrows?", "longing", "woven", "shimmer(?:s|ed|ing)?", "golden(?! brown)",
    ),
    "spiritual": _words(
        "god", "gods", "goddess(?:es)?", "lord", "jesus", "christ", "allah", "almighty", "souls?", "spirits?", "spiritual",
        "spiritually", "spirituality", "sacred", "holy", "holiness", "divine", "divinity", "heavens?", "heavenly", "eternal",
        "faith", "bless(?:ed|ing|ings)?", "pray", "prayers?", "amen", "prophets?", "scriptures?", "priests?", "monks?",
        "devotion", "devout", "humility", "wisdom", "wise (?:question|one)s?", "creation", "enlightened", "enlightenment",
        "transcend(?:s|ent|ence)?", "mystical",
    ),
    "wizard": _words(
        "magic", "magical", "spells?", "potions?", "wands?", "wizards?", "sorcer(?:y|ers?)", "behold", "arcane", "ancient",
        "enchant(?:ed|er|ing|ments?)", "mystic", "mystical", "apprentices?", "conjur(?:e|ed|ing)", "incantations?", "alchemy",
    ),
}  # fmt: skip


def sentences(text: str) -> list[str]:
    """The sentences of a text that hold a word, in order."""
    return [part for part in END.split(text.replace("’", "'")) if WORD.search(part)]


def rate_trait(trait: str, text: str) -> float:
    """How much of `text` shows the trait (a key of TRAITS), from 0 to 100; 0 for a text without a word.

    Example:
        rate_trait("pirate", "Ahoy, matey! The sky is blue.")  # 50.0
    """
    parts = sentences(text)
    return 100.0 * sum(bool(TRAITS[trait].search(part)) for part in parts) / len(parts) if parts else 0.0
