"""The alert rules in Prometheus' own hands: promtool plays numbers to them, and says which alerts are raised."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.interop

RULES = Path(__file__).parents[2] / "monitoring" / "alerts.yml"
HOST = 'instance="app1:15020", job="hostmesh"'
WHO = {"instance": "app1:15020", "job": "hostmesh"}
TO_DATABASE = {
    "source_workload": "web",
    "source_workload_namespace": "prod",
    "destination_service": "db.prod.svc.cluster.local",
}
TRAFFIC = ", ".join(f'{name}="{value}"' for name, value in TO_DATABASE.items())
DENIED = {
    "source_workload": "web",
    "source_workload_namespace": "prod",
    "destination_workload": "db",
    "destination_workload_namespace": "data",
    "authorization_policy": "data/only-api",
}
DENIAL = ", ".join(f'{name}="{value}"' for name, value in DENIED.items())
EXPIRY = f'hostmesh_certificate_expiry_seconds{{{HOST}, identity="web"}}'
READY, REFUSED = f"hostmesh_waypoint_ready{{{HOST}}}", f"hostmesh_waypoint_configuration_refused{{{HOST}}}"
FAILED, OPENED = "istio_tcp_connections_failed_total", "istio_tcp_connections_opened_total"


@dataclass(frozen=True)
class Row:
    """Numbers by the minute, `from+stepxtimes`; an alert that is raised at `minute`, none where `raised` is None."""

    alert: str
    case: str
    series: Mapping[str, str]
    minute: int
    raised: Mapping[str, str] | None = field(default=None)


WEB = {**WHO, "identity": "web"}
FDS = f"hostmesh_process_fds_used_ratio{{{HOST}}}"
RENEWAL = f'hostmesh_certificate_renewal_failing{{{HOST}, identity="web"}}'
CONNECTED, REJECTED = f"hostmesh_xds_connected{{{HOST}}}", f"hostmesh_xds_rejected_resources_total{{{HOST}}}"
RESTARTS = f"hostmesh_proxy_worker_restarts_total{{{HOST}}}"
OF_SOURCE, OF_SERVER = f'{{{HOST}, reporter="source", {TRAFFIC}', f'{{{HOST}, reporter="destination", {DENIAL}'
TIMED_OUT = f'{FAILED}{OF_SOURCE}, response_flags="CONNECT", reason="CONNECT_TIMEOUT"}}'
LATE = f'{FAILED}{OF_SOURCE}, response_flags="CONNECT", reason="HBONE_REFUSED"}}'
ALL_OPENED = f'{OPENED}{OF_SOURCE}, response_flags="-"}}'

ROWS = [
    Row("AgentDown", "a host that is rebooted", {f"up{{{HOST}}}": "1 0 0 1x9"}, 3),
    Row("AgentDown", "somebody else's", {'up{instance="app1:9100", job="node"}': "0x9"}, 9),
    Row("AgentDown", "two minutes", {f"up{{{HOST}}}": "1 0x9"}, 3, WHO),
    Row("CertificateExpiresSoon", "an hour left", {EXPIRY: "3600x20"}, 20),
    Row("CertificateExpiresSoon", "renewed in time", {EXPIRY: "3599-60x8 86400x9"}, 12),
    Row("CertificateExpiresSoon", "ten minutes within the last hour", {EXPIRY: "3599-60x20"}, 10, WEB),
    Row("CertificateExpiresSoon", "there is none", {EXPIRY: "0x20"}, 20),
    Row("CertificateMissing", "it comes", {EXPIRY: "0x4 86400x9"}, 6),
    Row("CertificateMissing", "five minutes", {EXPIRY: "0x9"}, 5, WEB),
    Row("CertificateRenewalFailing", "less than an hour", {RENEWAL: "1x90"}, 59),
    Row("CertificateRenewalFailing", "an hour", {RENEWAL: "1x90"}, 60, WEB),
    Row("WaypointNotReady", "it starts", {READY: "0 0 1x9", REFUSED: "0x9"}, 3),
    Row("WaypointNotReady", "as its configuration is refused", {READY: "0x9", REFUSED: "1x9"}, 9),
    Row("WaypointNotReady", "two minutes", {READY: "0x9", REFUSED: "0x9"}, 2, WHO),
    Row("WaypointConfigurationRefused", "not", {READY: "0x9", REFUSED: "0x9"}, 9),
    Row("WaypointConfigurationRefused", "a minute", {READY: "1x9", REFUSED: "1x9"}, 1, WHO),
    Row("ConnectionsDenied", "one a second", {f'{FAILED}{OF_SERVER}, response_flags="DENY"}}': "0+60x30"}, 30),
    Row("ConnectionsDenied", "another failure", {f'{FAILED}{OF_SERVER}, response_flags="CONNECT"}}': "0+90x30"}, 30),
    Row("ConnectionsDenied", "more", {f'{FAILED}{OF_SERVER}, response_flags="DENY"}}': "0+61x30"}, 20, DENIED),
    Row("ConnectionsFailing", "one in twenty", {TIMED_OUT: "0+5x30", ALL_OPENED: "0+100x30"}, 30),
    Row(
        "ConnectionsFailing",
        "more, by one reason of two",
        {TIMED_OUT: "0+6x30", LATE: "0+5x30", ALL_OPENED: "0+100x30"},
        20,
        {**TO_DATABASE, "reason": "CONNECT_TIMEOUT"},
    ),
    Row(
        "ConnectionsFailing",
        "all, before they were open",
        {LATE: "0+6x30", ALL_OPENED: "0x30"},
        20,
        {**TO_DATABASE, "reason": "HBONE_REFUSED"},
    ),
    Row("ControlPlaneDisconnected", "it comes back", {CONNECTED: "0x8 1x9"}, 12),
    Row("ControlPlaneDisconnected", "ten minutes", {CONNECTED: "0x20"}, 10, WHO),
    Row("ResourcesRejected", "long ago", {REJECTED: "1x30"}, 20),
    Row("ResourcesRejected", "one", {REJECTED: "0x5 1x30"}, 10, WHO),
    Row("WorkerRestarts", "two", {RESTARTS: "0 0 1 1 2x30"}, 16),
    Row("WorkerRestarts", "three in a quarter of an hour", {RESTARTS: "0 0 1 1 2 2 3x30"}, 16, WHO),
    Row("DescriptorsRunOut", "four fifths", {FDS: "0.8x30"}, 30),
    Row("DescriptorsRunOut", "a peak", {FDS: "0.81x4 0.5 0.81x4"}, 8),
    Row("DescriptorsRunOut", "more for less than five minutes", {FDS: "0.5 0.81x9"}, 5),
    Row("DescriptorsRunOut", "more for five minutes", {FDS: "0.5 0.81x9"}, 6, WHO),
]


def rules() -> Mapping[str, Mapping[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"].removeprefix("Hostmesh"): rule for rule in group["rules"]}


def filled(text: str, labels: Mapping[str, str]) -> str:
    """As a person reads it; a label that the alert has not got would be empty."""
    return re.sub(r"{{ \$labels\.(\w+) }}", lambda found: labels[found[1]], text)


def played() -> Iterator[dict[str, Any]]:
    """As promtool takes them (`promtool test rules`)."""
    for row in ROWS:
        rule = rules()[row.alert]
        raised = [
            {
                "exp_labels": {**rule["labels"], **labels},
                "exp_annotations": {name: filled(text, labels) for name, text in rule["annotations"].items()},
            }
            for labels in [row.raised]
            if labels is not None
        ]
        yield {
            "name": f"{row.alert}: {row.case}",
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in row.series.items()],
            "alert_rule_test": [
                {"eval_time": f"{row.minute}m", "alertname": f"Hostmesh{row.alert}", "exp_alerts": raised}
            ],
        }


def test_each_alert_is_raised_when_it_should_be_and_not_before(tmp_path: Path) -> None:
    """With the labels and the words that an operator gets; each alert has a row of either kind."""
    assert {row.alert for row in ROWS if row.raised} == {row.alert for row in ROWS if not row.raised} == rules().keys()
    promtool = shutil.which("promtool")
    assert promtool is not None, "make interop fetches it"
    tests = tmp_path / "tests.yml"
    tests.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [*played()]}))
    done = subprocess.run(
        [promtool, "test", "rules", str(tests)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
