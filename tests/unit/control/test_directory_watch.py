"""Changes of a tree of documents are told of, on a real file system."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from hostmesh.control.directory_watch import follow

PATIENCE = 10.0


class Watched:
    """A tree, how often somebody was asked to look at it, and whether it is followed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.looks = 0
        self.following: list[bool] = []
        self._looked = asyncio.Event()

    def look(self) -> None:
        self.looks += 1
        self._looked.set()

    async def told(self) -> None:
        """Wait until somebody is asked to look."""
        async with asyncio.timeout(PATIENCE):
            await self._looked.wait()
        self._looked.clear()


def run(path: Path, transcript: Callable[[Watched], Awaitable[None]]) -> Watched:
    async def whole() -> Watched:
        watched = Watched(path)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(follow(path, watched.look, watched.following.append))
            await watched.told()  # once at the start: what was there before may have changed meanwhile
            await transcript(watched)
            task.cancel()
        return watched

    return asyncio.run(whole())


CHANGES: list[Callable[[Path], object]] = [
    lambda path: (path / "new.yaml").write_text("x"),
    lambda path: (path / "old.yaml").write_text("y"),
    lambda path: (path / "old.yaml").unlink(),
    lambda path: (path / "old.yaml").rename(path / "below" / "old.yaml"),
    lambda path: (path / "below" / "deep.yaml").write_text("y"),
    lambda path: (path / "below").rename(path / "elsewhere"),
]


@pytest.mark.parametrize("change", CHANGES, ids=["made", "written", "removed", "moved", "below", "directory moved"])
def test_every_change_is_told_of(tmp_path: Path, change: Callable[[Path], object]) -> None:
    """In directories below, too."""
    (tmp_path / "below").mkdir()
    for name in ("old.yaml", "below/deep.yaml"):
        (tmp_path / name).write_text("x")

    async def transcript(watched: Watched) -> None:
        change(tmp_path)
        await watched.told()

    assert run(tmp_path, transcript).following == [True, True, False]


def test_directories_that_come_later_are_followed(tmp_path: Path) -> None:
    """The first look after they were made finds what was in them before they were watched."""

    async def transcript(watched: Watched) -> None:
        (tmp_path / "later").mkdir()
        await watched.told()
        (tmp_path / "later" / "one.yaml").write_text("x")
        await watched.told()

    run(tmp_path, transcript)


def test_a_burst_is_one_look(tmp_path: Path) -> None:
    """A copied tree is looked at a few times, not once for each file."""

    async def transcript(watched: Watched) -> None:
        for number in range(500):
            (tmp_path / f"{number}.yaml").write_text("x")
        await watched.told()

    assert run(tmp_path, transcript).looks == 2


def test_what_is_not_there_is_not_followed(tmp_path: Path) -> None:
    """Then somebody must look by himself."""

    async def transcript(watched: Watched) -> None:
        del watched

    assert run(tmp_path / "missing", transcript).following == [False, False]
