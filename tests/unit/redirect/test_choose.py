"""One backend for each host, chosen once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hostmesh.kernel.netfilter import NetfilterUnavailable
from hostmesh.redirect.choose import Backend, choose, remember
from hostmesh.redirect.mark_acceptance import CaptureFailed


def only(*working: Backend) -> Callable[[Backend], bool]:
    return lambda backend: backend in working


@pytest.mark.parametrize(
    ("wanted", "working", "chosen"),
    [
        ("auto", tuple(Backend), Backend.NFT),
        ("auto", (Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY), Backend.IPTABLES_NFT),
        ("auto", (Backend.IPTABLES_LEGACY, Backend.PYTHON_IPTABLES), Backend.IPTABLES_LEGACY),
        ("auto", (Backend.PYTHON_IPTABLES,), Backend.PYTHON_IPTABLES),
        ("iptables-legacy", tuple(Backend), Backend.IPTABLES_LEGACY),
    ],
)
def test_first_that_works(tmp_path: Path, wanted: str, working: tuple[Backend, ...], chosen: Backend) -> None:
    """Native nft first; and it stays chosen, whatever works later."""
    record = tmp_path / "backend"
    assert choose(record, wanted, only(*working)) is chosen
    assert not record.exists(), "a look changes nothing"
    remember(record, chosen)
    assert choose(record, "auto", only(*Backend)) is chosen


def test_never_mixed(tmp_path: Path) -> None:
    """Another one has to wait until the rules of this one are gone."""
    record = tmp_path / "backend"
    remember(record, Backend.NFT)
    with pytest.raises(
        CaptureFailed, match="this host's rules are nft's, and backends are never mixed; next: hostmesh"
    ):
        choose(record, "iptables-nft", only(*Backend))


def test_none(tmp_path: Path) -> None:
    """What to install is said, and nothing recorded."""
    with pytest.raises(NetfilterUnavailable, match="none of nft, iptables-nft, iptables-legacy, python-iptables can"):
        choose(tmp_path / "backend", "auto", only())
    assert not (tmp_path / "backend").exists()


def test_a_record_that_names_nothing_is_said(tmp_path: Path) -> None:
    """A full disk has cut it, or a newer version wrote it: nobody knows whose rules there are."""
    record = tmp_path / "backend"
    record.write_bytes(b"ip\xff")
    with pytest.raises(CaptureFailed, match=f"{record} names no backend .*; next: remove what is left"):
        choose(record, "auto", only(*Backend))
