"""What judges answered is kept once for all: across processes, after a kill, and through the steps of the pipeline."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from test_suite import SETTINGS, run

from flows import params
from flows.params import Profile
from flows.settings import check_questions
from psr.errors import PsrError
from psr.judges.llm import Answer
from psr.types import Attribute, Usage
from tasks.asking.kept import KeptAnswers, keeping
from tasks.benchmarks.judges import judge_settings, judges_named
from tasks.shown import index
from tasks.shown.query import ask
from tasks.tables.judge_answers import FILE, judge_answers
from tasks.tables.parquet import read_judgements
from tests.judge_server import KEY, MODEL, Reply, completion, endpoint

ROOT = Path(__file__).resolve().parents[2]
ROW = Answer(
    "k",
    "openai:m",
    "persona-text-1",
    "trait",
    "m-1",
    "hash",
    "Score: [[5]]",
    5.0,
    "",
    10,
    2,
    "2026-01-01T00:00:00+00:00",
)


def test_a_row_comes_back_as_it_was_and_the_first_one_stays(tmp_path: Path) -> None:
    kept = KeptAnswers(tmp_path / FILE)
    assert (kept.get("k"), judge_answers(tmp_path), kept.path.exists()) == (None, [], False)
    kept["k"] = ROW
    kept["n"] = replace(ROW, key="n", value=None, error="the judge gave no number: ''", judge="openai:other")
    kept["k"] = replace(ROW, value=7.0)
    assert kept.get("k") == ROW
    assert kept.get("n").value is None
    assert kept.spent("openai:m") == Usage(1, 10, 2)
    assert [row["key"] for row in judge_answers(tmp_path)] == ["k", "n"]


def test_many_write_at_once(tmp_path: Path) -> None:
    def write(n: int) -> None:
        KeptAnswers(tmp_path / FILE)[str(n)] = replace(ROW, key=str(n))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    assert KeptAnswers(tmp_path / FILE).spent("openai:m").calls == 40


def test_a_damaged_file_is_one_clear_line(tmp_path: Path) -> None:
    file = tmp_path / "answers.sqlite"
    file.write_bytes(b"no database, not at all" * 100)
    with pytest.raises(PsrError, match="cannot be kept") as error:
        KeptAnswers(file).get("k")
    assert "\n" not in str(error.value)


JUDGING = textwrap.dedent("""
    import sys
    from pathlib import Path
    from psr.types import Attribute, JudgeItem
    from tasks.asking.kept import keeping
    from tasks.benchmarks.judges import judges_named

    url, model, root = sys.argv[1:]
    pirate = Attribute("persona", "pirate", (), (), (), (), (), "How much of a pirate is in {answer}?")
    judges = judges_named([pirate], "openai", base_url=url, model=model, reading="text", concurrency=2)
    items = [JudgeItem(str(n), "persona/pirate", "What?", f"Arr {n}") for n in range(10)]
    print(len(keeping(judges, Path(root))["persona"](items).judgements))
""")


def test_after_a_kill_only_what_was_on_its_way_is_asked_again(tmp_path: Path) -> None:
    def slow_from_the_ninth(body, n):
        return Reply(completion("Score: [[40]]"), hang=0.0 if n < 8 else 60.0)

    def judging(url: str) -> subprocess.Popen[str]:
        variables = {**os.environ, "OPENAI_API_KEY": KEY, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", JUDGING, url, MODEL, str(tmp_path)]
        return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    hung = []
    with endpoint(
        lambda body, n: (slow_from_the_ninth if not hung else lambda *_: completion("Score: [[40]]"))(body, n)
    ) as served:
        process = judging(served.base_url)
        end = time.monotonic() + 60
        while len(served.asked) < 10 and time.monotonic() < end:  # eight answered, two on their way
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert len(judge_answers(tmp_path)) == 8
        hung.append(True)
        before = list(served.asked)
        said, problem = judging(served.base_url).communicate(timeout=60)
        assert said.strip() == "20", problem
        again = [body["messages"][0]["content"] for body in served.asked[len(before) :]]
    first = [body["messages"][0]["content"] for body in before]
    assert (len(again), len({*first, *again})) == (12, 20)
    assert not set(again) & set(first[:8])
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and KEY.encode() in file.read_bytes()]


def openai(url: str, **more) -> dict:
    return {**SETTINGS, "judge": {"name": "openai", "base_url": url, "model": MODEL, "retries": 0, **more}}


@pytest.mark.slow
def test_the_pipeline_asks_an_endpoint_and_asks_nothing_twice_whichever_profile_asks(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    steps = ("complete", "select")
    with endpoint(lambda body, n: completion("Rating: [[2]]")) as served:
        data = run(tmp_path, openai(served.base_url), steps)
        judgements = read_judgements(data / "select" / "judgements.parquet")
        asked = len(served.asked)
        assert {(one.judge, one.rubric) for one in judgements} == {
            (f"openai:{MODEL}", rubric) for rubric in ("persona-logprobs-1", "ifeval-logprobs-1", "axbench-text-1")
        }
        assert {one.value for one in judgements if one.dimension == "concept"} == {2.0}
        assert {round(one.value, 6) for one in judgements if one.dimension == "trait"} == {69.5}
        shutil.rmtree(tmp_path / ".psr" / "cells")  # as in another checkout's profile, or after an edit to the code
        shutil.rmtree(data / "select")
        run(tmp_path, openai(served.base_url, concurrency=2, max_calls=asked), steps)
        assert len(served.asked) == asked
        assert read_judgements(data / "select" / "judgements.parquet") == judgements
    usage = ask(index.rebuild(tmp_path), "SELECT sum(calls), sum(tokens_in), sum(without_value) FROM judge_usage").rows
    assert usage == ((asked, 100 * asked, 0),)
    [(views, shown)] = ask(
        index.database(tmp_path), "SELECT count(*), max(reply) FROM judge_answers WHERE rubric LIKE 'ax%'"
    ).rows
    assert (views > 0, shown) == (True, "Rating: [[2]]")
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and KEY.encode() in file.read_bytes()]


def test_a_budget_that_is_used_up_ends_the_step_and_the_next_run_goes_on(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with endpoint(lambda body, n: completion("Rating: [[1]]")) as served:
        with pytest.raises(PsrError, match=r"budget is used up .*max_calls.* Raise judge.max_calls"):
            run(tmp_path, openai(served.base_url, max_calls=9), ("complete", "select"))
        assert len(served.asked) == 9
        run(tmp_path, openai(served.base_url), ("select",))
        texts = [body["messages"][0]["content"] for body in served.asked]
        assert len(set(texts)) == len(texts)


def test_the_key_is_asked_for_before_anything_starts_and_stands_in_no_settings(tmp_path: Path, monkeypatch) -> None:
    settings = Profile.model_validate(openai("http://127.0.0.1:9/v1"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    check_questions(settings)
    with pytest.raises(PsrError, match=r"no key for the endpoint .*environment variable OPENAI_API_KEY"):
        check_questions(settings, judging=True)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    check_questions(settings, judging=True)
    params.write_settings(tmp_path, "mini", settings, lambda path: "hash")
    [file] = tmp_path.rglob("settings.yaml")
    written = yaml.safe_load(file.read_text())["judge"]
    assert written["key_variable"] == "OPENAI_API_KEY"
    assert not {"answers", "key_of", "key"} & set(written)
    assert KEY not in file.read_text()


def test_a_judge_travels_to_another_process_without_its_key(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    pirate = Attribute("persona", "pirate", (), (), (), (), (), "")
    judge = keeping(judges_named([pirate], "openai", model=MODEL), tmp_path)["persona"]
    sent = pickle.dumps(judge)
    assert KEY.encode() not in sent
    assert pickle.loads(sent).key() == KEY


def test_the_judges_have_typed_settings_of_their_own() -> None:
    assert judge_settings("openai", {"model": MODEL})["concurrency"] == 8
    assert judge_settings("local", {"model": "data/models/smollm2"})["dtype"] == "auto"
    for name, given, line in [
        ("openai", {"reading": "tea leaves"}, "reading"),
        ("openai", {"max_calls": "many"}, "max_calls"),
        ("openai", {"key": KEY}, "unknown setting of judge openai"),
        ("local", {"answers": {}}, "unknown setting of judge local"),
    ]:
        with pytest.raises(PsrError, match=line):
            judge_settings(name, given)
