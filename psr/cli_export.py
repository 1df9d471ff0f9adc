"""`psr export` behind its options: the file, a table of what it loses, and how to use it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from psr.cli_distill import bars, questions_in
from psr.cli_text import clean
from psr.errors import PsrError
from psr.export.gguf import LONGEST, ControlVector, control_vector, save_control_vector

if TYPE_CHECKING:
    from psr.lm.models import LanguageModel
    from psr.steering.module import SteeringModule

FORMATS = ("gguf",)


def check_format(name: str) -> None:
    """Raise PsrError for a format that there is not."""
    if name not in FORMATS:
        raise PsrError("unknown format to export to", where="--format", expected=" or ".join(FORMATS), got=repr(name))


def export_into(
    out: Path,
    lm: LanguageModel,
    module: SteeringModule,
    questions: Path,
    alpha: float | None,
    max_new_tokens: int | None,
) -> None:
    """Write the control vector and print its loss. Raises PsrError as `psr.control_vector` does."""
    asked = questions_in(questions)
    longest = LONGEST if max_new_tokens is None else max_new_tokens
    with bars() as progress:
        vector = control_vector(
            lm, module, asked, alpha, max_new_tokens=longest, progress=lambda n: progress("answers", n, len(asked))
        )
    save_control_vector(vector, out)
    console = Console()
    console.print(table(vector))
    for line in loss(vector):
        console.print(Text(line), soft_wrap=True)
    console.print(Text(clean(f"{out}: llama-cli -m MODEL.gguf --control-vector {out}")), soft_wrap=True)


def table(vector: ControlVector) -> Table:
    """By layer: how long what the module adds is, how long the vector is, and how much is lost."""
    shown = Table(box=None)
    for header in ("layer", "module adds", "vector", "lost"):
        shown.add_column(header, justify="right")
    for layer, one in vector.layers.items():
        length = f"{float(vector.directions[layer].norm()):.4g}" if layer in vector.directions else "none"
        shown.add_row(str(layer), f"{one.added:.4g}", length, f"{100 * one.share:.0f} %")
    return shown


def loss(vector: ControlVector) -> list[str]:
    """The loss over all layers, in lengths and in predictions."""
    return [
        f"lost with the gate: {100 * vector.loss.share:.0f} % of what the module adds (relative RMSE, all layers), "
        f"in {vector.answers} answers of {vector.tokens} tokens",
        f"predictions there: {vector.kl:.3g} nats a token from the module's (KL); without any steering {vector.kl_plain:.3g}",
    ]
