"""The paper's runs: each profile is valid and says what it costs with nothing at hand, and each runs in small to its table, from
files of the published layout, on a tiny random model of its family, judged by an endpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from test_pipeline import clone, door, sql

from flows import params
from flows.estimate import cost_lines, judge_calls, total
from flows.sections import Profile
from psr.fitting.presets import AXBENCH_FACTORS
from tests.benchmark_files import trait, write_concept_set, write_single_instructions
from tests.judge_server import completion, endpoint
from tests.psr.families import FAMILIES, NATURAL_TEMPLATE, tokenizer

ROOT = Path(__file__).resolve().parents[2]
PERSONA = ("persona-qwen", "persona-llama", "persona-gemma")
AXBENCH = ("axbench-2b", "axbench-9b", "steerscope-2b", "steerscope-9b")
PAPER = (*PERSONA, "ifeval-gemma", *AXBENCH)


@pytest.mark.parametrize("profile", PAPER)
def test_a_run_says_what_it_costs_without_model_files_or_key(
    profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    settings = params.load(ROOT, profile)
    lines = dict(line.split(": ", 1) for line in cost_lines(tmp_path, settings))
    assert list(lines) == ["prompts", "memory", "disk", "judge openai", "not here"]
    asked = total(settings).completions
    assert f"{asked:,} answered, with at most {settings.sampling.max_new_tokens} new tokens each" in lines["prompts"]
    questions = {"persona": 2, "ifeval": 1, "axbench": 3}[settings.benchmarks[0].name]
    assert lines["judge openai"] == f"at most {questions * asked:,} calls"
    assert settings.model.path in lines["not here"]
    assert settings.benchmarks[0].path in lines["not here"]


def test_the_runs_of_one_table_differ_by_their_model_alone() -> None:
    own = {"model": {"path"}, "distill": {"layer"}, "report": True}
    first, *others = (params.load(ROOT, name).model_dump(exclude=own) for name in PERSONA)
    assert others == [first, first]
    both = [params.load(ROOT, name).model_dump(exclude={**own, "benchmarks": True}) for name in AXBENCH[:2]]
    assert both[0] == both[1]


def test_fits_are_as_quoted_and_factors_are_axbenchs() -> None:
    for name in PAPER:
        distill = params.load(ROOT, name).distill
        assert (distill.preset, distill.epochs, distill.batch_size, distill.lr) == ("paper", None, None, None)
    for name in AXBENCH:
        settings = params.load(ROOT, name)
        assert (settings.search.factors, settings.distill.layer) == (AXBENCH_FACTORS, 20)
        assert settings.benchmarks[0].attributes == 500


SMALL = (
    "model.path=data/models/tiny", "model.dtype=float32", "model.device=cpu", "model.threads=1", "sampling.max_new_tokens=8",
    "complete.questions=3", "complete.instructions=1", "complete.samples=2", "distill.epochs=1", "distill.layer=1",
    "search.questions=2", "search.samples=1", "search.alphas=[0, 1]", "search.refine=[1]", "search.resamples=20",
    "steer.questions=2", "steer.samples=1", "faithfulness.questions=1", "faithfulness.triplets=2", "faithfulness.resamples=20",
    "results.resamples=20",
)  # fmt: skip


def write_traits(folder: Path) -> None:
    for side in ("trait_data_extract", "trait_data_eval"):
        (folder / side).mkdir(parents=True)
        text = json.dumps(trait([f"{side[11:]} {i}?" for i in range(4)], side[11:]))
        (folder / side / "loud.json").write_text(text)


def write_concepts(folder: Path) -> None:
    write_concept_set(folder, {0: "the sea", 1: "money"}, ("train/data.parquet", "test/data.parquet"))


Write = Callable[[Path], object]
RUNS: list[tuple[str, str, Write, list[str]]] = [
    ("persona-qwen", "qwen2", write_traits, ["benchmarks.0.attributes=[loud]"]),
    ("persona-llama", "llama", write_traits, ["benchmarks.0.attributes=[loud]"]),
    ("persona-gemma", "gemma2", write_traits, ["benchmarks.0.attributes=[loud]"]),
    ("ifeval-gemma", "gemma2", write_single_instructions, ["benchmarks.0.attributes=['punctuation:no_comma']"]),
    ("axbench-2b", "gemma2", write_concepts, ["benchmarks.0.attributes=2", "search.factors=[0.5, 1]"]),
    ("steerscope-9b", "gemma2", write_concepts, ["benchmarks.0.attributes=2", "search.factors=[0.5, 1]"]),
]


def scripted(body: dict[str, Any], _: int) -> dict[str, Any]:
    """Ratings that differ from text to text and are good enough to learn from."""
    number = sha256(json.dumps(body["messages"]).encode()).digest()[0]
    rating = 1 + number % 2 if "Rating: [[N]]" in body["messages"][-1]["content"] else 60 + number % 40
    others = [(f"word {i}", -9.0) for i in range(19)]
    return completion(f"[[{rating}]]", [(str(rating), 0.0), *others], body["model"])


def run(tmp_path: Path, profile: str, family: str, write: Write, changes: Sequence[str]) -> tuple[Path, Profile, str]:
    """A clone in which the profile has run in small, its settings, and what the command printed."""
    folder = clone(tmp_path / "clone", smoke=False)
    FAMILIES[family]().save_pretrained(folder / "data/models/tiny")
    tokenizer(NATURAL_TEMPLATE[family]).save_pretrained(folder / "data/models/tiny")
    write(folder / params.load(ROOT, profile).benchmarks[0].path)
    sets = [word for change in changes for word in ("--set", change)]
    said = door(folder, "flows.reproduce", "--profile", profile, *sets).stdout
    return folder, params.load(folder, profile, changes), said


def check_table(folder: Path, profile: str, settings: Profile, said: str) -> None:
    rows = sql(folder, f"SELECT DISTINCT method, slug FROM figures WHERE profile = '{profile}'")
    expected = {"plain", "prompt", *settings.methods, *(f"{slug}+prompt" for slug in settings.steer.with_prompt)}
    assert {row["slug"] for row in rows} == expected
    assert all(row["method"] in said for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize(("profile", "family", "write", "changes"), RUNS, ids=[run[0] for run in RUNS])
def test_a_run_in_small_goes_from_published_files_to_the_table(
    profile: str, family: str, write: Write, changes: list[str], tmp_path: Path
) -> None:
    with endpoint(scripted) as served:
        asked_at = ["judge.key_variable=''", f"judge.base_url={served.base_url}"]
        folder, settings, said = run(tmp_path, profile, family, write, [*SMALL, *changes, *asked_at])
    check_table(folder, profile, settings, said)
    assert 0 < len(served.texts) <= judge_calls(settings)
    asked = sql(
        folder,
        f"SELECT count(DISTINCT c.id) AS n FROM completions c WHERE profile = '{profile}' AND stage != 'faithfulness'",
    )
    assert asked[0]["n"] <= total(settings).completions
    judged = sql(folder, f"SELECT count(*) AS n, count(value) AS values FROM judgements WHERE profile = '{profile}'")
    assert judged[0]["n"] == judged[0]["values"]
    if settings.benchmarks[0].name == "axbench":
        gains = sql(folder, f"SELECT slug, alpha FROM one_factor WHERE profile = '{profile}'")
        assert {row["slug"] for row in gains if row["alpha"] in (0.5, 1.0)} == set(settings.methods)


@pytest.fixture(scope="module")
def judge_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model that was taught to write 0, 1 and 2."""
    torch.manual_seed(0)
    model, words = FAMILIES["llama"]().requires_grad_(), tokenizer(NATURAL_TEMPLATE["llama"])
    digits = torch.tensor([words.convert_tokens_to_ids(str(digit)) for digit in range(3)])
    model.config.max_position_embeddings = 2048  # room for a rubric
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        chats = torch.randint(0, len(words), (8, 24))
        loss = -model(input_ids=chats).logits.log_softmax(-1)[..., digits].logsumexp(-1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    folder = tmp_path_factory.mktemp("judge") / "model"
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("profile", "family", "write", "changes"), [RUNS[0], RUNS[3], RUNS[5]], ids=["persona", "ifeval", "axbench"]
)
def test_the_same_run_is_judged_by_a_model_in_its_own_process(
    profile: str, family: str, write: Write, changes: list[str], tmp_path: Path, judge_model: Path
) -> None:
    judge = f"judge={{name: local, model: {judge_model}, dtype: float32, device: cpu}}"
    lenient = ["select.min_trait=0", "select.min_coherence=0"]  # a random model's answers are not good
    folder, settings, said = run(tmp_path, profile, family, write, [*SMALL, *changes, *lenient, judge])
    check_table(folder, profile, settings, said)
    rows = sql(
        folder, f"SELECT rubric, value, scale FROM judgements WHERE profile = '{profile}' AND rubric LIKE '%exact%'"
    )
    assert rows
    assert all(row["value"] is not None and 0 <= row["value"] <= row["scale"] for row in rows)
