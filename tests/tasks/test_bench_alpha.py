"""The search's costs, replayed: counted by hand on curves whose crossing is known."""

from __future__ import annotations

import numpy as np
import pytest

from psr.evaluation.alpha_search import Scores
from tasks.studies.bench.alpha import Replay, alpha_search, costs, curves, width
from tasks.studies.bench.material import Material
from tests.results_folder import SLUGS, write_results

ALPHAS = (0.0, 1.0, 2.0, 3.0, 4.0)
PROMPT = np.full(2, 90.0)
SETTINGS = {"alphas": [0, 1, 2, 3], "alpha_max": 4, "refine": (1,)}


def falling() -> Scores:
    """Coherence 100 at alpha 0, 20 less at each whole alpha: 90 is crossed at 0.5 and 80 at 1."""
    coherence = np.array([[100 - 20 * alpha] * 2 for alpha in ALPHAS])
    return Scores(ALPHAS, 100 - coherence, coherence)


def test_what_was_recorded_is_given_back_and_what_lies_between_is_interpolated():
    replay = Replay(falling(), np.array([10.0, 20.0, 30.0, 40.0, 50.0]))
    found = replay((0.0, 1.0, 1.5))
    assert found.coherence[:, 0].tolist() == [100, 80, 70]
    assert (replay.calls, replay.spent) == (1, 45.0)  # alpha 0 is the plain model's, which is there already
    replay((0.0,))
    assert (replay.calls, replay.spent) == (1, 45.0)


def test_both_costs_by_hand():
    found = costs(falling(), np.array([10.0] * 5), PROMPT, SETTINGS)
    # grid: 1, 2, 3; then 0.45, just below where the prompt's coherence is crossed, and 1.1, just above where 80 is
    assert (found.calls, found.tokens) == (2, 50.0)
    assert found.bisected_calls == (
        7,
        4,
    )  # 4, 2, 1, then 1.5, 1.25, 1.125, 1.0625: a width of 0.1; and 0.5: one of 0.55
    assert found.bisected_tokens == (70.0, 40.0)


def test_without_a_crossing_a_bisection_asks_for_the_largest_alpha_alone():
    level = Scores(ALPHAS, np.zeros((5, 2)), np.full((5, 2), 95.0))
    found = costs(level, np.array([10.0] * 5), PROMPT, SETTINGS)
    assert (found.bisected_calls, found.calls) == ((1, 1), 2)


@pytest.mark.parametrize(("point", "expected"), [("C80", 1.0), ("Cp", 1.0)])
def test_the_width_is_that_of_the_bracket_the_search_leaves(point, expected):
    assert width(point, falling(), PROMPT) == expected


def test_every_module_of_a_profile_is_replayed(tmp_path, monkeypatch):
    data = write_results(tmp_path)
    found = {f.name: f for f in alpha_search(_with_unsteered(data, monkeypatch))}
    assert set(found) == {"alpha-tokens", "alpha-calls"}
    assert found["alpha-calls"].ratio.n == 2 * len(SLUGS)


def test_only_modules_at_a_matched_coherence_are_replayed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "tasks.studies.bench.alpha.sides", lambda *_: {(f"{name}/x", 1): None for name in ("ifeval", "axbench")}
    )
    assert curves(Material(tmp_path, None, {}, {})) == []


def _with_unsteered(data, monkeypatch) -> Material:
    """The folder's search with plain and instructed answers, which its small fixture leaves out."""
    from psr.types import INSTRUCTED, PLAIN
    from tasks.tables import parquet as tables
    from tests.results_folder import answer, verdicts

    pairs = tables.read_pairs(data / "search/pairs.parquet")
    more = [answer(pair, method, 0.0, method) for pair in pairs for method in (PLAIN, INSTRUCTED)]
    file, judged = data / "search/completions.parquet", data / "search/judgements.parquet"
    tables.write_completions(file, [*tables.read_completions(file), *more])
    tables.write_judgements(judged, [*tables.read_judgements(judged), *(v for c in more for v in verdicts(c, 50.0))])
    return Material(data, None, {}, {"alphas": [0, 0.5], "alpha_max": 1.0, "refine": (2,)})
