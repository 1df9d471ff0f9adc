"""IFEval's checkers behind the judge `rules`: all 25 kinds, seven of them against checkers of our own, strict and loose."""

from __future__ import annotations

import builtins
import hashlib
import importlib.metadata
import io
import json
import random
import re
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psr.errors import PsrError
from psr.judges import checkers, punkt
from psr.judges.checkers import follows, refusal, variants

EN = "The sky is blue because the air scatters the light of the sun in every direction"
FR = "Le ciel est bleu parce que l'air disperse la lumière du soleil dans toutes les directions"
# kind -> (arguments, a text that passes, a text that does not)
KINDS = {
    "change_case:capital_word_frequency": ({"capital_frequency": 2, "capital_relation": "at least"}, "GO UP now", "GO up now"),
    "change_case:english_capital": ({}, EN.upper(), EN),
    "change_case:english_lowercase": ({}, EN.lower(), EN),
    "combination:repeat_prompt": ({"prompt_to_repeat": "Why is it blue?"}, "Why is it blue? Air.", "Air."),
    "combination:two_responses": ({}, "One.\n******\nTwo.", "One.\n******\nOne."),
    "detectable_content:number_placeholders": ({"num_placeholders": 2}, "[name] at [place]", "[name] at home"),
    "detectable_content:postscript": ({"postscript_marker": "P.S."}, "Yes.\nP.S. No.", "Yes. No."),
    "detectable_format:constrained_response": ({}, "My answer is maybe.", "My answer is blue."),
    "detectable_format:json_format": ({}, '```json\n{"a": 1}\n```', "{a: 1}"),
    "detectable_format:multiple_sections": ({"section_spliter": "Part", "num_sections": 2}, "Part 1\na\nPart 2\nb", "Part 1\na"),
    "detectable_format:number_bullet_lists": ({"num_bullets": 2}, "* a\n- b", "* a\n* b\n* c"),
    "detectable_format:number_highlighted_sections": ({"num_highlights": 2}, "*one* and **two**", "*one* and two"),
    "detectable_format:title": ({}, "<<Blue>>\nYes.", "<Blue>\nYes."),
    "keywords:existence": ({"keywords": ("sky", "blue")}, "The Sky is blue", "The sky is red"),
    "keywords:forbidden_words": ({"forbidden_words": ("red", "green")}, "It is blue", "It is red"),
    "keywords:frequency": ({"keyword": "sky", "frequency": 2, "relation": "at least"}, "sky, Sky", "sky"),
    "keywords:letter_frequency": ({"letter": "e", "let_frequency": 2, "let_relation": "at least"}, "beE", "be"),
    "language:response_language": ({"language": "fr"}, FR, EN),
    "length_constraints:nth_paragraph_first_word": (
        {"first_word": "air", "num_paragraphs": 2, "nth_paragraph": 2}, "Yes.\n\nAir does.", "Air does.\n\nYes.",
    ),
    "length_constraints:number_paragraphs": ({"num_paragraphs": 2}, "Yes.\n***\nNo.", "Yes."),
    "length_constraints:number_sentences": ({"num_sentences": 2, "relation": "at least"}, "Yes. No.", "Yes and no."),
    "length_constraints:number_words": ({"num_words": 3, "relation": "less than"}, "Two words.", "Here are four words."),
    "punctuation:no_comma": ({}, "Yes and no.", "Yes, and no."),
    "startend:end_checker": ({"end_phrase": "That is all."}, "Yes. That is all.", "That is all. Yes."),
    "startend:quotation": ({}, '"Yes."', '"Yes.'),
}  # fmt: skip


@pytest.fixture
def splitter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """NLTK's data folder with a splitter that knows no abbreviation, instead of the real one, and its archive."""
    import nltk
    from if_verifiable.ifeval import instructions_util

    (tmp_path / punkt.FOLDER).mkdir(parents=True)
    for name in punkt.FILES:
        (tmp_path / punkt.FOLDER / name).write_bytes(b"")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in punkt.FILES:
            archive.writestr(f"punkt_tab/english/{name}", "")
    (tmp_path / "punkt_tab.zip").write_bytes(packed.getvalue())
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    monkeypatch.setattr(punkt, "FILES", dict.fromkeys(punkt.FILES, hashlib.sha256(b"").hexdigest()))
    monkeypatch.setattr(punkt, "SHA256", hashlib.sha256(packed.getvalue()).hexdigest())
    caches = (instructions_util._get_sentence_tokenizer, nltk.tokenize._get_punkt_tokenizer)
    for cached in caches:
        cached.cache_clear()
    yield tmp_path
    for cached in caches:
        cached.cache_clear()


@pytest.fixture
def no_splitter(splitter: Path) -> Path:
    for name in punkt.FILES:
        (splitter / punkt.FOLDER / name).unlink()
    (splitter / punkt.FOLDER).rmdir()
    return splitter


def given_(kind: str) -> dict[str, object]:
    return {"instruction_id": kind, **KINDS[kind][0]}


def test_these_are_all_the_kinds() -> None:
    assert KINDS.keys() == checkers._classes().keys()
    assert len(KINDS) == 25


@pytest.mark.parametrize("kind", KINDS)
def test_a_checker_passes_what_follows_the_instruction_and_nothing_else(kind: str, splitter: Path) -> None:
    _, good, bad = KINDS[kind]
    assert refusal(given_(kind)) == ""
    assert follows(given_(kind), good) == (True, True)
    assert follows(given_(kind), bad)[0] is False
    assert follows(given_(kind), " \n") == (False, False)


def ends(text: str) -> bool:
    return text.strip().strip('"').lower().endswith("ab a")


OURS = {
    "punctuation:no_comma": lambda text: "," not in text,
    "startend:quotation": lambda text: len(text.strip()) > 1 and text.strip()[0] == text.strip()[-1] == '"',
    "detectable_content:number_placeholders": lambda text: sum(
        "]" in part for line in text.split("\n") for part in _opened(line)
    ) >= 2,
    "keywords:letter_frequency": lambda text: sum(sign in "aA" for sign in text) >= 3,
    "length_constraints:number_words": lambda text: len("".join(c if c.isalnum() or c == "_" else " " for c in text).split()) < 4,
    "startend:end_checker": ends,
    "detectable_format:number_bullet_lists": lambda text: _bullets(text) == 2,
    "combination:two_responses": lambda text: _two(text),
}  # fmt: skip
ARGUMENTS = {
    "detectable_content:number_placeholders": {"num_placeholders": 2},
    "keywords:letter_frequency": {"letter": "a", "let_frequency": 3, "let_relation": "at least"},
    "length_constraints:number_words": {"num_words": 4, "relation": "less than"},
    "startend:end_checker": {"end_phrase": "ab a"},
    "detectable_format:number_bullet_lists": {"num_bullets": 2},
}


def _opened(line: str) -> list[str]:
    """What follows each bracket that opens outside of a bracketed part."""
    parts, rest = [], line
    while "[" in rest:
        rest = rest.split("[", 1)[1]
        parts.append(rest)
        rest = rest.split("]", 1)[1] if "]" in rest else ""
    return parts


def _bullets(text: str) -> int:
    lines = [line.strip() for line in text.split("\n")]
    return sum(line.startswith("-") or (line[:1] == "*" and line[1:2] not in ("", "*")) for line in lines)


def _two(text: str) -> bool:
    parts = text.split("******")
    said = [part.strip() for part in parts if part.strip()]
    return all(part.strip() for part in parts[1:-1]) and len(said) == 2 and said[0] != said[1]


TEXTS = st.lists(
    st.sampled_from(
        ["a", "A", "ab a", "b", " ", "\n", "\n* x", "\n- y", "** b", '"', ",", ".", "[x]", "[", "]", "******"]
    ),
    max_size=12,
).map("".join)


@pytest.mark.parametrize("kind", OURS)
def test_a_checker_agrees_with_one_of_our_own(kind: str) -> None:
    @settings(max_examples=300, deadline=None, database=None)
    @given(TEXTS)
    def agrees(text: str) -> None:
        kwargs = {"instruction_id": kind, **ARGUMENTS.get(kind, {})}
        loose = [variant for variant in variants(text) if variant.strip()]
        assert follows(kwargs, text) == (bool(text.strip()) and OURS[kind](text), any(map(OURS[kind], loose)))

    agrees()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(KINDS.keys() - {*checkers.SPLIT})), st.one_of(TEXTS, st.text(max_size=40)))
def test_what_passes_strictly_passes_loosely(kind: str, text: str) -> None:
    strict, loose = follows(given_(kind), text)
    assert loose or not strict
    assert (strict, loose) == follows(given_(kind), text)


def test_the_eight_variants() -> None:
    assert variants("*a*\nb\nc*") == ["*a*\nb\nc*", "b\nc*", "*a*\nb", "b", "a\nb\nc", "b\nc", "a\nb", "b"]
    assert follows(given_("punctuation:no_comma"), "Sure, with pleasure:\nYes and no.") == (False, True)


def test_the_language_is_told_from_a_seed_that_is_ours_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import langdetect
    from langdetect import DetectorFactory

    seeds, detect = [], langdetect.detect
    monkeypatch.setattr(langdetect, "detect", lambda text: seeds.append(DetectorFactory.seed) or detect(text))
    monkeypatch.setattr(DetectorFactory, "seed", 7)
    doubtful = "ok no chat tu"
    verdicts = {follows(given_("language:response_language"), doubtful) for _ in range(20)}
    assert len(verdicts) == 1
    assert set(seeds) == {checkers.SEED}
    assert DetectorFactory.seed == 7


def test_a_text_of_no_language_counts_as_google_counts_it_and_is_not_logged(caplog, capfd) -> None:
    assert follows(given_("language:response_language"), "12 34") == (True, True)
    assert (caplog.text, capfd.readouterr().err) == ("", "")


@pytest.mark.parametrize(
    ("kwargs", "part"),
    [
        ({}, "no checker has this instruction_id"),
        ({"instruction_id": "keywords:colour"}, "'keywords:colour'"),
        ({"instruction_id": "startend:end_checker"}, "would draw an argument at random"),
        ({**given_("keywords:letter_frequency"), "letter": "#"}, "would draw an argument at random"),
        ({**given_("detectable_format:number_bullet_lists"), "num_bullets": -1}, "would draw an argument at random"),
        ({**given_("punctuation:no_comma"), "num_words": 3}, "num_words"),
        ({**given_("length_constraints:number_words"), "relation": "about"}, "about"),
        ({**given_("keywords:existence"), "keywords": ("c++(",)}, "the checker fails with these arguments"),
    ],
)
def test_what_no_checker_can_be_made_for_is_refused_in_one_line(kwargs: dict[str, object], part: str) -> None:
    state = random.getstate()
    why = refusal(kwargs)
    assert part in why
    assert "\n" not in why
    assert random.getstate() == state


def test_an_answer_on_which_a_checker_fails_is_said_without_its_text() -> None:
    with pytest.raises(PsrError, match=r"failed on an answer.*json_format.*RecursionError"):
        follows(given_("detectable_format:json_format"), "[" * 200_000)


@pytest.mark.parametrize("kind", checkers.SPLIT)
def test_without_the_splitter_two_kinds_are_refused_with_what_to_do(kind: str, no_splitter: Path) -> None:
    assert punkt.DO in refusal(given_(kind))
    assert refusal(given_("punctuation:no_comma")) == ""


def test_the_splitter_is_fetched_checked_and_used(no_splitter: Path) -> None:
    folder = punkt.fetch(no_splitter, (no_splitter / "punkt_tab.zip").as_uri())
    assert folder == no_splitter / punkt.FOLDER
    assert refusal(given_("length_constraints:number_sentences")) == ""
    (folder / "abbrev_types.txt").write_text("dr\n")
    assert "another version (abbrev_types.txt)" in refusal(given_("length_constraints:number_sentences"))


def test_another_archive_is_refused_and_nothing_is_unpacked(no_splitter: Path) -> None:
    (no_splitter / "punkt_tab.zip").write_bytes(b"something else")
    with pytest.raises(PsrError, match="another file"):
        punkt.fetch(no_splitter, (no_splitter / "punkt_tab.zip").as_uri())
    with pytest.raises(PsrError, match="cannot be fetched"):
        punkt.fetch(no_splitter, (no_splitter / "none.zip").as_uri())
    assert not (no_splitter / punkt.FOLDER).exists()


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("if_verifiable"):
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    checkers._classes.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    why = refusal(given_("punctuation:no_comma"))
    assert "pip install 'prompt-steering-replacement[rules]'" in why
    assert "\n" not in why


def test_its_versions_are_known() -> None:
    assert checkers.versions() == {name: importlib.metadata.version(name) for name in checkers.PACKAGES}
    assert json.dumps(checkers.versions())
    assert re.fullmatch(r"[0-9a-f]{64}", punkt.SHA256)
