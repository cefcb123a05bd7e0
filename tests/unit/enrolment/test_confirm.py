"""Commit-confirm: undone unless somebody gets in afresh and says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hostmesh.enrolment.confirm import AlreadyPending, Confirmation, NotConfirmed, NothingPending, boot_id, read

OLD, NEW = "10.0.0.9 50000 10.0.0.1 22", "10.0.0.9 50001 10.0.0.1 22"
TIMER = "hostmesh-unconfirmed-change"


@dataclass
class Host:
    """Files that somebody changes, and the systemd that is asked for timers."""

    root: Path
    asked: list[list[str]] = field(default_factory=list)
    refuses: bool = False

    @property
    def places(self) -> list[Path]:
        return [self.root / "agent.yaml", self.root / "workloads.d"]

    @property
    def confirmation(self) -> Confirmation:
        """As the next command sees it: nothing is kept in memory."""
        return Confirmation(self.root / "confirm", ["hostmesh", "rules", "revert"], self.systemd)

    def systemd(self, command: Sequence[str]) -> None:
        if self.refuses:
            raise OSError("no systemd")
        self.asked.append(list(command))

    def write(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(exist_ok=True)
        (self.root / name).write_text(text)

    @property
    def files(self) -> dict[str, str]:
        return {str(Path(name).relative_to(self.root)): data.decode() for name, data in read(self.places).items()}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    made = Host(tmp_path)
    made.write("agent.yaml", "node: a\n")
    made.write("workloads.d/web.yaml", "web\n")
    made.write("workloads.d/README", "no YAML\n")
    return made


def change(host: Host) -> None:
    host.write("agent.yaml", "node: b\n")
    host.write("workloads.d/new.yaml", "new\n")
    (host.root / "workloads.d/web.yaml").unlink()


BEFORE = {"agent.yaml": "node: a\n", "workloads.d/web.yaml": "web\n"}


def test_unconfirmed_change_is_undone(host: Host) -> None:
    """Changed, new and removed files are as before; what was refused is kept beside, and others are left alone."""
    host.confirmation.begin(host.places, 30, OLD)
    (command,) = host.asked
    assert command[0] == "systemd-run"
    assert {f"--unit={TIMER}", "--on-active=30s"} <= set(command)
    assert command[-3:] == ["hostmesh", "rules", "revert"]
    change(host)
    assert [path.name for path in host.confirmation.revert()] == ["agent.yaml", "new.yaml", "web.yaml"]
    assert host.files == BEFORE
    assert (host.root / "workloads.d/README").exists()
    assert sorted(path.read_text() for path in (host.root / "confirm/refused").iterdir()) == ["new\n", "node: b\n"]
    with pytest.raises(NothingPending):
        host.confirmation.revert()


def test_confirmed_change_stays(host: Host) -> None:
    """The timer is stopped, and what is there now is what a later change goes back to."""
    host.confirmation.begin(host.places, 30, OLD)
    change(host)
    host.confirmation.confirm(NEW)
    assert host.asked[1:] == [["systemctl", "stop", f"{TIMER}.timer"]]
    assert host.confirmation.pending is None
    assert host.confirmation.remembered == read(host.places)


def test_change_that_was_written_already_goes_back_to_what_was_applied(host: Host) -> None:
    """As `rules apply` needs it."""
    host.confirmation.remember(host.places)
    change(host)
    host.confirmation.begin(host.places, 30, OLD, host.confirmation.remembered)
    host.confirmation.remember(host.places)
    host.confirmation.revert()
    assert host.files == BEFORE
    assert host.confirmation.remembered == read(host.places)


@pytest.mark.parametrize(
    ("made", "confirmed", "complaint"),
    [(OLD, OLD, "older than the change"), (OLD, "", "it must be confirmed: over a new"), ("", "", ""), ("", NEW, "")],
)
def test_only_a_new_connection_confirms(host: Host, made: str, confirmed: str, complaint: str) -> None:
    """What was open before proves nothing; who sits at the console needs no connection."""
    host.confirmation.begin(host.places, 30, made)
    if not complaint:
        host.confirmation.confirm(confirmed)
        return
    with pytest.raises(NotConfirmed, match=complaint):
        host.confirmation.confirm(confirmed)
    pending = host.confirmation.pending
    assert pending is not None
    assert pending.boot == boot_id()


def test_one_change_at_a_time(host: Host) -> None:
    """The second would go back to what nobody has confirmed."""
    host.confirmation.begin(host.places, 30, OLD)
    with pytest.raises(AlreadyPending, match="hostmesh rules confirm, or hostmesh rules revert"):
        host.confirmation.begin(host.places, 30, NEW)


def test_no_timer_no_change(host: Host) -> None:
    """Who cannot be undone does not begin."""
    host.refuses = True
    with pytest.raises(OSError, match="no systemd"):
        host.confirmation.begin(host.places, 30, OLD)
    assert host.confirmation.pending is None
    with pytest.raises(NothingPending, match="no change waits"):
        host.confirmation.confirm(NEW)
