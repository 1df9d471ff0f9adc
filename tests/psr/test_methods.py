"""Names: each method has one, they read both ways, and a wrong one gets a list and a hint."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psr.errors import PsrError
from psr.fitting.methods import BY_SLUG, GRADIENT, METHODS, parse_method


def test_slugs_and_names_are_unique_and_read_both_ways():
    assert len({method.name for method in METHODS}) == len(BY_SLUG) == len(METHODS)
    for method in METHODS:
        assert parse_method(method.slug) == parse_method(method.name) == parse_method(method.slug.upper()) == method


@pytest.mark.parametrize(
    ("slug", "name"),
    [
        ("s-const-caa-r", "S-Const CAA·R"),
        ("s-const-dim-r", "S-Const DiM·R"),
        ("a-const-dim-same-qr", "A-Const DiM-same·QR"),
        ("s-proj-stolfo-r", "S-Proj Stolfo·R"),
        ("s-reft-r1-r", "S-ReFT-r1·R"),
        ("s-const-reps-r", "S-Const RePS·R"),
        ("s-loreft4-ll-r", "S-LoReFT4 LL·R"),
        ("a-psr16-mse-qr", "A-PSR16 MSE·QR"),
        ("s-psr-kl-r", "S-PSR KL·R"),
        ("lora-ll", "LoRA LL"),
        ("lora4-ll", "LoRA4 LL"),
        ("full-ll", "Full LL"),
    ],
)
def test_names_as_tables_print_them(slug, name):
    assert (parse_method(slug).name, parse_method(slug).slug) == (name, slug)


@given(
    st.sampled_from("SA"),
    st.sampled_from(["PSR", "LoReFT"]),
    st.integers(2, 9999),
    st.sampled_from(GRADIENT),
    st.sampled_from(["R", "QR"]),
)
def test_any_rank_has_a_name(scope, form, rank, objective, span):
    method = parse_method(f"{scope}-{form}{rank}-{objective}-{span}")
    assert (method.scope, method.form, method.objective, method.span) == (scope, f"{form}{rank}", objective, span)
    assert parse_method(method.name) == parse_method(method.slug) == method


def test_rank_one_is_the_papers_own_form():
    assert parse_method("s-psr1-mse-r") == parse_method("s-psr-mse-r")


@pytest.mark.parametrize(
    "text", ["s-psr-msee-r", "s-psr0-mse-r", "s-psr-4-mse-r", "x-psr-mse-r", "s-proj-mse-r", "lora0-ll", ""]
)
def test_an_unknown_method_gets_the_known_ones(text):
    with pytest.raises(PsrError, match=r"s-proj-stolfo-r.*a-psr-mse-qr.*psrN.*loreftN") as error:
        parse_method(text)
    assert "\n" not in str(error.value)
    if text == "s-psr-msee-r":
        assert str(error.value).endswith("Did you mean s-psr-mse-r?")
