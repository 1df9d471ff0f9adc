"""Contention is measured with real processes: what they say, and that none of them stays."""

from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest

from psr.errors import PsrError
from tasks.studies.bench import company
from tasks.studies.bench.company import SETTING


def test_without_the_setting_there_is_nothing_to_measure(monkeypatch):
    monkeypatch.delenv(SETTING, raising=False)
    with pytest.raises(PsrError, match=r"GOMP_SPINCOUNT.*Run it as python -m flows.bench"):
        list(company.company(SimpleNamespace(repeats=1)))


@pytest.mark.slow
def test_three_ratios_come_out_and_no_process_stays(monkeypatch):
    monkeypatch.setenv(SETTING, "1000")
    monkeypatch.setattr(company, "SECONDS", 0.3)
    before, advanced = set(psutil.Process().children(recursive=True)), []
    figures = list(company.company(SimpleNamespace(repeats=2, advance=advanced.append)))
    assert [figure.name for figure in figures] == ["company-alone", "company-two", "company-busy"]
    assert all(figure.ratio.n == 2 and figure.ratio.median > 0 for figure in figures)
    assert advanced == [1, 1]
    assert set(psutil.Process().children(recursive=True)) <= before


def test_a_worker_that_does_not_start_is_said(monkeypatch):
    with pytest.raises(PsrError, match="a worker of the bench did not start"), company._child(["false", "x"], {}):
        pass
