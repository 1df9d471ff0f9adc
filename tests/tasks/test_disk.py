"""A full or read-only disk is one clear line, whichever library met it."""

from __future__ import annotations

import errno

import pytest

from tasks.engine.disk import disk_error


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
