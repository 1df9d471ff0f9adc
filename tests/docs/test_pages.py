"""The pages beside the site: their links lead somewhere, and they agree on the version."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_every_local_link_leads_somewhere(name):
    page = (ROOT / name).read_text(encoding="utf-8")
    assert [target for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page) if not (ROOT / target).exists()] == []


def test_the_citation_is_of_this_version_under_this_licence_and_names_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    paper = citation["references"][0]
    assert [author["family-names"] for author in paper["authors"]] == ["Heyman", "Vandeputte"]
    assert paper["title"].replace(":", "") in (ROOT / "NOTICE").read_text(encoding="utf-8").replace(":", "")


def test_the_changelog_begins_with_this_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first = re.search(r"^## (\d+\.\d+\.\d+)", changelog, re.MULTILINE)
    assert first
    assert first[1] == PROJECT["version"]
