"""From files to rules and back, on a fake netfilter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.netfilter import FakeNetfilter, Observed

from hostmesh.config.strict_yaml import InvalidYaml
from hostmesh.enrolment.capture import Capture, CaptureSettings
from hostmesh.kernel.cgroup import CgroupRoot
from hostmesh.kernel.units import Unit
from hostmesh.redirect.apply import Redirector


@dataclass
class Host:
    """A host with units a and b running, and the agent's view of it."""

    settings: CaptureSettings
    netfilter: Observed
    cgroups: CgroupRoot
    proc_sys: Path

    def agent(self) -> Capture:
        redirector = Redirector(self.cgroups, self.settings.runtime_directory, self.netfilter, self.proc_sys)
        return Capture(self.settings, self.cgroups, redirector, self.show)

    @staticmethod
    def show(units: Sequence[str]) -> Mapping[str, Unit]:
        return {unit: Unit(unit, True, True, f"system.slice/{unit}") for unit in units}

    def enrol(self, name: str) -> None:
        text = f"workload: prod/{name}\ncapture: {{unit: {name}.service}}\n"
        (self.settings.workloads_directory / f"{name}.yaml").write_text(text)

    @property
    def marks(self) -> set[int]:
        return {int.from_bytes(v, "little") for v in self.netfilter.elements(["workloads_2"])["workloads_2"].values()}

    @property
    def unit_files(self) -> list[str]:
        return sorted(path.name for path in (self.settings.runtime_directory / "units").iterdir())


@pytest.fixture
def host(tmp_path: Path) -> Host:
    root = CgroupRoot(tmp_path / "cgroup", tmp_path / "cgroup")
    settings = CaptureSettings(tmp_path / "workloads.d", tmp_path / "state", tmp_path / "run")
    for directory in (settings.workloads_directory, settings.state_directory, settings.runtime_directory):
        directory.mkdir()
    for unit in ("a.service", "b.service"):
        (root.mount / "system.slice" / unit).mkdir(parents=True)
    setting = tmp_path / "proc/sys/net/ipv4/tcp_fwmark_accept"
    setting.parent.mkdir(parents=True)
    setting.write_text("1\n")
    return Host(settings, Observed(FakeNetfilter(root)), root, tmp_path / "proc/sys")


def test_files_become_rules(host: Host) -> None:
    """Workloads, unit files and marks agree; a second look changes nothing."""
    host.enrol("a")
    host.enrol("b")
    capture = host.agent()
    captured = capture.refresh()
    assert [(workload.key, workload.number) for workload in captured.workloads] == [("prod/a", 1), ("prod/b", 2)]
    assert host.marks == {0x1000, 0x2000}
    assert host.unit_files == ["a.service.nft", "b.service.nft"]
    assert captured.missing_drop_ins == ("a.service", "b.service")
    assert (capture.refresh().changes, capture.reassert(), capture.verify()) == ((), (), ())
    assert host.agent().refresh().changes == ()
    assert host.netfilter.transactions == 1


def test_workload_that_leaves(host: Host) -> None:
    """Its elements and its unit file go; the number of the other stays."""
    host.enrol("a")
    host.enrol("b")
    capture = host.agent()
    capture.refresh()
    (host.settings.workloads_directory / "a.yaml").unlink()
    assert [(workload.key, workload.number) for workload in capture.refresh().workloads] == [("prod/b", 2)]
    assert (host.marks, host.unit_files) == ({0x2000}, ["b.service.nft"])


def test_mistake_changes_nothing(host: Host) -> None:
    """What was captured stays captured, and goes on being re-asserted."""
    host.enrol("a")
    capture = host.agent()
    capture.refresh()
    (host.settings.workloads_directory / "b.yaml").write_text("workload: b\n")
    with pytest.raises(InvalidYaml, match=r"b\.yaml:1: workload: must be"):
        capture.refresh()
    host.netfilter.run("delete table inet hostmesh\n")
    assert "table inet hostmesh is not there" in capture.reassert()
    assert (host.marks, host.unit_files) == ({0x1000}, ["a.service.nft"])


def test_excluded_ports_add_up(host: Host) -> None:
    """Those of the settings, and those found at run time."""
    host.agent().refresh(excluded_ports=[2222])
    assert "tcp dport { 22, 2222, 15001, 15006, 15008 } return" in str(host.netfilter.list_table())


def test_remove(host: Host) -> None:
    """No table is left, and nothing to re-assert."""
    host.enrol("a")
    capture = host.agent()
    capture.refresh()
    capture.remove()
    assert host.netfilter.list_table() is None
    assert capture.reassert() == ()
