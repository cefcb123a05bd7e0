"""The operator's day under traffic: reload, upgrade, rollback, enrolment, restart, crash, hang, boot, withdrawal.

Twenty new connections a second and two hundred long ones go on all the time, from one host's service to another's.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lab.instance import Lab
from tests.e2e.hosts import BUILD, ROOT, Hosts, attempt, estate, must, seconds_until
from tests.e2e.sources import former as make_former
from tests.e2e.sources import sources

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

DAY = Path(__file__).parent / "day"
LAB = Lab("day")
HOSTS = Hosts(LAB)
SNAPSHOT = ROOT / "molecule" / "uninstall" / "snapshot.sh"
AGENT = "hostmesh-agent.service"
STREAMS = 200
RATE = 20
# `make hitless` gives each of an operator's acts its full minute.
PHASE_SECONDS = float(os.environ.get("HOSTMESH_PHASE_SECONDS", "10"))
# Compiling other versions would take a minute each, and say nothing of this one.
UNCOMPILED = ("env", "HOSTMESH_COMPILE=0")
UNIT = """\
[Service]
ExecStart=/usr/bin/python3 /srv/{name}.py
Environment=TARGET=echo
RuntimeDirectory={name}
DynamicUser=yes
Restart=no
[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Traffic:
    """What the client has seen so far."""

    tried: int
    answered: int
    failed: tuple[str, ...]
    broken: tuple[str, ...]
    alive: int


def say(text: str) -> None:
    """Shown with -s: what was measured."""
    sys.stderr.write(f"{text}\n")


def traffic() -> Traffic:
    found: dict[str, Any] = json.loads(HOSTS.must("mesh2", "cat", "/run/load/state.json"))
    return Traffic(**{name: tuple(value) if isinstance(value, list) else value for name, value in found.items()})


@dataclass
class Watch:
    """Compares with the last time somebody looked. `unharmful` counts the new connections that all were answered."""

    before: Traffic
    unharmful: int = 0

    def settle(self, connections: int = 0) -> Traffic:
        """Wait for connections that began after now, for what was under way, and for so many since the last time."""
        start = traffic()
        enough = max(start.tried + 10, self.before.tried + connections)
        seconds_until(lambda: traffic().answered >= enough or traffic().failed != start.failed, 30 + 3 * PHASE_SECONDS)
        return traffic()

    def unharmed(self, what: str) -> None:
        """Every new connection was answered, in a time of its own, and every stream goes on."""
        connections = int(RATE * PHASE_SECONDS)
        now = self.settle(connections)
        tried = now.tried - self.before.tried
        say(
            f"{what}: {tried} new connections, {len(now.failed) - len(self.before.failed)} failed; "
            f"{len(now.broken) - len(self.before.broken)} of {now.alive} streams broken"
        )
        assert now.failed == self.before.failed, f"{what}: {now.failed[len(self.before.failed) :]}"
        assert now.broken == self.before.broken, f"{what}: {now.broken[len(self.before.broken) :][:5]}"
        assert now.alive == STREAMS
        assert tried >= connections
        self.unharmful += tried
        self.before = now

    def accepted(self, what: str) -> None:
        """Every new connection was answered; streams may have ended, and are there again."""
        now = self.settle()
        say(
            f"{what}: {now.tried - self.before.tried} new connections, "
            f"{len(now.failed) - len(self.before.failed)} failed"
        )
        assert now.failed == self.before.failed, f"{what}: {now.failed[len(self.before.failed) :]}"
        self.recovered()

    def recovered(self) -> None:
        """All streams are there again, and new connections are answered."""
        seconds_until(lambda: traffic().alive == STREAMS)
        self.before = self.settle()


def play(name: str, *options: str) -> str:
    """Run a playbook as a user would; its recap."""
    text = must("ansible-playbook", "-i", DAY / "inventory.yml", ROOT / "playbooks" / f"{name}.yml", *options)
    return text.rpartition("PLAY RECAP")[2]


def play_former(name: str, collection: Path) -> None:
    """Run a playbook of the version before, as those did who had no other."""
    environment = (*UNCOMPILED, f"ANSIBLE_COLLECTIONS_PATH={collection.parents[2]}")
    must(*environment, "ansible-playbook", "-i", DAY / "inventory.yml", collection / "playbooks" / f"{name}.yml")


def version(host: str) -> str:
    return Path(HOSTS.must(host, "readlink", "/opt/hostmesh/current").strip()).name


def versions() -> set[str]:
    return {version(host) for host in ("mesh1", "mesh2")}


def files(host: str) -> set[str]:
    """Every file that somebody could have changed, with its contents, and rules, users and units."""
    return set(HOSTS.must(host, "sh", stdin=SNAPSHOT.read_bytes()).splitlines())


@pytest.fixture(scope="module")
def former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection of the version before this one."""
    return make_former(tmp_path_factory.mktemp("former"))


@pytest.fixture(scope="module")
def pristine(former: Path) -> Iterator[set[str]]:
    """Two hosts with services that know nothing of a mesh; what mesh2 is like before it has heard of one."""
    build = [*UNCOMPILED, sys.executable, former / BUILD.relative_to(ROOT), "--source", former]
    with estate(LAB, DAY / "estate.json", build):
        for host, name in (("mesh1", "echo"), ("mesh2", "load")):
            HOSTS.must(host, "tee", f"/srv/{name}.py", stdin=(DAY / f"{name}.py").read_bytes())
            HOSTS.must(host, "tee", f"/etc/systemd/system/{name}.service", stdin=UNIT.format(name=name).encode())
        HOSTS.must("mesh2", "sh", "-c", "echo 10.234.0.11 echo >> /etc/hosts")
        HOSTS.must("mesh1", "systemctl", "enable", "--now", "echo.service")
        yield files("mesh2")


@pytest.fixture(scope="module")
def watch(pristine: set[str], former: Path) -> Watch:
    """Both hosts in the mesh, with the version before, and the client at work."""
    assert pristine
    play_former("site", former)
    HOSTS.must("mesh2", "systemctl", "start", "load.service")
    seconds_until(lambda: HOSTS.run("mesh2", "cat", "/run/load/state.json") and traffic().alive == STREAMS)
    status = json.loads(HOSTS.must("mesh2", "hostmesh", "connections", "--direction", "outbound", "-o", "json"))
    (state,) = status.values()
    assert {one["protocol"] for one in state["connections"]["outbound"]} == {"HBONE"}
    return Watch(traffic())


def test_a_reload_harms_nothing(watch: Watch) -> None:
    """With and without a change of settings, on both ends."""
    for host in ("mesh1", "mesh2"):
        HOSTS.must(host, "systemctl", "reload", "hostmesh-agent")
    watch.unharmed("reload")
    for host in ("mesh1", "mesh2"):
        HOSTS.must(host, "tee", "/etc/hostmesh/conf.d/test.yaml", stdin=b"log: {level: debug}\n")
        HOSTS.must(host, "systemctl", "reload", "hostmesh-agent")
    seconds_until(lambda: all(HOSTS.status(host)["ready"] for host in ("mesh1", "mesh2")))
    watch.unharmed("change of settings")


def test_an_upgrade_and_a_rollback_harm_nothing(watch: Watch) -> None:
    """Canary, gate, the rest; then back, without building anything."""
    before = versions()
    recap = play("upgrade")
    assert recap.count("failed=0") == 2
    assert len(before | versions()) == 2
    watch.unharmed("upgrade")
    play("rollback")
    assert versions() == before
    watch.unharmed("rollback")


def upgrade_to_broken(folder: Path, condition: str) -> str:
    """What an upgrade says to a version whose services reach nobody under that condition."""
    ours = "    ours = destination.ip.is_loopback"
    broken = f'    if {condition}:\n        return Refused("broken on purpose")\n{ours}'
    source = sources(folder, ("agent/hostmesh/proxy/route.py", ours, broken))
    command = ("ansible-playbook", "-i", DAY / "inventory.yml", ROOT / "playbooks" / "upgrade.yml")
    status, text = attempt(*UNCOMPILED, *command, "-e", f"hostmesh_source={source}", "-e", "hostmesh_gate_retries=4")
    assert status != 0
    assert "was open and is refused" in text
    return text


def test_a_version_that_breaks_the_mesh_goes_back_by_itself(watch: Watch, tmp_path: Path) -> None:
    """The first host's agent starts and is ready, but its services reach nobody; the others keep what they have."""
    before = versions()
    text = upgrade_to_broken(tmp_path, "source")
    assert re.search(r"mesh1 was not upgraded to \S+ and runs \S+\s+again", text)
    assert versions() == before
    assert HOSTS.status("mesh1")["ready"]
    watch.unharmed("a broken upgrade")


def test_a_later_host_that_breaks_goes_back_alone(watch: Watch, tmp_path: Path) -> None:
    """The hosts before it keep the new version, and serve; going back from it is one playbook."""
    (before,) = versions()
    text = upgrade_to_broken(tmp_path, 'destination.port == 8080 and __import__("os").uname().nodename == "mesh2"')
    assert re.search(rf"mesh2 was not upgraded to \S+ and runs {re.escape(before)}\s+again", text)
    assert version("mesh2") == before
    assert version("mesh1") != before
    assert all(HOSTS.status(host)["ready"] for host in ("mesh1", "mesh2"))
    watch.unharmed("an upgrade that fails later")
    play("rollback", "-l", "mesh1")
    assert versions() == {before}
    watch.unharmed("its rollback")


def test_enrolment_and_withdrawal_harm_nobody(watch: Watch) -> None:
    """Another service of the client's host comes, by the playbook for that host alone, and goes."""
    play("enrol", "-l", "mesh2", "-e", "day_late=true")
    assert len(HOSTS.status("mesh2")["workloads"]) == 2
    watch.unharmed("enrolment")
    play("site")
    assert len(HOSTS.status("mesh2")["workloads"]) == 1
    watch.unharmed("withdrawal")


def test_doctor_finds_nothing_wrong(watch: Watch) -> None:
    """And changes nothing."""
    recap = play("doctor")
    assert recap.count("changed=0") == 2
    assert recap.count("failed=0") == 2
    watch.unharmed("doctor")


def test_modules_do_on_a_host_what_they_say(watch: Watch, tmp_path: Path) -> None:
    """Each says in check mode what it would do, does it, and has nothing to do then; the mesh is an inventory."""
    must("ansible-playbook", "-i", DAY / "inventory.yml", DAY / "modules.yml")
    source = tmp_path / "mesh.yml"
    ask = ["ssh", "-F", str(LAB.ssh_config), "mesh1", "hostmesh", "get", "workloads", "-o", "json"]
    source.write_text(json.dumps({"plugin": "hostmesh.mesh.mesh", "command": ask}), encoding="utf-8")
    command = ("ansible-inventory", "-i", source, "--list")
    found = json.loads(must("env", "ANSIBLE_INVENTORY_ENABLED=hostmesh.mesh.mesh", *command))
    assert found["mesh_workload_echo_mesh1"]["hosts"] == ["mesh1"]
    watch.unharmed("modules")


def test_nothing_was_harmed_for_more_than_a_minute(watch: Watch) -> None:
    """Twenty new connections a second for sixty seconds, over everything above; more than two hundred streams lived."""
    assert watch.unharmful >= RATE * 60


def test_what_an_operator_looks_at() -> None:
    """On a real host: the reason of a connection, and a report in which none of the host's keys is."""
    explained = json.loads(HOSTS.must("mesh2", "hostmesh", "explain", "load.service", "echo:7000", "-o", "json"))
    assert (explained["allowed"], explained["reason"]) == (True, "MUTUAL_TLS")
    assert any(step["about"] == "reach" and "answers" in step["text"] for step in explained["steps"])
    HOSTS.must("mesh1", "hostmesh", "bug-report", "-o", "/root/report.tar.gz")
    HOSTS.must("mesh1", "sh", "-ec", "cd /root && mkdir report && tar -xzf report.tar.gz -C report")
    keys = HOSTS.must(
        "mesh1", "sh", "-c", "cat $(find /var/lib/hostmesh* /etc/ssh -name '*key*' ! -name '*.pub' -type f)"
    )
    secrets = {line for line in keys.splitlines() if len(line) > 40 and not line.startswith("-")}
    assert len(secrets) > 5
    report = HOSTS.must("mesh1", "sh", "-c", "find /root/report -type f -exec cat {} +")
    assert "table inet hostmesh" in report
    assert not [line for line in secrets if line in report]
    HOSTS.must("mesh1", "rm", "-r", "/root/report", "/root/report.tar.gz")


def test_a_restart_refuses_nobody(watch: Watch) -> None:
    """Connections wait in the listeners, which systemd keeps; long ones end after their time."""
    for host in ("mesh2", "mesh1"):
        HOSTS.must(host, "systemctl", "restart", "hostmesh-agent")
        watch.accepted(f"restart on {host}")


@pytest.mark.parametrize("victim", ["worker", "main"])
def test_a_crash_is_over_in_five_seconds(watch: Watch, victim: str) -> None:
    """What was under way is lost; everything else is answered."""
    main = HOSTS.shows("mesh2", AGENT, "MainPID")
    pid = main if victim == "main" else str(HOSTS.status("mesh2")["workers"][0]["pid"])
    HOSTS.must("mesh2", "kill", "-KILL", pid)
    before = traffic()
    took = seconds_until(lambda: traffic().answered > before.tried + 5)
    say(f"kill -9 of {victim}: new connections are answered after {took:.1f} s")
    watch.recovered()


def test_a_loop_that_hangs_is_restarted(watch: Watch) -> None:
    """The watchdog is fed from the loop itself, so that a process that only exists does not count."""
    drop_in = f"/run/systemd/system/{AGENT}.d/watchdog.conf"
    HOSTS.must("mesh2", "mkdir", "-p", str(Path(drop_in).parent))
    HOSTS.must("mesh2", "tee", drop_in, stdin=b"[Service]\nWatchdogSec=8\n")
    HOSTS.must("mesh2", "sh", "-c", f"systemctl daemon-reload && systemctl restart {AGENT}")
    watch.accepted("restart with another watchdog")
    before = HOSTS.shows("mesh2", AGENT, "NRestarts")
    HOSTS.must("mesh2", "kill", "-STOP", HOSTS.shows("mesh2", AGENT, "MainPID"))
    took = seconds_until(lambda: HOSTS.shows("mesh2", AGENT, "NRestarts") != before)
    say(f"a main that hangs is started again after {took:.1f} s, with 8 s of patience")
    assert "Watchdog timeout" in HOSTS.must("mesh2", "journalctl", f"--unit={AGENT}", "--boot", "--no-pager")
    HOSTS.must("mesh2", "sh", "-c", f"rm -r {Path(drop_in).parent} && systemctl daemon-reload")
    seconds_until(lambda: HOSTS.status("mesh2").get("ready"))
    watch.recovered()


def test_a_boot_is_safe_whatever_the_agent_does(watch: Watch) -> None:
    """An agent that does not start keeps workloads down and nobody out; else its rules are there before they are."""
    broken = "/etc/hostmesh/conf.d/broken.yaml"
    HOSTS.must("mesh1", "tee", broken, stdin=b"nonsense: true\n")
    HOSTS.reboot("mesh1")
    seconds_until(lambda: attempt("ssh", "-F", LAB.ssh_config, "mesh1", "true")[0] == 0)
    seconds_until(lambda: HOSTS.shows("mesh1", "echo.service", "ConditionTimestamp"))
    seconds_until(lambda: HOSTS.shows("mesh1", "echo.service", "ActiveState") == "failed")
    assert HOSTS.shows("mesh1", AGENT, "ActiveState") != "active"

    HOSTS.must("mesh1", "rm", broken)
    HOSTS.reboot("mesh1")
    seconds_until(lambda: HOSTS.shows("mesh1", "echo.service", "ActiveState") == "active")
    ready = int(HOSTS.shows("mesh1", AGENT, "ActiveEnterTimestampMonotonic"))
    assert 0 < ready < int(HOSTS.shows("mesh1", "echo.service", "ExecMainStartTimestampMonotonic"))
    before = HOSTS.must("mesh1", "systemctl", "list-dependencies", "--after", "--plain", "ssh.service").split()
    assert not [unit for unit in before if unit.startswith("hostmesh") and unit.endswith(".service")]
    watch.recovered()


def test_a_host_that_leaves_is_as_it_was(watch: Watch, pristine: set[str]) -> None:
    """Files, rules, units, users; its services have gone on, in plaintext."""
    HOSTS.must("mesh2", "rm", "/etc/hostmesh/conf.d/test.yaml")
    play("withdraw", "-l", "mesh2")
    assert files("mesh2") ^ pristine == set()
    watch.recovered()
    names = {
        workload["node"] for workload in json.loads(HOSTS.must("mesh1", "hostmesh", "get", "w", "-o", "json"))["items"]
    }
    assert names == {"mesh1"}
