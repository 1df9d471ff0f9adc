"""What notebooks, the report and the page show: text stays text, shades follow the numbers and can be read, nothing is fetched."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from families import family
from hypothesis import given
from hypothesis import strategies as st

import psr
from psr.errors import PsrError
from psr.evaluation.bootstrap import Interval
from psr.from_prompt.result import Distilled, Measured, Said
from psr.from_prompt.strength import CurvePoint
from psr.lm.pieces import pieces
from psr.show.answer import ShownAnswer, answer_html, views
from psr.show.curve import curve_html, curve_points, curve_svg
from psr.show.module import module_html
from psr.show.style import DEEPEST, INK, LAYERS, PAPER, SHADES, STYLE, shades
from psr.show.text import text, token
from psr.show.tokens import DELTA, heatmap, in_view, shade, tokens_html
from psr.steering.module import SteeringModule, load_module, save_module

HOSTILE = "</style><script>alert(1)</script> \"' onload=x & \x1b[31m \u202e \ud800 \x00 end"
STRENGTHS = ((0.0, 0.5, 2.0, 1.0), (4.0, 0.0, 0.0, 1.0))
SHOWN = ShownAnswer((" Ask", "<end>", " Arr", "\n"), 2, (0, 3), STRENGTHS, None, "pirate")
VOID = {"input", "rect", "path", "circle", "br"}


class Page(HTMLParser):
    """Elements with their attributes, and the text of the page. Raises AssertionError where elements do not close in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID or (tag in ("rect", "circle") and not self.get_starttag_text().endswith("/>")):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data

    def of(self, tag, name):
        return [attributes for kind, attributes in self.elements if kind == tag and attributes.get("class") == name]


def module(**more):
    tensors = {"z": torch.tensor([[3.0, 4.0], [0.0, 1.0]]), "w": torch.ones(2, 2), "b": torch.tensor([0.25, -1.5])}
    origin = {"recommended_alpha": 1.25, "safe_alpha": [0.0, 2.5], "instruction": HOSTILE, "attribute": HOSTILE,
              "curve": [[0.0, 1.0, 97.0], [1.25, 90.0, 95.0], [3.0, None, 40.0]]}  # fmt: skip
    return SteeringModule(**{"id": HOSTILE, "form": "PSR", "layers": (0, 3), "span": "QR", "model": "abc",
                             "tensors": tensors, "origin": origin, **more})  # fmt: skip


def distilled():
    measured = Measured(Interval(90.0, 80.0, 99.0), Interval(96.0, 95.0, 97.0))
    said = (Said("Why?", HOSTILE, HOSTILE, HOSTILE),)
    curve = (CurvePoint(0.0, 1.0, 97.0), CurvePoint(1.25, 90.0, 95.0))
    return Distilled(module(), 1.25, (1.0, 1.5), (0.0, 2.5), False, curve, measured, measured, measured, said, 88.0, 12,
                     {HOSTILE: 3}, "likelihood", ())  # fmt: skip


WHOLE = {
    "module": lambda: module(),
    "distilled": distilled,
    "answer": lambda: replace(SHOWN, tokens=(HOSTILE, "", "\ud83d", "\r\n"), title=HOSTILE, delta=STRENGTHS),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_notebook_gets_whole_html_in_which_all_text_is_text(name):
    html = WHOLE[name]()._repr_html_()
    page = Page(html)
    html.encode("utf-8")  # no lone surrogate is left
    assert not {tag for tag, _ in page.elements} & {"script", "img", "iframe", "link", "object", "form", "a"}
    names = {attribute for _, attributes in page.elements for attribute in attributes}
    assert not {attribute for attribute in names if attribute.startswith("on") or attribute in ("style", "src", "href")}
    assert "<script>alert(1)</script>" in page.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u202e]", html)
    assert not re.search(r"url\(|@import|https?:", html)


@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_is_harmless_and_keeps_its_letters(words):
    html = token(words)
    html.encode("utf-8")
    page = Page(f"<p>{html}</p>")
    assert [tag for tag, _ in page.elements] == ["p"]
    assert [c for c in page.text if c.isalnum()] == [c for c in words if c.isalnum()]
    assert page.text
    Page(f'<p title="{text(words)}"></p>')


def test_spaces_are_kept_and_line_ends_are_shown():
    assert (token("  a "), token("\n"), token("\t"), token(" ")) == ("  a ", "⏎\n", "\t", " ")
    assert (token(""), token("\u200b"), token("\x1b")) == ("∅", "∅", "∅")
    assert token("a\u202eb") == "a�b"


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("hue", DEEPEST)
def test_text_can_be_read_on_every_shade_and_shades_differ_in_lightness(hue, mode):
    colours = [pair[mode] for pair in shades(hue)]
    assert all(contrast(INK[mode], colour) >= 4.5 for colour in colours)
    paper = "#" + "".join(f"{part:02x}" for part in PAPER[mode])
    steps = [contrast(paper, colour) for colour in colours]
    assert steps == sorted(steps)
    assert steps[-1] >= 2.0
    assert all(f"light-dark({light},{dark})" in STYLE for light, dark in shades(hue))


def test_what_is_written_small_can_be_read_too():
    for name in ("muted", "one", "two"):
        pair = re.search(rf"--{name}: light-dark\((#\w+), (#\w+)\)", STYLE)
        assert contrast(pair[1], "#ffffff") >= 4.5
        assert contrast(pair[2], "#14171c") >= 4.5


@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=30))
def test_shades_grow_with_size_and_only_what_is_nothing_has_none(values):
    largest = max(map(abs, values))
    found = [shade(value, largest) for value in sorted(values, key=abs)]
    assert found == sorted(found)
    assert all((one == 0) == (value == 0) for one, value in zip(found, sorted(values, key=abs), strict=True))
    assert largest == 0 or found[-1] == SHADES
    assert shade(float("nan"), largest) == 0


def test_a_view_is_a_layer_the_mean_or_the_sum():
    assert in_view(STRENGTHS, (0, 3), "mean") == [2.0, 0.25, 1.0, 1.0]
    assert in_view(STRENGTHS, (0, 3), "sum") == [4.0, 0.5, 2.0, 2.0]
    assert in_view(STRENGTHS, (0, 3), 3) == [4.0, 0.0, 0.0, 1.0]
    for wrong in (1, "median"):
        with pytest.raises(PsrError, match=r"no such view of an answer, expected 'mean', 'sum' or one of \[0, 3\]"):
            answer_html(SHOWN, wrong)


def test_each_token_has_its_shade_and_its_number_and_the_question_stands_apart():
    page = Page(tokens_html(SHOWN.tokens, (-6.0, 0.5, 0.0, 2.0), answered=2))
    spans = [attributes for tag, attributes in page.elements if tag == "span"][:4]
    assert [one["title"] for one in spans] == ["−6", "0.5", "0", "2"]
    assert [one.get("class") for one in spans] == ["s9 below", "s3", None, "s9"]
    assert page.text == "question Ask<end>answer Arr⏎\nλ 0  2 or more"  # the deepest shade is the answer's largest
    assert [a["dir"] for a in page.of("div", "tokens")] == ["auto", "auto"]


def test_the_reader_chooses_among_the_mean_and_the_layers_and_one_view_is_shown_alone():
    page = Page(answer_html(SHOWN))
    radios = [attributes for _, attributes in page.elements if attributes.get("type") == "radio"]
    assert [one["class"] for one in radios] == ["pick0", "pick1", "pick2"]
    assert ["checked" in one for one in radios] == [True, False, False]
    assert "mean" in page.text
    assert "layer 3" in page.text
    alone = Page(answer_html(SHOWN, 3))
    assert not [attributes for _, attributes in alone.elements if attributes.get("type") == "radio"]
    other = Page(answer_html(replace(SHOWN, title="another")))
    assert {one["name"] for one in radios}.isdisjoint(a.get("name") for _, a in other.elements)
    assert views((4,)) == [4]
    assert views(range(40)) == ["mean", 0, 3, 7, 10, 14, 17, 21, 24, 28, 31, 35, 39]
    assert f".pick{LAYERS}:checked" in STYLE


def test_the_heatmap_has_a_cell_for_every_number_above_0_and_its_numbers_in_words():
    page = Page(heatmap(SHOWN.tokens, STRENGTHS, (0, 3), answered=2, of=DELTA))
    cells = {a["class"]: a["d"] for tag, a in page.elements if tag == "path" and a["class"] != "mark"}
    assert sum(path.count("z") for path in cells.values()) == 5
    assert cells["d9"] == "M58 12h14v12h-14zM30 0h14v12h-14z"  # layer 0 lies below; 4.0 is beyond the answer's largest
    assert "<end>\nlayer 3: 0\nlayer 0: 0.5" in page.text


def test_the_prompts_own_effect_stands_below_in_its_own_hue():
    plain, both = Page(answer_html(SHOWN)), Page(answer_html(replace(SHOWN, delta=STRENGTHS)))
    assert "prompt" not in plain.text
    assert both.text.count("the prompt’s own effect") == 3  # in each view
    assert both.of("span", "d9")
    assert len(both.of("div", "wide")) == 2


def test_the_curve_marks_the_recommended_strength_and_the_safe_range():
    points = [(3.0, None, 40.0), (0.0, 1.0, 97.0), (1.5, 90.0, 95.0)]
    svg = curve_svg(points, alpha=1.5, safe=(0.0, 2.0))
    page = Page(svg)
    assert len(page.of("circle", "one")) == 2 + 1  # and the legend's
    assert len(page.of("rect", "two")) == 3 + 1
    assert page.of("path", "mark")[0]["d"].startswith("M181.0 ")  # half way between 34 and 328
    assert (page.of("rect", "band")[0]["x"], page.of("rect", "band")[0]["width"]) == ("34.0", "196.0")
    assert "effect 90 at α 1.5" in page.text
    words = Page(curve_html(points, alpha=1.5, safe=(0.0, 2.0))).text
    assert "recommended α 1.5; answers make sense from 0 to 2, as far as was tried" in words
    assert [len(Page(curve_svg(few)).of("circle", "one")) for few in ([], [(0.0, 5.0, 9.0)])] == [1, 2]


def test_a_module_says_its_equation_layers_strength_and_lengths():
    page = Page(module_html(module()))
    for words in ("A' = A + α · λ(A) · z, λ(A) = ReLU(A · w + b)", "0, 3", "the question and the answer (QR)", "1.25",
                  "0 to 2.5", "|z|", "5", "−1.5", "effect 90 at α 1.25"):  # fmt: skip
        assert words in page.text
    bare = Page(module_html(module(origin={}))).text
    assert "none was chosen: 1" in bare
    assert "not measured" in bare


@pytest.mark.parametrize(
    "wrong", [None, "x", [1], {"a": 1}, [["x", 1, 2]], [[1, 2]], float("nan"), [[float("inf"), 1, 2]]]
)
def test_a_module_whose_origin_is_nonsense_is_shown_all_the_same(wrong, tmp_path):
    origin = dict.fromkeys(("recommended_alpha", "safe_alpha", "curve", "instruction", "attribute", "suppress"), wrong)
    Page(module(origin=origin)._repr_html_())
    assert curve_points(wrong) == []


def test_a_stored_module_keeps_its_curve(tmp_path):
    made = module(id="m", origin={**module().origin, "instruction": "Be brief.", "attribute": "a"})
    shown = module_html(load_module(save_module(made, tmp_path / "m")))
    assert shown == module_html(made)
    assert "coherence 40 at α 3" in shown


def test_a_module_with_several_gates_has_their_length():
    several = module(form="PSR2", tensors={"z": torch.ones(2, 2, 4), "w": torch.ones(2, 2, 4), "b": torch.ones(2, 2)})
    assert "|b|" in Page(module_html(several)).text


def test_a_distillation_says_whether_it_reached_the_prompt_and_what_it_measured():
    page = Page(distilled()._repr_html_())
    for words in ("not reached", "88 of 100", "12 answers, 3 not: ", "90 (80 to 99)", "Why?"):
        assert words in page.text


def test_strengths_and_the_prompts_effect_are_those_of_the_runs_themselves():
    lm = family("llama")
    d = lm.d_model
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "z": torch.randn(2, d, generator=generator),
        "w": torch.randn(2, d, generator=generator),
        "b": torch.zeros(2),
    }
    steering = SteeringModule("m", "PSR", (0, 2), "R", lm.fingerprint, tensors)
    question, instruction, ids = "Why?", "Be brief.", (50, 61, 72)
    shown = psr.show_answer(lm, steering, question, ids, 0.7, instruction=instruction)
    chats = (psr.Message("user", question),), (psr.Message("system", instruction), psr.Message("user", question))
    plain, instructed = (psr.encode_chat(lm.tokenizer, chat) for chat in chats)
    assert torch.equal(torch.tensor(shown.strengths), psr.token_strengths(lm, steering, plain, ids, 0.7))
    assert (len(shown.tokens), shown.answered, shown.layers) == (4, 3, (0, 2))
    with torch.no_grad():
        runs = [
            lm.model(torch.tensor([[*one.ids, *ids]]), output_hidden_states=True).hidden_states
            for one in (plain, instructed)
        ]
    by_hand = torch.stack([(runs[1][at + 1][0, -4:] - runs[0][at + 1][0, -4:]).norm(dim=-1) for at in (0,)])
    torch.testing.assert_close(torch.tensor(shown.delta[:1]), by_hand)
    assert psr.show_answer(lm, steering, question, ids).delta is None
    with pytest.raises(PsrError, match="alpha is not a finite number"):
        psr.show_answer(lm, steering, question, ids, float("nan"))


class Bytes:
    """A tokenizer of bytes, which are letters only together."""

    def decode(self, ids, clean_up_tokenization_spaces):
        return bytes(ids).decode("utf-8", errors="replace")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd")))
def test_pieces_joined_are_the_text_even_where_a_letter_is_several_tokens(words):
    ids = list(words.encode())
    found = pieces(Bytes(), ids)
    assert len(found) == len(ids)
    assert "".join(found) == words
    assert pieces(Bytes(), [0xF0, 0x9F])[-1]  # what never becomes a letter is not lost
