"""The names of methods: `a-psr-mse-qr` in parameters, `A-PSR MSE·QR` in tables. One file a family beside this one.

    DiM CAA DiM-same ActAdd    psr/fitting/difference.py, actadd.py    a mean of differences
    PCA                        pca.py                                  their first principal direction
    Stolfo                     stolfo.py                               projection on the mean difference, set to a target
    MSE LL KL RePS             psr/fitting/loop.py                     by gradients: Const, PSR, PSR of any rank, LoReFT
    ReFT-r1                    reft_r1.py                              by gradients, its gate in training only
    LoRA Full                  psr/fitting/lora.py                     the model's own weights, for comparison

`psr.learn` (psr/fitting/learning.py) is the one door to all of them. This file imports no torch.
"""

import difflib
import re

from psr.errors import PsrError
from psr.fitting.presets import GRADIENT
from psr.types import Method, Scope, Span

SCOPES: tuple[Scope, ...] = ("S", "A")
SPANS: tuple[Span, ...] = ("R", "QR")
CLOSED = ("DiM", "DiM-same", "CAA", "ActAdd", "PCA")  # Const without training
ADAPTERS = ("LoRA", "Full")  # they change weights, not activations

_COMBINATIONS = (
    *(("Const", objective) for objective in (*CLOSED, *GRADIENT)),
    *(("PSR", objective) for objective in GRADIENT),
    ("Proj", "Stolfo"),
)
METHODS = (
    *(Method(scope, form, objective, span) for scope in SCOPES for form, objective in _COMBINATIONS for span in SPANS),
    *(Method("S", "Const", "ReFT-r1", span) for span in SPANS),
    *(Method("A", form, "LL", "R") for form in ADAPTERS),
)
BY_SLUG = {method.slug: method for method in METHODS}
RANKED = re.compile(r"([sa])-(psr|loreft)([1-9]\d{0,3})-(mse|ll|kl|reps)-(r|qr)|(lora)([1-9]\d{0,3})-ll")
PATTERNS = "{s,a}-psrN-{mse,ll,kl,reps}-{r,qr}, {s,a}-loreftN-{mse,ll,kl,reps}-{r,qr}, loraN-ll (N a rank, such as 4)"


def trained(method: Method) -> bool:
    """Whether fitting draws random numbers, so that another seed gives another module."""
    return method.adapts or method.objective in (*GRADIENT, "ReFT-r1")


def parse_method(text: str) -> Method:
    """The method called `text` (slug or printed name, any case). Raises PsrError that lists the known ones."""
    slug = "-".join(text.replace("·", "-").split()).lower()
    if slug in BY_SLUG:
        return BY_SLUG[slug]
    match = RANKED.fullmatch(slug)
    if match is None:
        near = difflib.get_close_matches(slug, BY_SLUG, n=1)
        do = f"Did you mean {near[0]}?" if near else "Correct the name."
        raise PsrError("unknown method", expected=f"one of {', '.join(BY_SLUG)}, {PATTERNS}", got=repr(text), do=do)
    return _ranked(match)


def _ranked(match: re.Match[str]) -> Method:
    """PSR, LoReFT or LoRA of the rank that its name says."""
    scope, form, rank, objective, span, lora, lora_rank = match.groups()
    if lora:
        return Method("A", f"LoRA{lora_rank}", "LL", "R")
    written = {objective.lower(): objective for objective in GRADIENT}
    family = {"psr": "PSR", "loreft": "LoReFT"}[form]
    ranked = "PSR" if (family, rank) == ("PSR", "1") else f"{family}{rank}"  # rank 1 is the paper's own form
    return Method(scope.upper(), ranked, written[objective], span.upper())  # type: ignore[arg-type]
