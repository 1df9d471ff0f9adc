"""Neutral instructions: the negative side of persona's instruction pairs."""

NEUTRAL = (
    "You are a helpful assistant.",
    "Answer the question in a normal voice.",
    "Give a plain answer.",
    "Be clear and honest.",
    "Speak as you always do.",
)
NEUTRAL_HELD_OUT = (
    "You are an honest assistant who answers questions.",
    "Give a clear and helpful answer.",
    "Speak in a plain and normal voice.",
    "Be helpful when you answer.",
    "Answer as you always do.",
)
