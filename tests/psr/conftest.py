"""What the tests of steering start from: a tiny model, and a module whose steering cannot be overlooked."""

import pytest
from families import family
from written import strong_module


@pytest.fixture
def lm():
    return family("llama")


@pytest.fixture
def model(lm):
    return lm.model


@pytest.fixture
def module(lm):
    return strong_module(lm.fingerprint)
