"""The quicker way to keep dvc.lock writes what DVC's own writes."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest
import yaml
from dvc import dvcfile
from dvc.utils.serialize import dumps_yaml
from hypothesis import given
from hypothesis import strategies as st

from tasks.engine import dvc_lock

ROOT = Path(__file__).resolve().parents[2]
names = st.text("abcdefghij0123456789_-./@ é", min_size=1, max_size=90)
values = st.one_of(
    names, st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False, allow_infinity=False, width=16)
)


def test_the_committed_lock_comes_back_byte_for_byte(tmp_path: Path) -> None:
    text = (ROOT / "dvc.lock").read_text()
    copy = tmp_path / "dvc.lock"
    copy.write_text(text)
    with dvc_lock.modify_lock(copy):
        pass
    assert copy.read_text() == text


@given(st.dictionaries(names, st.lists(st.dictionaries(names, values, min_size=1, max_size=3), max_size=3), max_size=3))
def test_what_is_written_says_what_dvc_would_have_written(data: dict[str, object]) -> None:
    ordered = OrderedDict(schema="2.0", stages=OrderedDict(data))
    assert (
        yaml.safe_load(dvc_lock.dump(ordered))
        == yaml.safe_load(dumps_yaml(ordered))
        == {"schema": "2.0", "stages": data}
    )


def test_a_failed_change_leaves_the_lock_as_it_was(tmp_path: Path) -> None:
    lock = tmp_path / "dvc.lock"
    lock.write_text("schema: '2.0'\n")
    with pytest.raises(ZeroDivisionError), dvc_lock.modify_lock(lock) as data:
        data["stages"] = 1 / 0
    assert lock.read_text() == "schema: '2.0'\n"
    assert list(tmp_path.iterdir()) == [lock]


def test_dvc_uses_it_for_the_lock_and_its_own_for_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dvcfile, "modify_yaml", dvcfile.modify_yaml)
    dvc_lock.hasten()
    (tmp_path / "dvc.yaml").write_text("stages: {} # kept\n")
    with dvcfile.modify_yaml(tmp_path / "dvc.yaml") as data:
        data["vars"] = []
    assert "# kept" in (tmp_path / "dvc.yaml").read_text()
    with dvcfile.modify_yaml(tmp_path / "dvc.lock") as data:
        data["schema"] = "2.0"
    assert (tmp_path / "dvc.lock").read_text() == "schema: '2.0'\n"
