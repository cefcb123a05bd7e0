"""Mirror: what is known of the store, brought up to date by lists and events in the order of etcd's revisions."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping

from hostmesh.control.records import Changed, Record, RecordsBroken

_log = logging.getLogger(__name__)

Event = tuple[str, Record | None]


class Mirror:
    """Written by one thread, read by all."""

    def __init__(self) -> None:
        self._news = threading.Condition(threading.RLock())
        self._records: dict[str, Record] = {}
        self._followers: list[tuple[str, Changed]] = []
        self.revision = 0
        """Everything up to here is known."""

    def get(self, key: str) -> Record | None:
        """What is known of a key."""
        with self._news:
            return self._records.get(key)

    def under(self, prefix: str) -> Mapping[str, Record]:
        """A copy of what is known of all keys that begin so, sorted."""
        with self._news:
            return {key: record for key, record in sorted(self._records.items()) if key.startswith(prefix)}

    def follow(self, prefix: str, changed: Changed) -> None:
        """As `Records.follow`."""
        with self._news:
            for key, record in self.under(prefix).items():
                changed(key, record)
            self._followers.append((prefix, changed))

    def replace(self, everything: Mapping[str, Record], revision: int) -> None:
        """A list of all there was at a revision."""
        with self._news:
            gone = [key for key in self._records if key not in everything]
            events: list[Event] = [(key, None) for key in gone]
            events += [(key, record) for key, record in everything.items() if self._records.get(key) != record]
            self.advance(events, revision)

    def advance(self, events: Iterable[Event], revision: int) -> None:
        """What has happened since."""
        with self._news:
            for key, record in events:
                if record is not None:
                    self._records[key] = record
                else:
                    self._records.pop(key, None)
                self._tell(key, record)
            self.revision = max(self.revision, revision)
            self._news.notify_all()

    def _tell(self, key: str, record: Record | None) -> None:
        for prefix, changed in self._followers:
            if key.startswith(prefix):
                try:
                    changed(key, record)
                except RecordsBroken as error:
                    _log.error("%s", error)

    def wait_for(self, revision: int, timeout: float) -> bool:
        """Whether everything up to a revision is known within so many seconds."""
        with self._news:
            return self._news.wait_for(lambda: self.revision >= revision, timeout)
