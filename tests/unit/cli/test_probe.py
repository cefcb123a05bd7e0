"""Connections of services, tried: which, and what their answers mean."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import click
import pytest

from hostmesh.cli.probe import Probe, _watch, probes, read_baseline
from hostmesh.model.address import SocketAddress

STATUS: dict[str, Any] = {
    "workloads": [
        {"namespace": "prod", "name": "sleep", "unit": "sleep.service", "capture": "captured"},
        {"namespace": "prod", "name": "app", "unit": "", "capture": "captured"},
        {"namespace": "prod", "name": "many", "unit": "many.slice", "capture": "captured"},
        {"namespace": "prod", "name": "late", "unit": "late.service", "capture": "drop-in missing"},
    ]
}
DUMP: dict[str, Any] = {
    "services": [
        {
            "namespace": "prod",
            "hostname": "web.svc",
            "vips": ["/2001:db8::1", "/240.0.0.1"],
            "ports": {"80": 1},
            "endpoints": {"u": {}},
        },
        {"namespace": "prod", "hostname": "empty.svc", "vips": ["/240.0.0.2"], "ports": {"80": 1}, "endpoints": {}},
    ],
    "workloads": [
        {
            "uid": "u",
            "namespace": "prod",
            "name": "web",
            "node": "b",
            "workloadIps": ["10.0.0.2"],
            "services": {"s": {"80": 8080}},
        },
        {"uid": "v", "namespace": "prod", "name": "batch", "node": "b", "workloadIps": ["10.0.0.2"]},
    ],
}


def test_captured_units_try_every_service() -> None:
    """By its address of the mesh; a service without endpoints reaches nobody anyway."""
    (found,) = probes(STATUS, DUMP, None)
    assert (found.name, found.unit, str(found.address)) == ("prod/sleep -> web.svc:80", "sleep.service", "240.0.0.1:80")


def test_a_hosts_workloads_are_tried_by_their_own_addresses() -> None:
    """So that no other endpoint answers for them."""
    assert [(one.name, str(one.address)) for one in probes(STATUS, DUMP, "b")] == [
        ("prod/sleep -> prod/web:8080", "10.0.0.2:8080")
    ]


def test_answers() -> None:
    """Who closes in turn is reached, who resets refuses, who says nothing is silent."""
    with (
        socket.create_server(("127.0.0.1", 0)) as closing,
        socket.create_server(("127.0.0.1", 0)) as resetting,
        socket.create_server(("127.0.0.1", 0)) as silent,
    ):
        waiting = {}
        for name, server in (("closing", closing), ("resetting", resetting), ("silent", silent)):
            sock = socket.create_connection(server.getsockname())
            waiting[sock] = Probe(name, "u", "t", SocketAddress.of(*server.getsockname()))
        one, two, three = closing.accept()[0], resetting.accept()[0], silent.accept()[0]
        one.close()
        two.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        two.close()
        results: dict[str, str] = {}
        _watch(waiting, results, time.monotonic() + 1)
        three.close()
        for sock in waiting:
            sock.close()
    assert results == {"closing -> t": "open", "resetting -> t": "refused"}


def test_a_baseline_is_what_an_earlier_call_printed() -> None:
    """Anything else is refused."""
    assert read_baseline(json.dumps({"ready": True, "results": {"a -> b": "open"}, "worse": []})) == {"a -> b": "open"}
    with pytest.raises(click.ClickException, match="--baseline is not what"):
        read_baseline("[]")
