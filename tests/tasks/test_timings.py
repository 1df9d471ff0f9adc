"""What a stage's last run was like, and how much of it was work."""

from __future__ import annotations

import pytest

from tasks.engine import timings


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ([], 0),
        ([(1, 3)], 2),
        ([(1, 3), (5, 6)], 3),
        ([(1, 4), (2, 3)], 3),
        ([(5, 6), (1, 3), (2, 5.5)], 5),
    ],
)
def test_overlapping_spans_count_once(spans, seconds):
    assert timings.covered(spans) == seconds


def test_a_run_is_running_until_it_has_ended(tmp_path):
    begun = timings.begin(tmp_path, "distill@quick", "run-1")
    assert timings.read_timing(tmp_path, "distill@quick").state == "running"
    with timings.working():
        pass
    timings.end(tmp_path, begun)
    last = timings.read_timing(tmp_path, "distill@quick")
    assert (last.run, last.state, last.error) == ("run-1", "done", "")
    assert 0 <= last.work <= last.ended - last.started + 0.1


def test_a_failure_says_why_and_whether_to_try_again(tmp_path):
    timings.end(tmp_path, timings.begin(tmp_path, "x@quick", "r"), "the line was cut", retry=True)
    last = timings.read_timing(tmp_path, "x@quick")
    assert (last.state, last.error, last.retry) == ("failed", "the line was cut", True)


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"run": "r"}', '{"unknown": 1}', "{half"])
def test_no_or_damaged_notes_are_none(tmp_path, text):
    if text is not None:
        (tmp_path / ".psr/timings").mkdir(parents=True)
        (tmp_path / ".psr/timings/x@quick.json").write_text(text)
    assert timings.read_timing(tmp_path, "x@quick") is None
