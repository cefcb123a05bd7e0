"""The operator's socket: who may connect, and one owner at a time."""

from __future__ import annotations

import grp
import os
import socket
from pathlib import Path

import pytest

from hostmesh.control.local_socket import SocketUnusable, listen


def test_only_owner_and_group_may_connect(tmp_path: Path) -> None:
    """Mode 0660, in a directory that is made."""
    path = tmp_path / "run" / "control.sock"
    own = grp.getgrgid(os.getgid()).gr_name
    with listen(path, own):
        assert path.stat().st_mode & 0o777 == 0o660
        assert path.stat().st_gid == os.getgid()


def test_what_a_dead_predecessor_left_is_replaced(tmp_path: Path) -> None:
    """A socket file that nobody listens on."""
    path = tmp_path / "control.sock"
    listen(path, "no-such-group").close()
    assert path.exists()
    with listen(path, "no-such-group"), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_living_owner_is_left_alone(tmp_path: Path) -> None:
    """Two control planes would fight over the documents."""
    path = tmp_path / "control.sock"
    with listen(path, "no-such-group"), pytest.raises(SocketUnusable, match="another control plane is running"):
        listen(path, "no-such-group")


def test_an_impossible_path_says_so(tmp_path: Path) -> None:
    """A socket's path is at most 107 bytes."""
    with pytest.raises(SocketUnusable, match=r"cannot listen: .*; set `socket` to another path"):
        listen(tmp_path / ("a" * 120), "no-such-group")
