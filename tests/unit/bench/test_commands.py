"""What the benchmark is asked for must be something that can be measured."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (("control", "--agents", "1"), "argument --agents: '1' is not a number from 2 up"),
        (("control", "--changes", "0"), "argument --changes: '0' is not a number from 2 up"),
        (("compare", "--rounds", "0"), "argument --rounds: '0' is not a number from 1 up"),
    ],
)
def test_of_too_little_there_is_no_figure(asked: tuple[str, ...], why: str) -> None:
    """One agent of two swarms left the other waiting for ever, and no rounds have no median."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", *asked], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert why in done.stderr
