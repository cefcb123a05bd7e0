"""Rules of the cached state: whole or not at all, private, written at a bounded rate."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.mesh import background, until

from hostmesh.model.workload import Workload
from hostmesh.xds.codec import ADDRESS_TYPE, encode_workload
from hostmesh.xds.held import Held, Versioned
from hostmesh.xds.snapshot import SnapshotWriter, dump_snapshot, load_snapshot


def holding(*names: str) -> Held:
    held = Held()
    for name in names:
        data = encode_workload(Workload(uid=name, name=name, namespace="ns")).SerializeToString()
        held.by_type[ADDRESS_TYPE][name] = Versioned(f"v{name}", data)
    return held


def test_round_trip(tmp_path: Path) -> None:
    """Names, versions and bytes."""
    file = tmp_path / "xds-snapshot"
    held = holding("a", "b")
    file.write_bytes(dump_snapshot(held))
    assert load_snapshot(file).by_type == held.by_type


def test_no_file_is_no_news(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The first start."""
    assert not load_snapshot(tmp_path / "none").everything()
    assert not caplog.records


@given(st.data())
def test_a_damaged_file_is_not_used(data: st.DataObject) -> None:
    """Any changed or missing byte."""
    import tempfile

    whole = dump_snapshot(holding("a", "b"))
    position = data.draw(st.integers(0, len(whole) - 1))
    cut = data.draw(st.booleans())
    damaged = whole[:position] if cut else whole[:position] + bytes([whole[position] ^ 0x40]) + whole[position + 1 :]
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "xds-snapshot"
        file.write_bytes(damaged)
        assert not load_snapshot(file).everything()


def test_what_the_codec_does_not_accept_any_more_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An older version wrote it; the rest is used."""
    held = holding("a")
    held.by_type[ADDRESS_TYPE]["bad"] = Versioned("1", b"\xff")
    held.by_type[ADDRESS_TYPE]["alias"] = held.by_type[ADDRESS_TYPE]["a"]
    file = tmp_path / "xds-snapshot"
    file.write_bytes(dump_snapshot(held))
    assert set(load_snapshot(file).by_type[ADDRESS_TYPE]) == {"a"}
    assert "cached bad is not usable any more" in caplog.text


def test_writes_are_joined_and_the_last_state_is_written(tmp_path: Path) -> None:
    """One write, then none until the interval is over, then one at the end."""
    file = tmp_path / "xds-snapshot"

    async def main() -> None:
        held = holding("a")
        writer = SnapshotWriter(file, held, interval=60)
        async with background(writer.run()):
            writer.changed()
            await until(file.exists)
            first = file.stat().st_ino
            held.by_type = holding("a", "b").by_type
            writer.changed()
            writer.changed()
            await asyncio.sleep(0.02)
            assert file.stat().st_ino == first
        assert load_snapshot(file).by_type == held.by_type
        assert file.stat().st_mode & 0o777 == 0o600

    asyncio.run(main())


def test_a_full_disk_is_said_not_fatal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The file is only a cache."""

    async def main() -> None:
        writer = SnapshotWriter(tmp_path / "missing" / "xds-snapshot", holding("a"), interval=0)
        async with background(writer.run()):
            writer.changed()
            await until(lambda: caplog.records)

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert "could not be cached: No such file or directory" in caplog.text
