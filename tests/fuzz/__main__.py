"""Run every target, or those named, for some seconds each: `python -m tests.fuzz SECONDS [TARGET ...]`."""

from __future__ import annotations

import itertools
import random
import sys
import time

from hypothesis import HealthCheck, given, seed, settings
from tests.fuzz.targets import TARGETS

BATCH = 500
"""Examples between two looks at the clock."""


def run(name: str, seconds: float) -> int:
    """How many examples held; one that does not is raised, minimal."""
    strategy, check = TARGETS[name]
    end = time.monotonic() + seconds
    start = random.randrange(2**32)
    counted = 0

    def counting(said: object) -> None:
        nonlocal counted
        counted += 1
        check(said)

    for number in itertools.count(start):
        once = settings(max_examples=BATCH, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        seed(number)(once(given(strategy)(counting)))()
        if time.monotonic() > end:
            return counted
    raise AssertionError("endless")


def main(arguments: list[str]) -> int:
    """One line per target."""
    seconds, *names = arguments
    for name in names or TARGETS:
        sys.stdout.write(f"{name}: {run(name, float(seconds))} examples in {seconds} s, nothing found\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
