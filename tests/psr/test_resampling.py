"""Means under counts against the same means of the questions written out."""

import numpy as np
import pytest

from psr.evaluation.resampling import mean_and_error, once, resample


def written_out(row: np.ndarray, counts: np.ndarray) -> np.ndarray:
    values = np.repeat(row, counts.astype(int))
    return values[~np.isnan(values)]


def test_means_and_errors_equal_those_of_the_questions_written_out():
    generator = np.random.default_rng(0)
    values = generator.uniform(0, 100, (3, 12))
    values[1, [2, 5]] = np.nan
    counts = resample(12, 20, seed=1, stream=0)
    mean, error = mean_and_error(values, counts)
    for r in range(20):
        for row in range(3):
            drawn = written_out(values[row], counts[r])
            assert mean[r, row] == pytest.approx(drawn.mean(), abs=1e-9)
            assert error[r, row] == pytest.approx(drawn.std(ddof=1) / np.sqrt(len(drawn)), abs=1e-9)


def test_errors_of_nearly_equal_values_are_exact():
    values = 99.0 + np.arange(4.0)[None] * 1e-6
    _, error = mean_and_error(values, once(4))
    assert error[0, 0] == pytest.approx(values.std(ddof=1) / 2, rel=1e-6)


def test_nothing_scored_is_nan_and_one_scored_has_no_error():
    values = np.array([[np.nan, np.nan], [np.nan, 40.0]])
    mean, error = mean_and_error(values, once(2))
    assert np.isnan(mean[0, 0])
    assert mean[0, 1] == 40.0
    assert error.tolist() == [[0.0, 0.0]]


def test_unscored_everywhere_raises_no_warning():
    mean, _ = mean_and_error(np.full((2, 3), np.nan), once(3))
    assert np.isnan(mean).all()


def test_resamples_draw_every_question_once_on_average():
    counts = resample(10, 2000, seed=3, stream=0)
    assert (counts.sum(axis=1) == 10).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(10), abs=0.12)


def test_a_seed_repeats_itself_and_streams_differ():
    assert (resample(8, 50, 1, 0) == resample(8, 50, 1, 0)).all()
    assert (resample(8, 50, 1, 0) != resample(8, 50, 1, 1)).any()
    assert (resample(8, 50, 1, 0) != resample(8, 50, 2, 0)).any()
