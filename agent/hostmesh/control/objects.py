"""Objects: model values by name, and which of them a new list has changed, mostly found by identity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import compress, count
from operator import is_not
from typing import Generic, TypeVar

Value = TypeVar("Value")

Changes = Mapping[str, tuple[Value | None, Value | None]]
"""By name: as it was, None if it was not there, and as it is, None if it is gone."""


class Objects(Generic[Value]):
    """Remembers the last list. An object that is the very same as before costs next to nothing.

    Args:
        key: the name of an object; the last one of a name counts.
    """

    def __init__(self, key: Callable[[Value], str]) -> None:
        self._key = key
        self._list: Sequence[Value] = ()
        self._by_name: dict[str, Value] = {}

    def take(self, fresh: Sequence[Value]) -> dict[str, tuple[Value | None, Value | None]]:
        """What is different now."""
        old, self._list = self._list, fresh
        unique = len(self._by_name) == len(old)
        before, after = _different(old, fresh) if unique else (old, fresh)
        now = {self._key(one): one for one in after}
        gone = {name for name in map(self._key, before) if name not in now}
        if len(self._by_name) + sum(name not in self._by_name for name in now) - len(gone) != len(fresh):
            now = {self._key(one): one for one in fresh}  # some have the same name
            gone = self._by_name.keys() - now.keys()
        found: dict[str, tuple[Value | None, Value | None]] = {}
        for name, one in now.items():
            last = self._by_name.get(name)
            if last is not one and last != one:
                found[name] = (last, one)
            self._by_name[name] = one
        for name in gone:
            found[name] = (self._by_name.pop(name), None)
        return found


def _different(old: Sequence[Value], fresh: Sequence[Value]) -> tuple[Sequence[Value], Sequence[Value]]:
    """The parts of both that are not the same objects in the same order."""
    if len(old) == len(fresh):
        where = list(compress(count(), map(is_not, old, fresh)))
        return [old[at] for at in where], [fresh[at] for at in where]
    start = next(compress(count(), map(is_not, old, fresh)), min(len(old), len(fresh)))
    most = min(len(old), len(fresh)) - start
    end = next((at for at in range(most) if old[-1 - at] is not fresh[-1 - at]), most)
    return old[start : len(old) - end], fresh[start : len(fresh) - end]
