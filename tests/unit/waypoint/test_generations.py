"""Files of one push come to be in force together, and a failed push changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hostmesh.waypoint.generations import Generations


def current(directory: Path) -> dict[str, object]:
    return {one.name: json.loads(one.read_text()) for one in (directory / "current").iterdir()}


def test_a_push_replaces_all_files_at_once(tmp_path: Path) -> None:
    """What is not in it is gone; keys are readable by the owner only; old ones do not pile up."""
    generations = Generations(tmp_path / "xds")
    generations.publish({"a": {"n": 1}, "b": {}})
    generations.publish({"a": {"n": 2}})
    assert current(generations.directory) == {"a": {"n": 2}}
    assert (generations.directory / "current" / "a").stat().st_mode & 0o777 == 0o600
    for number in range(5):
        generations.publish({"a": {"n": number}})
    assert len([one for one in generations.directory.iterdir() if one.name.isdecimal()]) == 2


def test_what_an_earlier_run_left_stays_until_the_next_push(tmp_path: Path) -> None:
    """A restart needs no new configuration to serve."""
    Generations(tmp_path / "xds").publish({"a": {"n": 1}})
    again = Generations(tmp_path / "xds")
    assert current(again.directory) == {"a": {"n": 1}}
    again.publish({"a": {"n": 2}})
    assert current(again.directory) == {"a": {"n": 2}}


def test_a_failed_push_leaves_the_former_one_in_force(tmp_path: Path) -> None:
    """Here a name that cannot be a file's."""
    generations = Generations(tmp_path / "xds")
    generations.publish({"a": {"n": 1}})
    with pytest.raises(OSError, match="No such file"):
        generations.publish({"a": {"n": 2}, "no/such/directory": {}})
    assert current(generations.directory) == {"a": {"n": 1}}
