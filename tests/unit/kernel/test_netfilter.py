"""nft's complaints in words, with a tool of the test's own in its place; the real one is in tests/netns."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostmesh.kernel import netfilter
from hostmesh.kernel.netfilter import NetfilterError, NetfilterUnavailable, NoSuchCgroup, explain

COMPLAINTS = [
    ("Operation not permitted (you must be root)\nnetlink: Error: cache", "", NetfilterUnavailable, "CAP_NET_ADMIN"),
    ("<stdin>:1:4-9: Error: cgroupv2 path fails: No such file or directory", "", NoSuchCgroup, "cgroupv2 path fails"),
    ("Error: Could not process rule: Operation not supported", "add rule", NetfilterUnavailable, "this kernel lacks"),
    ("Error: Could not process rule: No such file or directory", "add rule", NetfilterUnavailable, "CONFIG_NFT_SOCKET"),
    ("Error: Could not process rule: No such file or directory", "add element", NetfilterError, "No such file"),
    ("Error: syntax error,\n unexpected newline", "", NetfilterError, "nft: Error: syntax error, unexpected newline"),
    ("", "", NetfilterError, "no reason given"),
]


@pytest.mark.parametrize(("stderr", "text", "kind", "words"), COMPLAINTS)
def test_explain(stderr: str, text: str, kind: type[NetfilterError], words: str) -> None:
    """Missing privilege, missing support and missing cgroup are told apart."""
    error = explain(stderr, text)
    assert type(error) is kind
    assert words in str(error)


def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    (tmp_path / "nft").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "nft").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


def test_run_gives_the_transaction_to_nft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On standard input, as one file."""
    tool(tmp_path, monkeypatch, f'echo "$@" > {tmp_path}/argv; cat > {tmp_path}/stdin')
    netfilter.run("add table inet x\n")
    assert (tmp_path / "argv").read_text() == "-f -\n"
    assert (tmp_path / "stdin").read_text() == "add table inet x\n"


def test_list_table_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None, but only for that reason."""
    tool(tmp_path, monkeypatch, 'echo "Error: No such file or directory" >&2; exit 1')
    assert netfilter.list_table("inet", "hostmesh") is None
    tool(tmp_path, monkeypatch, 'echo "Operation not permitted" >&2; exit 1')
    with pytest.raises(NetfilterUnavailable):
        netfilter.list_table("inet", "hostmesh")


def test_no_nft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next step is in the message."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NetfilterUnavailable, match="apt install nftables"):
        netfilter.run("add table inet x\n")
