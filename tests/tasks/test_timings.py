"""The last run's seconds are kept a step, and only of runs that ended well."""

from __future__ import annotations

import pytest

from tasks.engine.timings import seconds_of, timed


def test_the_seconds_of_a_run_that_ended_well_are_kept(tmp_path):
    assert seconds_of(tmp_path, "distill@quick") is None
    with timed(tmp_path, "distill@quick"):
        pass
    assert 0 <= seconds_of(tmp_path, "distill@quick") < 10
    with pytest.raises(KeyError), timed(tmp_path, "steer@quick"):
        raise KeyError
    assert seconds_of(tmp_path, "steer@quick") is None


def test_a_damaged_file_is_no_timing(tmp_path):
    (tmp_path / ".psr/timings").mkdir(parents=True)
    (tmp_path / ".psr/timings/distill@quick.json").write_text("{")
    assert seconds_of(tmp_path, "distill@quick") is None
