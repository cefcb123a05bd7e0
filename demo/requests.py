"""What the demo shows of requests: a waypoint refuses by method and routes anew, and no workload notices."""

from __future__ import annotations

import json

from demo import estate
from demo.estate import NOTSLEEP, SLEEP
from demo.table import Seen, Table

ECHO = ("echo", "echo-v1")
UNCHANGED = ("MainPID", "NRestarts", "ActiveEnterTimestamp")


def requests_are_judged(table: Table) -> None:
    """GET passes, POST is refused with 403; then another service answers."""
    table.check("hostmesh waypoint status wp on mesh2", "ready", _ready, within=20)
    url, before = address("echo"), _processes()
    table.check("sleep posts to echo, which uses the waypoint wp", "echo answers", lambda: _asked(url, "post", "echo"))
    estate.apply("get-only")
    table.check("AuthorizationPolicy get-only, sleep posts again", "403", lambda: _refused(url, "post"))
    table.check("sleep gets", "echo answers", lambda: _asked(url, "get", "echo"))
    table.check("notsleep gets", "its connection is refused", lambda: _stranger(url))
    estate.apply("echo-v1")
    table.check("HTTPRoute echo → echo-v1", "echo-v1 answers", lambda: _asked(url, "get", "echo-v1"))
    table.check("istio_requests_total on mesh2", "counts 403 for POST by sleep", _counted)
    after = _processes()
    table.check("the services meanwhile", "not touched", lambda: Seen(after == before, after), within=0)
    estate.delete("authorizationpolicy", "get-only")
    estate.delete("httproute", "echo")


def address(service: str) -> str:
    """Where a service is called as a service, whatever hosts it is on."""
    services = json.loads(estate.must("mesh1", "hostmesh", "get", "meshservices", "-o", "json"))["items"]
    (found,) = [one for one in services if one["name"] == service]
    vip = next(vip.rpartition("/")[2] for vip in found["vips"] if ":" not in vip)
    return f"http://{vip}:{next(iter(found['ports']))}/"


def _ready() -> Seen:
    status = json.loads(estate.run("mesh2", "hostmesh", "waypoint", "status", "wp", "-o", "json").stdout)
    return Seen(status["ready"], f"envoy {status['envoy']['state']}, {status['configuration']['error'] or 'in force'}")


def _asked(url: str, method: str, who: str) -> Seen:
    answer = SLEEP.ask(**{method: url})
    if "error" in answer or answer["code"] != 200:
        return Seen(False, str(answer))
    name = json.loads(answer["body"])["name"]
    return Seen(name == who, f"{name} {answer['code']}")


def _refused(url: str, method: str) -> Seen:
    answer = SLEEP.ask(**{method: url})
    return Seen(answer.get("code") == 403, f"{answer.get('code', answer.get('error'))} {answer.get('body', '')}")


def _stranger(url: str) -> Seen:
    answer = NOTSLEEP.get(url)
    return Seen("error" in answer or answer["code"] == 403, str(answer.get("error", answer.get("code"))))


def _counted() -> Seen:
    text = estate.must("mesh2", "curl", "-sS", "--max-time", "5", "127.0.0.1:15090/metrics")
    lines = [line for line in text.splitlines() if line.startswith("istio_requests_total{")]
    found = [line for line in lines if 'response_code="403"' in line and 'source_workload="sleep' in line]
    return Seen(bool(found), f"{len(lines)} series, {found[0].rpartition(' ')[2] if found else 'none'} refused")


def _processes() -> str:
    shown = estate.must("mesh1", "systemctl", "show", *(f"--property={name}" for name in UNCHANGED), *ECHO)
    return ", ".join(line.partition("=")[2] for line in shown.splitlines() if line)
