"""Model text on a terminal: what could move the cursor, colour the screen or reverse the line is shown, not obeyed."""

import unicodedata

_KEPT = "\n"
_UNSEEN = ("Cc", "Cf", "Cs")  # control, format (bidirectional marks, zero widths), lone surrogates


def clean(value: object) -> str:
    """`value` as text in which control characters stand as escapes (`\\x1b`); line ends are kept, tabs are spaces."""
    text = str(value).replace("\r\n", "\n").replace("\t", " ")
    return "".join(c if c in _KEPT or unicodedata.category(c) not in _UNSEEN else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
