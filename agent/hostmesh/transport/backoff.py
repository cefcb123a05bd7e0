"""Exponential back-off with jitter (as Istio's certificate requests: 1 s, doubled, ±20 %, at most 150 s)."""

from __future__ import annotations

import random
from collections.abc import Callable

INITIAL = 1.0
MAXIMUM = 150.0
FACTOR = 2.0
JITTER = 0.2


class Backoff:
    """How long to wait after each failure in a row.

    Args:
        initial: seconds after the first failure.
        maximum: seconds that no wait exceeds, jitter included.
        factor: growth from one failure to the next.
        jitter: share of the wait by which it is varied both ways, so that clients do not come back together.
        uniform: a random number in [0, 1).
    """

    __slots__ = ("_factor", "_initial", "_jitter", "_maximum", "_uniform", "_wait")

    def __init__(
        self,
        initial: float = INITIAL,
        maximum: float = MAXIMUM,
        *,
        factor: float = FACTOR,
        jitter: float = JITTER,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        assert 0 < initial <= maximum
        assert factor >= 1
        assert 0 <= jitter < 1
        self._initial = self._wait = initial
        self._maximum = maximum
        self._factor = factor
        self._jitter = jitter
        self._uniform = uniform

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        wait = self._wait
        self._wait = min(wait * self._factor, self._maximum)
        return min(wait * (1 + self._jitter * (2 * self._uniform() - 1)), self._maximum)

    def reset(self) -> None:
        """It worked: the next failure is the first again."""
        self._wait = self._initial
