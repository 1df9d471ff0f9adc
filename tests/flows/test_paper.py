"""The paper's runs: each profile is valid and says what it costs with nothing at hand, and each runs in small to its table, from
files of the published layout, on a tiny random model of its family, judged by an endpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from test_pipeline import clone, door, sql

from flows import params
from flows.estimate import cost_lines, judge_calls, total
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
    "results.resamples=20", "judge.key_variable=''",
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


@pytest.mark.slow
@pytest.mark.parametrize(("profile", "family", "write", "changes"), RUNS, ids=[run[0] for run in RUNS])
def test_a_run_in_small_goes_from_published_files_to_the_table(
    profile: str, family: str, write: Write, changes: list[str], tmp_path: Path
) -> None:
    folder = clone(tmp_path / "clone", smoke=False)
    FAMILIES[family]().save_pretrained(folder / "data/models/tiny")
    tokenizer(NATURAL_TEMPLATE[family]).save_pretrained(folder / "data/models/tiny")
    write(folder / params.load(ROOT, profile).benchmarks[0].path)
    with endpoint(scripted) as served:
        wanted = [*SMALL, *changes, f"judge.base_url={served.base_url}"]
        sets = [word for change in wanted for word in ("--set", change)]
        said = door(folder, "flows.reproduce", "--profile", profile, *sets).stdout
    settings = params.load(folder, profile, wanted)
    assert 0 < len(served.texts) <= judge_calls(settings)
    rows = sql(folder, f"SELECT DISTINCT method, slug FROM figures WHERE profile = '{profile}'")
    expected = {"plain", "prompt", *settings.methods, *(f"{slug}+prompt" for slug in settings.steer.with_prompt)}
    assert {row["slug"] for row in rows} == expected
    assert all(row["method"] in said for row in rows)
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
