"""ztunnel's variables on a real agent: what each one changes, not that it was read."""

from __future__ import annotations

import json
import re
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dns.message
import dns.query
import pytest
from tests.netns.two_hosts import put_certificate
from tests.support.agent import RunningAgent, agent, start, until
from tests.support.pki import Authority

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

MESH = """
workloads:
- {name: w1, serviceAccount: w1, namespace: prod, workloadIps: [HOST], protocol: HBONE, node: here, services: {}}
services:
- {name: web, namespace: prod, hostname: web.prod.svc.mesh.lab, vips: [/10.99.0.1, "/fd99::1"], ports: {80: 80}}
"""

VARIABLES = {
    "NODE_NAME": "here",
    "CLUSTER_DOMAIN": "mesh.lab",
    "ISTIO_META_DNS_CAPTURE": "true",
    "ISTIO_META_DNS_PROXY_ADDR": "localhost:15054",
    "IPV6_ENABLED": "false",
    "ZTUNNEL_WORKER_THREADS": "3",
    "RUST_LOG": "warn,ztunnel=debug",
    "LOG_FORMAT": "json",
    "KEEPALIVE_TIME": "3000",
    "CONNECTION_TERMINATION_DEADLINE": "1s",
    "PACKET_MARK": "1337",
    "INPOD_UDS": "/run/x",
}


def lines(made: RunningAgent) -> list[dict[str, Any]]:
    return [json.loads(line) for line in made.log.splitlines()]


def names(lab: Lab, kind: str) -> list[str]:
    question = dns.message.make_query("web.prod.svc.mesh.lab", kind)
    with lab.host.entered():
        found = dns.query.udp(question, "127.0.0.1", port=15054, timeout=20)
    return [item.to_text() for each in found.answer for item in each]


def test_each_variable_has_its_effect(lab: Lab, tmp_path: Path) -> None:
    """Workers, listeners, names, keepalive, log and the end of a drain are as the variables say."""
    with agent(lab.host, tmp_path, lab.a.path) as made:
        put_certificate(tmp_path / "certificates", Authority(), "w1")
        (made.workloads / "w.yaml").write_text("workload: prod/w1\nserviceAccount: w1\ncapture: {unit: w1.service}\n")
        made.configure(certificates={"directory": str(tmp_path / "certificates")})
        start(made, variables={**VARIABLES, "LOCAL_XDS": MESH.replace("HOST", lab.host.v4)})
        until(lambda: json.loads(made.get(15000, "/status"))["ready"])
        assert len(made.workers()) == 3
        assert "[::" not in lab.host.run("ss", "-ltnH")
        assert (names(lab, "A"), names(lab, "AAAA")) == (["10.99.0.1"], [])

        server = lab.listen(lab.peer, lab.peer.v4, 8080)
        client = lab.connect(lab.host, (lab.peer.v4, 8080), lab.a)
        client.sendall(b"hello")
        served = lab.accept(server)
        assert served.recv(5) == b"hello"
        timers = lab.host.run("ss", "-tnoH", "state", "established", "( sport = :15001 or dport = :8080 )")
        assert len(re.findall(r"timer:\(keepalive,(?:49|50)min", timers)) >= 2, (
            "of the application's connection and of the next hop's"
        )
        until(lambda: any(line["message"] == "connection opened" for line in lines(made)))
        (told,) = (line["message"] for line in lines(made) if "without effect" in line["message"])
        assert told == "variables of ztunnel without effect on a host: INPOD_UDS, PACKET_MARK"

        made.process.send_signal(signal.SIGTERM)
        assert made.process.wait(60) == 0
        assert isinstance(_end_of(client), ConnectionResetError)
        said = [(line["message"], line.get("error")) for line in lines(made)]
        assert ("drain duration expired with pending connections, forcefully shutting down", None) in said
        assert ("connection complete", "connection closed due to connection drain") in said


def _end_of(sock: socket.socket) -> object:
    try:
        return sock.recv(1)
    except ConnectionResetError as error:
        return error
