"""The store in a running program: one change at a time, and agents are told of what concerns them only."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.support.documents import document
from tests.support.patience import PATIENCE
from tests.support.records import records

from hostmesh.config.strict_yaml import InvalidYaml
from hostmesh.control import live
from hostmesh.control.apply import Input
from hostmesh.control.directory import Directory
from hostmesh.control.documents.read import ObjectKey
from hostmesh.control.live import LiveDocuments
from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.snapshot import Snapshot
from hostmesh.control.store import DocumentStore
from hostmesh.model.identity import Identity


def entry(name: str, address: str = "10.0.0.1", node: str = "n") -> str:
    return document(
        "WorkloadEntry",
        f"address: {address}\nserviceAccount: {name}",
        f"name: {name}, labels: {{hostmesh.io/node: {node}}}",
    )


class Bench:
    """A live store, and the names in every snapshot that it published."""

    def __init__(self, path: Path) -> None:
        for name in ("documents", "state"):
            (path / name).mkdir()
        self.published: list[list[str]] = []
        self.live = LiveDocuments(
            DocumentStore(
                Directory(path / "documents", path / "applying.json"), records(path), path / "state", MeshConfig()
            ),
            lambda s: self.published.append(names(s)),
        )

    async def apply(self, *texts: str) -> None:
        await self.live.apply([Input(f"{n}.yaml", text) for n, text in enumerate(texts)], dry_run=False)


def names(snapshot: Snapshot) -> list[str]:
    return [uid.rpartition("/")[2] for uid in snapshot.addresses.data]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_every_change_of_the_mesh_is_published_once(bench: Bench) -> None:
    """What changes nothing, or is refused, is not."""

    async def transcript() -> None:
        await bench.apply(entry("a"))
        await bench.apply(entry("a"))
        await bench.apply(entry("a"), entry("b", "10.0.0.2"))
        with pytest.raises(InvalidYaml):
            await bench.apply(entry("c").replace("address", "adress"))
        await bench.live.delete(ObjectKey("WorkloadEntry", "default", "a"), dry_run=False)

    asyncio.run(transcript())
    assert bench.published == [["a"], ["a", "b"], ["b"]]


def test_changes_that_come_together_are_made_one_after_the_other(bench: Bench) -> None:
    """None is lost and none sees half of another."""

    async def transcript() -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(8):
                tasks.create_task(bench.apply(entry(f"w{number}", f"10.0.0.{number}")))

    asyncio.run(transcript())
    assert sorted(bench.published[-1]) == [f"w{number}" for number in range(8)]
    lengths = [len(published) for published in bench.published]
    assert lengths == sorted(lengths)


def test_registrations_follow_the_documents(bench: Bench) -> None:
    """The authority asks at every request."""

    async def transcript() -> None:
        assert bench.live.registered("n") == frozenset()
        await bench.apply(entry("a"))
        assert bench.live.registered("n") == {Identity("cluster.local", "default", "a")}
        assert bench.live.registered("m") == frozenset()
        await bench.apply(entry("a", node="m"))
        assert bench.live.registered("n") == frozenset()
        assert bench.live.registered("m") == {Identity("cluster.local", "default", "a")}

    asyncio.run(transcript())


def test_watching_begins_with_what_is_there(bench: Bench, tmp_path: Path) -> None:
    """An empty directory is published too: agents must learn that there is nothing."""

    async def transcript() -> None:
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(bench.live.watch())
            await bench.live.started.wait()
            watching.cancel()

    asyncio.run(transcript())
    assert bench.published == [[]]


def test_a_change_that_is_told_of_once_is_live_once_it_is_complete(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is taken when two looks in a row find it the same; only the first of them is asked for."""
    monkeypatch.setattr(live, "QUIET_INTERVAL", 3600.0)

    async def transcript() -> None:
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(bench.live.watch())
            await bench.live.started.wait()
            bench.live.follow(True)
            (tmp_path / "documents" / "a.yaml").write_text(entry("a"))
            bench.live.look()
            async with asyncio.timeout(PATIENCE):
                while bench.published != [[], ["a"]]:
                    await asyncio.sleep(0.01)
            watching.cancel()

    asyncio.run(transcript())
