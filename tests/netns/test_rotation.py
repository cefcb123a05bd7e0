"""Whole agents whose certificates live for seconds, and a root that is replaced meanwhile: no request notices."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.agent import until
from tests.support.estate import Estate

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(420)]

TTL = 25.0
"""Renewed every few seconds (tests/support/short_lived.py)."""
ROTATIONS = 100
PAIRS = 6
"""So many that there are a hundred by the time the old root may go."""
SHORTEST = {"max_ttl": 30, "node_ttl": 30}


def certificates(estate: Estate) -> int:
    """How many both hosts' workloads have got so far."""
    return sum(one.log.count(" is available, from ") for one in estate.agents)


def test_a_hundred_rotations_and_a_new_root_under_traffic(lab: Lab, tmp_path: Path) -> None:
    """Every request is answered; the old root is dismissed as soon as nothing of it can be alive, and not before."""
    with ExitStack() as stack:
        estate = Estate(stack, lab, tmp_path, planes=[{"certificates": SHORTEST}], pairs=PAIRS, ttl=TTL)
        left, right = (tuple(name for name in estate.hosts if name[0] == letter) for letter in "ab")
        with estate.traffic("a1", "a2", to=right), estate.traffic("b3", to=left):
            began = certificates(estate)
            estate.command("ca", "rotate", "start")
            until(lambda: estate.rotation()["phase"] == "switched")
            early = estate.command("ca", "rotate", "finish", check=False)
            assert early.returncode
            assert "certificates of the old root may live until" in early.stderr
            until(lambda: not estate.rotation()["waiting"], 120)
            assert (
                "nothing stands against `hostmesh ca rotate finish`" in estate.command("ca", "rotate", "status").stdout
            )
            estate.command("ca", "rotate", "finish")
            until(lambda: certificates(estate) >= began + ROTATIONS, 200)
