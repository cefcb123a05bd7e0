"""From files to rules and back, on a fake netfilter."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.support.netfilter import FakeNetfilter, Observed

from hostmesh.config.strict_yaml import InvalidYaml
from hostmesh.enrolment import workloads_d
from hostmesh.enrolment.capture import Capture
from hostmesh.enrolment.capture_settings import CaptureSettings, HostView
from hostmesh.enrolment.reading import ask_host
from hostmesh.kernel.cgroup import CgroupRoot
from hostmesh.kernel.listeners import Listener
from hostmesh.kernel.netfilter import NetfilterError
from hostmesh.kernel.units import SocketUnit, Unit
from hostmesh.model.local import LocalWorkload
from hostmesh.redirect.apply import Redirector
from hostmesh.redirect.failsafe import Facts, Way

FACTS = Facts(ssh=(Way(22, "sshd"),))


class Routes:
    """Policy routing that somebody else may take away."""

    def __init__(self) -> None:
        self.there = False

    def apply(self, mark: int) -> tuple[str, ...]:
        missing, self.there = not self.there, True
        return (f"routing of {mark:#x}",) if missing else ()

    def remove(self, mark: int) -> None:
        del mark
        self.there = False


@dataclass
class Host:
    """A host with units a and b running, and the agent's view of it."""

    settings: CaptureSettings
    netfilter: Observed
    cgroups: CgroupRoot
    proc_sys: Path
    listening: list[Listener] = field(default_factory=list)
    sockets: Mapping[str, SocketUnit] = field(default_factory=dict)
    facts: Facts = FACTS
    held: set[bytes] = field(default_factory=set)
    routing: Routes = field(default_factory=Routes)

    @property
    def view(self) -> HostView:
        users = {"alice": 20001}
        return HostView(
            self.show,
            users.get,
            lambda: self.listening,
            lambda: self.facts,
            sockets=lambda _: self.sockets,
            held=lambda: frozenset(self.held),
            release=self.held.difference_update,
        )

    def agent(self) -> Capture:
        redirector = Redirector(self.cgroups, self.settings.runtime_directory, self.netfilter, self.proc_sys)
        return Capture(self.settings, self.cgroups, redirector, self.view, routing=self.routing)

    def show(self, units: Sequence[str]) -> Mapping[str, Unit]:
        triggers = tuple(self.sockets)
        return {unit: Unit(unit, unit != "nope.service", True, f"system.slice/{unit}", (), triggers) for unit in units}

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
    """Those of the settings, and sshd's, which are found at run time."""
    host.settings = replace(host.settings, excluded_ports=(2222,))
    host.agent().refresh()
    assert "tcp dport { 22, 2222, 15001, 15006, 15008 } return" in str(host.netfilter.list_table())


def test_a_socket_unit_that_comes_later(host: Host) -> None:
    """It is captured as soon as systemd is seen to listen, and goes with its socket unit; nobody reloads anything."""
    host.enrol("a")
    capture = host.agent()
    capture.refresh()
    assert capture.reassert() == ()
    host.sockets = {"a.socket": SocketUnit("a.socket", False, ("init.scope", "system.slice/a.socket"), (8080,))}
    host.listening = [Listener(ip_address("::"), 8080, 0, 5)]
    (host.cgroups.mount / "init.scope").mkdir()
    host.listening[0] = replace(host.listening[0], cgroup=host.cgroups.id("init.scope") or 0)
    assert "user_ports lacks 8080 of prod/a" in capture.reassert()
    assert capture.reassert() == ()
    host.sockets, host.listening = {}, []
    assert capture.reassert() != ()
    assert "8080" not in capture.preview().text


def test_what_a_socket_unit_closes_at_its_start_is_opened_once_it_is_captured(host: Host) -> None:
    """Systemd is asked although nobody listens yet; what is closed while it is asked stays for the next look."""
    host.enrol("a")
    capture = host.agent()
    capture.refresh()
    capture.reassert()
    host.sockets = {"a.socket": SocketUnit("a.socket", False, ("init.scope",), (8080,))}
    (host.cgroups.mount / "init.scope").mkdir()
    host.held.add(b"\x1f\x90")
    assert "user_ports lacks 8080 of prod/a" in capture.reassert()
    assert host.held == set()
    host.held.add(b"\x1f\x91")
    capture.refresh()
    assert host.held == set()


def test_what_cannot_be_captured_stays_closed(host: Host) -> None:
    """The kernel refuses the rules: the port is not opened."""
    host.enrol("a")
    capture = host.agent()
    capture.refresh()
    host.held.add(b"\x1f\x90")
    host.netfilter.run("delete table inet hostmesh\n")

    def refuse() -> None:
        raise NetfilterError("refused")

    host.netfilter.before_run.append(refuse)
    with pytest.raises(NetfilterError):
        capture.reassert()
    assert host.held == {b"\x1f\x90"}


def test_remove(host: Host) -> None:
    """No table is left, and nothing to re-assert."""
    host.enrol("a")
    capture = host.agent()
    capture.refresh()
    capture.remove()
    assert host.netfilter.list_table() is None
    assert capture.reassert() == ()


def test_user_and_host(host: Host) -> None:
    """Registered like units; ports of the user are those declared, and those it listens on."""
    host.listening = [Listener(ip_address("0.0.0.0"), 8050, 20001), Listener(ip_address("0.0.0.0"), 8060, 0)]
    user = "workload: prod/u\ncapture: {user: alice, ports: [8051]}\n"
    (host.settings.workloads_directory / "x.yaml").write_text(f"{user}---\nworkload: prod/h\ncapture: {{host: true}}\n")
    capture = host.agent()
    assert [one.key for one in capture.refresh().workloads] == ["prod/u", "prod/h"]
    ports = host.netfilter.elements(["user_ports"])["user_ports"]
    assert {int.from_bytes(key) for key in ports} == {8050, 8051}
    host.listening.append(Listener(ip_address("::"), 8052, 20001))
    assert capture.reassert() == (
        "user_ports lacks 8052 of prod/u",
        "own_ports lacks 8052 . 0x2539 of prod/u",
    )
    assert capture.verify() == ()


MISTAKES = [
    ("unit: nope.service", "x.yaml:2: capture.unit: nope.service is not known to systemd"),
    ("user: bob", "x.yaml:2: capture.user: there is no user bob on this host; next: getent passwd bob"),
    (
        "user: alice, exclude: {outbound: {owners: [bob]}}",
        "x.yaml:2: capture.exclude.outbound.owners: there is no user bob",
    ),
    (
        "unit: b.service, exclude: {outbound: {owners: [bob]}}",
        "x.yaml:2: capture.exclude.outbound.owners: there is no user bob",
    ),
]


@pytest.mark.parametrize(("capture", "complaint"), MISTAKES)
def test_what_the_host_does_not_know_changes_nothing(host: Host, capture: str, complaint: str) -> None:
    """A reload refuses it; an agent that starts captures the rest, and says it."""
    host.enrol("a")
    agent = host.agent()
    agent.refresh()
    host.enrol("b") if "b.service" not in capture else None
    (host.settings.workloads_directory / "x.yaml").write_text(f"workload: prod/x\ncapture: {{{capture}}}\n")
    with pytest.raises(InvalidYaml, match=re.escape(complaint)):
        agent.refresh(strict=True)
    with pytest.raises(InvalidYaml, match=re.escape(complaint)):  # which is what fails `systemctl reload`
        ask_host(workloads_d.read(host.settings.workloads_directory), "cluster.local", host.view)
    assert (host.marks, host.unit_files) == ({0x1000}, ["a.service.nft"])
    assert any(complaint in str(problem) for problem in host.agent().refresh().problems)
    assert 0x1000 in host.marks


def test_opted_out_and_in_again(host: Host) -> None:
    """Whose registration says `none` is let go while it runs, and its next start is none of ours."""
    host.enrol("a")
    host.enrol("b")
    capture = host.agent()
    capture.refresh()

    def opted_out(workload: LocalWorkload) -> bool:
        return workload.name == "b"

    captured = capture.refresh(opted_out)
    assert [one.key for one in captured.workloads] == ["prod/a"]
    assert [one.key for one in captured.enrolled] == ["prod/a", "prod/b"]
    assert (host.marks, host.unit_files) == ({0x1000}, ["a.service.nft", "b.service.nft"])
    file = host.settings.runtime_directory / "units" / "b.service.nft"
    assert file.read_text() == "# prod/b has opted out of the mesh, and starts outside it.\n"
    capture.refresh()
    assert host.marks == {0x1000, 0x2000}
    assert "workloads_2" in file.read_text()


def test_questions_that_nobody_would_answer_are_a_problem(host: Host) -> None:
    """The workload is captured, and its questions go where they went: said with the line and the next step."""
    host.enrol("a")
    (host.settings.workloads_directory / "a.yaml").write_text(
        "workload: prod/a\ncapture:\n  unit: a.service\n  dns: true\n"
    )
    captured = host.agent().refresh()
    assert [one.key for one in captured.workloads] == ["prod/a"]
    (problem,) = (str(one) for one in captured.problems if "capture.dns" in str(one))
    assert problem.endswith(
        "a.yaml:3: capture.dns: names are not answered on this host; next: dns: {enabled: true} in agent.yaml"
    )
    answering = replace(host, settings=replace(host.settings, dns=15053))
    assert not [one for one in answering.agent().refresh().problems if "capture.dns" in str(one)]


def test_replies_to_clients_are_routed_when_applications_see_them(host: Host) -> None:
    """Put in place with the rules, put back when somebody takes it away, gone with the setting and with capture."""
    shown = replace(host, settings=replace(host.settings, original_source=True))
    agent = shown.agent()
    assert "routing of 0x539" in agent.refresh().changes
    assert agent.reassert() == ()
    host.routing.there = False
    assert agent.reassert() == ("routing of 0x539",)
    host.agent().refresh()
    assert not host.routing.there
    agent.refresh()
    agent.remove()
    assert not host.routing.there
