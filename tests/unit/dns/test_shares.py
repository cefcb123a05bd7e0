"""Rules for shares: bounded together, and nobody takes it all."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hostmesh.dns.shares import Shares


def greedy(shares: Shares, *clients: str) -> Counter[str]:
    """What they get who take turns until nobody gets more."""
    got: Counter[str] = Counter()
    while more := [who for who in clients if shares.take(who)]:
        got.update(more)
    return got


def test_the_greedy_leave_as_much_as_each_of_them_has() -> None:
    """Whoever comes next, it has its share as well."""
    assert greedy(Shares(512), "a") == {"a": 256}
    assert greedy(Shares(512), "a", "b", "c") == {"a": 128, "b": 128, "c": 128}
    shares = Shares(512)
    greedy(shares, "a")
    assert greedy(shares, "b") == {"b": 128}
    assert not shares.take("a")
    for _ in range(64):
        shares.give_back("a")
    assert not shares.take("a"), "what it gave back is for others as long as they are busy"


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcdef"))))
def test_never_more_than_there_is_and_always_something_for_a_newcomer(steps: list[tuple[bool, str]]) -> None:
    """Whatever is taken and given back before."""
    shares, held = Shares(8), Counter[str]()
    for takes, who in steps:
        if takes:
            held[who] += shares.take(who)
        elif held[who]:
            shares.give_back(who)
            held[who] -= 1
    assert held.total() <= 8
    assert held.total() == 8 or shares.take("newcomer")
