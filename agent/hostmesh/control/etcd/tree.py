"""EtcdTree: documents as records, `documents/<file>`; every change of them also moves `documents/.turn` on."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from hostmesh.control.directory import DirectoryUnusable
from hostmesh.control.records import ABSENT, Record, Records

PREFIX = "documents/"
_TURN = f"{PREFIX}.turn"


class EtcdTree:
    """Used by one thread at a time.

    Args:
        records: shared by the control planes.
        path: what to call the place.
    """

    shared = True

    def __init__(self, records: Records, path: Path) -> None:
        self._records = records
        self.path = path
        self._found: dict[Path, Record] = {}
        self._turn = ABSENT

    def recover(self) -> None:
        """Nothing is ever half done."""

    def scan(self) -> Mapping[Path, int]:
        """As `DocumentTree.scan`: all documents of one moment."""
        found = dict(self._records.under(PREFIX))
        turn = found.pop(_TURN, None)
        self._turn = turn.version if turn is not None else ABSENT
        self._found = {self.path / key.removeprefix(PREFIX): record for key, record in found.items()}
        return {path: record.version for path, record in self._found.items()}

    def read(self, path: Path) -> str:
        """As `DocumentTree.read`."""
        return self._found[path].value

    def guard(self) -> Mapping[str, int]:
        """As `DocumentTree.guard`."""
        return {_TURN: self._turn}

    def change(self, changes: Mapping[Path, str | None]) -> None:
        """As `DocumentTree.change`: one transaction."""
        texts = {f"{PREFIX}{path.relative_to(self.path)}": text for path, text in changes.items()}
        try:
            self._records.commit({**texts, _TURN: secrets.token_hex(8)}, expect=self.guard())
        except OSError as error:
            raise DirectoryUnusable(str(error)) from error
