"""Record: a file that keeps one value, as JSON, for the next start of the program that wrote it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from hostmesh.kernel.files import write_atomically

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Value = TypeVar("_Value", bound="DataclassInstance")


class Record(Generic[_Value]):
    """What it is of can be found out afresh, so that a damaged one is as good as none.

    Args:
        file: where; its directory is there.
        kind: a dataclass of strings, lists and mappings.
    """

    def __init__(self, file: Path, kind: type[_Value]) -> None:
        self._file = file
        self._kind = kind

    def read(self) -> _Value | None:
        """The value; None when none was written, a full disk cut it short, or another version wrote it."""
        try:
            return self._kind(**json.loads(self._file.read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def write(self, value: _Value) -> None:
        """In place of the one before.

        Raises:
            OSError: the disk is full, say; the one before is unharmed.
        """
        write_atomically(self._file, json.dumps(asdict(value)).encode())

    def remove(self) -> None:
        """As if none had been written."""
        self._file.unlink(missing_ok=True)

    @property
    def exists(self) -> bool:
        """Whether one was written and not removed, damaged or not."""
        return self._file.exists()
