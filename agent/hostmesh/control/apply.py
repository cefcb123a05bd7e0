"""What changing objects means for files: planned as values, carried out by the store (kubectl's apply and delete)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from hostmesh.config.strict_yaml import InvalidYaml, Problem
from hostmesh.control.documents.base import Resource
from hostmesh.control.documents.read import Object, ObjectKey, check_together, read

Contents = Mapping[Path, tuple[Object[Resource], ...]]
"""Every file's objects."""


_FILE_NAME = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_.]{0,200}\.ya?ml")


class Refused(Exception):
    """The request cannot be carried out; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Input:
    """What a user hands in; `source` is the name by which complaints call it."""

    source: str
    text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happens to one object; `difference` is a unified diff, empty where nothing changes."""

    key: ObjectKey
    action: Literal["created", "configured", "unchanged", "deleted"]
    file: Path
    difference: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What was (or would be) done, and warnings about the objects handed in."""

    outcomes: tuple[Outcome, ...]
    warnings: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """A planned change: files to write (None: remove), and the set of objects there will be."""

    files: Mapping[Path, str | None]
    objects: tuple[Object[Resource], ...]
    outcomes: tuple[Outcome, ...]
    sources: frozenset[str] = frozenset()


def plan(directory: Path, contents: Contents, inputs: Sequence[Input]) -> Change:
    """Plan the creation and change of all objects of the inputs.

    A new object gets a file of its own. An object that has one keeps it; one that shares a file with others is
    not touched, for the file is somebody's own work.

    Raises:
        InvalidYaml: an input is wrong, or an object cannot be changed where it is.
    """
    wanted, texts = _read_all(inputs)
    owners = {item.key: path for path, items in contents.items() for item in items}
    current = {item.key: item for items in contents.values() for item in items}
    files: dict[Path, str | None] = {}
    outcomes: list[Outcome] = []
    problems: list[Problem] = []
    for item in wanted:
        old = current.get(item.key)
        path = owners.get(item.key) or directory / file_name(item.key)
        if old is not None and old.document.value == item.document.value:
            outcomes.append(Outcome(item.key, "unchanged", path))
            continue
        if problem := _untouchable(item, path, contents.get(path, ()), known=old is not None):
            problems.append(problem)
            continue
        files[path] = texts.get(item.key) or dump(item)
        outcomes.append(Outcome(item.key, "configured" if old else "created", path, difference(old, item)))
    if problems:
        raise InvalidYaml(problems)
    replaced = {**current, **{item.key: item for item in wanted}}
    return Change(files, _with_duplicates(contents, replaced), tuple(outcomes), frozenset(i.source for i in inputs))


def replacement(directory: Path, contents: Contents, name: str, new: Input) -> Change:
    """Plan one file as a whole: what it held and holds no longer is removed.

    Args:
        directory: of all files.
        contents: as it is.
        name: of the file.
        new: what it is to hold.

    Raises:
        InvalidYaml: the input is wrong.
        Refused: not a name for a file.
    """
    if not _FILE_NAME.fullmatch(name):
        raise Refused(f"{name!r} is no name for a file of documents; use one like policies.yaml")
    path = directory / name
    wanted = read(new.text, new.source)
    before = {item.key: item for item in contents.get(path, ())}
    after = {item.key: item for item in wanted}
    outcomes = [Outcome(key, "deleted", path, difference(before[key], None)) for key in before if key not in after]
    for key, item in after.items():
        old = before.get(key)
        if old is not None and old.document.value == item.document.value:
            outcomes.append(Outcome(key, "unchanged", path))
        else:
            outcomes.append(Outcome(key, "configured" if old else "created", path, difference(old, item)))
    others = tuple(item for other, items in contents.items() if other != path for item in items)
    same = path in contents and all(outcome.action == "unchanged" for outcome in outcomes)
    return Change({} if same else {path: new.text}, (*others, *wanted), tuple(outcomes), frozenset({new.source}))


def removal(contents: Contents, key: ObjectKey) -> Change:
    """Plan the removal of one object.

    Raises:
        Refused: it is not there, or shares its file with others.
    """
    path = next((path for path, items in contents.items() if any(item.key == key for item in items)), None)
    if path is None:
        raise Refused(f"{key} is not there; `hostmesh get {key.kind.lower()}` lists what is")
    if len(contents[path]) > 1:
        raise Refused(f"{key} shares {path} with {len(contents[path]) - 1} other objects; remove it from that file")
    old = contents[path][0]
    left = tuple(item for items in contents.values() for item in items if item.key != key)
    return Change({path: None}, left, (Outcome(key, "deleted", path, difference(old, None)),))


def file_name(key: ObjectKey) -> str:
    """Where a new object is written, below the documents directory."""
    return ".".join(part for part in (key.kind.lower(), key.namespace, key.name, "yaml") if part)


def dump(item: Object[Resource]) -> str:
    """An object as YAML, in its author's order."""
    return yaml.safe_dump(item.document.value, sort_keys=False, allow_unicode=True)


def difference(old: Object[Resource] | None, new: Object[Resource] | None) -> str:
    """A unified diff of two versions of an object; None stands for its absence."""
    item = new or old
    assert item is not None, "nothing to compare"
    key = item.key
    before, after = (dump(one).splitlines(keepends=True) if one else [] for one in (old, new))
    names = (f"live/{key}" if old else "/dev/null", f"new/{key}" if new else "/dev/null")
    return "".join(difflib.unified_diff(before, after, *names))


def _read_all(inputs: Iterable[Input]) -> tuple[tuple[Object[Resource], ...], Mapping[ObjectKey, str]]:
    """All objects, and for those that were alone in their input its text, comments included."""
    wanted: list[Object[Resource]] = []
    texts: dict[ObjectKey, str] = {}
    problems: list[Problem] = []
    for one in inputs:
        try:
            objects = read(one.text, one.source)
        except InvalidYaml as invalid:
            problems += invalid.problems
            continue
        wanted += objects
        if len(objects) == 1:
            texts[objects[0].key] = one.text
    problems += check_together(wanted)
    if problems:
        raise InvalidYaml(problems)
    return tuple(wanted), texts


def _untouchable(
    item: Object[Resource], path: Path, there: Sequence[Object[Resource]], *, known: bool
) -> Problem | None:
    if known and len(there) > 1:
        why = f"lives in {path} together with {len(there) - 1} other objects; change it there"
        return item.document.problem((), f"{item.key} {why}")
    if not known and there:
        return item.document.problem(
            (), f"{item.key} would be written to {path}, which holds {there[0].key}; rename it"
        )
    return None


def _with_duplicates(
    contents: Contents, replaced: Mapping[ObjectKey, Object[Resource]]
) -> tuple[Object[Resource], ...]:
    """The set as it will be on disk: objects that stand twice there still do."""
    left = dict(replaced)
    found = [left.pop(item.key, item) for items in contents.values() for item in items]
    return (*found, *left.values())
