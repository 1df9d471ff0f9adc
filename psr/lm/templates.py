"""Chat templates: the files that hold them, and options that are set for good.

An option is set in the first line of the template itself, so that every rendered chat has it and the fingerprint covers it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from psr.errors import PsrError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_QUESTION = [{"role": "user", "content": "Why?"}]
_CHATS: list[list[dict[str, str]]] = [
    _QUESTION,
    [{"role": "system", "content": "Be brief."}, *_QUESTION],
    [*_QUESTION, {"role": "assistant", "content": "<think>So.</think>Because."}, *_QUESTION],
]
_VALUES = (True, False, "other")  # values to try an option with, beside the one that is wanted
# where processors keep the template of the tokenizer that they hold; AutoTokenizer does not look there
_FILES = ("chat_template.jinja", "chat_template.json", "processor_config.json", "tokenizer_config.json")


def own_template(folder: Path) -> str | dict[str, str] | None:
    """The chat template in a model's folder, in whichever file; None where there is none.

    Raises PsrError for a file that is damaged.
    """
    for name in _FILES:
        file = folder / name
        if not file.is_file():
            continue
        try:
            text = file.read_text(encoding="utf-8")
            template = text if file.suffix == ".jinja" else json.loads(text).get("chat_template")
            if isinstance(template, list):
                template = {one["name"]: one["template"] for one in template}
        except (ValueError, AttributeError, TypeError, KeyError) as error:
            raise _damaged(file, "UTF-8, and a JSON object", f"{type(error).__name__}: {error}") from None
        named = template if isinstance(template, dict) else {"default": template or ""}
        if not all(isinstance(one, str) for one in named.values()):
            raise _damaged(file, "a chat template as text, or several with their names", repr(template)[:80])
        if template:
            return cast("str | dict[str, str]", template)
    return None


def _damaged(file: Path, expected: str, got: str) -> PsrError:
    return PsrError(
        "a file of the model is damaged", where=file, expected=expected, got=got, do="Fetch the model again."
    )


def with_options(tokenizer: PreTrainedTokenizerBase, options: Mapping[str, object]) -> PreTrainedTokenizerBase:
    """A copy of `tokenizer` whose chat template has `options` set: {"enable_thinking": False}.

    Raises PsrError for a tokenizer without template, an option that changes nothing in any of a few chats (a wrong name,
    or one that the template sets itself), and a value that is no JSON.
    """
    template = tokenizer.chat_template
    if template is None:
        raise PsrError(
            "this tokenizer has no chat template",
            where="template options",
            expected="none",
            got=", ".join(options),
            do="Leave the options out.",
        )
    named = template if isinstance(template, dict) else {"default": template}
    changed = copy.deepcopy(tokenizer)
    for name in options:
        if len({_rendered(changed, named, {**options, name: value}) for value in (*_VALUES, options[name])}) == 1:
            raise PsrError(
                "the model's chat template takes no notice of this option",
                where="template options",
                got=repr(name),
                expected="a name that changes what it renders",
                do="Correct the name, or leave it out.",
            )
    texts = _with_head(named, options)
    changed.chat_template = texts if isinstance(template, dict) else texts["default"]
    return changed


def _with_head(named: Mapping[str, str], options: Mapping[str, object]) -> dict[str, str]:
    """The templates with the options set in front."""
    head = "".join(f"{{% set {name} = {_literal(name, value)} %}}\n" for name, value in sorted(options.items()))
    return {name: head + text for name, text in named.items()}


def _rendered(tokenizer: PreTrainedTokenizerBase, named: Mapping[str, str], options: Mapping[str, object]) -> str:
    """What the templates make of a few chats with these options, or what they raise."""
    texts = []
    for template in _with_head(named, options).values():
        for chat in _CHATS:
            try:
                texts.append(
                    tokenizer.apply_chat_template(
                        chat, chat_template=template, tokenize=False, add_generation_prompt=True
                    )
                )
            except Exception as error:
                texts.append(str(error))
    return repr(texts)


def _literal(name: str, value: object) -> str:
    """`value` as Jinja writes it: JSON, but for null."""
    if value is None:
        return "none"
    try:
        if not name.isidentifier() or not isinstance(value, (bool, int, float, str, list, dict)):
            raise ValueError
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError):
        raise PsrError(
            "a template option makes no sense",
            where=name,
            expected="a name, and true, false, a number or text",
            got=repr(value),
            do="Correct it.",
        ) from None
