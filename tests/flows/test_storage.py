"""What is kept of the activations: the most faithful option that fits the budget, said by the plan and written where DVC looks."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flows import params, storage
from flows.estimate import amounts, cost_lines
from flows.storage import choose, chosen, layers_read, option_bytes, settled
from psr.errors import PsrError

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"full": 100, "layers": 60, "8bit": 20, "none": 0}
GEMMA_9B = {"model_type": "gemma2", "num_hidden_layers": 42, "hidden_size": 3584}  # its published config
GB = 10**9


def with_model(folder: Path, config: object, path: str = "google/gemma-2-9b-it") -> Path:
    (folder / path).mkdir(parents=True)
    (folder / path / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("budget", "keep"),
    [
        (None, "full"),
        (100, "full"),
        (99, "layers"),
        (60, "layers"),
        (59, "8bit"),
        (20, "8bit"),
        (19, "none"),
        (1, "none"),
    ],
)
def test_the_first_option_that_fits_is_chosen(budget, keep):
    assert choose(SIZES, budget, None) == keep


@given(st.sampled_from(list(SIZES)), st.one_of(st.none(), st.integers(1, 120)))
def test_an_option_of_ones_own_is_taken_or_refused_with_one_that_fits(keep, budget):
    if budget is None or SIZES[keep] <= budget:
        assert choose(SIZES, budget, keep) == keep
        return
    with pytest.raises(PsrError, match=rf"does not fit the budget .*got {keep}: .*Keep {choose(SIZES, budget, None)}"):
        choose(SIZES, budget, keep)


@pytest.mark.parametrize(
    ("methods", "layers"),
    [
        (["s-const-dim-r"], {"instructed": (3, 3), "plain": (3, 3)}),
        (["s-psr-mse-qr"], {"instructed": (3, 5)}),
        (["s-const-dim-r", "s-psr-mse-qr"], {"instructed": (3, 5), "plain": (3, 3)}),
        (["a-psr-mse-qr"], {"instructed": (0, 5)}),
        (["a-const-dim-r"], {"instructed": (0, 5), "plain": (0, 5)}),
        (["s-psr-ll-qr", "s-const-caa-r", "s-const-reps-r"], {}),
        (["tests.psr.own_methods:ABSOLUTE_PSR"], {"instructed": (0, 5)}),
    ],
)
def test_the_layers_are_those_that_the_methods_read(methods, layers):
    settings = params.load(ROOT, "quick", [f"methods={methods}", "distill.layer=3"])
    assert layers_read(settings, 6) == layers


def test_methods_of_one_benchmark_alone_count_and_a_layer_that_is_not_there_is_refused():
    settings = params.load(
        ROOT, "quick", ["methods=[s-psr-ll-r]", "benchmarks.0.methods=[s-const-dim-r]", "distill.layer=2"]
    )
    assert layers_read(settings, 6) == {"instructed": (2, 2), "plain": (2, 2)}
    with pytest.raises(PsrError, match=r"no such layer \(distill.layer\), expected 0 to 1, got 2"):
        layers_read(settings, 2)


def test_sizes_are_those_of_every_triplet_and_the_longest_answers():
    settings = params.load(ROOT, "quick", ["methods=[s-psr-mse-qr, s-const-dim-r]", "distill.layer=3"])
    instructed, plain = 3 * 192 * (96 + 16), 3 * 200 * (96 + 16)  # triplets at most, and all plain answers
    sizes = option_bytes(settings, 6, 128, layers_read(settings, 6))
    assert sizes == {
        "full": (instructed + plain) * 6 * 128 * 4,
        "layers": (instructed * 3 + plain) * 128 * 4,
        "8bit": (instructed * 3 + plain) * (128 + 4),
        "none": 0,
    }


def test_profiles_that_were_run_keep_everything_as_before():
    for profile in ("quick", "full", "smollm2-quick", "smollm2"):
        settings = settled(ROOT, params.load(ROOT, profile))
        assert (settings.extract.keep, settings.extract.layers, settings.extract.budget) == ("full", None, None)


def test_the_plan_of_gemma_9b_says_what_is_kept_and_why(tmp_path):
    settings = params.load(ROOT, "axbench-9b")
    root = with_model(tmp_path, GEMMA_9B)
    line = next(line for line in cost_lines(root, settings) if line.startswith("disk: "))
    tokens = 500 * 72 * (128 + 16)  # of one side
    full, layers = 2 * tokens * 42 * 3584 * 2, tokens * 42 * 3584 * 2  # no method reads the plain side
    sizes = f"full {full / GB:,.0f} GB, layers {layers / GB:,.0f} GB, 8bit {tokens * 42 * 3588 / GB:,.0f} GB, none 0 MB"
    assert line == f"disk: no activations are kept ({sizes}, extract.budget 500 GB)"
    assert amounts(settings, root)["extract"].text == "no activations are kept"
    more = params.load(ROOT, "axbench-9b", ["extract.budget=1 TB"])
    line = next(line for line in cost_lines(root, more) if line.startswith("disk: "))
    assert line.startswith("disk: at most 781 GB of activations, 8bit (full 3,121 GB,")
    assert settled(root, more).extract.layers == {"instructed": (0, 41)}
    formats = params.load(ROOT, "ifeval-gemma")  # its methods read no activations
    assert chosen(root, formats).sizes["layers"] == 0


def test_a_plan_says_when_the_disk_has_less_room(tmp_path, monkeypatch):
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda path: SimpleNamespace(free=2_000_000))
    line = next(line for line in cost_lines(ROOT, params.load(ROOT, "quick")) if line.startswith("disk: "))
    assert line.endswith("MB of activations; 2 MB are free")


def test_without_the_model_a_dry_run_leaves_it_open_and_a_run_refuses(tmp_path):
    settings = params.load(ROOT, "axbench-9b")
    assert settled(tmp_path, settings, dry_run=True).extract.keep is None
    line = next(line for line in cost_lines(tmp_path, settings) if line.startswith("disk: "))
    assert line == "disk: at most an unknown size of activations (extract.budget 500 GB)"
    with pytest.raises(PsrError, match=r"not known of this model .*Set extract.keep to full or none"):
        settled(tmp_path, settings)
    for keep in ("full", "none"):
        own = params.load(ROOT, "axbench-9b", ["extract.budget=null", f"extract.keep={keep}"])
        assert settled(tmp_path, own).extract.keep == keep


def test_the_config_of_a_model_of_the_hub_is_fetched_before_a_choice_is_needed(tmp_path, monkeypatch):
    fetched = with_model(tmp_path, GEMMA_9B, "hub")

    def snapshot(name, revision, patterns):
        assert (name, revision, patterns) == ("google/gemma-2-9b-it", "0" * 40, ["config.json"])
        return fetched / "hub"

    monkeypatch.setattr("psr.lm.hub.snapshot", snapshot)
    settings = params.load(ROOT, "axbench-9b", [f"model.revision='{'0' * 40}'"])
    assert settled(tmp_path, settings, dry_run=True).extract.keep is None
    assert settled(tmp_path, settings).extract.keep == "none"


def test_a_budget_counts_by_what_it_chooses_and_by_nothing_else(tmp_path):
    def written(*changes: str) -> str:
        settings = settled(ROOT, params.load(ROOT, "quick", list(changes)))
        params.write_settings(tmp_path, "quick", settings, lambda path: "hash")
        assert params.written(tmp_path, "quick").extract == settings.extract.model_copy(update={"budget": None})
        return (tmp_path / "data/quick/settings.yaml").read_text()

    everything, roomy = written(), written("extract.budget=1 GB")
    assert everything == roomy
    assert yaml.safe_load(everything)["extract"]["keep"] == "full"
    eight, same = written("extract.budget=60 MB"), written("extract.budget=70000000")
    assert eight == same == written("extract.keep=8bit")
    assert yaml.safe_load(eight)["extract"] == {
        "dtype": "float32", "shard_mb": 64, "batch_size": 32, "keep": "8bit",
        "layers": {"instructed": [0, 5], "plain": [3, 3]},
    }  # fmt: skip
    assert yaml.safe_load(written("extract.budget=1 MB"))["extract"]["keep"] == "none"


@pytest.mark.parametrize(
    ("size", "count"), [("20 GB", 20 * GB), ("1.5TB", 1500 * GB), ("500 mb", GB // 2), ("7 B", 7), ("123", 123)]
)
def test_a_budget_is_a_number_of_bytes_or_a_size(size, count):
    assert params.load(ROOT, "quick", [f"extract.budget={size}"]).extract.budget == count


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("extract.budget=20 parsecs", ["extract.budget", "a number of bytes", "kB, MB, GB, TB", "'20 parsecs'"]),
        ("extract.budget=0", ["extract.budget", "greater than 0"]),
        ("extract.budget=-3 GB", ["extract.budget", "a number of bytes"]),
        ("extract.keep=half", ["extract.keep", "'layers'", "'8bit'", "'half'"]),
    ],
)
def test_what_is_no_size_or_no_option_is_refused(change, words):
    with pytest.raises(PsrError) as raised:
        params.load(ROOT, "quick", [change])
    assert all(word in str(raised.value) for word in words), str(raised.value)


def test_layers_by_hand_and_an_option_too_large_are_refused():
    with pytest.raises(PsrError, match=r"follows from the methods \(extract.layers\)"):
        settled(ROOT, params.load(ROOT, "quick", ["extract.layers={instructed: [0, 5]}"]))
    with pytest.raises(PsrError, match=r"does not fit the budget .*expected at most 60 MB, got full: 4\d\d MB"):
        settled(ROOT, params.load(ROOT, "quick", ["extract.keep=full", "extract.budget=60 MB"]))
