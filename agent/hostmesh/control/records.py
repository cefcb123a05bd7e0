"""Records: what control planes must not forget, in a file of one of them or in an etcd that several share.

A record is a text under a key like `tokens/3f0c`. Changes are transactions: all of one are there or none, on stable
storage when `commit` returns, and only if nobody has changed meanwhile what the caller has read.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Record:
    """A value, and the number of the transaction that wrote it: other writes, other numbers."""

    value: str
    version: int


ABSENT = 0
"""The version of what is not there."""

Changed = Callable[[str, Record | None], None]
"""Told of each change, own and others', with None for a removal; in any thread, in the order of the changes."""


class Conflict(Exception):
    """Somebody else has changed what the transaction relies on; nothing was written. Read again and decide again."""


class StoreUnavailable(OSError):
    """The store cannot be asked now; `strerror` says why. The caller changes nothing."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(errno.EHOSTUNREACH, why, where)

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


class RecordsBroken(Exception):
    """What is kept is not what was written; the text names it and the next step."""


class Records(Protocol):
    """The interface; may be used from several threads."""

    @property
    def where(self) -> str:
        """For messages: a file or an address."""
        ...

    def get(self, key: str) -> Record | None:
        """What is known here; another control plane's change of a moment ago may be missing. Never waits."""
        ...

    def fresh(self, key: str) -> Record | None:
        """What is there now, whoever wrote it.

        Raises:
            StoreUnavailable: it cannot be known.
        """
        ...

    def under(self, prefix: str) -> Mapping[str, Record]:
        """A copy of what is known here of all keys that begin so, sorted."""
        ...

    def commit(
        self, changes: Mapping[str, str | None], *, expect: Mapping[str, int] | None = None, durable: bool = True
    ) -> None:
        """Write (or, for None, remove) records; `get` knows them when this returns.

        Args:
            changes: by key.
            expect: versions that must still be, for any keys; `ABSENT` where nothing may be.
            durable: False where a power cut may take it back.

        Raises:
            Conflict: one of them is another; nothing is written.
            OSError: it could not be written.
        """
        ...

    def follow(self, prefix: str, changed: Changed) -> None:
        """Call `changed` for all there is under the prefix, and from then on for each change."""
        ...

    def hold(self, key: str, value: str) -> None:
        """Keep a record there that vanishes soon after this process does. Returns at once; the last holder counts."""
        ...

    def release(self, key: str) -> None:
        """Take such a record away, unless another control plane has taken it over. Returns at once."""
        ...
