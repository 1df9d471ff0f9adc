"""A full or read-only disk is one clear line, whichever library met it."""

from __future__ import annotations

import errno
import shutil
from types import SimpleNamespace

import pytest

from psr.errors import PsrError
from tasks.engine.disk import check_room, disk_error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/there/file"),
            ["the disk is full (/there/file)", "Make room", "is kept"],
        ),
        (OSError(errno.EROFS, "Read-only file system", "/there"), ["the disk is read-only (/there)"]),
        (PermissionError(errno.EACCES, "Permission denied", "/there"), ["may not be written", "/there"]),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), ["quota"]),
        (RuntimeError("I/O error: No space left on device (os error 28)"), ["the disk is full"]),
        (RuntimeError("database or disk is full"), ["the disk is full"]),
        (RuntimeError("I/O error: File too large (os error 27)"), ["may not grow that large", "ulimit -f"]),
    ],
)
def test_the_line_says_what_and_what_to_do(error, words):
    line = str(disk_error(error))
    assert all(word in line for word in words), line
    assert "\n" not in line


def test_a_cause_further_down_is_found():
    error = ValueError("outer")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device", "/x")
    assert "the disk is full" in str(disk_error(error))


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "No such file"), ValueError("no"), None])
def test_other_trouble_is_not_the_disks(error):
    assert disk_error(error) is None


def test_room_is_asked_for_before_anything_is_written(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or SimpleNamespace(free=5_000_000_000))
    check_room((tmp_path / "not/there/yet",), 5_000_000_000, "activations", "Make room.")
    assert asked == [tmp_path]
    with pytest.raises(PsrError) as raised:
        check_room((tmp_path,), 5_300_000_000, "activations", "Make room.")
    line = f"no room for the activations ({tmp_path}), expected 5.3 GB free, got 5.0 GB. Make room."
    assert line in str(raised.value)
