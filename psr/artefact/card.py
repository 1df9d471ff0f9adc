"""The card of a module, its README.md: what it replaces, what it adds, at which strength, what was measured, and what was not.

The head is the metadata that the Hugging Face hub reads; in it `model-index` holds the module's own figures, and
`psr_weights_sha256` says which weights the card is of. Text that models, files and people brought along stands as text: in
code spans and fences that it cannot end, never as Markdown or HTML.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psr.artefact.facts import HARMFUL, MODULE, CardFacts, CardFigure, installed
from psr.cli_text import clean
from psr.errors import PsrError
from psr.show.module import ranges
from psr.steering.forms import form_named
from psr.steering.module import WEIGHTS, load_module

if TYPE_CHECKING:
    from psr.steering.module import SteeringModule

CARD = "README.md"
DIGEST = "psr_weights_sha256"
LIBRARY = "prompt-steering-replacement"
NOT_MEASURED = "Not measured."
MISUSE = (
    "This module makes a model show a trait that harms people who take its answers at their word. It is meant for research: to "
    "study the trait, to detect it, or to train against it. Do not let it answer anybody who does not know of it. With another "
    "sign or strength it may do other harm than was measured here."
)
UNEXAMINED = "Nobody examined what this module can be misused for. Whoever is answered by a model that is steered should be told so."


def write_card(folder: Path | str, facts: CardFacts | None = None) -> Path:
    """Write the card of the module in `folder` beside it, as README.md. Returns the file.

    facts: what was measured; None: nothing, which the card then says. Raises PsrError as `load_module` does, and for a strength
    or a range in the module that is none.

        >>> psr.write_card(psr.save_module(module, "my-module")).read_text().splitlines()[0]
        '---'
    """
    folder = Path(folder)
    module = load_module(folder)
    aside = folder / f"{CARD}.part"
    aside.write_text(card(module, facts or CardFacts(), weights_digest(folder)), encoding="utf-8")
    os.replace(aside, folder / CARD)
    return folder / CARD


def weights_digest(folder: Path) -> str:
    """sha256 of the module's weights, in hexadecimal."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def card(module: SteeringModule, facts: CardFacts, digest: str) -> str:
    """The card as text. digest: sha256 of the weights' file."""
    sections = {
        "What it replaces": _replaces(module, facts),
        "What it adds": _adds(module, facts),
        "Use": _use(module),
        "Figures": _measured(facts),
        "Side effects": _beside(facts),
        "Faithfulness": _faithful(facts),
        "Data": _data(facts),
        "How to reproduce": _reproduce(facts),
        "Misuse": iter([MISUSE if facts.is_harmful else _harmless()]),
        "Licence": iter([_licence(module, facts)]),
    }
    lines = ["---", _metadata(module, facts, digest), "---", "", f"# {escaped(module.id)}"]
    for title, body in sections.items():
        lines += ["", f"## {title}", "", *body]
    return "\n".join(lines) + "\n"


def _metadata(module: SteeringModule, facts: CardFacts, digest: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    name = one_line(facts.attribute or module.id)
    results = [
        EvalResult("text-generation", "psr", name, one_line(one.measure).lower().replace(" ", "_"), one.value,
                   metric_name=one_line(f"{one.measure} at α = {_number(one.alpha)}, judge {one.judge}"))
        for one in facts.figures
        if one.of == MODULE and one.value is not None
    ]  # fmt: skip
    about = ModelCardData(
        base_model=one_line(module.base.name) if module.base.revision else None,
        license=one_line(facts.license) or None,
        library_name=LIBRARY,
        tags=["psr", "steering-vector", "activation-steering"],
        model_name=one_line(module.id),
        eval_results=results or None,
    )
    about[DIGEST] = digest
    return about.to_yaml()


def _replaces(module: SteeringModule, facts: CardFacts) -> Iterator[str]:
    base = code(str(module.base)) if module.base.name else "a model that its config does not name"
    does = (
        "undoes this instruction where it is given" if facts.suppress else "does what this instruction does, without it"
    )
    yield f"A steering module for {base}. It {does}:"
    yield ""
    yield from fenced("\n".join(facts.instructions) or "not recorded", "text")
    if facts.attribute:
        yield ""
        yield f"What is steered for: {code(facts.attribute)}."


def _adds(module: SteeringModule, facts: CardFacts) -> Iterator[str]:
    form, safe = form_named(module.form), module.origin.get("safe_alpha")
    chosen = "recommended_alpha" in module.origin
    numbers = sum(tensor.numel() for tensor in module.tensors.values())
    yield from fenced(form.equation, "text")
    yield ""
    yield "A is the residual stream after a decoder block, the rest stands in `adapter_model.safetensors`, layer by layer."
    yield ""
    where = {"R": "from the prompt's last token on, and the answer", "QR": "the question and the answer"}[module.span]
    yield f"- Layers: after the decoder blocks {ranges(module.layers)}, counted from 0; {numbers} numbers in all."
    yield f"- Tokens: {where} (span {module.span})."
    yield f"- Model: fingerprint {code(module.model)}, of weights, tokenizer and chat template. Any other model is refused."
    if chosen:
        why = facts.chosen or "what it was chosen for is not recorded"
        yield f"- Strength: α = {_number(module.recommended_alpha)} is recommended: {why}. The questions that chose it give no figure."
    else:
        yield "- Strength: none was chosen; α = 1 is the strength that it was fitted at."
    if safe is None:
        yield "- Range: not measured."
    else:
        low, high = _range(safe, module.id)
        yield f"- Range: answers keep making sense from α = {_number(low)} to {_number(high)}, as far as was tried."


def _range(safe: Any, where: str) -> tuple[float, float]:
    try:
        low, high = map(float, safe)
    except (TypeError, ValueError):
        raise PsrError("the range of strengths is none", where=where, expected="two numbers", got=repr(safe)) from None
    return low, high


def _use(module: SteeringModule) -> Iterator[str]:
    name, commit = module.base.name or "…", module.base.revision
    of = f", revision={commit!r}" if commit else ""
    yield from fenced(
        f"import psr  # pip install {LIBRARY}\n\n"
        f"lm = psr.load_model({one_line(name)!r}{of})\n"
        'module = psr.load_module("OWNER/NAME", revision="COMMIT")  # or its folder\n'
        "with psr.steer(lm.model, module, tokenizer=lm.tokenizer):\n"
        "    ...  # lm.model.generate, as always",
        "python",
    )


def _measured(facts: CardFacts) -> Iterator[str]:
    yield from _table(facts.figures)
    if facts.figures:
        yield ""
        yield "Means with 95 % bootstrap intervals over questions. – is missing: an answer without a value counts for nothing, not for 0."
        yield facts.judged or "How well the judge tells answers apart was not measured."
    if facts.curve:
        yield ""
        yield "By strength, on the questions that chose it:"
        yield ""
        yield from _table(facts.curve)


def _beside(facts: CardFacts) -> Iterator[str]:
    if facts.side_effects:
        yield "Each at the strength that is given, which need not be the recommended one. How far the model moves on unrelated prompts is "
        yield "`drift`, in nats a token; `length` is in tokens; the rest is 0 to 100."
        yield ""
    yield from _table(facts.side_effects)


def _faithful(facts: CardFacts) -> Iterator[str]:
    if facts.faithfulness:
        yield "Relative RMSE of the module's effect against the prompt's, on unseen questions: 0 as the prompt, 1 as without steering."
        yield ""
    yield from _table(facts.faithfulness)


def _data(facts: CardFacts) -> Iterator[str]:
    if not facts.data:
        yield "Not recorded."
        return
    rows = [
        (escaped(what), "–" if count is None else str(count), code(digest) if digest else "–")
        for what, count, digest in facts.data
    ]
    yield from _rows(("what", "count", "hash"), rows, "lrl")


def _reproduce(facts: CardFacts) -> Iterator[str]:
    if not facts.reproduce:
        yield "Not recorded."
    for text in facts.reproduce:
        yield from fenced(text, "python" if text.startswith("import ") else "text")
    yield ""
    yield f"This card was written by {installed()}; the settings of the fit stand in `adapter_config.json` under `origin`."


def _harmless() -> str:
    return f"The trait is none of those that are named harmful here ({', '.join(sorted(HARMFUL))}), and was not declared so. {UNEXAMINED}"


def _licence(module: SteeringModule, facts: CardFacts) -> str:
    own = f"{escaped(facts.license)}." if facts.license else "None was chosen."
    return f"{own} The model that it steers has terms of its own, which hold for what the two answer together."


def _table(figures: Sequence[CardFigure]) -> Iterator[str]:
    if not figures:
        yield NOT_MEASURED
        return
    rows = [
        (
            escaped(one.of),
            escaped(one.measure),
            _interval(one),
            ("–" if one.n is None else f"{one.n}") + (f" (and {one.unscored} without a value)" if one.unscored else ""),
            _number(one.alpha),
            code(one.judge) if one.judge else "none, it is counted",
        )
        for one in figures
    ]
    yield from _rows(("", "measure", "figure (95 % interval)", "n", "α", "judge"), rows, "llrrrl")


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]], align: str) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join('---:' if letter == 'r' else '---' for letter in align)} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _interval(one: CardFigure) -> str:
    if one.value is None:
        return "–"
    between = "no interval" if one.low is None or one.high is None else f"{_number(one.low)} to {_number(one.high)}"
    return f"{_number(one.value)} ({between})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def one_line(text: object) -> str:
    """`text` without control characters, on one line."""
    return " ".join(clean(text).split())


def escaped(text: object) -> str:
    """`text` on one line, with nothing in it that Markdown or HTML would read as its own."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~&$])", r"\\\1", one_line(text))


def code(text: object) -> str:
    """`text` on one line as a code span, in a table too."""
    line = one_line(text).replace("|", "¦") or "–"
    ticks = "`" * (_longest_run(line) + 1)
    pad = " " if "`" in line else ""
    return f"{ticks}{pad}{line}{pad}{ticks}"


def fenced(text: str, language: str) -> Iterator[str]:
    """`text` as lines in a fence that it cannot end."""
    fence = "`" * max(3, _longest_run(text) + 1)
    yield f"{fence}{language}"
    yield from clean(text).splitlines()
    yield fence


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
