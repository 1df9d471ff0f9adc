"""The quick reader of dvc.yaml agrees with DVC's own, for every stage and profile."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from flows import params
from psr.errors import PsrError
from tasks.engine.dvc_file import stage_names, stage_spec

ROOT = Path(__file__).resolve().parents[2]
PROFILES = ("smoke", "quick", "full", "all")


def test_it_agrees_with_dvc():
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    with Repo(str(ROOT)) as repo:
        stages = {stage.addressing: stage for stage in repo.index.stages if "@" in stage.addressing}
        assert set(stages) == {f"{name}@{profile}" for name in stage_names(ROOT) for profile in PROFILES}
        for address, stage in stages.items():
            spec = stage_spec(ROOT, *address.split("@"))
            files = {dep.def_path for dep in stage.deps if dep.def_path != "params.yaml"}
            keys = {key for dep in stage.deps for key in getattr(dep, "params", [])}
            assert spec.address == address
            assert spec.command == stage.cmd
            assert set(spec.deps) == files
            assert {f"{spec.profile}.{section}" for section in spec.sections} == keys
            assert set(spec.outs) == {out.def_path for out in stage.outs}


@pytest.mark.parametrize("profile", PROFILES)
def test_every_stage_names_sections_that_exist_and_its_flow_takes_exactly_those(profile):
    import inspect
    from importlib import import_module

    for name in stage_names(ROOT):
        spec = stage_spec(ROOT, name, profile)
        flow = getattr(import_module(f"flows.{name}"), name)
        wanted = [parameter for parameter in inspect.signature(flow.fn).parameters if parameter != "place"]
        assert sorted(wanted) == sorted(spec.sections), name
        assert set(spec.sections) <= set(params.section_names())


def test_outputs_lie_where_the_readme_says():
    assert stage_spec(ROOT, "distill", "quick").folder == "data/quick/distill"
    assert stage_spec(ROOT, "results", "quick").folder == "data/quick/results"
    assert stage_spec(ROOT, "report", "quick").folder == "data/report"
    assert stage_spec(ROOT, "report", "smoke").folder == "data/smoke/report"


def test_unknown_names_list_the_known_ones():
    with pytest.raises(PsrError, match=r"unknown stage.*complete, select.*'distil'"):
        stage_spec(ROOT, "distil", "quick")
    with pytest.raises(PsrError, match=r"unknown profile.*smoke, quick, full.*'quik'"):
        stage_spec(ROOT, "distill", "quik")


def test_a_placeholder_without_a_value_is_named(tmp_path):
    (tmp_path / "params.yaml").write_text("quick: {a: 1}\n")
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  s:\n    foreach: {quick: {m: '${quick.model}'}}\n    do: {cmd: x, outs: [o]}\n"
    )
    with pytest.raises(PsrError, match=r"no value \(\$\{quick\.model\}\)"):
        stage_spec(tmp_path, "s", "quick")


@pytest.mark.parametrize("text", [None, "stages: ["])
def test_a_missing_or_damaged_file_is_named(tmp_path, text):
    if text:
        (tmp_path / "dvc.yaml").write_text(text)
    with pytest.raises(PsrError, match=r"missing|no valid YAML"):
        stage_spec(tmp_path, "s", "quick")
