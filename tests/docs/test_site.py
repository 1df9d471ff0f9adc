"""The site builds without a warning, needs nobody else's server, and no link in it is dead."""

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import psr

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow
LOADS = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "link": "href",
    "use": "href",
    "object": "data",
}


class Page(HTMLParser):
    """What a page has and points to."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.ids, self.links, self.loaded, self.styles = {""}, set(), set(), ""
        self._style = False
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        self.links |= {given["href"]} if tag == "a" and given.get("href") else set()
        self.loaded |= {given[LOADS[tag]]} if tag in LOADS and given.get(LOADS[tag]) else set()
        self.styles += given.get("style") or ""
        self._style = tag == "style"

    def handle_data(self, data):
        self.styles += data if self._style else ""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-d",
        folder / "read",
        ROOT / "docs",
        folder / "html",
    ]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "html"


def pages(site: Path) -> Iterator[tuple[Path, Page]]:
    for file in sorted(site.rglob("*.html")):
        yield file, Page(file)


def test_every_page_of_docs_is_in_it(site):
    built = {file.relative_to(site).with_suffix("") for file in site.rglob("*.html")}
    pages = [file for kind in ("*.md", "*.ipynb") for file in (ROOT / "docs").rglob(kind)]
    assert {file.relative_to(ROOT / "docs").with_suffix("") for file in pages} <= built


def test_nothing_is_loaded_from_another_host(site):
    for file, page in pages(site):
        assert [url for url in page.loaded if urlsplit(url).netloc] == [], file
        assert foreign(page.styles) == [], file
    for file in site.rglob("*.css"):
        assert foreign(file.read_text(encoding="utf-8")) == [], file


def foreign(css: str) -> list[str]:
    """What a stylesheet loads from elsewhere."""
    return re.findall(r"""(?:url\(|@import)\s*["']?\s*(?:https?:)?//[^"')\s]+""", css)


def test_every_link_and_anchor_leads_somewhere(site):
    found = dict(pages(site))
    dead = []
    for file, page in found.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not target.is_file() or (target in found and unquote(parts.fragment) not in found[target].ids):
                dead.append((file.name, link))
    assert dead == []


def test_every_public_name_of_psr_has_its_entry(site):
    ids = Page(site / "reference/psr.html").ids
    assert [name for name in psr.__all__ if f"psr.{name}" not in ids] == []
