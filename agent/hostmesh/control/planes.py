"""Planes: the control planes of a mesh tell each other that they are there, and what time they have.

Certificates, tokens and leases of one are judged by the clocks of the others, so clocks that differ are named before
anybody is refused because of them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable

from hostmesh.control.records import Record, Records

_log = logging.getLogger(__name__)

_PREFIX = "planes/"
INTERVAL = 5.0
TOLERATED = 10.0
"""Seconds between two clocks; what the store itself takes to tell is counted too."""


class Planes:
    """Run `run`. With a store of its own a control plane is alone, and nothing happens.

    Args:
        records: shared with the others.
        name: of this one in the store.
        host: what people call it.
        now: seconds since the epoch.
    """

    def __init__(self, records: Records, name: str, host: str, now: Callable[[], float] = time.time) -> None:
        self._records = records
        self._key = f"{_PREFIX}{name}"
        self._host = host
        self._now = now
        self._listening = False
        self._skew: dict[str, float] = {}
        records.follow(_PREFIX, self._take)
        self._listening = True

    def tell(self) -> None:
        """Say what time it is here."""
        self._records.hold(self._key, json.dumps({"host": self._host, "clock": self._now()}))

    def describe(self) -> list[dict[str, object]]:
        """Who is there, by host, and how far their clocks are ahead of this one as they last said."""
        found = []
        for key, record in self._records.under(_PREFIX).items():
            host, _ = _parse(record)
            found.append({"host": host, "clockAhead": round(self._skew.get(key, 0.0), 1), "self": key == self._key})
        return sorted(found, key=lambda one: str(one["host"]))

    async def run(self) -> None:
        """Tell again and again until cancelled."""
        while True:
            self.tell()
            await asyncio.sleep(INTERVAL)

    def _take(self, key: str, record: Record | None) -> None:
        """What was there before we listened says nothing about now."""
        if record is None:
            self._skew.pop(key, None)
            return
        if key == self._key or not self._listening:
            return
        host, clock = _parse(record)
        ahead, before = clock - self._now(), self._skew.get(key, 0.0)
        self._skew[key] = ahead
        if abs(ahead) > TOLERATED >= abs(before):
            _log.error("%s", _skew_text(host, ahead, self._host))
        elif abs(before) > TOLERATED >= abs(ahead):
            _log.info("the clock of the control plane %s agrees with this one again", host)


def _skew_text(host: str, ahead: float, here: str) -> str:
    direction = "ahead of" if ahead > 0 else "behind"
    return (
        f"the clock of the control plane {host} is {abs(ahead):.0f} s {direction} that of {here}: certificates and "
        "join tokens of one may not be valid for the other; compare them (timedatectl) and set the wrong one"
    )


def _parse(record: Record) -> tuple[str, float]:
    try:
        value = json.loads(record.value)
        return str(value["host"])[:253], float(value["clock"])
    except (ValueError, KeyError, TypeError):
        return "unknown", 0.0
