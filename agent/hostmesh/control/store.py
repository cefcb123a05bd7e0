"""The mesh's documents: files of a directory or of a shared store, live as a whole or not at all.

A change there becomes live only if every document of the directory is right by itself and all are together;
otherwise the last good set stays live, over a restart too (a copy is kept in the state directory), and the
problems are there to be shown. Changes through the store are checked the same way before anything is written.
Nothing here is concurrent: the caller makes one call at a time.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hostmesh.config.strict_yaml import InvalidYaml, Problem
from hostmesh.control.apply import Change, Input, Refused, Result, plan, removal, replacement
from hostmesh.control.directory import DirectoryUnusable
from hostmesh.control.document_tree import DocumentTree
from hostmesh.control.documents.base import Resource
from hostmesh.control.documents.read import Documents, Object, ObjectKey, check_together, read
from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.records import Conflict, Records
from hostmesh.control.translate import Memo, Translation, translate
from hostmesh.control.vip_records import VipRecords
from hostmesh.kernel.files import write_atomically

_log = logging.getLogger(__name__)

_LAST_GOOD = "documents.last-good.json"
_ATTEMPTS = 20
_PAUSE = 0.05
"""Seconds until what others have changed is known here."""


@dataclass(frozen=True, slots=True)
class DocumentSet:
    """All documents of one moment, and what agents are told because of them."""

    objects: Mapping[ObjectKey, Object[Resource]]
    translation: Translation


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it was read: its objects, or what is wrong with it."""

    signature: Hashable
    text: str
    objects: tuple[Object[Resource], ...]
    problems: tuple[Problem, ...] = ()


class DocumentStore:
    """Reads, checks and changes the documents.

    Args:
        tree: where users put documents.
        records: where allocated addresses are kept.
        state: directory where the last good set is kept.
        mesh: facts for the translation.
    """

    def __init__(self, tree: DocumentTree, records: Records, state: Path, mesh: MeshConfig) -> None:
        self._tree = tree
        self._vips = VipRecords(records)
        self._state = state
        self._mesh = mesh
        self._memo = Memo()
        self._files: dict[Path, _File] = {}
        self._seen: Mapping[Path, Hashable] = {}
        self._loaded: Mapping[Path, Hashable] | None = None
        self.current: DocumentSet | None = None
        self.problems: tuple[Problem, ...] = ()

    def start(self) -> None:
        """Load what is there, or else the last good set; `current` stays None when there is neither."""
        self.load()
        if self.current is None:
            self._restore()

    def refresh(self) -> bool:
        """Load the directory if it has changed and has been quiet since the previous call.

        A file that is still being written would look like one whose last documents were removed.

        Returns:
            Whether what agents are told has changed.
        """
        try:
            seen = self._tree.scan()
        except DirectoryUnusable as error:
            self._report([Problem(str(self._tree.path), 1, "", str(error))])
            return False
        if seen == self._loaded:
            self._seen = seen
            return False
        if seen != self._seen and not self._tree.shared:
            self._seen = seen
            return False
        return self.load()

    @property
    def settled(self) -> bool:
        """Whether the last look found what is loaded."""
        return self._seen == self._loaded

    def use(self, mesh: MeshConfig) -> bool:
        """Translate by these facts from now on. Returns whether what agents are told has changed."""
        self._mesh = mesh
        return self.load()

    def load(self) -> bool:
        """Load the directory as it is now.

        Returns:
            Whether what agents are told has changed.
        """
        try:
            self._read_files()
        except DirectoryUnusable as error:
            self._report([Problem(str(self._tree.path), 1, "", str(error))])
            return False
        objects = [item for file in self._files.values() for item in file.objects]
        problems = [problem for file in self._files.values() for problem in file.problems]
        problems += check_together(objects)
        self._report(problems)
        if problems:
            return False
        before = self.current
        if not self._go_live(objects):
            return False
        if before is None or before != self.current:
            self._save(_LAST_GOOD, {str(path): file.text for path, file in self._files.items()})
        return before is None or before.translation != self._live.translation

    def apply(self, inputs: Sequence[Input], *, dry_run: bool) -> Result:
        """Create and change objects, all or none.

        Raises:
            InvalidYaml: an input is wrong, or the set would be.
            DirectoryUnusable: it could not be written; nothing is changed.
        """
        return self._carry_out(lambda: plan(self._tree.path, self._contents(), inputs), dry_run=dry_run)

    def replace(self, name: str, new: Input, *, dry_run: bool) -> Result:
        """Make one file hold just this.

        Raises:
            InvalidYaml: the input is wrong, or the set would be.
            Refused: not a name for a file.
            DirectoryUnusable: it could not be written; nothing is changed.
        """
        return self._carry_out(lambda: replacement(self._tree.path, self._contents(), name, new), dry_run=dry_run)

    def delete(self, key: ObjectKey, *, dry_run: bool) -> Result:
        """Remove an object.

        Raises:
            Refused: it is not there, or shares its file with others.
            InvalidYaml: the directory is not right as it is.
            DirectoryUnusable: it could not be removed.
        """
        return self._carry_out(lambda: removal(self._contents(), key), dry_run=dry_run)

    def get(self, key: ObjectKey) -> Object[Resource]:
        """A live object.

        Raises:
            Refused: there is none.
        """
        found = self.current.objects.get(key) if self.current else None
        if found is None:
            raise Refused(f"{key} is not there; `hostmesh get {key.kind.lower()}` lists what is")
        return found

    @property
    def _live(self) -> DocumentSet:
        assert self.current is not None, "asked before anything was live"
        return self.current

    def _contents(self) -> Mapping[Path, tuple[Object[Resource], ...]]:
        broken = [problem for file in self._files.values() for problem in file.problems]
        if broken:
            raise InvalidYaml(broken)
        return {path: file.objects for path, file in self._files.items()}

    def _carry_out(self, planned: Callable[[], Change], *, dry_run: bool) -> Result:
        """Decide and do; if another control plane changes documents at the same moment, decide again."""
        for _ in range(_ATTEMPTS):
            self.load()
            change = planned()
            problems = check_together(change.objects)
            if problems:
                raise InvalidYaml(problems)
            translation = translate(change.objects, self._mesh, self._vips.read(), self._memo)
            warnings = tuple(w for w in translation.warnings if w.source in change.sources)
            if not change.files or dry_run:
                return Result(change.outcomes, warnings)
            try:
                self._tree.change(change.files)
            except Conflict:
                time.sleep(_PAUSE)
                continue
            self.load()
            return Result(change.outcomes, warnings)
        raise DirectoryUnusable(f"{self._tree.path}: others change documents all the time; try again")

    def _read_files(self) -> None:
        self._tree.recover()
        seen = self._tree.scan()
        files: dict[Path, _File] = {}
        for path, signature in seen.items():
            known = self._files.get(path)
            files[path] = known if known and known.signature == signature else self._read_file(path, signature)
        self._files, self._loaded, self._seen = files, seen, seen

    def _read_file(self, path: Path, signature: Hashable) -> _File:
        try:
            text = self._tree.read(path)
        except DirectoryUnusable as error:
            return _File(signature, "", (), (Problem(str(path), 1, "", str(error)),))
        try:
            return _File(signature, text, read(text, str(path)))
        except InvalidYaml as invalid:
            return _File(signature, text, (), invalid.problems)

    def _report(self, problems: Sequence[Problem]) -> None:
        """Log problems once, when they appear, and once that they are gone."""
        for problem in problems:
            if problem not in self.problems:
                _log.error("%s (what was live before stays live)", problem)
        if self.problems and not problems:
            _log.info("all documents are right again")
        self.problems = tuple(problems)

    def _go_live(self, objects: Iterable[Object[Resource]]) -> bool:
        """Whether they are live: not if another control plane gives addresses at this moment; the next look decides."""
        by_key = {item.key: item for item in Documents(objects)}
        vips = self._vips.read()
        translation = translate(by_key.values(), self._mesh, vips, self._memo)
        if translation.vips != vips:
            try:
                self._vips.write(translation.vips, self._tree.guard())
            except Conflict:
                self._loaded = None
                return False
            except OSError as error:
                _log.error("allocated addresses cannot be written down: %s", error)
                if self._tree.shared:  # another control plane would give others
                    self._loaded = None
                    return False
        self.current = DocumentSet(by_key, translation)
        return True

    def _save(self, name: str, value: object) -> None:
        """The file only helps the next start: a full disk must not stop this one from following the documents."""
        path = self._state / name
        try:
            write_atomically(path, json.dumps(value, indent=1).encode())
        except OSError as error:
            _log.error("%s: cannot be written (%s): the next start will miss it", path, error.strerror)

    def _restore(self) -> None:
        path = self._state / _LAST_GOOD
        try:
            files: Mapping[str, str] = json.loads(path.read_bytes())
            objects = [item for source, text in files.items() for item in read(text, source)]
        except FileNotFoundError:
            return
        except (OSError, ValueError, AttributeError, TypeError) as error:
            _log.warning("%s: the last good documents cannot be used: %s", path, error)
            return
        self._go_live(objects)
        _log.warning("documents on disk are wrong: serving the last good ones, kept in %s", path)
