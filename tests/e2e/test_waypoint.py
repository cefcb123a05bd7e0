"""A waypoint rolled out by ansible-playbook: requests of real services on real hosts, judged by method."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab.instance import Lab
from tests.e2e.hosts import ROOT, Hosts, must, seconds_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

FOLDER = Path(__file__).parent / "waypoint"
LAB = Lab("waypoint")
HOSTS = Hosts(LAB)
UNIT = "hostmesh-waypoint@default.wp.service"


@pytest.fixture(scope="module")
def estate() -> Iterator[None]:
    """Two hosts in the mesh, one of them runs the waypoint; gone without a trace afterwards."""
    build = ROOT / "roles" / "_common" / "files" / "build_bundle.py"
    try:
        with subprocess.Popen([sys.executable, build, "--source", ROOT], stdout=subprocess.DEVNULL) as building:
            must(sys.executable, "-m", "demo.deploy", LAB.name, FOLDER / "estate.json")
        assert building.returncode == 0
        roll_out()
        yield
    finally:
        if os.environ.get("HOSTMESH_KEEP_LAB") is None:
            must(sys.executable, "-m", "lab", "down", LAB.name)


def roll_out() -> str:
    text = must("ansible-playbook", "-i", FOLDER / "inventory.yml", ROOT / "playbooks" / "site.yml")
    return text.rpartition("PLAY RECAP")[2]


def ask(command: dict[str, Any]) -> dict[str, Any]:
    """What sleep on mesh2 sees."""
    text = HOSTS.run("mesh2", "nc", "-NU", "/run/sleep/control.sock", stdin=json.dumps(command).encode())
    return dict(json.loads(text or "{}"))


def address() -> str:
    """Web-api's own, by which it is called as a service."""
    services = json.loads(HOSTS.must("mesh1", "hostmesh", "get", "meshservices", "-o", "json"))["items"]
    (vip,) = [vip for one in services if one["name"] == "web-api" for vip in one["vips"] if ":" not in vip]
    return f"http://{vip.rpartition('/')[2]}:8080/"


@pytest.mark.usefixtures("estate")
def test_a_method_is_refused_without_touching_a_workload() -> None:
    """GET is answered and POST is 403; without the waypoint nothing goes around it; a second run changes nothing."""
    seconds_until(
        lambda: json.loads(HOSTS.run("mesh2", "hostmesh", "waypoint", "status", "wp", "-o", "json"))["ready"], 30
    )
    url = address()
    seconds_until(lambda: ask({"get": url}).get("code") == 200, 30)
    assert "Hello From Web API!" in ask({"get": url})["body"]
    assert ask({"post": url}) == {"code": 403, "body": "RBAC: access denied"}
    numbers = HOSTS.run("mesh1", "curl", "-s", "http://127.0.0.1:15020/metrics")
    assert 'source_principal="spiffe://cluster.local/ns/default/sa/wp"' in numbers
    assert roll_out().count("changed=0") == 2

    HOSTS.must("mesh2", "systemctl", "reload", UNIT)
    assert ask({"get": url})["code"] == 200
    HOSTS.must("mesh2", "systemctl", "stop", UNIT)
    assert "error" in ask({"get": url})
    HOSTS.must("mesh2", "systemctl", "start", UNIT)
    seconds_until(lambda: ask({"get": url}).get("code") == 200, 30)
