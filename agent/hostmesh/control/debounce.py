"""Debounce: when changes are pushed: at once after a quiet time, later ones when it is quiet again or a limit is met.

istiod lets the first change of a burst wait too; here a single change has nobody to wait for.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Debounce:
    """Seconds of quiet that end a burst, and the longest that its first change waits."""

    quiet: float = 0.1
    maximum: float = 1.0

    def due(self, first: float, last: float, pushed: float) -> float:
        """When to push a burst whose first and last changes came at these times, after a push at another."""
        if first - pushed >= self.quiet:
            return first
        return min(last + self.quiet, first + self.maximum)
