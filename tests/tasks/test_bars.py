"""Progress reaches whoever has the terminal, and nobody else sees its marks."""

from __future__ import annotations

import io

from tasks.engine import bars
from tasks.engine.bars import say
from tasks.engine.progress import MARK, RELAY, progress


class Terminal(io.StringIO):
    """Standard output that calls itself a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_stage_sends_marked_lines_only_when_asked(monkeypatch, capsys):
    monkeypatch.delenv(RELAY, raising=False)
    with progress("complete x", 3, "answers") as advance:
        advance(3)
    assert MARK not in capsys.readouterr().out
    monkeypatch.setenv(RELAY, "1")
    with progress("complete x", 3, "answers") as advance:
        advance(1)
        advance(2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{MARK}complete x\t1\t3"
    assert lines[-1] == f"{MARK}complete x\t3\t3"


def test_without_a_terminal_only_lines_are_printed(capsys):
    with bars.bars():
        assert bars.relay() == {}
        say("complete@quick", f"{MARK}complete x\t1\t3")
        say("complete@quick", "a line with \x1b[31mcolour")
    assert capsys.readouterr().out == "complete │ a line with \\x1b[31mcolour\n"


def test_a_terminal_shows_bars_and_lines(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("TERM", "xterm")
    with bars.bars():
        assert bars.relay() == {RELAY: "1"}
        say("complete@quick", f"{MARK}complete x\t1\t3")
        bars._shown.refresh()
        say("complete@quick", "a line")
        say("complete@quick", f"{MARK}complete x\t3\t3")
    assert "complete x" in screen.getvalue()
    assert "1/3" in screen.getvalue()
    assert "complete │ a line" in screen.getvalue()


def test_nothing_to_do_says_nothing(monkeypatch, capsys):
    monkeypatch.setenv(RELAY, "1")
    with progress("complete x", 0, "answers") as advance:
        advance(0)
    assert capsys.readouterr().out == ""
