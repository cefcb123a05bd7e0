"""What an agent knows, offline from the dumps of hostmesh and ztunnel: istioctl's words and columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from hostmesh.cli import main

DUMP: dict[str, Any] = {
    "workloads": [
        {
            "uid": "u1",
            "workloadIps": ["192.0.2.7"],
            "protocol": "HBONE",
            "name": "web",
            "namespace": "prod",
            "node": "app1",
            "trustDomain": "cluster.local",
            "serviceAccount": "web",
            "status": "Healthy",
            "waypoint": {"destination": "/240.0.0.9", "hboneMtlsPort": 15008},
        },
        {"uid": "u2", "workloadIps": [], "hostname": "db.example.org", "name": "db", "namespace": "data"},
    ],
    "services": [
        {
            "name": "web",
            "namespace": "prod",
            "hostname": "web.prod.svc",
            "vips": ["/240.0.0.1"],
            "ports": {"80": 8080},
            "endpoints": {
                "u1": {"workloadUid": "u1", "status": "Healthy"},
                "u2": {"workloadUid": "u2", "status": "Unhealthy"},
            },
        },
        {"name": "gate", "namespace": "prod", "hostname": "gate.prod.svc", "vips": ["/240.0.0.9"], "endpoints": {}},
    ],
    "policies": [{"name": "web", "namespace": "prod", "scope": "Namespace", "action": "Allow", "rules": [[]]}],
    "certificates": [
        {
            "identity": "spiffe://cluster.local/ns/prod/sa/web",
            "state": "Available",
            "certChain": [
                {"serialNumber": "255", "validFrom": "2020-01-01T00:00:00Z", "expirationTime": "2999-01-01T00:00:00Z"},
                {"serialNumber": "16", "validFrom": "2020-01-01T00:00:00Z", "expirationTime": "2999-01-01T00:00:00Z"},
            ],
            "rootCerts": [
                {"serialNumber": "1", "validFrom": "2020-01-01T00:00:00Z", "expirationTime": "2021-01-01T00:00:00Z"}
            ],
        },
        {"identity": "spiffe://cluster.local/ns/prod/sa/new", "state": "Unavailable: no answer", "certChain": []},
    ],
    "workloadState": {
        "u1": {
            "state": "Up",
            "info": {"name": "web", "namespace": "prod"},
            "connections": {
                "inbound": [
                    {"src": "192.0.2.9:400", "originalDst": None, "actualDst": "192.0.2.7:8080", "protocol": "HBONE"}
                ],
                "outbound": [
                    {
                        "src": "192.0.2.7:1",
                        "originalDst": "240.0.0.1:80",
                        "actualDst": "192.0.2.8:15008",
                        "protocol": "HBONE",
                    }
                ],
            },
        }
    },
}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    file = tmp_path / "dump.json"
    file.write_text(json.dumps(DUMP), encoding="utf-8")
    return file


def hostmesh(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=text)


def cells(result: Result) -> list[list[str]]:
    assert result.exit_code == 0, result.output
    return [[cell.strip() for cell in line.split("   ") if cell.strip()] for line in result.stdout.splitlines()]


def test_workloads(saved: Path) -> None:
    """A waypoint is shown by its service's name; a field that a dump leaves out has its default."""
    assert cells(hostmesh("workloads", "--file", str(saved))) == [
        ["NAMESPACE", "WORKLOAD NAME", "ADDRESS", "NODE", "WAYPOINT", "PROTOCOL"],
        ["prod", "web", "192.0.2.7", "app1", "gate", "HBONE"],
        ["data", "db", "db.example.org", "-", "None", "TCP"],
    ]


@pytest.mark.parametrize(
    "narrowing", [("--namespace", "prod"), ("--workload-node", "app1"), ("--address", "192.0.2.7")]
)
def test_workloads_are_narrowed_as_istioctl_does(saved: Path, narrowing: tuple[str, str]) -> None:
    """By namespace, node and address."""
    assert [row[1] for row in cells(hostmesh("workload", "-f", str(saved), *narrowing))[1:]] == ["web"]


def test_services_policies_certificates(saved: Path) -> None:
    """Healthy of all endpoints; every certificate of a chain, serials in hex, valid by this host's clock."""
    assert cells(hostmesh("svc", "-f", str(saved)))[1] == ["prod", "web", "240.0.0.1", "None", "1/2"]
    assert cells(hostmesh("pol", "-f", str(saved)))[1] == ["prod", "web", "Allow", "Namespace"]
    name = "spiffe://cluster.local/ns/prod/sa/web"
    assert cells(hostmesh("certs", "-f", str(saved))) == [
        ["CERTIFICATE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE"],
        [name, "Leaf", "Available", "true", "ff", "2999-01-01T00:00:00Z", "2020-01-01T00:00:00Z"],
        [name, "Intermediate", "Available", "true", "10", "2999-01-01T00:00:00Z", "2020-01-01T00:00:00Z"],
        [name, "Root", "Available", "false", "1", "2021-01-01T00:00:00Z", "2020-01-01T00:00:00Z"],
        ["spiffe://cluster.local/ns/prod/sa/new", "NA", "Unavailable", "false", "NA", "NA", "NA"],
    ]


def test_connections_name_who_talks_to_whom(saved: Path) -> None:
    """Addresses that the mesh knows become names, unless --raw."""
    assert cells(hostmesh("connections", "-f", str(saved)))[1:] == [
        ["web.prod", "Inbound", "web.prod:8080", "192.0.2.9:400", "HBONE"],
        ["web.prod", "Outbound", "web.prod:1", "192.0.2.8:15008", "web.prod.svc:80", "HBONE"],
    ]
    raw = cells(hostmesh("cons", "-f", str(saved), "--raw", "--direction", "outbound"))
    assert raw[1:] == [["web.prod", "Outbound", "192.0.2.7:1", "192.0.2.8:15008", "240.0.0.1:80", "HBONE"]]
    assert cells(hostmesh("cons", "-f", str(saved), "-n", "other"))[1:] == []


def test_machines_read_json_and_yaml(saved: Path) -> None:
    """With the dump's own field names."""
    assert json.loads(hostmesh("policies", "-f", str(saved), "-o", "json").stdout) == DUMP["policies"]
    assert yaml.safe_load(hostmesh("connections", "-f", str(saved), "-o", "yaml").stdout) == DUMP["workloadState"]


def test_what_all_prints_is_a_dump_again(saved: Path) -> None:
    """So that a dump can travel; the tables of all sections stand under istioctl's headings."""
    again = hostmesh("all", "-f", "-", text=hostmesh("all", "-f", str(saved), "-o", "json").stdout)
    assert again.exit_code == 0
    assert [line for line in again.stdout.splitlines() if line.startswith("---")] == [
        f"------ {name} INFO ------" for name in ("WORKLOAD", "SERVICE", "POLICY", "CERTIFICATE", "CONNECTIONS")
    ]


def test_maps_by_uid_are_read_as_lists() -> None:
    """As ztunnel wrote them in its earlier versions."""
    older = {"workloads": {"u1": DUMP["workloads"][0]}, "services": {}, "policies": None}
    assert cells(hostmesh("workloads", "-f", "-", text=json.dumps(older)))[1][1] == "web"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not JSON"),
        ("[]", "no config dump"),
        ('{"other": 1}', "no config dump"),
        ('{"workloads": 3}', "workloads: must be a list of objects"),
        ('{"workloadState": []}', ""),
        ('{"workloadState": [1]}', "workloadState: must be an object"),
    ],
)
def test_a_file_that_is_no_dump_is_refused(text: str, why: str) -> None:
    """With what was expected, and no traceback."""
    result = hostmesh("workloads", "-f", "-", text=text)
    assert why in result.output
    assert result.exit_code == (1 if why else 0)


@pytest.mark.parametrize("command", ["workloads", "services", "policies", "certificates", "connections"])
def test_a_file_is_not_watched(saved: Path, command: str) -> None:
    """It stays what it is."""
    result = CliRunner().invoke(main, [command, "--watch", "--file", str(saved)])
    assert result.exit_code == 2
    assert "without --file" in result.output


def test_colours_are_for_terminals(saved: Path) -> None:
    """What goes into a pipe has none."""
    command = ["certificates", "-f", str(saved)]
    assert "\x1b[" not in CliRunner().invoke(main, command).stdout
    assert "\x1b[32mAvailable" in CliRunner().invoke(main, command, color=True).stdout


def test_no_agent_is_said_with_the_next_step() -> None:
    """Nothing listens on port 1."""
    result = hostmesh("workloads", "--proxy-admin-port", "1")
    assert result.exit_code == 1
    assert "systemctl status hostmesh-agent" in result.output
