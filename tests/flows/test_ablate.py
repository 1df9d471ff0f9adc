"""The door of the ablation: what it refuses, what it prints, and where its rows are kept."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows import ablate, params
from tasks.shown.query import ask
from tasks.studies.ablation.table import ablation_rows
from tasks.studies.ablation.variants import parse_variant
from tests.results_folder import ablation_row, write_results

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished profile, and a study whose rows take no time: each variant 2 points below the prompt."""
    write_results(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "data/testbed").symlink_to(ROOT / "data/testbed")
    monkeypatch.setattr(ablate.environment, "set_defaults", lambda root: None)
    monkeypatch.setattr(ablate, "open_model", lambda settings: SimpleNamespace(n_layers=6, fingerprint="0"))
    monkeypatch.setattr(ablate, "subjects", lambda data, settings, attributes, model, cells: attributes)
    monkeypatch.setattr(
        ablate.Study,
        "rows",
        lambda self, variants: (
            ablation_row(one.key, variant.name, -2.0, layer=variant.layer, seeds=len(self.seeds))
            for variant in variants
            for one in self.subjects
        ),
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("arguments", "words"), [
    (["--seeds", "0"], r"\(--seeds\), expected a whole number of at least 1, got 0"),
    (["--variant", "s-psr4-kl-qr"], r"names its layer"),
    (["--variant", "s-psr4-kl-qr@9"], r"no such layer to steer \(s-psr4-kl-qr@9\), expected 0 to 5, got 9"),
    (["--attribute", "axbench/0"], r"\(--attribute\), expected persona/NAME or ifeval/NAME"),
    (["--attribute", "grumpy"], r"unknown attribute.*expected one of bossy.*got 'grumpy'"),
    (["--profile", "none"], r"unknown profile \(params.yaml\)"),
])  # fmt: skip
def test_what_cannot_be_measured_is_refused_in_one_line(root, capsys, arguments, words):
    assert ablate.main(arguments, root) == 2
    printed = capsys.readouterr()
    assert re.search(words, printed.err)
    assert printed.err.count("\n") == 1


def test_rows_are_stored_indexed_and_shown(root, capsys, monkeypatch):
    added: list[Path] = []
    monkeypatch.setattr(ablate, "add_output", lambda root, folder: added.append(folder))
    named = [
        "--variant",
        "s-psr4-kl-qr@1+delta",
        "--variant",
        "a-psr-mse-qr",
        "--attribute",
        "pirate",
        "--attribute",
        "ifeval/startend:quotation",
        "--seeds",
        "2",
    ]
    assert ablate.main(named, root) == 0
    assert added == [root / "data/quick/ablation"]
    asked = "select attribute, variant, ahead, seeds from ablation where variant <> 's-psr4-kl-qr@2' order by all"
    assert ask(root / "data/results.duckdb", asked).rows == tuple(
        (key, name, -2.0, 2)
        for key in ("ifeval/startend:quotation", "persona/pirate")
        for name in ("a-psr-mse-qr", "s-psr4-kl-qr@1+delta")
    )
    page = (root / "data/quick/page/index.html").read_text(encoding="utf-8")
    assert "s-psr4-kl-qr@1+delta" in page
    printed = capsys.readouterr().out
    assert "s-psr4-kl-qr@1+delta, best on the search questions: at least the prompt's figure on 0 of 1" in printed
    assert (
        "\na-psr-mse-qr: the prompt's effect (+0.5) at no more drift (0.300 of 0.500 nats a token) on 1 of 1" in printed
    )


def test_without_names_the_profiles_traits_and_the_whole_grid_are_measured(root):
    assert ablate.main([], root) == 0
    rows = [row for row in ablation_rows(root / "data/quick") if row["seeds"] == 3]
    assert {row["attribute"] for row in rows} == {"persona/pirate", "persona/hedging", "persona/gloomy"}
    assert len(rows) == 3 * 40


def test_the_pages_profiles_and_variants_are_what_the_commands_take(tmp_path):
    page = (ROOT / "docs/how-to/experiment.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml[^\n]*\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8") + "".join(blocks))
    names = [line.strip(" :\n") for block in blocks for line in block.splitlines() if re.match(r"  \w", line)]
    assert "smollm2-ablation" in names
    for name in names:
        assert params.load(tmp_path, name).methods
    variants = [
        parse_variant(name) for name in re.findall(r"--variant ([^\s`]+)", page.replace("\n", " ")) if name[0] in "as"
    ]
    assert sorted(one.triplets for one in variants if one.triplets and one.keep is None and one.rank == 1) == [
        6, 12, 36, 36, 72, 144,
    ]  # fmt: skip
    assert {one.keep for one in variants} == {None, 0.0, 0.3, 1.0}
