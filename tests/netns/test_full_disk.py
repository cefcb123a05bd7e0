"""A control plane whose disk is full, or whose directories cannot be written: it says so, and serves on what it has."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from tests.support.control_plane import RunningControlPlane, control_plane
from tests.support.documents import document

from hostmesh.identity.ca_client import CaClient
from hostmesh.identity.enrolment import enrol
from hostmesh.identity.failure import FetchFailed
from hostmesh.identity.node import NodeStore
from hostmesh.model.endpoint import Endpoint
from hostmesh.model.identity import Identity
from hostmesh.rpc.channel import ControlPlane
from hostmesh.rpc.failure import ControlPlaneError

pytestmark = pytest.mark.netns

WEB = Identity("cluster.local", "default", "web")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@contextmanager
def full(disk: Path) -> Iterator[str]:
    """Not a byte is left; the error that follows."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    yield "No space left on device"
    filler.unlink()


@contextmanager
def read_only(disk: Path) -> Iterator[str]:
    """As after an error of the disk; the socket and the lock of the test are elsewhere."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        yield "Read-only file system"
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


def entry(name: str) -> str:
    return document(
        "WorkloadEntry",
        f"address: 10.0.0.1\nserviceAccount: {name}",
        f"name: {name}, labels: {{hostmesh.io/node: mesh1}}",
    )


def apply(running: RunningControlPlane, *names: str) -> None:
    running.client.apply([{"source": f"{name}.yaml", "text": entry(name)} for name in names], dry_run=False)


def names(running: RunningControlPlane) -> list[str]:
    return [one["name"] for one in running.client.mesh().get("workloads", [])]


def mint_until_refused(running: RunningControlPlane) -> None:
    """The last page of a file takes a little more on a full disk."""
    for _ in range(60):
        running.client.token("mesh3", 600)


@pytest.mark.parametrize("trouble", [full, read_only])
def test_nothing_is_granted_and_what_was_live_is_served(small_disk: Path, tmp_path: Path, trouble: object) -> None:
    """Each refusal names the file and the reason; afterwards everything works, and no token was lost."""
    assert callable(trouble)
    places = {"documents_dir": str(small_disk / "documents"), "state_dir": str(small_disk / "state")}
    with control_plane(tmp_path, **places) as running:
        apply(running, "web")
        plane = ControlPlane(Endpoint("127.0.0.1", running.port), small_disk / "state" / "ca" / "root-cert.pem")
        first, second = (running.client.token(node, 600)["token"] for node in ("mesh1", "mesh2"))
        store = NodeStore(tmp_path)
        store.save(asyncio.run(enrol(plane, "mesh1", "cluster.local", first)))
        ca = CaClient(
            ControlPlane(Endpoint("127.0.0.1", running.port), small_disk / "state/ca/root-cert.pem", store.files), 600
        )
        with trouble(small_disk) as why:
            with pytest.raises(click.ClickException, match=why) as refused:
                apply(running, "db", "cache")
            assert str(small_disk) in refused.value.message
            with pytest.raises(click.ClickException, match=why):
                mint_until_refused(running)
            with pytest.raises(ControlPlaneError, match=why):
                asyncio.run(enrol(plane, "mesh2", "cluster.local", second))
            with pytest.raises(FetchFailed, match=why):
                asyncio.run(ca.fetch(WEB))
            assert names(running) == ["web"]
            assert running.client.status()["documents"]["problems"] == []
        apply(running, "db", "cache")
        assert names(running) == ["cache", "db", "web"]
        assert asyncio.run(enrol(plane, "mesh2", "cluster.local", second))
        assert asyncio.run(ca.fetch(WEB)).identity == WEB
