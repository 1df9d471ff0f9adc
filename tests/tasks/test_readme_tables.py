"""The README's tables of claims and speed: every row, every verdict, nothing that breaks a table."""

from tasks.shown.claims import claims_table
from tasks.shown.readme import measured_parts
from tasks.shown.studies import bench_table
from tasks.shown.tables import markdown, table
from tasks.tables.parquet import write_table
from tests.results_folder import bench_row, claim_row


def test_a_claim_is_followed_by_its_parts_with_interval_and_verdict():
    other = {
        **claim_row(),
        "part": "formats",
        "value": None,
        "low": None,
        "high": None,
        "cp2": None,
        "verdict": "not measured",
        "seeds": 0,
    }
    lines = markdown(claims_table([claim_row(), other], details=False)).splitlines()
    assert lines[2].startswith("| **4. all-layer PSR (MSE) is at least the prompt at the prompt's coherence** |")
    assert lines[2].endswith("| **undecided** |  |")
    assert (
        lines[3]
        == "| persona (points) | +12.3 | -2.0 | -4.0 to +1.0 | -1.5 (-3.5 to +0.5) | -3.0 | undecided | 1 × 2 |"
    )
    assert lines[4].startswith("| formats (points) | +12.3 | – | – | – | -3.0 | not measured |")


def test_a_figure_of_speed_stands_with_its_goal_or_none():
    lines = markdown(bench_table([bench_row("fit", 0.95), bench_row("wide", 1.25, None)], details=False)).splitlines()
    assert lines[2] == "| fit: a/s | b/s | 0.950 (0.850–1.05) | ≥ 0.9: met |"
    assert lines[3].endswith("| 1.25 (1.15–1.35) | – |")


def test_what_was_not_measured_here_stays_as_it_stands(tmp_path):
    assert measured_parts(tmp_path) == {}


def test_cells_cannot_break_out_of_their_table():
    assert markdown(table(["a|b"], [["<i>\nx"]])).splitlines() == ["| a\\|b |", "| --- |", "| &lt;i><br>x |"]


def test_each_model_has_its_own_table_of_speed(tmp_path):
    write_table(tmp_path / "data/smollm2-quick/bench/bench.parquet", "bench", [bench_row("fit", 0.95)])
    parts = measured_parts(tmp_path)
    assert list(parts) == ["speed-pretrained"]
    assert "| fit: a/s |" in parts["speed-pretrained"]
