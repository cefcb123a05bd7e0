"""Records in a file of a test, and a disk that does not take any more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hostmesh.control.record_file import FileRecords

NAME = "records.jsonl"


def records(directory: Path) -> FileRecords:
    """As a (re)start opens them."""
    return FileRecords(directory / NAME)


@contextmanager
def unwritable(directory: Path) -> Iterator[None]:
    """Nothing can be recorded meanwhile (root may write whatever the modes say, so something stands in the way)."""
    file, aside = directory / NAME, directory / "aside"
    if file.exists():
        file.rename(aside)
    file.mkdir()
    try:
        yield
    finally:
        file.rmdir()
        if aside.exists():
            aside.rename(file)
