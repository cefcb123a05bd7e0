"""Rules of what a new list of objects changes."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from hostmesh.control.objects import Objects


@dataclass(frozen=True)
class One:
    name: str
    value: int


POOL = [One(name, value) for name in "abcdef" for value in range(3)]
LISTS = st.lists(st.lists(st.sampled_from(POOL), max_size=8), max_size=8)


@given(LISTS, st.booleans())
def test_changes_are_those_between_the_last_of_each_name(lists: list[list[One]], copied: bool) -> None:
    """Whether the objects are the very same or equal ones, in whatever order, and with names that come twice."""
    objects: Objects[One] = Objects(lambda one: one.name)
    before: dict[str, One] = {}
    for fresh in lists:
        given_ = [One(one.name, one.value) for one in fresh] if copied else fresh
        after = {one.name: one for one in fresh}
        expected = {
            name: (before.get(name), after.get(name))
            for name in before.keys() | after.keys()
            if before.get(name) != after.get(name)
        }
        assert objects.take(given_) == expected
        before = after


def test_what_is_the_very_same_is_not_looked_at() -> None:
    """At a million objects a comparison of each would take longer than the change."""
    asked: list[str] = []

    def key(one: One) -> str:
        asked.append(one.name)
        return one.name

    objects: Objects[One] = Objects(key)
    many = [One(str(number), 0) for number in range(100)]
    objects.take(many)
    asked.clear()
    changed = [*many[:50], One("50", 1), *many[51:]]
    assert objects.take(changed) == {"50": (many[50], changed[50])}
    assert objects.take([*changed[:20], One("new", 0), *changed[20:]]) == {"new": (None, One("new", 0))}
    assert set(asked) == {"50", "new"}
