"""The service's side of systemd's protocols, against a socket of the test's own."""

from __future__ import annotations

import array
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostmesh.kernel import systemd


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What systemd listens on for a service."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(2)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield sock


def test_notifications(manager: socket.socket) -> None:
    """What is said is what sd_notify(3) wants; a status is one line."""
    said = []
    for call in (
        lambda: systemd.notify_ready("two\nlines"),
        systemd.notify_ready,
        systemd.notify_stopping,
        lambda: systemd.notify_status("fine"),
        systemd.notify_watchdog,
        lambda: systemd.extend_timeout(1.5),
    ):
        assert call()
        said.append(manager.recv(1000).decode())
    assert said == [
        "READY=1\nSTATUS=two lines",
        "READY=1",
        "STOPPING=1",
        "STATUS=fine",
        "WATCHDOG=1",
        "EXTEND_TIMEOUT_USEC=1500000",
    ]


def test_reload_carries_the_time(manager: socket.socket) -> None:
    """Newer systemd wants to know when the reload began."""
    systemd.notify_reloading()
    lines = dict(line.split("=") for line in manager.recv(1000).decode().splitlines())
    assert lines["RELOADING"] == "1"
    assert int(lines["MONOTONIC_USEC"]) > 0


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside systemd nothing happens, and the caller can tell."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not systemd.notify_ready()
    assert not systemd.store_fd("x")


def test_store_fd(manager: socket.socket) -> None:
    """The descriptor travels with its name."""
    with socket.socket() as listener:
        assert systemd.store_fd("outbound", listener)
        data, control, _, _ = manager.recvmsg(1000, 100)
        assert data.decode() == "FDSTORE=1\nFDNAME=outbound"
        fds = array.array("i", control[0][2][:4])
        assert os.fstat(fds[0]).st_ino == os.fstat(listener.fileno()).st_ino
        os.close(fds[0])
    assert systemd.remove_stored_fds("outbound")
    assert manager.recv(1000).decode() == "FDSTOREREMOVE=1\nFDNAME=outbound"


@pytest.mark.parametrize("name", ["", "a:b", "a\nb", "ü", "x" * 256])
def test_names_of_descriptors(name: str) -> None:
    """Systemd would drop such a name silently."""
    with pytest.raises(ValueError, match="cannot name a descriptor"):
        systemd.store_fd(name)


def test_listen_fds() -> None:
    """Descriptors from 3 on, by name; several may share one."""
    program = "from hostmesh.kernel import systemd; print(systemd.listen_fds())"
    script = 'LISTEN_PID=$$ LISTEN_FDS=3 LISTEN_FDNAMES=in:out:in exec "$0" -c "$1" 3</dev/null 4</dev/null 5</dev/null'
    done = subprocess.run(["sh", "-c", script, sys.executable, program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'in': [3, 5], 'out': [4]}"
    assert systemd.listen_fds() == {}


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "x"}, None),
    ],
)
def test_watchdog_interval(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], interval: float | None
) -> None:
    """Seconds, and only when it is this process that is watched."""
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert systemd.watchdog_interval() == interval


def test_log_without_systemd(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """One JSON line on standard error."""
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    systemd.log("connection complete", 6, {"src.identity": "spiffe://x", "bytes_sent": 5})
    assert json.loads(capfd.readouterr().err) == {
        "level": 6,
        "message": "connection complete",
        "src.identity": "spiffe://x",
        "bytes_sent": 5,
    }


def test_under_systemd_means_this_very_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """JOURNAL_STREAM is inherited by processes whose stderr goes elsewhere."""
    stat = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{stat.st_dev}:{stat.st_ino}")
    assert systemd.under_systemd()
    monkeypatch.setenv("JOURNAL_STREAM", f"{stat.st_dev}:{stat.st_ino + 1}")
    assert not systemd.under_systemd()


@pytest.mark.parametrize(
    ("name", "field"),
    [("src.identity", "SRC_IDENTITY"), ("9lives", "F_9LIVES"), ("_x", "X"), ("é", "F_"), ("a" * 80, "A" * 64)],
)
def test_field_names(name: str, field: str) -> None:
    """The journal refuses an entry for one bad field name."""
    assert systemd._field_name(name) == field
