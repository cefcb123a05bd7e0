"""Readers of the failsafe list."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from hostmesh.enrolment.failsafe import resolvers, session, ssh_connection
from hostmesh.redirect.failsafe import Way


def test_resolvers(tmp_path: Path) -> None:
    """Each once; those on loopback are never captured, and a file that is not there says nothing."""
    (tmp_path / "a").write_text(
        "nameserver 127.0.0.53\nnameserver 10.0.0.2 # x\noptions edns0\nnameserver\nnameserver x\n"
    )
    (tmp_path / "b").write_text("nameserver 10.0.0.2\nnameserver fe80::1%eth0\n")
    found = resolvers([tmp_path / "a", tmp_path / "b", tmp_path / "c"])
    assert [(str(one.address), one.port) for one in found] == [("10.0.0.2", 53), ("fe80::1", 53)]


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ("10.0.0.9 50000 10.0.0.1 2222", Way(2222, "the ssh session from 10.0.0.9", ip_address("10.0.0.9"))),
        ("", None),
        ("x y z 22", None),
        ("10.0.0.9 1", None),
    ],
)
def test_session(text: str, way: Way | None) -> None:
    """The peer, and our port."""
    assert session(text) == way


def test_session_is_found_through_sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which takes the variable away: the nearest ancestor that has it tells."""
    monkeypatch.setattr("os.getppid", lambda: 30)
    for pid, parent, environment in (
        (30, 20, b"A=1\0"),
        (20, 10, b"B=2\0SSH_CONNECTION=1.2.3.4 5 6.7.8.9 22\0"),
        (10, 1, b""),
    ):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "environ").write_bytes(environment)
        (tmp_path / str(pid) / "status").write_text(f"Name:\tx\nPPid:\t{parent}\n")
    assert ssh_connection({"SSH_CONNECTION": "9 9 9 9"}, tmp_path) == "9 9 9 9"
    assert ssh_connection({}, tmp_path) == "1.2.3.4 5 6.7.8.9 22"
    (tmp_path / "20" / "environ").write_bytes(b"")
    assert ssh_connection({}, tmp_path) == ""
