"""`psr ui` as a process, and a real browser on its page: it asks, moves α, chooses a layer, switches the module.

The pictures that it takes lie in pytest's temporary folder; docs/_static/ui.png is light-1200.png.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from http.client import HTTPConnection
from importlib.util import find_spec

import pytest
from page_modules import NASTY, folder_with, nasty, pirate

import psr
from tests.browser import browser
from tests.conftest import ROOT
from tests.pages import blocks

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_spec("gradio") is None, reason="needs the extra `ui`")]
SECOND = "zz<img src=x onerror=window.hit=1>"  # the name of a folder
COLOURS = (
    "[...document.querySelectorAll('.card .tokens > span')].map(one => getComputedStyle(one).backgroundColor).join()"
)
TITLES = "[...document.querySelectorAll('.card h3')].map(one => one.textContent).join('|')"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The address of a page that runs."""
    lm = psr.load_model(ROOT / "data/testbed/model")
    folder = tmp_path_factory.mktemp("page")
    folder_with({"pirate": pirate(lm), SECOND: nasty(lm)}, folder / "my-modules")
    (folder / "data").symlink_to(ROOT / "data")
    [start] = [block.text for block in blocks("ui.md") if block.title == "ui"]  # the page's own command
    command = [sys.executable, "-m", "psr.cli", *start.split()[1:], "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )  # fmt: skip
    try:
        first = process.stdout.readline()
        found = re.fullmatch(r"model and 2 modules at (http://127\.0\.0\.1:\d+)\n", first)
        assert found, (first, process.stderr.read() if process.poll() is not None else "")
        yield found[1]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "Traceback" not in err


def press(tab, label: str) -> None:
    tab.value(
        f"[...document.querySelectorAll('button')].find(one => one.textContent.trim() === {json.dumps(label)}).click()"
    )


def choose(tab, label: str, choice: str) -> None:
    """By keyboard: the choice typed into its field."""
    tab.write(f'input[aria-label="{label}"]', choice)
    tab.key("Enter", 13)


def ask(tab, titles: str) -> None:
    """Until all sides have ended and the steered ones are shaded."""
    tab.until(f"{TITLES} === {json.dumps(titles)} && document.querySelectorAll('.card .tokens').length")


def test_asks_moves_alpha_chooses_a_layer_and_switches_the_module(page, tmp_path):
    with browser(tmp_path / "profile") as tab:
        tab.open(f"{page}/?__theme=light")
        tab.until("[...document.querySelectorAll('button')].some(one => one.textContent.trim() === 'Ask')")
        assert "recommended α 1; answers make sense from 0 to 1.5" in tab.value("document.body.innerText")
        press(tab, "Ask")
        ask(tab, "plain|prompted|pirate, α 1")
        tab.picture(tmp_path / "light-1200.png")
        before = tab.value(COLOURS)
        assert len(set(before.split("rgb"))) > 3
        assert "Arr" in tab.value("document.querySelector('.card .tokens').textContent")
        lines = tab.value("document.querySelector('.cm-content').innerText")
        assert "alpha=1.0" in lines
        choose(tab, "Tokens shaded by λ of", "layer 0")
        tab.until(f"document.querySelector('.card small:last-of-type') && {COLOURS} !== {json.dumps(before)}")
        choose(tab, "Tokens shaded by λ of", "sum over the layers")
        tab.until(f"{COLOURS} === {json.dumps(before)}")
        tab.value("document.querySelector('input[type=range]').focus()")
        for _ in range(10):
            tab.key("ArrowLeft", 37)
        ask(tab, "plain|prompted|pirate, α 0.5")
        assert tab.value(COLOURS) != before
        choose(tab, "Compared with", SECOND)
        ask(tab, f"plain|prompted|pirate, α 0.5|{SECOND}, α 1")
        tab.picture(tmp_path / "light-1200-compared.png")
        choose(tab, "Module", SECOND)
        ask(tab, f"plain|prompted|{SECOND}, α 1|{SECOND}, α 1")
        assert NASTY in tab.value("document.querySelectorAll('textarea')[1].value")
        tab.write("textarea", NASTY)
        press(tab, "Ask")
        tab.until("document.querySelector('.cm-content').innerText.includes('window.hit')")
        ask(tab, f"plain|prompted|{SECOND}, α 1|{SECOND}, α 1")
        for field, wrong, line in (
            ("Module", "missing", "no such module"),
            ("question", "", "the question is empty"),
            ("question", "tea " * 4000, "longer than the model's context"),
        ):
            if field == "question":
                choose(tab, "Module", "pirate")
                ask(tab, f"plain|prompted|pirate, α 1|{SECOND}, α 1")
                tab.write("textarea", wrong)
                press(tab, "Ask")
                tab.until(f"document.querySelector('.trouble')?.innerText.includes({json.dumps(line)})")
                tab.write("textarea", "Tell me about owls.")
            else:
                choose(tab, field, wrong)
                tab.until(f"document.querySelector('.trouble')?.innerText.includes({json.dumps(line)})")
        assert "Traceback" not in tab.value("document.body.innerText")
        assert tab.value("window.hit") is None
        assert {one for one in tab.requests if not one.startswith((page, "data:", "blob:"))} == set()
        assert tab.trouble == []


@pytest.mark.parametrize(("theme", "width"), [("dark", 1200), ("dark", 400), ("light", 360)])
def test_it_can_be_read_on_a_phone_and_in_the_dark(page, tmp_path, theme, width):
    with browser(tmp_path / "profile") as tab:
        tab.open(f"{page}/?__theme={theme}", width)
        tab.until("[...document.querySelectorAll('button')].some(one => one.textContent.trim() === 'Ask')")
        press(tab, "Ask")
        ask(tab, "plain|prompted|pirate, α 1")
        tab.picture(tmp_path / f"{theme}-{width}.png")
        assert tab.value("document.documentElement.scrollWidth") <= width
        assert tab.value("getComputedStyle(document.querySelector('.psr')).colorScheme") == theme
        columns = tab.value("getComputedStyle(document.querySelector('.cards')).gridTemplateColumns.split(' ').length")
        assert columns == (3 if width > 1000 else 1)


def test_only_this_machine_is_answered_and_no_file_is_given_out(page):
    host = page.removeprefix("http://")

    def status(path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
        connection = HTTPConnection(host, timeout=60)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("content-security-policy", "")

    assert status("/")[0] == 200
    assert "default-src 'self'" in status("/")[1]
    assert status("/", Host="elsewhere.example")[0] == 403
    for path in (
        f"/gradio_api/file={ROOT}/pyproject.toml",
        f"/file={ROOT}/pyproject.toml",
        "/gradio_api/proxy=http://127.0.0.1",
    ):
        assert status(path)[0] == 404, path
    assert status("/gradio_api/upload", "POST")[0] == 404
