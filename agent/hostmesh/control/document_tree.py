"""DocumentTree: where documents stand, as texts by path: a directory of one host, or an etcd that several share."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Protocol


class DocumentTree(Protocol):
    """The interface. `DirectoryUnusable` is what both raise when they cannot be read or written."""

    @property
    def path(self) -> Path:
        """What all paths begin with."""
        ...

    @property
    def shared(self) -> bool:
        """Whether other control planes change it too; then what `scan` shows is always whole."""
        ...

    def recover(self) -> None:
        """Complete a change that a crash has cut short; before the first `scan`.

        Raises:
            DirectoryUnusable: it cannot be completed.
        """
        ...

    def scan(self) -> Mapping[Path, Hashable]:
        """Every text, sorted by path, with a value that changes whenever the text may have.

        Raises:
            DirectoryUnusable: it cannot be listed.
        """
        ...

    def read(self, path: Path) -> str:
        """A text, as it was at the last scan or is now.

        Raises:
            DirectoryUnusable: it cannot be read.
        """
        ...

    def guard(self) -> Mapping[str, int]:
        """What a transaction of records may expect, to hold only for the documents of the last scan."""
        ...

    def change(self, changes: Mapping[Path, str | None]) -> None:
        """Write (or, for None, remove) texts, all or none.

        Raises:
            Conflict: others have changed documents since the last scan; nothing is changed.
            DirectoryUnusable: nothing is changed.
        """
        ...
