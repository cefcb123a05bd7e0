"""Index: values by a key that several of them may share, lean where they do not."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class Index(Generic[_Key, _Value]):
    """A multi-map by identity of the value; an only value is stored without a container. Values are no tuples."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[_Key, _Value | tuple[_Value, ...]] = {}

    def add(self, key: _Key, value: _Value) -> None:
        """Append a value that is not there yet."""
        if key in self._entries:
            self._entries[key] = (*self.get(key), value)
        else:
            self._entries[key] = value

    def discard(self, key: _Key, value: _Value) -> None:
        """Take out that very object.

        Raises:
            KeyError: nothing has that key.
        """
        rest = tuple(other for other in _values(self._entries[key]) if other is not value)
        if not rest:
            del self._entries[key]
        else:
            self._entries[key] = rest if len(rest) > 1 else rest[0]

    def get(self, key: _Key) -> tuple[_Value, ...]:
        """All values of a key in the order in which they were added."""
        entry = self._entries.get(key)
        return () if entry is None else _values(entry)

    def __len__(self) -> int:
        return len(self._entries)


def _values(entry: _Value | tuple[_Value, ...]) -> tuple[_Value, ...]:
    return entry if isinstance(entry, tuple) else (entry,)
