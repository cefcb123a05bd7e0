"""What the demo shows, in order: each function fills rows of the table."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any

from demo import capture, estate
from demo.estate import ADDRESSES, MARKER, NOTSLEEP, SLEEP, Client
from demo.requests import requests_are_judged
from demo.table import Seen, Table, eventually

Serials = Mapping[str, Mapping[str, str]]

CHAIN = ("web-api", "recommendation", "purchase-history")
WEB_API = "http://web-api:8080/"
HOPS = (
    ("sleep", "web-api", "mesh1"),
    ("web-api", "recommendation", "mesh2"),
    ("recommendation", "purchase-history", "mesh2"),
)
POLICIES = tuple(f"{name}-rbac" for name in CHAIN)
TLS_PORT = 15008
SERVICE_PORTS = (8080, 8081)
HELD = 48
# Everything between hosts but the ways of the operator and of the control plane.
WORKLOAD_TRAFFIC = "tcp and not port 22 and not port 15012"


def identity(account: str) -> str:
    """The SPIFFE identity of a service of the demo."""
    return f"spiffe://cluster.local/ns/default/sa/{account}"


def everything(table: Table, first: Serials) -> None:
    """All checks. A load from `sleep` has run since certificates were as in `first`, and ends here."""
    chain_answers(table)
    eavesdropper_learns_nothing(table)
    receivers_know_callers(table)
    hosts_show_what_they_know(table)
    certificates_rotate(table, first)
    policies_hold(table)
    strangers_are_refused(table)
    requests_are_judged(table)
    worker_dies_alone(table)
    no_agent_no_plaintext(table)


def now() -> str:
    """This moment, as journalctl reads it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def walk(document: dict[str, Any]) -> list[str]:
    """The names along the chain of an answer, each with its code."""
    hops = [f"{document.get('name', document.get('uri'))} {document['code']}"]
    for upstream in document.get("upstream_calls", []):
        hops += walk(upstream)
    return hops


def answered(client: Client, url: str = WEB_API) -> Seen:
    """Whether the whole chain answers a client."""
    answer = client.get(url)
    if "error" in answer:
        return Seen(False, answer["error"])
    hops = walk(json.loads(answer["body"]))
    return Seen(hops == [f"{name} 200" for name in CHAIN], " → ".join(hops))


def refused(client: Client, url: str = WEB_API) -> Seen:
    """Whether a client sees its connection closed without an answer."""
    answer = client.get(url)
    if "error" not in answer:
        return Seen(False, f"code {answer['code']}: {answer['body'][:80]}")
    closed = ("RemoteDisconnected", "ConnectionReset", "ConnectionRefused", "BadStatusLine")
    return Seen(answer["error"].startswith(closed), f"{client.name}: {answer['error']}")


def chain_answers(table: Table) -> None:
    """The services work as they did before there was a mesh."""
    table.check(
        "sleep calls web-api",
        "the whole chain answers: web-api → recommendation → purchase-history",
        lambda: answered(SLEEP),
        within=15,
    )


def eavesdropper_learns_nothing(table: Table) -> None:
    """Between hosts there is nothing but TLS on 15008."""
    with capture.on_the_bridge(WORKLOAD_TRAFFIC) as seen:
        for _ in range(5):
            answered(SLEEP)
    ports = seen.ports()
    text = ", ".join(f"{count} segments on port {port}" for port, count in ports.items()) or "nothing"
    table.check(
        "packet capture on the bridge",
        f"only TLS on port {TLS_PORT}",
        lambda: Seen(set(ports) == {TLS_PORT} and seen.starts_with_tls(TLS_PORT), text),
        within=0,
    )
    table.check(
        "the bodies' plaintext marker in it",
        "never",
        lambda: Seen(
            bool(seen.segments) and not seen.contains(MARKER), "found" if seen.contains(MARKER) else "not found"
        ),
        within=0,
    )


def receivers_know_callers(table: Table) -> None:
    """Each receiving agent logged who called, from the certificate."""
    since = now()
    answered(SLEEP)
    for source, destination, host in HOPS:
        table.check(
            f"who called {destination}, as {host} logged it",
            identity(source),
            lambda: _logged_caller(host, destination, identity(source), since),  # noqa: B023 - runs at once
        )


def _logged_caller(host: str, destination: str, caller: str, since: str) -> Seen:
    inbound = [
        one.get("src.identity", "none")
        for one in estate.access_log(host, since)
        if one.get("direction") == "inbound" and one.get("dst.workload") == f"{destination}-{host}"
    ]
    return Seen(
        caller in inbound,
        caller if caller in inbound else f"{len(inbound)} connections, from {set(inbound) or 'nobody'}",
    )


def hosts_show_what_they_know(table: Table) -> None:
    """Status and config dump of a host."""
    table.check("hostmesh status on mesh2", "ready; recommendation and purchase-history with certificates", _status)
    table.check(
        "127.0.0.1:15000/config_dump on mesh2", "5 workloads, 3 services, policies, 2 certificates", _config_dump
    )


def _status() -> Seen:
    facts = estate.status("mesh2")
    names = sorted(one["name"] for one in facts["workloads"] if one["certificate"]["expires"] is not None)
    expected = ["purchase-history-mesh2", "recommendation-mesh2"]
    ready = "ready" if facts["ready"] else f"not ready: {', '.join(facts['pending'])}"
    text = f"{ready}; certificates: {', '.join(names)}"
    return Seen(bool(facts["ready"]) and names == expected, text)


def _config_dump() -> Seen:
    dump = estate.dump("mesh2")
    kinds = ("workloads", "services", "policies", "certificates")
    counts = {kind: len(dump[kind]) for kind in kinds}
    names = {one["name"] for one in dump["workloads"]}
    wanted = {"web-api-mesh1", "recommendation-mesh2", "purchase-history-mesh2", "sleep-mesh3", "notsleep-mesh3"}
    ok = wanted <= names and counts["services"] >= 3 and counts["certificates"] == 2
    return Seen(ok, ", ".join(f"{count} {kind}" for kind, count in counts.items()))


def all_serials() -> Serials:
    """Those of every host in the mesh."""
    return {host: serials(host) for host in ("mesh1", "mesh2", "mesh3")}


def serials(host: str) -> dict[str, str]:
    """The serial number of each workload certificate of a host, by identity."""
    return {
        one["identity"]: one["certChain"][0]["serialNumber"]
        for one in estate.dump(host)["certificates"]
        if one["certChain"]
    }


def certificates_rotate(table: Table, first: Serials) -> None:
    """All of them live for 60 seconds; those of the start are gone, and nobody noticed."""
    table.check(
        "a certificate that lives 60 s, under load", "renewed on every host", lambda: _rotated(first), within=45
    )
    report = SLEEP.ask(stop=True)
    text = f"{report['failed']} of {report['sent']} failed"
    errors = f": {report['errors'][0]}" if report["errors"] else ""
    table.check(
        "the requests of that time",
        "none failed",
        lambda: Seen(report["sent"] > 0 and not report["failed"], text + errors),
        within=0,
    )


def _rotated(first: Serials) -> Seen:
    renewed: list[str] = []
    waiting: list[str] = []
    for host, before in first.items():
        after = serials(host)
        for name, serial in before.items():
            (renewed if after.get(name, serial) != serial else waiting).append(name.rsplit("/", 1)[-1])
    return Seen(
        bool(renewed) and not waiting,
        f"renewed: {', '.join(renewed) or 'none'}" + (f"; not yet: {', '.join(waiting)}" if waiting else ""),
    )


def policies_hold(table: Table) -> None:
    """Istio's L4 policies: nothing, then the chain and nobody else."""
    estate.apply("allow-nothing")
    table.check("AuthorizationPolicy allow-nothing", "sleep's connection is closed", lambda: refused(SLEEP))
    estate.apply("allow-chain")
    table.check(
        "with web-api ← sleep, recommendation ← web-api, purchase-history ← recommendation",
        "the whole chain answers sleep",
        lambda: answered(SLEEP),
    )
    since = now()
    before = refusals()
    table.check("notsleep calls web-api", "its connection is closed", lambda: refused(NOTSLEEP))
    table.check(
        "the refusal in the access log of mesh1", "names notsleep and the policy", lambda: _logged_refusal(since)
    )
    table.check(
        "istio_tcp_connections_closed_total on mesh1",
        "counts the refusal, with the policy's name",
        lambda: _counted_refusal(before),
    )


def _logged_refusal(since: str) -> Seen:
    for one in estate.access_log("mesh1", since):
        if one.get("src.identity") == identity("notsleep") and "error" in one:
            # Both allow-nothing and web-api-rbac select web-api, and neither allows notsleep.
            named = any(policy in one["error"] for policy in ("allow-nothing", "web-api-rbac"))
            return Seen(named, one["error"])
    return Seen(False, "no such line")


def refusals() -> dict[str, float]:
    """Connections of notsleep that a policy refused, by policy, as mesh1 counts them."""
    text = estate.must("mesh1", "curl", "-sS", "--max-time", "5", "127.0.0.1:15020/metrics")
    counts: dict[str, float] = {}
    for line in text.splitlines():
        if not line.startswith("istio_tcp_connections_closed_total{"):
            continue
        labels, _, value = line.partition("{")[2].rpartition("} ")
        names = dict(part.split("=", 1) for part in labels.rstrip("}").split(",") if "=" in part)
        named = {name: content.strip('"') for name, content in names.items()}
        if named.get("authorization_policy") and named.get("source_principal") == identity("notsleep"):
            counts[named["authorization_policy"]] = counts.get(named["authorization_policy"], 0) + float(
                value.split()[0]
            )
    return counts


def _counted_refusal(before: dict[str, float]) -> Seen:
    after = refusals()
    grown = {policy: count for policy, count in after.items() if count > before.get(policy, 0)}
    return Seen(bool(grown), ", ".join(f"{policy}: {count:.0f}" for policy, count in grown.items()) or "no such series")


def strangers_are_refused(table: Table) -> None:
    """A host outside of the mesh, before and after STRICT."""
    estate.delete("authorizationpolicy", *POLICIES, "allow-nothing")
    since = now()
    with capture.on_the_bridge(WORKLOAD_TRAFFIC) as seen:
        table.check(
            "outside calls web-api, PeerAuthentication PERMISSIVE", "an answer, in plaintext", _outside_answered
        )
    table.check(
        "the marker in a capture of that",
        "found: this is what plaintext looks like",
        lambda: Seen(seen.contains(MARKER), "found" if seen.contains(MARKER) else "not found"),
        within=0,
    )
    table.check("outside in the access log of mesh1", "an address without an identity", lambda: _logged_stranger(since))
    estate.apply("strict")
    table.check("outside calls web-api, PeerAuthentication STRICT", "its connection is closed", _outside_refused)
    table.check("sleep calls web-api, STRICT", "the whole chain answers", lambda: answered(SLEEP))


def _outside() -> tuple[int, str]:
    done = estate.run("outside", "curl", "-sS", "--max-time", "5", f"http://{ADDRESSES['mesh1']}:8080/")
    return done.returncode, (done.stdout or done.stderr).strip()


def _outside_answered() -> Seen:
    status, text = _outside()
    return Seen(
        status == 0 and MARKER.decode() in text, f"{' → '.join(walk(json.loads(text)))}" if status == 0 else text
    )


def _outside_refused() -> Seen:
    status, text = _outside()
    # curl: 52 is an empty reply, 56 a reset while receiving, 7 a refused connection.
    return Seen(status in (7, 52, 56), text[:100])


def _logged_stranger(since: str) -> Seen:
    for one in estate.access_log("mesh1", since):
        if one.get("src.addr", "").startswith(f"{ADDRESSES['outside']}:") and one.get("direction") == "inbound":
            return Seen(
                "src.identity" not in one, f"src.addr={one['src.addr']} src.identity={one.get('src.identity', 'none')}"
            )
    return Seen(False, "no such line")


def worker_dies_alone(table: Table) -> None:
    """SIGKILL for one proxy worker of mesh3."""
    opened = SLEEP.ask(hold=WEB_API, n=HELD)["open"]
    workers = [one["pid"] for one in estate.status("mesh3")["workers"]]
    estate.must("mesh3", "kill", "-KILL", str(workers[0]))
    table.check(
        f"SIGKILL for one of {len(workers)} proxy workers of mesh3",
        "the next request is answered",
        lambda: answered(SLEEP),
        within=5,
    )
    held = SLEEP.ask(again=True)
    text = f"{held['alive']} of {opened} live on, {held['dead']} ended with the worker"
    ok = opened == HELD and 0 < held["dead"] < opened
    table.check(
        f"{HELD} connections that were open then", "only the worker's own are lost", lambda: Seen(ok, text), within=0
    )
    table.check("the agent of mesh3 after that", "as many workers as before, all ready", lambda: _workers(len(workers)))


def _workers(expected: int) -> Seen:
    workers = estate.status("mesh3")["workers"]
    ready = [one for one in workers if one["ready"]]
    return Seen(len(ready) == expected, f"{len(ready)} of {len(workers)} ready")


def no_agent_no_plaintext(table: Table) -> None:
    """Without the agent, traffic of captured services fails; it never goes out in plaintext."""
    estate.must("mesh3", "systemctl", "stop", "hostmesh-agent.service")
    source = f"src host {ADDRESSES['mesh3']} and tcp and ({' or '.join(f'dst port {port}' for port in SERVICE_PORTS)})"
    with capture.on_the_bridge(source) as seen:
        table.check("the agent of mesh3 is stopped, sleep calls web-api", "it fails", lambda: refused(SLEEP), within=0)
    table.check(
        "packets of that on the bridge",
        "none",
        lambda: Seen(not seen.segments, f"{len(seen.segments)} segments"),
        within=0,
    )
    estate.must("mesh3", "systemctl", "start", "hostmesh-agent.service")
    table.check(
        "the agent is started again, sleep calls web-api", "the whole chain answers", lambda: answered(SLEEP), within=20
    )


def wait_enrolled() -> None:
    """Wait until the chain answers through the mesh for the first time.

    Raises:
        OSError: it does not.
    """
    seen = eventually(lambda: answered(SLEEP), 30)
    if not seen.ok:
        raise OSError(f"the chain does not answer after the rollout: {seen.text}")
