"""Another judge of a profile's evaluation answers, by the name that parameters would give it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from psr.errors import PsrError
from psr.judges.judging import Judge
from psr.types import Attribute, Completion, Judgement
from tasks.asking.calibration import calibrate_attribute, ready
from tasks.asking.judgements import judge_once
from tasks.asking.models import ModelSettings
from tasks.benchmarks.judges import judge_settings, judges_named
from tasks.engine.cells import Cells
from tasks.engine.progress import say
from tasks.studies.agreement.answers import Answers
from tasks.tables.parquet import read_judgements, read_table, write_table


@dataclass(frozen=True)
class Asked:
    """A judge to ask. name, settings: as parameters have them; label: the name to store its verdicts under, None for its id with
    the settings; data: the profile's folder, whose answers to the fitting questions it may be calibrated on; model: the
    profile's, for judges that read with it."""

    name: str
    settings: Mapping[str, Any]
    label: str | None
    data: Path
    model: ModelSettings
    cells: Cells

    def stored_as(self, id: str) -> str:
        """The name that verdicts of the judge with this id are stored under: what is set is named where the id does not."""
        parts = re.split("[:@]", id)  # openai:MODEL
        given = ", ".join(f"{key}={value}" for key, value in sorted(self.settings.items()) if str(value) not in parts)
        return self.label or (f"{id} ({given})" if given else id)


def judged_again(asked: Asked, answers: Answers, completions: Sequence[Completion]) -> list[Judgement]:
    """The judge's verdicts on the completions, with the name to store them under. Attributes that it cannot judge are left out,
    with a line that says why.

    Raises PsrError: an unknown judge or setting, the profile's own judge, one that can judge none of the attributes or gave no
    value at all.
    """
    settings = judge_settings(asked.name, asked.settings)
    refused: dict[str, str] = {}
    judges = _able(asked, answers, settings, {answers.items[one.id].attribute for one in completions}, refused)
    left_out = _by_reason(refused)
    for line in left_out:
        say(f"{asked.name} leaves out {line}")
    labels = {benchmark: asked.stored_as(judge.id) for benchmark, judge in judges.items()}
    if own := {one.judge for one in read_judgements(asked.data / "judge/judgements.parquet")} & {*labels.values()}:
        raise PsrError(
            "the profile's own judge has judged these answers already",
            where=f"judge {asked.name}",
            expected="another judge, or other settings",
            got=", ".join(sorted(own)),
        )
    judged: list[Judgement] = []
    for benchmark, judge in judges.items():
        label, calls = labels[benchmark], getattr(judge, "calls_per_item", 0)
        own_answers = [one for one in completions if _judged_by(benchmark, answers, one, refused)]
        say(f"{label}: {len(own_answers)} answers to judge" + (f", {calls * len(own_answers)} calls" if calls else ""))
        verdicts = judge_once(judge, own_answers, answers.pairs, asked.cells, f"agreement {label}")
        judged += [replace(one, judge=label) for one in verdicts]
    if not any(one.value is not None for one in judged):
        left_out = left_out or [next((one.error for one in judged), "there is no answer")]
        raise PsrError(
            "this judge can judge none of the answers",
            where=f"judge {asked.name}",
            got="; ".join(left_out),
            do="Choose another judge.",
        )
    return judged


def _by_reason(refused: Mapping[str, str]) -> list[str]:
    """Each reason once, behind the attributes that it is of."""
    reasons = dict.fromkeys(refused.values())
    return [f"{', '.join(key for key in refused if refused[key] == reason)}: {reason}" for reason in reasons]


def _judged_by(benchmark: str, answers: Answers, completion: Completion, refused: Mapping[str, str]) -> bool:
    key = answers.items[completion.id].attribute
    return answers.attributes[key].benchmark == benchmark and key not in refused


def _able(
    asked: Asked, answers: Answers, settings: Mapping[str, Any], keys: Iterable[str], refused: dict[str, str]
) -> dict[str, Judge]:
    """benchmark -> its judge, ready to judge; the reasons of attributes that it cannot judge are put into `refused`.

    What a judge was calibrated to is kept in agreement/calibrations.parquet.
    """
    by_benchmark: dict[str, list[Attribute]] = {}
    for key in sorted(keys):
        by_benchmark.setdefault(answers.attributes[key].benchmark, []).append(answers.attributes[key])
    judges: dict[str, Judge] = {}
    rows: list[dict[str, Any]] = []
    for benchmark, attributes in by_benchmark.items():
        try:
            judge: Any = judges_named(attributes, asked.name, **settings)[benchmark]
        except PsrError as error:
            refused |= dict.fromkeys((one.key for one in attributes), str(error))
            continue
        refused |= {one.key: reason for one in attributes if (reason := judge.refuses(one))}
        for one in attributes:
            if hasattr(judge, "calibrate") and one.key not in refused:
                try:
                    cell = calibrate_attribute(one.key, judge, asked.data / "complete", asked.model, asked.cells)
                except PsrError as error:
                    refused[one.key] = str(error)
                else:
                    rows += read_table(cell / "calibrations.parquet", "calibrations")
        if any(one.key not in refused for one in attributes):
            judges[benchmark] = judge
    folder = asked.data / "agreement"
    if rows:
        write_table(folder / "calibrations.parquet", "calibrations", rows)
    return ready(judges, folder, asked.model)
