"""Rules of challenges: for one caller, once, in time, and nothing kept for those who only ask."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.control.challenges import LIFETIME, Asked, ChallengeRefusal, Challenges

NOW = 1_800_000_000.0
ASKED = Asked("mesh2", bytes(32), "10.0.0.2:40000")


@pytest.fixture
def clock() -> list[float]:
    return [NOW]


@pytest.fixture
def challenges(clock: list[float]) -> Challenges:
    return Challenges(lambda: clock[0])


def test_a_challenge_is_good_once_and_for_a_minute(challenges: Challenges, clock: list[float]) -> None:
    """To the last second; an answered one is a replay even then."""
    first, second = challenges.issue(ASKED), challenges.issue(ASKED)
    assert first != second
    clock[0] += LIFETIME - 0.1
    assert challenges.refusal(first, ASKED) is None
    challenges.use_up(first)
    assert challenges.refusal(first, ASKED) is ChallengeRefusal.REPLAYED
    assert challenges.refusal(second, ASKED) is None
    clock[0] += 0.2
    assert challenges.refusal(second, ASKED) is ChallengeRefusal.EXPIRED


@pytest.mark.parametrize(
    "other",
    [
        replace(ASKED, node="mesh3"),
        replace(ASKED, request_hash=bytes(31) + b"x"),
        replace(ASKED, connection="10.0.0.2:40001"),
        replace(ASKED, node="mesh2\0", request_hash=bytes(31)),
    ],
)
def test_a_challenge_is_bound(challenges: Challenges, other: Asked) -> None:
    """To the node, its request and its connection."""
    assert challenges.refusal(challenges.issue(ASKED), other) is ChallengeRefusal.FOREIGN


@given(st.binary(max_size=100))
def test_invented_challenges_are_foreign(invented: bytes) -> None:
    """Of whatever length."""
    assert Challenges(lambda: NOW).refusal(invented, ASKED) is ChallengeRefusal.FOREIGN


def test_another_process_knows_nothing_of_it(challenges: Challenges) -> None:
    """A restarted control plane asks again."""
    assert Challenges(lambda: NOW).refusal(challenges.issue(ASKED), ASKED) is ChallengeRefusal.FOREIGN


def test_asking_costs_no_memory_and_answers_are_forgotten_in_time(challenges: Challenges, clock: list[float]) -> None:
    """A stranger may ask as often as he likes."""
    for _ in range(1000):
        challenges.issue(ASKED)
    assert challenges._used == {}
    for _ in range(3):
        challenges.use_up(challenges.issue(ASKED))
        clock[0] += LIFETIME / 2
    assert len(challenges._used) == 2
