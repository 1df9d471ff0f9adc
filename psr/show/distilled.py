"""What `psr.distill` returns: the module with its curve, what was measured on unseen questions, and some answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from psr.show.module import Module, module_html
from psr.show.text import details, facts, number, table

ANSWERS = 3  # shown of the evaluation questions


class Distillation(Protocol):
    """What is shown of a `psr.Distilled`."""

    @property
    def module(self) -> Module: ...
    @property
    def interval(self) -> tuple[float, float]: ...
    @property
    def reached(self) -> bool: ...
    @property
    def plain(self) -> Any: ...
    @property
    def prompted(self) -> Any: ...
    @property
    def steered(self) -> Any: ...
    @property
    def answers(self) -> Sequence[Any]: ...
    @property
    def followed(self) -> float: ...
    @property
    def kept(self) -> int: ...
    @property
    def dropped(self) -> Mapping[str, int]: ...
    @property
    def judge(self) -> str: ...


def distilled_html(result: Distillation) -> str:
    """The module, whether it does what the prompt does, effect and coherence of all sides, the first answers."""
    low, high = result.interval
    dropped = "".join(f", {n} not: {reason}" for reason, n in result.dropped.items())
    rows = {
        "effect": "reached" if result.reached else "not reached",
        "95 % of α": f"{number(low)} to {number(high)}",
        "followed": f"{number(result.followed)} of 100",
        "fitted on": f"{result.kept} answers{dropped}",
        "judge": result.judge,
    }
    sides = {"plain": result.plain, "prompted": result.prompted, "steered": result.steered}
    figures = [(name, _figure(side.effect), _figure(side.coherence)) for name, side in sides.items()]
    answers = "".join(
        facts({"question": one.question, "plain": one.plain, "prompted": one.prompted, "steered": one.steered})
        for one in result.answers[:ANSWERS]
    )
    return (
        f"{module_html(result.module)}<h4>on questions that chose nothing</h4>{facts(rows)}"
        f"{table(('answers', 'effect', 'coherence'), figures)}{details('answers', answers)}"
    )


def _figure(one: Any) -> str:
    """A mean with its 95 % interval."""
    return f"{number(one.value)} ({number(one.low)} to {number(one.high)})"
