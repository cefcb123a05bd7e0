"""Rules for atomic files: old or new, never half, never readable by others."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostmesh.kernel.files import write_atomically


def test_content_and_mode(tmp_path: Path) -> None:
    """Private unless said otherwise, whatever was there before."""
    path = tmp_path / "f"
    path.write_text("old")
    path.chmod(0o666)
    write_atomically(path, b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o600)
    write_atomically(path, b"", 0o644)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"", 0o644)
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    """Here a directory is in the way of the temporary file."""
    path = tmp_path / "f"
    path.write_text("old")
    (tmp_path / "f.new").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(path, b"new")
    assert path.read_text() == "old"


def test_a_link_that_somebody_planted_is_not_followed(tmp_path: Path) -> None:
    """The temporary name is predictable."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "f.new").symlink_to(victim)
    with pytest.raises(OSError, match=r"f\.new"):
        write_atomically(tmp_path / "f", b"new")
    assert victim.read_text() == "precious"


def test_a_stale_temporary_file_is_no_obstacle(tmp_path: Path) -> None:
    """A crash in the middle of an earlier write left it."""
    (tmp_path / "f.new").write_text("half of a longer text")
    write_atomically(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"new"
