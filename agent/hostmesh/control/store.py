"""The mesh's documents: files of a directory, live as a whole or not at all.

A change on disk becomes live only if every document of the directory is right by itself and all are together;
otherwise the last good set stays live, over a restart too (a copy is kept in the state directory), and the
problems are there to be shown. Changes through the store are checked the same way before anything is written.
Nothing here is concurrent: the caller makes one call at a time.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hostmesh.config.strict_yaml import InvalidYaml, Problem
from hostmesh.control.apply import Change, Input, Refused, Result, plan, removal
from hostmesh.control.directory import Directory, DirectoryUnusable, Signature
from hostmesh.control.documents.base import Resource
from hostmesh.control.documents.read import Object, ObjectKey, check_together, read
from hostmesh.control.translate import MeshConfig, Translation, translate
from hostmesh.control.translate.values import Vips
from hostmesh.kernel.files import write_atomically
from hostmesh.model.address import parse_ip

_log = logging.getLogger(__name__)

_LAST_GOOD = "documents.last-good.json"
_VIPS = "vips.json"


@dataclass(frozen=True, slots=True)
class DocumentSet:
    """All documents of one moment, and what agents are told because of them."""

    objects: Mapping[ObjectKey, Object[Resource]]
    translation: Translation


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it was read: its objects, or what is wrong with it."""

    signature: Signature
    text: str
    objects: tuple[Object[Resource], ...]
    problems: tuple[Problem, ...] = ()


class DocumentStore:
    """Reads, checks and changes the documents.

    Args:
        directory: where users put files.
        state: where the last good set and allocated addresses are kept.
        mesh: facts for the translation.
    """

    def __init__(self, directory: Path, state: Path, mesh: MeshConfig) -> None:
        self._directory = Directory(directory)
        self._state = state
        self._mesh = mesh
        self._files: dict[Path, _File] = {}
        self._seen: dict[Path, Signature] = {}
        self._loaded: dict[Path, Signature] | None = None
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
            seen = self._directory.scan()
        except DirectoryUnusable as error:
            self._report([Problem(str(self._directory.path), 1, "", str(error))])
            return False
        if seen == self._loaded:
            self._seen = seen
            return False
        if seen != self._seen:
            self._seen = seen
            return False
        return self.load()

    def load(self) -> bool:
        """Load the directory as it is now.

        Returns:
            Whether what agents are told has changed.
        """
        try:
            self._read_files()
        except DirectoryUnusable as error:
            self._report([Problem(str(self._directory.path), 1, "", str(error))])
            return False
        objects = [item for file in self._files.values() for item in file.objects]
        problems = [problem for file in self._files.values() for problem in file.problems]
        problems += check_together(objects)
        self._report(problems)
        if problems:
            return False
        before = self.current
        self._go_live(objects)
        if before is None or before != self.current:
            self._save(_LAST_GOOD, {str(path): file.text for path, file in self._files.items()})
        return before is None or before.translation != self._live.translation

    def apply(self, inputs: Sequence[Input], *, dry_run: bool) -> Result:
        """Create and change objects, all or none.

        Raises:
            InvalidYaml: an input is wrong, or the set would be.
            DirectoryUnusable: it could not be written; nothing is changed.
        """
        self.load()
        change = plan(self._directory.path, self._contents(), inputs)
        return self._carry_out(change, dry_run=dry_run)

    def delete(self, key: ObjectKey, *, dry_run: bool) -> Result:
        """Remove an object.

        Raises:
            Refused: it is not there, or shares its file with others.
            InvalidYaml: the directory is not right as it is.
            DirectoryUnusable: it could not be removed.
        """
        self.load()
        return self._carry_out(removal(self._contents(), key), dry_run=dry_run)

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

    def _carry_out(self, change: Change, *, dry_run: bool) -> Result:
        problems = check_together(change.objects)
        if problems:
            raise InvalidYaml(problems)
        translation = translate(change.objects, self._mesh, self._vips())
        warnings = tuple(w for w in translation.warnings if w.source in change.sources)
        if change.files and not dry_run:
            self._directory.change(change.files)
            self.load()
        return Result(change.outcomes, warnings)

    def _read_files(self) -> None:
        seen = self._directory.scan()
        files: dict[Path, _File] = {}
        for path, signature in seen.items():
            known = self._files.get(path)
            files[path] = known if known and known.signature == signature else self._read_file(path, signature)
        self._files, self._loaded, self._seen = files, seen, seen

    def _read_file(self, path: Path, signature: Signature) -> _File:
        try:
            text = self._directory.read(path)
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

    def _go_live(self, objects: Iterable[Object[Resource]]) -> None:
        by_key = {item.key: item for item in sorted(objects, key=lambda item: item.key)}
        vips = self._vips()
        translation = translate(by_key.values(), self._mesh, vips)
        if translation.vips != vips:
            as_text = {key: [str(address) for address in addresses] for key, addresses in translation.vips.items()}
            self._save(_VIPS, as_text)
        self.current = DocumentSet(by_key, translation)

    def _vips(self) -> Vips:
        if self.current is not None:
            return self.current.translation.vips
        try:
            recorded = json.loads((self._state / _VIPS).read_bytes())
            return {key: tuple(parse_ip(text) for text in addresses) for key, addresses in recorded.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            _log.warning("%s: not usable (%s): services get new addresses", self._state / _VIPS, error)
            return {}

    def _save(self, name: str, value: object) -> None:
        """Both files only help the next start: a full disk must not stop this one from following the documents."""
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
