"""Numbers of workloads: given once, kept, never given to another while there are fresh ones."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostmesh.enrolment.numbers import Numbers, NumbersUnreadable


def test_numbers_start_at_one_and_last(tmp_path: Path) -> None:
    """Over restarts, and when other workloads come and go."""
    file = tmp_path / "marks.json"
    assert Numbers(file).assign(["prod/b", "prod/a"]) == {"prod/a": 1, "prod/b": 2}
    assert Numbers(file).assign(["prod/b", "prod/c"]) == {"prod/b": 2, "prod/c": 3}
    assert Numbers(file).assign(["prod/a"]) == {"prod/a": 1}


def test_only_root_reads_the_file(tmp_path: Path) -> None:
    """0600, and replaced as a whole; what a crash left behind is no obstacle."""
    file = tmp_path / "marks.json"
    (tmp_path / "marks.json.new").write_text("half")
    Numbers(file).assign(["prod/a"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["marks.json"]


def test_nothing_new_writes_nothing(tmp_path: Path) -> None:
    """A full disk does not hinder a host that has what it needs."""
    file = tmp_path / "marks.json"
    Numbers(file).assign(["prod/a"])
    written = file.stat().st_mtime_ns, file.stat().st_ino
    Numbers(file).assign(["prod/a"])
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == written


def test_numbers_of_the_gone_are_given_last(tmp_path: Path) -> None:
    """Only when no fresh one is left, the lowest first, and never one in use."""
    file = tmp_path / "marks.json"
    assert Numbers(file, limit=3).assign(["a", "b", "c"]) == {"a": 1, "b": 2, "c": 3}
    assert Numbers(file, limit=3).assign(["b", "d"]) == {"b": 2, "d": 1}
    assert Numbers(file, limit=3).assign(["a", "b", "d"]) == {"a": 3, "b": 2, "d": 1}
    with pytest.raises(ValueError, match="more than 3 workloads"):
        Numbers(file, limit=3).assign(["a", "b", "d", "e"])
    assert Numbers(file, limit=3).assign(["a", "b", "d"]) == {"a": 3, "b": 2, "d": 1}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"version": 1, "numbers": []}',
        '{"version": 2, "numbers": {"a": 1}}',
        '{"version": 1, "numbers": {"a": 1, "b": 1}}',
        '{"version": 1, "numbers": {"a": 0}}',
        '{"version": 1, "numbers": {"a": 1048576}}',
        '{"version": 1, "numbers": {"a": "1"}}',
        '{"version": 1, "numbers": {"a": [1]}}',
    ],
)
def test_damage_is_said(tmp_path: Path, content: str) -> None:
    """Numbers that are guessed could make one workload speak for another."""
    (tmp_path / "marks.json").write_text(content)
    with pytest.raises(NumbersUnreadable, match=r"marks\.json is damaged; next: remove it"):
        Numbers(tmp_path / "marks.json")


@settings(max_examples=50)
@given(st.lists(st.sets(st.sampled_from("abcdefgh"), max_size=4), max_size=12))
def test_no_two_workloads_ever_share(tmp_path_factory: pytest.TempPathFactory, rounds: list[set[str]]) -> None:
    """Whatever comes and goes: numbers of one moment differ, and those of the living do not change."""
    file = tmp_path_factory.mktemp("numbers") / "marks.json"
    before: dict[str, int] = {}
    for keys in rounds:
        given_now = Numbers(file, limit=5).assign(keys)
        assert len(set(given_now.values())) == len(keys)
        assert all(before[key] == given_now[key] for key in keys & before.keys())
        before = given_now
        written = json.loads(file.read_text())["numbers"] if file.exists() else {}
        assert len(set(written.values())) == len(written)
