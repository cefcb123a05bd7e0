"""workloads.d read strictly: every complaint says file:line, field, why and what would be right."""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.config.strict_yaml import InvalidYaml
from hostmesh.enrolment.workloads_d import Enrolled, read, read_text
from hostmesh.model.health import Check, ExecProbe, HttpProbe, TcpProbe

WEB = "workload: prod/web\nserviceAccount: web\ncapture:\n  unit: web-api.service\n"
NETNS = "workload: prod/app\ncapture: {netns: app1, addresses: [10.0.0.7, 'fd00::7']}\n"


def test_a_workload() -> None:
    """All of the schema; the service account is Kubernetes' default when left out."""
    assert read_text(WEB, "web.yaml") == [Enrolled("prod", "web", "web", "web-api.service", "web.yaml", 4)]
    (without,) = read_text(WEB.replace("serviceAccount: web\n", ""), "web.yaml")
    assert without.service_account == "default"
    assert without.key == "prod/web"


@pytest.mark.parametrize(("netns", "path"), [("app1", "/run/netns/app1"), ("/var/run/netns/x", "/var/run/netns/x")])
def test_a_network_namespace(netns: str, path: str) -> None:
    """A name is one of `ip netns`; the addresses are those it must have."""
    (one,) = read_text(NETNS.replace("app1", netns), "web.yaml")
    addresses = (ip_address("10.0.0.7"), ip_address("fd00::7"))
    assert (one.unit, one.netns, one.addresses, one.line) == ("", path, addresses, 2)


@pytest.mark.parametrize(
    "unit", ["app@1.service", r"my\x2dapp@a:b.service", "a_b.c.service", "ssh-gateway.service", "hostmeshed.service"]
)
def test_units_that_systemd_allows(unit: str) -> None:
    """Instances, escapes, dots; names that only resemble the failsafe ones."""
    (one,) = read_text(WEB.replace("web-api.service", unit), "web.yaml")
    assert one.unit == unit


def test_users_hosts_and_exclusions() -> None:
    """Every way of capture, and what of it is left out."""
    text = (
        "workload: prod/u\nannotations: {ambient.istio.io/bypass-inbound-capture: 'true'}\n"
        "capture:\n  user: backup\n  ports: [8080]\n  exclude:\n"
        "    outbound: {ports: [5432], cidrs: [10.0.0.0/8], interfaces: [tun0], owners: [alice, 1001]}\n"
        "    inbound: {ports: [9100], cidrs: ['fd00::/8'], interfaces: [lo]}\n"
        "---\nworkload: prod/h\ncapture: {host: true}\n---\nworkload: prod/s\ncapture: {unit: app.slice}\n"
    )
    user, host, unit = read_text(text, "x.yaml")
    assert (user.user, user.ports, user.line, user.bypass_inbound) == ("backup", (8080,), 4, True)
    assert user.exclude.outbound.owners == ["alice", "1001"]
    assert [str(network) for network in user.exclude.outbound.cidrs] == ["10.0.0.0/8"]
    assert (host.host, host.line, unit.unit, host.bypass_inbound) == (True, 11, "app.slice", False)


MISTAKES = [
    (
        WEB + "  exclude: {outbound: {cidrs: [10.0.0.1/8]}}\n",
        "web.yaml:5: capture.exclude.outbound.cidrs[0]: 10.0.0.1/8 has bits set beyond its prefix; write 10.0.0.0/8",
    ),
    (WEB + "  exclude: {outbound: {cidrs: [x]}}\n", "web.yaml:5: capture.exclude.outbound.cidrs[0]: 'x' does not"),
    (WEB + "  exclude: {inbound: {owners: [a]}}\n", "web.yaml:5: capture.exclude.inbound.owners: unknown field"),
    (WEB + "  exclude: {inbound: {ports: [0]}}\n", "web.yaml:5: capture.exclude.inbound.ports[0]: "),
    (WEB + "  exclude: {inbound: {interfaces: ['a b']}}\n", "web.yaml:5: capture.exclude.inbound.interfaces[0]: is no"),
    (
        "workload: prod/web\ncapture: {host: true, dns: true}\n",
        "web.yaml:2: capture: dns (capture of questions) does not go with host",
    ),
    (WEB + "  ports: [80]\n", "web.yaml:3: capture: ports are those that a user listens on, and only go with user"),
    (WEB.replace("unit: web-api.service", "user: root"), "web.yaml:4: capture.user: is needed to repair the host"),
    (WEB.replace("unit: web-api.service", "user: 0"), "web.yaml:4: capture.user: is needed to repair the host"),
    (WEB.replace("unit: web-api.service", "user: A b"), "web.yaml:4: capture.user: must be the name of a user"),
    (WEB.replace("unit: web-api.service", "host: false"), "web.yaml:4: capture.host: "),
    (WEB.replace("web-api.service", "system.slice"), "web.yaml:4: capture.unit: is needed to repair the host"),
    (WEB.replace("web-api.service", "user.slice"), "web.yaml:4: capture.unit: is needed to repair the host"),
    (WEB + "annotations: {ambient.istio.io/bypass-inbound-capture: maybe}\n", "web.yaml:5: annotations.ambient"),
    (
        NETNS + "annotations: {ambient.istio.io/bypass-inbound-capture: 'true'}\n",
        "web.yaml:1: ambient.istio.io/bypass-inbound-capture does not go with netns",
    ),
    (
        NETNS.replace("app1,", "app1, exclude: {inbound: {ports: [1]}},"),
        "web.yaml:2: capture: exclude does not go with",
    ),
    ("workload: prod/web\n", "web.yaml:1: capture: required, but missing"),
    (WEB + "captured: yes\n", "web.yaml:5: captured: unknown field; did you mean 'capture'?"),
    (
        WEB.replace("unit:", "units:"),
        "web.yaml:4: capture.units: unknown field; did you mean",
    ),
    (WEB.replace("prod/web", "web"), "web.yaml:1: workload: must be <namespace>/<name>"),
    (WEB.replace("prod/web", "prod/We_b"), "web.yaml:1: workload: not a Kubernetes name"),
    (WEB.replace("prod/web", "/web"), "web.yaml:1: workload: must be <namespace>/<name>"),
    (WEB.replace("prod/web", "p.q/web"), "web.yaml:1: workload: must be <namespace>/<name>"),
    (WEB.replace("prod/web", "prod/web/x"), "web.yaml:1: workload: not a Kubernetes name"),
    (
        WEB.replace("serviceAccount: web", "serviceAccount: 5"),
        "web.yaml:2: serviceAccount: input should be a valid",
    ),
    (WEB.replace("web-api.service", "web-api"), "web.yaml:4: capture.unit: must be the full name of a service"),
    (WEB.replace("web-api.service", "x.socket"), "web.yaml:4: capture.unit: must be the full name of a service"),
    (WEB.replace("web-api.service", "a/b.service"), "web.yaml:4: capture.unit: must be the full name of a service"),
    (WEB.replace("web-api.service", "app@.service"), "web.yaml:4: capture.unit: is a template; name an instance"),
    (WEB.replace("web-api.service", "ssh.service"), "web.yaml:4: capture.unit: is needed to repair the host"),
    (WEB.replace("web-api.service", "sshd.service"), "web.yaml:4: capture.unit: is needed to repair the host"),
    (WEB.replace("web-api.service", "hostmesh-agent.service"), "web.yaml:4: capture.unit: is needed to repair"),
    (WEB.replace("web-api.service", "systemd-networkd.service"), "web.yaml:4: capture.unit: is needed to repair"),
    (
        WEB.replace("unit: web-api.service", "addresses: [10.0.0.1]"),
        "web.yaml:3: capture: must have exactly one of unit",
    ),
    (WEB + "  netns: app1\n", "web.yaml:3: capture: must have exactly one of unit, user, host and netns"),
    (WEB + "  addresses: [10.0.0.1]\n", "web.yaml:3: capture: addresses are those of a network namespace"),
    (NETNS.replace("app1", "a/b"), "web.yaml:2: capture.netns: is neither a name nor an absolute path"),
    (NETNS.replace("app1", "../app1"), "web.yaml:2: capture.netns: must be the name of a network namespace"),
    (NETNS.replace("app1", "''"), "web.yaml:2: capture.netns: must be the name of a network namespace"),
    (NETNS.replace("app1", "/proc/1/ns/net"), "web.yaml:2: capture.netns: is the host's own network namespace"),
    (NETNS.replace("10.0.0.7", "10.0.0.300"), "web.yaml:2: capture.addresses"),
    (WEB + "workload: prod/api\n", "web.yaml:5: workload: the key stands twice, first on line 1"),
    ("workload: a: b\n", "web.yaml:1: not YAML"),
    ("- a\n", "web.yaml:1: "),
]


@pytest.mark.parametrize(("text", "complaint"), MISTAKES)
def test_mistakes(text: str, complaint: str) -> None:
    """Where, what and why, in one line."""
    with pytest.raises(InvalidYaml) as raised:
        read_text(text, "web.yaml")
    assert str(raised.value).startswith(complaint), str(raised.value)


def test_every_file_is_read(tmp_path: Path) -> None:
    """In the order of names; other suffixes and hidden files are not ours."""
    (tmp_path / "b.yaml").write_text(WEB)
    (tmp_path / "a.yml").write_text(WEB.replace("web", "api") + "---\n" + WEB.replace("web", "db"))
    for ignored in (".web.yaml.swp", ".c.yaml", "web.yaml~", "README"):
        (tmp_path / ignored).write_text("workload: [")
    assert [one.key for one in read(tmp_path)] == ["prod/api", "prod/db", "prod/web"]


def test_no_directory_enrols_nothing(tmp_path: Path) -> None:
    """A host without workloads is a host all the same."""
    assert read(tmp_path / "workloads.d") == ()


def test_all_problems_of_all_files_at_once(tmp_path: Path) -> None:
    """An operator corrects them in one go; nothing is enrolled until then."""
    (tmp_path / "a.yaml").write_text(WEB.replace("prod/web", "web"))
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe")
    (tmp_path / "c.yaml").write_text(WEB)
    with pytest.raises(InvalidYaml) as raised:
        read(tmp_path)
    assert [Path(problem.source).name for problem in raised.value.problems] == ["a.yaml", "b.yaml"]


@pytest.mark.parametrize(
    ("second", "field"),
    [
        (WEB.replace("web-api", "other"), "workload: prod/web is enrolled already at "),
        (WEB.replace("prod/web", "prod/other"), "capture.unit: web-api.service is enrolled already at "),
    ],
)
def test_duplicates(tmp_path: Path, second: str, field: str) -> None:
    """One workload is one unit, and a unit has one identity; both places are named."""
    (tmp_path / "a.yaml").write_text(WEB)
    (tmp_path / "b.yaml").write_text(second)
    with pytest.raises(InvalidYaml) as raised:
        read(tmp_path)
    (problem,) = raised.value.problems
    assert str(problem).startswith(f"{tmp_path}/b.yaml:4: {field}{tmp_path}/a.yaml:4; ")


def test_one_default_for_peers_that_name_nobody(tmp_path: Path) -> None:
    """A second one is a mistake, and so is one that has its addresses to itself."""
    default = "annotations: {hostmesh.io/default-inbound: 'true'}\n"
    (tmp_path / "a.yaml").write_text(WEB + default)
    assert [one.default_inbound for one in read(tmp_path)] == [True]
    (tmp_path / "b.yaml").write_text(WEB.replace("prod/web", "prod/b").replace("web-api", "b") + default)
    with pytest.raises(InvalidYaml, match=r"a default workload is enrolled already at .*/a\.yaml:4"):
        read(tmp_path)
    with pytest.raises(InvalidYaml, match="does not go with netns"):
        read_text(NETNS + default, "app.yaml")


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing but InvalidYaml comes out of a parser of what users write."""
    with suppress(InvalidYaml):
        assert isinstance(read_text(text, "any.yaml"), list)


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        ("{tcpSocket: {port: 5432}}", Check(TcpProbe(5432))),
        (
            (
                "{httpGet: {port: 8080, path: /healthz, host: '::1', scheme: HTTPS}, periodSeconds: 2, "
                "failureThreshold: 1}"
            ),
            Check(HttpProbe(8080, "::1", "/healthz", tls=True), period=2, failure_threshold=1),
        ),
        ("{exec: {command: [/bin/true, -x]}, timeoutSeconds: 3.5}", Check(ExecProbe(("/bin/true", "-x")), timeout=3.5)),
    ],
)
def test_health_is_read_in_istio_s_words(health: str, expected: Check) -> None:
    """With the defaults of a ReadinessProbe."""
    text = f"workload: prod/web\ncapture: {{unit: web.service}}\nhealth: {health}\n"
    (enrolled,) = read_text(text, "w.yaml")
    assert enrolled.health == expected


@pytest.mark.parametrize(
    ("health", "problem"),
    [
        ("{}", "must have exactly one of httpGet, tcpSocket and exec"),
        ("{tcpSocket: {port: 1}, exec: {command: [x]}}", "must have exactly one of"),
        ("{tcpSocket: {port: 0}}", "health.tcpSocket.port"),
        ("{httpGet: {port: 1, path: 'a b'}}", "must be a path like /healthz"),
        ("{httpGet: {port: 1, httpHeaders: [{name: 'x y', value: z}]}}", "is not the name of a header"),
        ('{httpGet: {port: 1, httpHeaders: [{name: x, value: "a\\r\\nb"}]}}', "must be printable ASCII"),
        ("{exec: {command: []}}", "health.exec.command"),
        ("{tcpSocket: {port: 1}, periodSeconds: 0}", "health.periodSeconds"),
    ],
)
def test_health_that_cannot_be_probed_is_refused(health: str, problem: str) -> None:
    """With the line and the field."""
    text = f"workload: prod/web\ncapture: {{unit: web.service}}\nhealth: {health}\n"
    with pytest.raises(InvalidYaml, match=re.escape(problem)) as caught:
        read_text(text, "w.yaml")
    assert str(caught.value).startswith("w.yaml:3")
