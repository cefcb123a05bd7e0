"""Rules for records: what was written is read, and whatever else lies there is as good as nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from hostmesh.kernel.record import Record


@dataclass(frozen=True, slots=True)
class Known:
    """Some value."""

    digest: str
    own: Mapping[str, list[str]]


def test_a_value_is_kept_until_it_is_removed(tmp_path: Path) -> None:
    """By whoever opens the file next."""
    made, value = Record(tmp_path / "r.json", Known), Known("d", {"a b": ["c"]})
    assert (made.read(), made.exists) == (None, False)
    made.write(Known("", {}))
    made.write(value)
    assert (Record(tmp_path / "r.json", Known).read(), made.exists) == (value, True)
    made.remove()
    made.remove()
    assert (made.read(), made.exists) == (None, False)


@pytest.mark.parametrize(
    "damage", [b"", b'{"digest": "d', b"\xff", b"null", b"[]", b"7", b'"text"', b'{"digest": "d"}', b'{"more": 1}']
)
def test_a_damaged_one_is_as_good_as_none(tmp_path: Path, damage: bytes) -> None:
    """Cut short by a full disk, or written by another version."""
    (tmp_path / "r.json").write_bytes(damage)
    record = Record(tmp_path / "r.json", Known)
    assert record.read() is None
    assert record.exists, "somebody did write something, and has to take it away"
