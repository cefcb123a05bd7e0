"""Hosts that were off until all they had was expired come back by themselves, and the root is replaced under traffic.

Real systemd, ssh, ansible-playbook; certificates of half a minute.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab.instance import Lab
from tests.e2e import hosts
from tests.e2e.hosts import ROOT, attempt, must, seconds_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

EXPIRY = Path(__file__).parent / "expiry"
LAB = Lab("expiry")
HOSTS = hosts.Hosts(LAB)
run, status = HOSTS.run, HOSTS.status
CONTROL_PLANE = "hostmesh-control-plane.service"


@pytest.fixture(scope="module")
def estate() -> Iterator[None]:
    """Two hosts in the mesh."""
    with hosts.estate(LAB, EXPIRY / "estate.json"):
        roll_out()
        yield


def roll_out() -> str:
    """Run the playbook as a user would; its recap."""
    text = must("ansible-playbook", "-i", EXPIRY / "inventory.yml", ROOT / "playbooks" / "site.yml")
    return text.rpartition("PLAY RECAP")[2]


def sleep(**command: object) -> dict[str, Any]:
    """Tell the client on the other host to do something; its answer."""
    answer = run("mesh2", "nc", "-NU", "/run/sleep/control.sock", stdin=json.dumps(command).encode())
    return dict(json.loads(answer or "{}"))


def called() -> bool:
    """Whether sleep's request to web-api on the other host is answered, as a user of the service sees it."""
    return sleep(get="http://web-api:8080/").get("code") == 200


def rotate(step: str) -> tuple[int, str]:
    """Take a step of the rotation, as an operator does."""
    playbook = ROOT / "playbooks" / "rotate_ca.yml"
    return attempt("ansible-playbook", "-i", EXPIRY / "inventory.yml", playbook, "-e", f"hostmesh_rotation={step}")


def expired(host: str) -> bool:
    """Neither the node nor a workload has a valid certificate."""
    facts = status(host)
    certificates = [facts["nodeCertificate"], *(workload["certificate"] for workload in facts["workloads"])]
    return not facts["ready"] and all(certificate["expires"] is None for certificate in certificates)


def reboot(host: str) -> None:
    """As its power button does; its files stay."""
    HOSTS.reboot(host)
    seconds_until(lambda: run(host, "systemctl", "is-active", "sleep.service").strip() == "active")


@pytest.mark.usefixtures("estate")
def test_everything_expires_and_traffic_is_back_within_ten_seconds(
    record_property: Callable[[str, object], None],
) -> None:
    """The control plane stops, every certificate runs out, a host reboots, the control plane starts; nobody typed."""
    seconds_until(called)
    assert roll_out().count("changed=0") == 2
    run("mesh1", "systemctl", "stop", CONTROL_PLANE)
    seconds_until(lambda: expired("mesh1") and expired("mesh2"))
    assert not called(), "an expired certificate was good enough"
    reboot("mesh2")
    seconds_until(lambda: "enrolment" in status("mesh2").get("pending", ()))
    assert not called()
    assert "the control plane 10.233.0.11:15012 is unreachable" in status("mesh2")["controlPlane"]["error"]

    run("mesh1", "systemctl", "start", CONTROL_PLANE)
    # in some seconds; only who is refused would pause for a minute before the next try
    record_property("seconds", f"{seconds_until(called, 45):.1f}")
    tokens = json.loads(run("mesh1", "hostmesh", "token", "list", "-o", "json"))
    assert tokens == [], "nobody has minted a token"
    seconds_until(lambda: status("mesh1")["ready"] and status("mesh2")["ready"])
    # Of connections each has its own line; of everything else, however often it was tried, each change has one.
    log = run("mesh2", "journalctl", "--boot", "--unit=hostmesh-agent", "--output=cat", "--priority=warning")
    lines = [line for line in log.splitlines() if not line.startswith("access ")]
    assert len(lines) <= 4, lines


@pytest.mark.usefixtures("estate")
def test_the_root_is_replaced_under_traffic() -> None:
    """By the playbook, in two runs; not one request fails, and nothing of the old root is left."""
    before = run("mesh1", "cat", "/var/lib/hostmesh-control-plane/ca/root-cert.pem")
    sleep(load="http://web-api:8080/")
    status_, text = rotate("started")
    assert status_ == 0, text
    assert "phase " in text
    # The old root goes when no certificate of it can be alive; until then the step is refused, and says so.
    refused = []
    seconds_until(lambda: (outcome := rotate("finished"))[0] == 0 or refused.append(outcome[1]))
    assert not [
        one for one in refused if "certificates of the old root may live until" not in one and "sign" not in one
    ]
    again = rotate("finished")
    assert (again[0], set(re.findall(r"changed=(\d+)", again[1]))) == (0, {"0"}), again[1]
    seconds_until(called)
    load = sleep(stop=True)
    assert (load["failed"], load["errors"]) == (0, [])
    assert load["sent"] > 300
    after = run("mesh1", "cat", "/var/lib/hostmesh-control-plane/ca/root-cert.pem")
    assert after.count("BEGIN") == 1
    assert after != before
    assert all(status(host)["ready"] for host in ("mesh1", "mesh2"))
