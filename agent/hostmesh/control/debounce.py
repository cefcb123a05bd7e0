"""Debounce: when a burst of changes is pushed (istiod: after a quiet time, but never later than a maximum)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Debounce:
    """Seconds of quiet that end a burst, and the longest that its first change waits."""

    quiet: float = 0.1
    maximum: float = 1.0

    def due(self, first: float, last: float) -> float:
        """When to push a burst whose first and last changes came at these times."""
        return min(last + self.quiet, first + self.maximum)
