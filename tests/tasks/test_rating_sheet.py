"""Sheets for people: blind, safe in a spreadsheet, and read back as what was filled in, or refused by row and column."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psr.errors import PsrError
from psr.types import Attribute, Completion, PromptPair
from tasks.benchmarks.catalogue import benchmark_named
from tasks.studies.agreement.answers import Answers, spread
from tasks.studies.agreement.sheet import HEAD, read_sheet, row_id, write_sheet

BENCHMARKS = {name: benchmark_named(name) for name in ("persona", "axbench")}
ATTRIBUTES = {
    key: Attribute(*key.split("/"), (f"Be {key.split('/')[1]}.",), (), (), (), (), "")
    for key in ("persona/pirate", "persona/gloomy", "axbench/7")
}
METHODS = {"0123456789abcdef": "a-psr-mse-qr", "fedcba9876543210": "s-const-dim-r"}
HARD = [
    "=1+1",
    "+cmd",
    "-1",
    "@x",
    "  =1",
    "＝1",
    "'=1",
    'say "no", then',
    "a\nb\r\nc",
    "a;b\tc",
    "",
    "\x00\x1b[2J",
    "é\u202e",
    "42",
]
TEXTS = st.one_of(st.sampled_from(HARD), st.text(max_size=40))


def answers_of(texts: list[str], attribute: str = "persona/pirate", question: str = "Tell me about tea.") -> Answers:
    """An answer a text, by methods and strengths in turn."""
    pair = PromptPair(attribute, question, "Be so.")
    methods = ["plain", "instructed", *METHODS, "0123456789abcdef+instructed"]
    completions = [
        Completion(pair.id, methods[at % 5], at % 5 / 2, at, "m" * 16, "t1.0-n64", (1, 2), text, True)
        for at, text in enumerate(texts)
    ]
    return Answers({pair.id: pair}, completions, ATTRIBUTES, METHODS)


def cells(path: Path) -> list[list[str]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file, strict=True))


def save(path: Path, rows: list[list[str]], delimiter: str = ",", end: str = "\r\n") -> Path:
    """Write the rows as a spreadsheet does."""
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=delimiter, lineterminator=end).writerows(rows)
    return path


def exported(folder: Path, answers: Answers, seed: int = 0) -> list[list[str]]:
    path = folder / "sheet.csv"
    path.unlink(missing_ok=True)
    write_sheet(path, answers.completions, answers, seed)
    return cells(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sheets")


@settings(max_examples=30, deadline=None)
@given(
    texts=st.lists(TEXTS, min_size=1, max_size=8),
    question=TEXTS,
    ratings=st.lists(
        st.tuples(*[st.none() | st.integers(0, 100) | st.decimals(0, 100, places=2)] * 2), min_size=8, max_size=8
    ),
    seed=st.integers(0, 3),
    delimiter=st.sampled_from(",;\t"),
    end=st.sampled_from(["\r\n", "\n"]),
)
def test_what_is_filled_in_comes_back_by_answer(folder, texts, question, ratings, seed, delimiter, end):
    answers = answers_of(texts, question=question)
    head, *rows = exported(folder, answers, seed)
    given_to = {row[0]: pair for row, pair in zip(rows, ratings, strict=False)}
    filled = [[*row[:4], *("" if value is None else f" {value}" for value in given_to[row[0]])] for row in rows]
    path = save(folder / "filled.csv", [head, *filled], delimiter, end)
    if all(value is None for row in rows for value in given_to[row[0]]):
        with pytest.raises(PsrError, match="nothing is rated"):
            read_sheet(path, answers, BENCHMARKS, "anna")
        return
    judged = {(one.completion, one.dimension): one for one in read_sheet(path, answers, BENCHMARKS, "anna")}
    assert len(judged) == 2 * len(texts)
    for completion in answers.completions:
        for dimension, value in zip(("trait", "coherence"), given_to[row_id(completion)], strict=True):
            one = judged[completion.id, dimension]
            assert (one.judge, one.scale) == ("people:anna", 100.0)
            assert one.value == (None if value is None else float(value))
            assert bool(one.error) == (value is None)


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=8))
def test_no_cell_is_a_formula_or_holds_a_control_character(folder, texts):
    for row in exported(folder, answers_of(texts, question=texts[0]))[1:]:
        for cell in row:
            assert not cell.strip().startswith(tuple("=+-@＝＋－＠"))
            assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", cell)


def test_the_sheet_says_what_was_asked_and_nothing_of_who_answered(folder):
    answers = answers_of([f"Answer {at}." for at in range(10)])
    head, *rows = exported(folder, answers)
    assert head == HEAD
    assert {tuple(row[1:3]) for row in rows} == {("Be pirate.", "Tell me about tea.")}
    assert all(row[4:] == ["", ""] for row in rows)
    text = (folder / "sheet.csv").read_text(encoding="utf-8-sig")
    secrets = [
        secret for one in answers.completions for secret in (one.id, one.pair, one.method, one.model, one.sampling)
    ]
    assert [secret for secret in [*secrets, *METHODS.values(), "testbed", "alpha"] if secret in text] == []


def test_the_order_is_drawn_and_does_not_follow_from_the_order_of_the_methods(folder):
    answers = answers_of([f"Answer {at}." for at in range(40)])
    first, again, other = (exported(folder, answers, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert sorted(first) == sorted(other)
    backwards = Answers(answers.pairs, answers.completions[::-1], ATTRIBUTES, METHODS)
    assert exported(folder, backwards) == first
    place = {row[0]: at for at, row in enumerate(first[1:])}
    by_method: dict[str, list[int]] = {}
    for one in answers.completions:
        by_method.setdefault(one.method, []).append(place[row_id(one)])
    assert all(max(places) - min(places) > 20 for places in by_method.values())


def test_the_two_ratings_are_the_dimensions_of_the_benchmark(folder):
    answers = answers_of(["Salt."], "axbench/7")
    head, row = exported(folder, answers)
    judged = read_sheet(save(folder / "f.csv", [head, [*row[:4], "100", "50"]]), answers, BENCHMARKS, "anna")
    assert [(one.dimension, one.value) for one in judged] == [("concept", 100.0), ("fluency", 50.0)]


def test_an_apostrophe_or_a_line_end_that_a_spreadsheet_changed_is_no_other_text(folder):
    answers = answers_of(["=1+1\nand more"])
    head, row = exported(folder, answers)
    assert row[3] == "'=1+1\nand more"
    changed = [*row[:3], "=1+1\r\nand more ", "80", ""]
    assert read_sheet(save(folder / "f.csv", [head, changed]), answers, BENCHMARKS, "anna")[0].value == 80.0


@pytest.mark.parametrize(("change", "words"), [
    (lambda rows: [*rows, ["", "", "", "", "", ""], ["row-0000", *rows[1][1:]]],
     r"not one of this profile's \(f.csv, row 5, column id\), expected an id as it was exported, got 'row-0000'"),
    (lambda rows: [*rows, rows[1]], r"there twice \(f.csv, row 4, column id\), expected each row once, got row-\w+, which is in row 2"),
    (lambda rows: [rows[0], [*rows[1][:3], "Another answer.", "1", "2"]],
     r"not the one that was exported \(f.csv, row 2, column answer\), expected '.*', got 'Another answer.'"),
    (lambda rows: [rows[0], [rows[1][0], "Be kind.", *rows[1][2:]]], r"\(f.csv, row 2, column asked for\)"),
    *((lambda rows, bad=bad: [rows[0], rows[1], [*rows[2][:5], bad]],
       rf"no number from 0 to 100 \(f.csv, row 3, column makes sense \(0-100\)\), expected .*, got '{re.escape(bad)}'")
      for bad in ("101", "-1", "good", "nan", "inf", "1e2", "1_0", "7,5", "٣", "80%", "100.01")),
    (lambda rows: rows, "nothing is rated in the sheet"),
    (lambda rows: [rows[0][:5], *(row[:5] for row in rows[1:])], r"no sheet of answers \(f.csv\), expected the columns id, asked for"),
    (lambda rows: [], "no sheet of answers"),
    (lambda rows: [rows[0], rows[1][:5]], r"another number of cells \(f.csv, row 2\), expected 6, got 5"),
])  # fmt: skip
def test_a_row_that_cannot_be_read_is_named_in_one_line(folder, change, words):
    answers = answers_of(["One answer.", "Two answers."])
    path = save(folder / "f.csv", change(exported(folder, answers)))
    with pytest.raises(PsrError, match=words) as raised:
        read_sheet(path, answers, BENCHMARKS, "anna")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("content", "words"), [
    (b"PK\x03\x04\xff\xfe", "no text in UTF-8.*Save it as CSV"),
    (None, "cannot be read"),
    (",".join(HEAD).encode() + b'\n"a"b,c\n', "no CSV file"),
])  # fmt: skip
def test_a_file_that_is_no_sheet_is_refused(tmp_path, content, words):
    path = tmp_path / "f.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PsrError, match=words):
        read_sheet(path, answers_of(["One."]), BENCHMARKS, "anna")


def test_a_sheet_that_may_hold_ratings_is_not_written_over(tmp_path):
    answers = answers_of(["One."])
    write_sheet(tmp_path / "sheet.csv", answers.completions, answers, 0)
    with pytest.raises(PsrError, match=r"a file of that name exists \(.*sheet.csv\)"):
        write_sheet(tmp_path / "sheet.csv", answers.completions, answers, 0)
    with pytest.raises(PsrError, match=r"cannot be written \(.*none/sheet.csv\), got No such file"):
        write_sheet(tmp_path / "none/sheet.csv", answers.completions, answers, 0)


def many() -> Answers:
    """Two attributes with 6 questions each; of five methods 3 answers a question, of one of them 30."""
    pairs = [
        PromptPair(key, f"Tell me about {at}.", "Be so.")
        for key in ("persona/pirate", "persona/gloomy")
        for at in range(6)
    ]
    methods = ["plain", "instructed", *METHODS, "0123456789abcdef+instructed"]
    completions = [
        Completion(pair.id, method, 1.0, seed, "m", "s", (1,), f"{method} {seed} {pair.id}", True)
        for pair in pairs
        for method in methods
        for seed in range(30 if method == "plain" else 3)
    ]
    return Answers({pair.id: pair for pair in pairs}, completions, ATTRIBUTES, METHODS)


def test_a_draw_is_even_over_attributes_methods_and_questions():
    answers = many()
    drawn = spread(answers, 60, 0)
    counts: dict[tuple[str, str], int] = {}
    for one in drawn:
        pair = answers.pairs[one.pair]
        for name, value in (("attribute", pair.attribute), ("method", answers.method(one)), ("question", pair.id)):
            counts[name, value] = counts.get((name, value), 0) + 1
    assert counts["method", "a-psr-mse-qr+instructed"] == 12
    assert {value for (name, _), value in counts.items() if name == "attribute"} == {30}
    assert {value for (name, _), value in counts.items() if name == "method"} == {12}
    assert {value for (name, _), value in counts.items() if name == "question"} == {5}


def test_a_smaller_draw_is_the_beginning_of_a_larger_one_and_another_seed_draws_others():
    answers = many()
    assert spread(answers, 10, 0) == spread(answers, 40, 0)[:10]
    assert set(spread(answers, 40, 0)) != set(spread(answers, 40, 1))
    assert len(set(spread(answers, 10_000, 0))) == len(answers.completions)
    backwards = Answers(answers.pairs, answers.completions[::-1], ATTRIBUTES, METHODS)
    assert spread(backwards, 40, 0) == spread(answers, 40, 0)


def test_equal_answers_are_drawn_once_and_one_cut_off_in_its_thinking_never():
    answers = answers_of(["Same.", "Same.", "Other."])
    thought = Completion(answers.completions[0].pair, "plain", 0.0, 99, "m", "s", (1,), "", False, "Hm")
    drawn = spread(Answers(answers.pairs, [*answers.completions, thought], ATTRIBUTES, METHODS), 10, 0)
    assert sorted(one.text for one in drawn) == ["Other.", "Same."]
