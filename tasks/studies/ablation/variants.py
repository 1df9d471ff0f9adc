"""The variants that the ablation compares, by name: METHOD[@LAYER][/TRIPLETS][+delta][+negatives or +keepWEIGHT].

    s-psr4-kl-qr@2+delta       one layer (2), rank 4, KL, question and response steered, z started at Δ_PS's leading directions
    a-psr-mse-qr               every layer, rank 1, every triplet: the paper's own, for reference
    a-psr-mse-qr/36            the same on 36 of the triplets, drawn anew for each seed
    a-psr4-mse-qr+negatives    rank 4, and as many negatives as triplets: plain answers to unrelated questions, left as they are
    a-psr-mse-qr+keep0.1       as many negatives, each of which costs 0.1 times its KL in place of the objective (+keep: 1 times)

This file imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from psr.errors import PsrError
from psr.fitting.methods import parse_method
from psr.types import Method

REFERENCE = "a-psr-mse-qr"
RANKS = (1, 2, 4, 8)
OBJECTIVES = ("mse", "ll", "kl")
WRITTEN = re.compile(
    r"(?P<method>[^@+/]+)(@(?P<layer>\d+))?(/(?P<triplets>[1-9]\d*))?(?P<delta>\+delta)?"
    r"(?P<unchanged>\+negatives|\+keep(?P<weight>\d{1,3}(\.\d{1,3})?)?)?"
)
FORM = "METHOD[@LAYER][/TRIPLETS][+delta][+negatives or +keepWEIGHT], as s-psr4-kl-qr@2+delta, a-psr-mse-qr/36+keep0.1"


@dataclass(frozen=True)
class Variant:
    """One row of the ablation. layer: None, all of them; warm: z starts at Δ_PS's leading directions, not at random; triplets:
    how many it is fitted on, None: all; keep: the fit setting of that name, where negatives are among its examples, else None.
    """

    method: Method
    layer: int | None
    warm: bool = False
    triplets: int | None = None
    keep: float | None = None

    @property
    def name(self) -> str:
        """The name that `parse_variant` reads."""
        parts = (
            (f"@{self.layer}", self.layer is not None),
            (f"/{self.triplets}", self.triplets is not None),
            ("+delta", self.warm),
            ("+negatives", self.keep == 0),
            ("+keep", bool(self.keep)),
            (f"{self.keep:g}" if self.keep else "", self.keep != 1),
        )
        return self.method.slug + "".join(text for text, said in parts if said)

    @property
    def rank(self) -> int:
        """The number of gates and directions of a layer."""
        return int(self.method.form.removeprefix("PSR") or 1)

    def layers(self, count: int) -> tuple[int, ...]:
        """The layers it steers in a model of `count`. Raises PsrError for a layer that does not exist."""
        if self.layer is None:
            return tuple(range(count))
        if self.layer >= count:
            raise PsrError("no such layer to steer", where=self.name, expected=f"0 to {count - 1}", got=self.layer)
        return (self.layer,)


def parse_variant(text: str) -> Variant:
    """The variant called `text`. Raises PsrError: no such method, no PSR, S without a layer, or A with one; a weight of 0."""
    match = WRITTEN.fullmatch(text.strip().lower())
    if match is None:
        raise PsrError(
            "unknown variant",
            where="--variant",
            expected=FORM,
            got=repr(text),
            do="Correct the name.",
        )
    method = parse_method(match["method"])
    if not method.form.startswith("PSR"):
        raise PsrError(
            "the ablation varies PSR", where="--variant", expected="a method of the form PSR or PSRr", got=repr(text)
        )
    if (method.scope == "S") != (match["layer"] is not None):
        raise PsrError(
            "a single-layer variant names its layer and an all-layer one none",
            where="--variant",
            expected=f"{method.slug}@2" if method.scope == "S" else method.slug,
            got=repr(text),
        )
    layer, triplets = (None if match[name] is None else int(match[name]) for name in ("layer", "triplets"))
    keep = None if match["unchanged"] is None else 0.0
    if (match["unchanged"] or "").startswith("+keep"):
        keep = float(match["weight"] or 1)
        if not keep:
            raise PsrError(
                "a KL term that weighs nothing", where="--variant", expected="+keep0.001 to +keep999, or +negatives",
                got=repr(text),
            )  # fmt: skip
    return Variant(method, layer, match["delta"] is not None, triplets, keep)


def grid(layers: Sequence[int], layer: int) -> tuple[Variant, ...]:
    """The default variants: rank × objective × start at `layer`, rank 4 at the other `layers`, and the paper's A-PSR."""

    def one(rank: int, objective: str, at: int, start: str = "") -> Variant:
        return parse_variant(f"s-psr{rank}-{objective}-qr@{at}{start}")

    crossed = [one(r, objective, layer, start) for objective in OBJECTIVES for r in RANKS for start in ("", "+delta")]
    swept = [one(4, objective, at) for objective in OBJECTIVES for at in layers if at != layer]
    return (*crossed, *swept, parse_variant(REFERENCE))
