"""Chat templates beside their tokenizer: where their files lie, and options that belong to a model as it is used.

An option is set at the head of the template itself, so that whoever renders a chat gets it, and the fingerprint sees it.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from psr.errors import PsrError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# where processors keep the template of the tokenizer that they hold; AutoTokenizer does not look there
FILES = ("chat_template.jinja", "chat_template.json", "processor_config.json", "tokenizer_config.json")


def own_template(folder: Path) -> str | dict[str, str] | None:
    """The chat template that lies in a model's folder, in whichever file; None where there is none.

    Raises PsrError for a file that is damaged.
    """
    for name in FILES:
        file = folder / name
        if not file.is_file():
            continue
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".jinja":
            return text
        try:
            template = json.loads(text).get("chat_template")
        except (ValueError, AttributeError) as error:
            raise PsrError("a file of the model is damaged", where=file, expected="a JSON object", got=error,
                           do="Fetch the model again.") from None
        if isinstance(template, list):
            template = {one["name"]: one["template"] for one in template}
        if template:
            return template
    return None


def with_options(tokenizer: PreTrainedTokenizerBase, options: Mapping[str, object]) -> PreTrainedTokenizerBase:
    """A copy of `tokenizer` whose chat template has `options` set: {"enable_thinking": False}.

    Raises PsrError for a tokenizer without template, an option it does not know, and a value that is no JSON.
    """
    template = tokenizer.chat_template
    if template is None:
        raise PsrError("this tokenizer has no chat template", where="template options", expected="none",
                       got=", ".join(options), do="Leave the options out.")
    named = template if isinstance(template, dict) else {"default": template}
    for name in options:
        if not any(re.search(rf"\b{re.escape(name)}\b", text) for text in named.values()):
            raise PsrError("the model's chat template knows no such option", where="template options", got=repr(name),
                           expected="a name that stands in the template", do="Correct the name, or leave it out.")
    head = "".join(f"{{% set {name} = {_literal(name, value)} %}}\n" for name, value in sorted(options.items()))
    changed = copy.deepcopy(tokenizer)
    texts = {name: head + text for name, text in named.items()}
    changed.chat_template = texts if isinstance(template, dict) else texts["default"]
    return changed


def _literal(name: str, value: object) -> str:
    """`value` as Jinja writes it: JSON, but for null."""
    if value is None:
        return "none"
    if not name.isidentifier() or not isinstance(value, (bool, int, float, str, list, dict)):
        raise PsrError("a template option makes no sense", where=name, expected="a name, and true, false, a number or text",
                       got=repr(value), do="Correct it.")
    return json.dumps(value)
