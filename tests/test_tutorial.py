"""The tutorial runs from its first cell to its last on the outputs of smollm2-quick, and what it says of them is so."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tasks.shown import index

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
MODEL, QUICK = ROOT / "data/models/smollm2", ROOT / "data/smollm2-quick"
CLAIMS = """
def mean(method, column="trait"):
    return answers_to_fit_on.set_index("method")[column][method]

assert pair.plain == pair.instructed[1:], "the chats differ by the instruction alone"
assert plain.text.strip() and prompted.text.strip() and plain.text != prompted.text

assert mean("plain", "answers") == mean("instructed", "answers")
assert mean("instructed", "answers") % 5 == 0, "five wordings"
assert abs(mean("plain")) < 20 and abs(mean("instructed") - 100) < 20, "what the judge calls 0 and 100"
assert answers_to_fit_on.coherence.between(0, 100).all() and answers_to_fit_on.coherence.min() > 60
assert calibration.auc.item() >= 0.9
assert kept_and_dropped.set_index("what").answers["kept"] == modules.triplets["a-psr-mse-qr"]
assert kept_and_dropped.answers.sum() == mean("instructed", "answers")

assert module.layers == tuple(range(lm.n_layers)) and module.span == "QR"
assert {name: tensor.shape[0] for name, tensor in module.tensors.items()} == dict.fromkeys("zwb", lm.n_layers)

at_zero = curve.set_index("alpha").loc[0]
assert curve.trait.max() > at_zero.trait + 30, "more of the module is more of the trait"
assert curve.coherence.iloc[-1] < at_zero.coherence, "until the answers cease to make sense"
assert alpha > 0

assert len(side_by_side) == 4 and not side_by_side.isna().any(axis=None)
assert (side_by_side.plain != side_by_side.steered).all()
assert {"plain", "prompt", module.origin["method"]} <= set(figures.slug)

assert unsteered.text != steered.text
assert len(shown.strengths) == len(shown.delta) == lm.n_layers and min(map(min, shown.strengths)) >= 0
assert steered.text in "".join(shown.tokens) and question in "".join(shown.tokens)
assert shown._repr_html_().count("the prompt’s own effect") > 1
assert answered["λ"].max() > 1.5 * answered["λ"].min(), "it does not add the same everywhere"
"""


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_kept_without_outputs_in_short_cells(notebook):
    nbformat.validate(notebook)
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all((cell.outputs, cell.execution_count) == ([], None) for cell in codes)
    assert max(len(cell.source.splitlines()) for cell in codes) <= 20


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not MODEL.is_dir(), reason="python -m flows.fetch smollm2 has not been run")
@pytest.mark.skipif(not (QUICK / "results").is_dir(), reason="the profile smollm2-quick has not been run")
def test_every_cell_runs_and_what_it_says_is_so(notebook, tmp_path, monkeypatch):
    for folder in (MODEL, QUICK):
        link = tmp_path / folder.relative_to(ROOT)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(folder)
    index.rebuild(tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook.cells.append(nbformat.v4.new_code_cell(CLAIMS))
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path / "docs")}})
    client.execute()
    printed = [out.get("text", "") for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    ours = [
        text for text in printed if "IProgress not found" not in text
    ]  # tqdm misses widgets that nothing here needs
    assert not [text for text in ours if "Warning" in text or "Traceback" in text]
