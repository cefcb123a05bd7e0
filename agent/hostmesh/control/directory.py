"""A tree of YAML files on disk: what stands in it, and changing several of them together."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from hostmesh.kernel.files import write_atomically

MAX_BYTES = 16 << 20
_SUFFIXES = (".yaml", ".yml")
_MODE = 0o640


class Signature(NamedTuple):
    """Changes whenever a file's content may have: times in nanoseconds, size in bytes."""

    modified: int
    changed: int
    size: int
    inode: int


class DirectoryUnusable(OSError):
    """The tree, or a file of it, cannot be read or written."""


class Directory:
    """All `*.yaml` and `*.yml` below a path, hidden ones excepted: copying tools write those first and rename them.

    Args:
        path: of the directory.
        journal: a file that keeps a change of several files until it is done, so that a crash leaves none half done.
    """

    shared = False

    def __init__(self, path: Path, journal: Path) -> None:
        self.path = path
        self._journal = journal
        self._paths: dict[str, Path] = {}

    def recover(self) -> None:
        """Complete what the journal has.

        Raises:
            DirectoryUnusable: it cannot be read, or not be carried out.
        """
        try:
            changes: dict[str, str | None] = json.loads(self._journal.read_bytes())
            for path, text in changes.items():
                _put(Path(path), None if text is None else text.encode())
            self._journal.unlink()
        except FileNotFoundError:
            return
        except (OSError, ValueError, AttributeError) as error:
            raise DirectoryUnusable(
                f"{self._journal}: a change that a crash has cut short cannot be completed: {error}; remove the file "
                "to do without, and apply the documents again"
            ) from error

    def guard(self) -> Mapping[str, int]:
        """Nobody else changes anything."""
        return {}

    def scan(self) -> dict[Path, Signature]:
        """Every file, sorted by path.

        Raises:
            DirectoryUnusable: the directory, or one in it, cannot be listed.
        """
        found: dict[str, Signature] = {}
        for parent, directories, names in os.walk(self.path, onerror=_refuse):
            directories[:] = [name for name in directories if not name.startswith(".")]
            for name in names:
                if name.startswith(".") or not name.endswith(_SUFFIXES):
                    continue
                path = f"{parent}/{name}"
                if (signature := _signature(path)) is not None:
                    found[path] = signature
        # A Path for each of 10,000 files, made and compared twice a second, would take a fifth of a processor.
        known, self._paths = self._paths, {}
        for path in sorted(found):
            self._paths[path] = known.get(path) or Path(path)
        return {path: found[text] for text, path in self._paths.items()}

    def read(self, path: Path) -> str:
        """A file's text.

        Raises:
            DirectoryUnusable: it is unreadable, too large or not UTF-8.
        """
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
            if len(data) > MAX_BYTES:
                raise DirectoryUnusable(f"larger than {MAX_BYTES >> 20} MiB; split it")
            return data.decode()
        except UnicodeDecodeError as error:
            raise DirectoryUnusable(f"not UTF-8 at byte {error.start}") from error
        except OSError as error:
            raise DirectoryUnusable(f"cannot be read: {error.strerror or error}") from error

    def change(self, changes: Mapping[Path, str | None]) -> None:
        """Write (or, for None, remove) files; if one fails, those before it are put back.

        Raises:
            DirectoryUnusable: nothing is changed.
        """
        done: dict[Path, bytes | None] = {}
        try:
            if len(changes) > 1:
                self._write_journal(changes)
            for path, text in changes.items():
                done[path] = path.read_bytes() if path.exists() else None
                _put(path, None if text is None else text.encode())
            self._journal.unlink(missing_ok=True)
        except OSError as error:
            self._put_back(done)
            why = f"cannot be written: {error.strerror or error}; see who owns {self.path}"
            raise DirectoryUnusable(f"{error.filename or self.path}: {why}") from error

    def _write_journal(self, changes: Mapping[Path, str | None]) -> None:
        write_atomically(self._journal, json.dumps({str(path): text for path, text in changes.items()}).encode())

    def _put_back(self, done: Mapping[Path, bytes | None]) -> None:
        """The journal goes first: what is put back must not be done again."""
        self._journal.unlink(missing_ok=True)
        for path, before in reversed(list(done.items())):
            with suppress(OSError):  # on a full disk what was removed cannot be put back; the others can
                _put(path, before)


def _put(path: Path, data: bytes | None) -> None:
    if data is None:
        path.unlink(missing_ok=True)
    elif not path.exists() or path.read_bytes() != data:
        write_atomically(path, data, _MODE)


def _signature(path: str) -> Signature | None:
    try:
        status = os.stat(path)  # noqa: PTH116  # see `scan`
    except FileNotFoundError:
        return None  # removed since the listing, or a dangling link
    if not stat.S_ISREG(status.st_mode):
        return None
    return Signature(status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)


def _refuse(error: OSError) -> None:
    raise DirectoryUnusable(f"{error.filename}: cannot be listed: {error.strerror}") from error
