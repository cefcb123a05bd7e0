"""The directory of YAML files: what is seen, and changes that happen together or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hostmesh.control.directory import MAX_BYTES, Directory, DirectoryUnusable


def test_only_visible_yaml_files_are_seen(tmp_path: Path) -> None:
    """Copying tools write hidden files first, editors leave others."""
    for name in ("b.yaml", "a.yml", ".hidden.yaml", "c.yaml.new", "d.txt", "e.yaml~"):
        (tmp_path / name).write_text("")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "f.yaml").write_text("")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "g.yaml").write_text("")
    (tmp_path / "dir.yaml").mkdir()
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nowhere")
    assert [str(path.relative_to(tmp_path)) for path in Directory(tmp_path, tmp_path / "journal").scan()] == [
        "a.yml",
        "b.yaml",
        "sub/f.yaml",
    ]


def test_a_change_of_equal_size_and_time_is_still_seen(tmp_path: Path) -> None:
    """Copying with preserved times changes the inode's own time."""
    file = tmp_path / "a.yaml"
    file.write_text("a: 1")
    status, before = file.stat(), Directory(tmp_path, tmp_path / "journal").scan()
    file.write_text("a: 2")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert Directory(tmp_path, tmp_path / "journal").scan() != before


def test_a_missing_directory_is_not_an_empty_one(tmp_path: Path) -> None:
    """An unmounted file system must not look like a mesh that was deleted."""
    with pytest.raises(DirectoryUnusable, match="cannot be listed: No such file or directory"):
        Directory(tmp_path / "gone", tmp_path / "journal").scan()


@pytest.mark.parametrize(
    ("data", "why"), [(b"\xff", "not UTF-8 at byte 0"), (b" " * (MAX_BYTES + 1), "larger than 16 MiB; split it")]
)
def test_unreadable_files_say_why(tmp_path: Path, data: bytes, why: str) -> None:
    """Before anything is parsed."""
    (tmp_path / "a.yaml").write_bytes(data)
    with pytest.raises(DirectoryUnusable, match=why):
        Directory(tmp_path, tmp_path / "journal").read(tmp_path / "a.yaml")


def test_changes_are_written_together(tmp_path: Path) -> None:
    """Written, replaced and removed."""
    (tmp_path / "old.yaml").write_text("old")
    (tmp_path / "gone.yaml").write_text("gone")
    changes = {tmp_path / "new.yaml": "new", tmp_path / "old.yaml": "newer", tmp_path / "gone.yaml": None}
    Directory(tmp_path, tmp_path / "journal").change(changes)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"new.yaml": "new", "old.yaml": "newer"}
    assert (tmp_path / "new.yaml").stat().st_mode & 0o777 == 0o640


def test_a_failing_change_undoes_those_before_it(tmp_path: Path) -> None:
    """Nothing is half-applied: the third file cannot be written, so the first two are as they were."""
    (tmp_path / "old.yaml").write_text("old")
    changes = {
        tmp_path / "new.yaml": "new",
        tmp_path / "old.yaml": None,
        tmp_path / "no such directory" / "c.yaml": "c",
    }
    with pytest.raises(DirectoryUnusable, match="cannot be written: No such file or directory"):
        Directory(tmp_path, tmp_path / "journal").change(changes)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"old.yaml": "old"}


@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_change_that_a_crash_has_cut_short_is_completed(tmp_path: Path, done: int) -> None:
    """All files of an apply or none: the journal is there before the first file is touched."""
    journal = tmp_path / "journal"
    old, new, gone = (tmp_path / f"{name}.yaml" for name in ("old", "new", "gone"))
    old.write_text("1")
    gone.write_text("1")
    changes = {str(old): "2", str(new): "2", str(gone): None}
    journal.write_text(json.dumps(changes))
    for path in (old, new)[:done]:
        path.write_text("2")
    directory = Directory(tmp_path, journal)
    directory.recover()
    directory.recover()
    assert {path.name: path.read_text() for path in directory.scan()} == {"old.yaml": "2", "new.yaml": "2"}
    assert not journal.exists()


def test_a_journal_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Going on without would leave half a change live."""
    (tmp_path / "journal").write_text("{")
    with pytest.raises(DirectoryUnusable, match=r"journal: a change that a crash has cut short cannot be completed"):
        Directory(tmp_path, tmp_path / "journal").recover()
