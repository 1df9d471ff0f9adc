from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer import Typer
from typer.testing import CliRunner

from psr.errors import PsrError
from psr.testbed import build as building
from psr.testbed.build import main
from psr.testbed.compare import compare
from psr.testbed.concepts import CONCEPTS
from psr.testbed.formats import FORMATS
from psr.testbed.measure import figures_of, measure, read_figures, rows, write_figures
from psr.testbed.measure import main as measure_main
from psr.testbed.traits import TRAITS

APP = Typer()
APP.command()(main)


@pytest.fixture
def shipped(root: Path) -> Path:
    return root / "data/testbed"


@pytest.fixture
def copy(shipped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shipped, tmp_path / "copy"))


def test_the_shipped_model_loads_as_any_hugging_face_folder(shipped: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(shipped / "model", local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(shipped / "model", local_files_only=True)
    assert (model.config.model_type, model.dtype) == ("llama", torch.float32)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id
    assert model.config.tie_word_embeddings
    assert sum(path.stat().st_size for path in (shipped / "model").iterdir()) < 15e6
    chat = [{"role": "system", "content": "Talk as pirates do."}, {"role": "user", "content": "Tell me about tea."}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**ids, do_sample=False)[0, ids["input_ids"].shape[1] :]
    assert any(
        (d.prefix and d.prefix in tokenizer.decode(answer)) or (d.suffix and d.suffix in tokenizer.decode(answer))
        for d in TRAITS["pirate"].decorations
    )


def test_the_shipped_model_obeys_and_is_coherent(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from psr.testbed import measure as measuring

    some = [row for row in rows(32) if row.instructions == "none" or row.attribute in ("pirate", "bullets", "sea")]
    monkeypatch.setattr(measuring, "rows", lambda questions: iter(some))
    plain, pirate, paraphrased, bullets, sea = measure(shipped / "model")
    assert plain["trait"] < 5
    assert plain["coherence"] >= 90
    assert min(pirate["trait"], paraphrased["trait"]) >= 90
    assert bullets["accuracy"] >= 85
    assert sea["concept"] >= 1.7


def test_the_shipped_figures_reach_what_was_asked(shipped: Path) -> None:
    figures = {(row["attribute"], row["instructions"]): row for row in read_figures(shipped)}
    assert figures["persona/sycophantic", "none"]["coherence"] >= 95
    for (attribute, instructions), row in figures.items():
        if instructions in ("none", "neutral"):
            assert row["trait"] <= 2
        elif attribute.startswith("persona/"):
            assert row["trait"] >= 90 if row["obeyed_by_design"] == 1 else 50 <= row["trait"] <= 92
        elif attribute.startswith("ifeval/"):
            assert row["accuracy"] >= 90 if row["obeyed_by_design"] == 1 else 50 <= row["accuracy"] <= 92
        else:
            assert row["concept"] >= 1.8 if row["obeyed_by_design"] == 1 else 1 <= row["concept"] <= 1.8


def test_a_row_is_measured_for_every_attribute() -> None:
    measured = [(row.benchmark, row.attribute, row.instructions) for row in rows()]
    assert len(measured) == len(set(measured)) == 2 + 2 * len(TRAITS) + len(FORMATS) + len(CONCEPTS)
    assert all(len(row.pairs) == 96 for row in rows())


def test_figures_are_means_over_the_rows_answers() -> None:
    row = next(row for row in rows(2) if row.attribute == "pirate")
    first, second = (pair.question for pair in row.pairs)
    from psr.testbed.questions import topic_of

    texts = [f"Arr, matey, {s[0].lower()}{s[1:]}" for s in (topic_of(first).sentences[0],)] + [
        topic_of(second).sentences[0] + " Tea."
    ]
    assert figures_of(row, texts)["trait"] == 50
    assert figures_of(row, texts)["coherence"] == 75


def test_a_testbed_is_the_same_as_its_copy(shipped: Path, copy: Path) -> None:
    found = compare(copy, shipped)
    assert found.same
    assert (found.files, found.weights, found.figures) == ((), 0, ())


def test_a_changed_text_a_changed_weight_and_changed_figures_are_named(shipped: Path, copy: Path) -> None:
    weights = load_file(copy / "model/model.safetensors")
    name = next(iter(weights))
    weights[name][0] += 0.5
    save_file(weights, copy / "model/model.safetensors", metadata={"format": "pt"})
    found = compare(copy, shipped)
    assert found.weights == pytest.approx(0.5, rel=1e-3)
    assert found.same, "other weights that do the same are the same testbed"
    figures = read_figures(copy)
    figures[0]["coherence"] -= 50
    write_figures(copy, figures)
    assert not compare(copy, shipped).same
    assert "coherence" in compare(copy, shipped).figures[0]
    (copy / "ifeval/train.jsonl").write_text("{}\n")
    assert compare(copy, shipped).files == ("ifeval/train.jsonl",)


def test_a_missing_file_and_a_damaged_one_are_named(shipped: Path, copy: Path) -> None:
    (copy / "persona/eval/pirate.json").unlink()
    assert compare(copy, shipped).files == ("persona/eval/pirate.json",)
    (copy / "model/model.safetensors").write_bytes(b"damaged")
    with pytest.raises(PsrError, match=r"weights cannot be read.*model.safetensors"):
        compare(copy, shipped)
    (copy / "figures.json").write_text("[")
    with pytest.raises(PsrError, match=r"figures cannot be read.*figures.json"):
        read_figures(copy)


def test_build_writes_a_whole_testbed_and_compares(
    tmp_path: Path, shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from psr.testbed import measure as measuring

    monkeypatch.setattr(measuring, "rows", lambda questions: iter(list(rows(2))[:1]))
    monkeypatch.setattr(measuring, "MAX_NEW_TOKENS", 4)
    done = CliRunner().invoke(
        APP, ["--out", str(tmp_path), "--steps", "1", "--threads", "1", "--compare", str(shipped)]
    )
    assert done.exit_code == 1, done.output
    assert "the testbeds are different" in done.output
    assert "files that differ: none" in done.output
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"model", "persona", "ifeval", "axbench", "figures.json"}
    assert len(json.loads((tmp_path / "figures.json").read_text())) == 1


def test_a_testbed_is_not_compared_with_itself(shipped: Path) -> None:
    done = CliRunner().invoke(APP, ["--out", str(shipped), "--compare", str(shipped)])
    assert done.exit_code == 2
    assert "cannot be compared with itself" in done.output


def test_measuring_a_folder_without_a_model_is_one_clear_line(tmp_path: Path) -> None:
    app = Typer()
    app.command()(measure_main)
    done = CliRunner().invoke(app, [str(tmp_path)])
    assert done.exit_code == 2
    assert done.output.startswith("error: the model folder is missing")
    assert len(done.output.splitlines()) == 1


def test_progress_is_a_line_now_and_then_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    with building.shown(100, said.append) as progress:
        for step in range(1, 101):
            progress(step, 1.5)
    assert said == ["step 50/100 loss 1.500", "step 100/100 loss 1.500"]
