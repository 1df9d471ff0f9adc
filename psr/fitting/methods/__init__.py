"""The methods by name: `a-psr-mse-qr` in parameters, `A-PSR MSE·QR` in tables; `my_lab.methods:TWICE` for one of your own.

FAMILIES holds a line for each family of psr's methods: where it is, and the forms and objectives that it has. Adding one is a
file beside this one that defines how it is learnt (a Learning, psr/fitting/methods/contract.py), and its line.
`psr.learn` (psr/fitting/learning.py) learns any of them. This file imports no torch.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from psr.errors import PsrError
from psr.fitting.methods.contract import Learning, MethodPlug
from psr.fitting.objectives import OBJECTIVES
from psr.types import Method, Scope, Span

__all__ = ["BY_SLUG", "FAMILIES", "GRADIENT", "METHODS", "Learning", "MethodPlug", "parse_method", "slug_of"]

SCOPES: tuple[Scope, ...] = ("S", "A")
SPANS: tuple[Span, ...] = ("R", "QR")
GRADIENT = tuple(OBJECTIVES)  # the objectives that `fit` takes


@dataclass(frozen=True)
class Family:
    """Methods that are learnt in one way. how: the dotted path to it; ranks: a form that takes a rank -> the least rank
    that is written out (a smaller one is the form itself)."""

    how: str
    forms: tuple[str, ...]
    objectives: tuple[str, ...]
    scopes: tuple[Scope, ...] = SCOPES
    spans: tuple[Span, ...] = SPANS
    trained: bool = False
    ranks: Mapping[str, int] = field(default_factory=dict)

    def methods(self, scope: Scope, forms: Iterable[str] | None = None) -> Iterator[Method]:
        """Its methods on `scope`, of its own forms or of `forms`."""
        for form in self.forms if forms is None else forms:
            for objective in self.objectives if scope in self.scopes else ():
                yield from (Method(scope, form, objective, span) for span in self.spans)

    def has(self, method: Method) -> bool:
        """Whether the method is one of these, of any rank and span."""
        ranked = re.fullmatch(r"(.+?)([1-9]\d*)", method.form)
        has_form = method.form in self.forms or (ranked is not None and ranked[1] in self.ranks)
        return has_form and method.objective in self.objectives and method.scope in self.scopes


FAMILIES = (
    Family("psr.fitting.methods.difference:DIM", ("Const",), ("DiM",)),
    Family("psr.fitting.methods.difference:DIM_SAME", ("Const",), ("DiM-same",)),
    Family("psr.fitting.methods.difference:CAA", ("Const",), ("CAA",)),
    Family("psr.fitting.methods.actadd:ACTADD", ("Const",), ("ActAdd",)),
    Family("psr.fitting.methods.pca:PCA", ("Const",), ("PCA",)),
    Family(
        "psr.fitting.methods.gradient:learning", ("Const", "PSR"), GRADIENT, trained=True, ranks={"PSR": 2, "LoReFT": 1}
    ),
    Family("psr.fitting.methods.stolfo:STOLFO", ("Proj",), ("Stolfo",)),
    Family("psr.fitting.methods.reft_r1:REFT_R1", ("Const",), ("ReFT-r1",), scopes=("S",), trained=True),
    Family("psr.fitting.lora:learning", ("LoRA", "Full"), ("LL",), ("A",), ("R",), trained=True, ranks={"LoRA": 1}),
)
METHODS = tuple(method for scope in SCOPES for family in FAMILIES for method in family.methods(scope))
BY_SLUG = {method.slug: method for method in METHODS}
RANKED = {  # slug with n for a rank -> the method without one, and the least rank that is written out
    replace(method, form=f"{form}n").slug: (method, least)
    for scope in SCOPES
    for family in FAMILIES
    for form, least in family.ranks.items()
    for method in family.methods(scope, [form])
}
PATTERNS = ", ".join(
    f"{{s,a}}-{form.lower()}N-{{{','.join(family.objectives).lower()}}}-{{r,qr}}"
    if family.scopes == SCOPES
    else f"{form.lower()}N-{family.objectives[0].lower()}"
    for family in FAMILIES
    for form in family.ranks
)


def parse_method(text: str) -> Method:
    """psr's method called `text` (slug or printed name, any case). Raises PsrError that lists the known ones."""
    slug = slug_of(text)
    if slug in BY_SLUG:
        return BY_SLUG[slug]
    match = re.fullmatch(r"(\D+?)([1-9]\d{0,3})(-.+)", slug)
    if match is not None and f"{match[1]}n{match[3]}" in RANKED:
        method, least = RANKED[f"{match[1]}n{match[3]}"]
        return replace(method, form=f"{method.form}{match[2]}") if int(match[2]) >= least else method
    near = difflib.get_close_matches(slug, BY_SLUG, n=1)
    do = f"Did you mean {near[0]}?" if near else "Correct the name."
    known = f"one of {', '.join(BY_SLUG)}, {PATTERNS} (N a rank, such as 4)"
    raise PsrError("unknown method", expected=known, got=repr(text), do=do)


def slug_of(text: str) -> str:
    """A printed name or slug as a slug, whoever's the method is: `S-Const DiM·R` is s-const-dim-r."""
    return "-".join(text.replace("·", "-").split()).lower()
