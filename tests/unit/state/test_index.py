"""An index keeps every value of a key, in order, and takes out the very one."""

from __future__ import annotations

import pytest

from hostmesh.state.index import Index


class Thing:
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing)

    def __hash__(self) -> int:
        return 0


def test_values_share_a_key_in_the_order_of_their_arrival() -> None:
    """One, two, three, and back to none."""
    index: Index[str, Thing] = Index()
    things = [Thing(), Thing(), Thing()]
    assert index.get("key") == ()
    for thing in things:
        index.add("key", thing)
    assert [id(thing) for thing in index.get("key")] == [id(thing) for thing in things]
    index.discard("key", things[1])
    assert [id(thing) for thing in index.get("key")] == [id(things[0]), id(things[2])]
    index.discard("key", things[0])
    assert [id(thing) for thing in index.get("key")] == [id(things[2])]
    index.discard("key", things[2])
    assert index.get("key") == ()
    assert len(index) == 0


def test_taking_out_of_nothing_is_a_bug() -> None:
    """The store only takes out what it put in."""
    with pytest.raises(KeyError):
        Index[str, Thing]().discard("key", Thing())
