"""The toy model with four modules, served on loopback to all tests of a file."""

import pytest
from served import folder_of, random_module, serving

from psr.lm.loading import load_model
from psr.serve.registry import load_registry
from tests.conftest import ROOT


@pytest.fixture(scope="session")
def toy():
    return load_model(ROOT / "data/testbed/model")


@pytest.fixture(scope="session")
def modules(toy, tmp_path_factory):
    """A folder of modules: two with a recommended strength, one on the question too, one a folder further down."""
    return folder_of(
        {
            "bold": random_module(toy, 1, recommended_alpha=1.5, safe_alpha=[0.5, 2.0]),
            "calm": random_module(toy, 2, recommended_alpha=0.5),
            "deep/er": random_module(toy, 3),
            "whole": random_module(toy, 4, span="QR"),
        },
        tmp_path_factory.mktemp("modules"),
    )


@pytest.fixture(scope="session")
def registry(toy, modules):
    return load_registry(toy, modules, "toy")


@pytest.fixture(scope="module")
def served(toy, registry):
    with serving(toy, registry) as running:
        yield running
