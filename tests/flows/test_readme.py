"""What README and docs/ say is what a run said and what the files are."""

import json
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

import psr
from flows.params import load
from psr.errors import PsrError
from psr.testbed.judges import TestbedJudge
from tasks.shown.readme import METRICS, PRINTED, SHOWN, fill, headline, pages, read_metrics, steady_parts, tree

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = (
    "pip install -e '.[pipeline]' -c constraints.txt && python -m flows.reproduce",
    "pip install -e '.[test]' -c constraints.txt && pytest",
)


def committed_metrics(tmp_path: Path, profile: str) -> dict[str, Any]:
    """The metrics as committed: a run on another machine may have changed the last digits of those in the work tree."""
    file = METRICS.format(profile=profile)
    shown = subprocess.run(
        ["git", "-C", str(ROOT), "show", f"HEAD:{file}"], capture_output=True, text=True, check=False
    )
    target = tmp_path / file
    target.parent.mkdir(parents=True)
    target.write_text(
        shown.stdout if shown.returncode == 0 else (ROOT / file).read_text(encoding="utf-8"), encoding="utf-8"
    )
    return read_metrics(tmp_path, profile)


def test_the_two_commands_stand_before_line_30():
    top = "\n".join(README.splitlines()[:30])
    assert all(command in top for command in COMMANDS)


def test_ci_runs_exactly_these_two_lines():
    script = (ROOT / ".ci/run").read_text()
    assert all(command in script for command in COMMANDS)


def test_the_headline_is_the_committed_one(tmp_path):
    assert headline(committed_metrics(tmp_path, SHOWN["headline"])) in README


def test_the_printed_output_is_of_the_same_run(tmp_path):
    metrics = committed_metrics(tmp_path, PRINTED)
    printed = README.split("<!-- output -->")[1].split("<!-- /output -->")[0]
    for attribute in metrics.values():
        for figure in attribute.values():
            assert re.search(rf"^{re.escape(figure['name'])} .*\b{figure['ta_cp']:.1f} \(", printed, re.MULTILINE), (
                figure["name"]
            )


def test_the_page_on_architecture_names_every_folder_with_its_promise():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    folders = [path.parent for name in ("psr", "tasks") for path in sorted((ROOT / name).glob("*/__init__.py"))]
    assert tree(ROOT) in page
    assert [folder for folder in folders if f"| `{folder.relative_to(ROOT).as_posix()}/` |" not in page] == []


def test_the_walk_through_the_house_names_at_most_thirty_files_and_all_are_there():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    walk = page.split("## Rooms")[0]
    numbered = re.findall(r"`([\w/.]+\.(?:py|yaml))`\W*(?:which asks DVC what\s+)?\((\d+)\)", walk)
    assert sorted(int(number) for _, number in numbered) == list(range(1, 31))
    assert [file for file, _ in numbered if not (ROOT / file).is_file()] == []


def test_the_module_to_steer_with_is_one_of_the_quick_profile():
    quick = load(ROOT, "quick")
    named = set(re.findall(r"data/quick/distill/modules/\S+", README))
    assert named
    for path in named:
        home, method, seed = path.split("/")[4:]
        assert home.removeprefix("persona-") in quick.benchmarks[0].attributes
        assert (method in quick.methods, seed) == (True, f"seed-{quick.seeds[0]}")


@pytest.fixture(scope="module")
def triplets() -> list[tuple[str, str, str]]:
    """The shipped model's own answers to the question with the instruction, as README asks for them."""
    pirate = json.loads((ROOT / "data/testbed/persona/extract/pirate.json").read_text(encoding="utf-8"))
    instructions = [pair["pos"] for pair in pirate["instruction"][:4]]
    lm = psr.load_model(ROOT / "data/testbed/model")
    pairs = [psr.PromptPair("persona/pirate", q, text) for q in pirate["questions"] for text in instructions]
    asked = [psr.Request(psr.encode_chat(lm.tokenizer, pair.instructed), seed=1) for pair in pairs]
    answers = psr.generate(lm, asked, psr.Sampling(64))
    return [(pair.question, pair.instruction, answer.text) for pair, answer in zip(pairs, answers, strict=True)]


@pytest.mark.slow
def test_the_code_that_steers_your_own_model_runs_as_it_stands_and_steers(triplets, tmp_path, monkeypatch, capsys):
    code = README.split("```python\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line]) <= 16
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)  # the model's own configuration samples
    exec(code, {"triplets": triplets})
    _question, _, answer = re.split(r"<\|user\|>|<\|assistant\|>", capsys.readouterr().out.replace("<eos>", ""))
    item = psr.JudgeItem("c", "persona/pirate", "Tell me about tea.", answer.strip())
    judged = psr.judge_all(TestbedJudge("persona"), [item]).judgements
    assert {one.dimension: one.value for one in judged}["trait"] > 50, judged


def test_the_count_of_verdicts_is_that_of_the_claims_page():
    page = (ROOT / "docs/claims.md").read_text().split("<!-- claims-testbed -->")[1]
    verdicts = Counter(re.findall(r"^\| \*\*\d\..*\| \*\*(\w+)\*\* \|", page, re.MULTILINE))
    words = ("none", "one", "two", "three", "four", "five", "six", "seven")
    told = f"{words[verdicts['holds']]} hold, {words[verdicts['fails']]} fail and {words[verdicts['undecided']]} are undecided"
    assert sum(verdicts.values()) == 7
    assert told in " ".join(README.split())


def test_the_parts_that_follow_from_committed_files_are_up_to_date():
    texts = pages(ROOT)
    assert fill(texts, {"tree": tree(ROOT)}) == texts


def test_a_part_that_changed_is_seen():
    parts = {name: part + " " for name, part in steady_parts(ROOT).items()}
    parts["headline"] = parts["headline"].replace("prompt", "other")
    texts = pages(ROOT)
    changed = [file for file, text in fill(texts, parts).items() if text != texts[file]]
    assert ROOT / "README.md" in changed


def test_a_part_stands_on_every_page_that_has_its_marks_and_nothing_else_changes(tmp_path):
    marks = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n"
    texts = {tmp_path / "1": marks, tmp_path / "2": f"c {marks}", tmp_path / "3": "old"}
    new = marks.replace("old", r"\1 new")
    assert fill(texts, {"x": r"\1 new"}) == {tmp_path / "1": new, tmp_path / "2": f"c {new}", tmp_path / "3": "old"}


def test_a_part_without_a_place_is_refused(tmp_path):
    with pytest.raises(PsrError, match="no page has marks for a part"):
        fill({tmp_path / "README.md": "nothing"}, {"headline": "x"})
