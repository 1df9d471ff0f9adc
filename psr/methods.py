"""The names of methods: `a-psr-mse-qr` in parameters, `A-PSR MSE·QR` in tables."""

from psr.errors import PsrError
from psr.types import Method

SCOPES = ("S", "A")
FORMS = ("Const", "PSR")
OBJECTIVES = ("DiM", "MSE", "LL")
SPANS = ("R", "QR")

METHODS = tuple(
    Method(scope, form, objective, span)  # type: ignore[arg-type]
    for scope in SCOPES
    for form in FORMS
    for objective in OBJECTIVES
    for span in SPANS
    if not (form == "PSR" and objective == "DiM")
)
BY_SLUG = {method.slug: method for method in METHODS}


def parse_method(text: str) -> Method:
    """The method called `text` (slug or printed name, any case). Raises PsrError that lists the known ones."""
    slug = "-".join(text.replace("·", "-").split()).lower()
    if slug not in BY_SLUG:
        raise PsrError("unknown method", expected=f"one of {', '.join(BY_SLUG)}", got=repr(text), do="Correct the name.")
    return BY_SLUG[slug]
