"""Steered answers for the report: which token was steered how strongly, by which layer. `psr.show` draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from psr.show.answer import ShownAnswer, answer_html
from tasks.shown.order import Names, Row, grouped, short


def answers(tables: Mapping[str, Sequence[Row]], scores: Mapping[str, float], names: Names) -> list[dict[str, Any]]:
    """One answer per attribute: of the gated module with the highest figure among those whose strengths were kept.

    scores: module -> its main figure.
    """
    pairs, modules, made = ({row["id"]: row for row in tables[name]} for name in ("pairs", "modules", "completions"))
    strengths: dict[str, list[Row]] = {}
    for row in tables["strengths"]:
        strengths.setdefault(row["completion"], []).append(row)
    best: dict[str, Row] = {}
    for answer in (made[key] for key in strengths if key in made and made[key]["method"] in modules):
        chosen = best.setdefault(modules[answer["method"]]["attribute"], answer)
        if scores.get(answer["method"], -math.inf) > scores.get(chosen["method"], -math.inf):
            best[modules[answer["method"]]["attribute"]] = answer
    return [
        {
            "title": f"{short(attribute)} · {names[modules[answer['method']]['method']]}, α {round(answer['alpha'], 2):g}",
            "pair": pairs[answer["pair"]],
            "id": answer["id"],
            "beside": {
                row["method"]: row["text"]
                for row in tables["completions"]
                if (row["pair"], row["seed"]) == (answer["pair"], answer["seed"])
            },
            "tokens": Markup(answer_html(shown(strengths[answer["id"]], len(answer["token_ids"])))),  # noqa: S704
        }
        for attribute, answer in best.items()
    ]


def shown(rows: Sequence[Row], answered: int) -> ShownAnswer:
    """The rows of one answer, layer by layer; `answered`: how many of its last tokens are the answer's.

    Each token was decoded alone: where none begins with a space, the tokens are words, and stand apart here.
    """
    texts = {row["position"]: row["token"] for row in sorted(rows, key=lambda row: row["position"])}
    between = "" if any(words.startswith((" ", "▁", "Ġ")) for words in texts.values()) else " "
    by_layer = {layer: {row["position"]: row["strength"] for row in own} for layer, own in grouped(rows, "layer")}
    lam = tuple(tuple(own.get(position, 0.0) for position in texts) for own in by_layer.values())
    return ShownAnswer(tuple(words + between for words in texts.values()), answered, tuple(by_layer), lam)
