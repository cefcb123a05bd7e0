"""Shares: what several clients use together, so that none of them can take it all (dynamic thresholds of switches)."""

from __future__ import annotations

from collections.abc import Hashable


class Shares:
    """Whoever wants more gets it while as much is free as it holds: n greedy clients leave one share of n + 1 free.

    Args:
        limit: how much there is.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._held: dict[Hashable, int] = {}

    def take(self, who: Hashable) -> bool:
        """One more; False when it holds its share already."""
        held = self._held.get(who, 0)
        if held >= self._free:
            return False
        self._free -= 1
        self._held[who] = held + 1
        return True

    def give_back(self, who: Hashable) -> None:
        """One that was taken."""
        self._free += 1
        self._held[who] -= 1
        if not self._held[who]:
            del self._held[who]
