"""The table `claims`: the paper's seven claims measured on a finished profile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psr.errors import PsrError
from tasks.studies.claims.rows import Row, with_claims_verdict
from tasks.tables.parquet import read_table, write_table

if TYPE_CHECKING:
    from tasks.benchmarks.contract import Benchmark


def write_claims(
    data: Path,
    profile: str,
    out: Path,
    benchmarks: Mapping[str, Benchmark],
    results: dict[str, Any],
    faithfulness: dict[str, Any],
) -> None:
    """Measure them on the profile in `data`, claim by claim; write out/claims.parquet.

    benchmarks: the profile's, by their own name. results, faithfulness: `resamples` and `seed` of these sections of params.yaml.
    """
    from tasks.studies.claims.faithfulness import faithfulness_rows
    from tasks.studies.claims.methods import method_rows

    rows = [*method_rows(data, profile, benchmarks, **results), *faithfulness_rows(data, profile, **faithfulness)]
    write_table(out / "claims.parquet", "claims", with_claims_verdict(sorted(rows, key=lambda row: row["claim"])))


def claim_rows(data: Path) -> list[Row]:
    """The claims of the profile in `data`; nothing before they were measured."""
    path = data / "claims" / "claims.parquet"
    return read_table(path, "claims") if path.exists() else []


def measured(data: Path, profile: str) -> list[Row]:
    """The same. Raises PsrError before they were measured."""
    rows = claim_rows(data)
    if not rows:
        raise PsrError(
            "the claims of this profile are not measured",
            where=f"data/{profile}/claims",
            do=f"Run `python -m flows.reproduce --profile {profile}` first.",
        )
    return rows
