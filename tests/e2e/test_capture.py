"""Capture on real hosts: no start of a unit leaks, no change locks the operator out."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab.instance import Lab
from tests.e2e import hosts
from tests.e2e.hosts import ROOT, must, seconds_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

FILES = Path(__file__).parent / "capture"
LAB = Lab("capture")
HOSTS = hosts.Hosts(LAB)
run, status = HOSTS.run, HOSTS.status
WEB = "10.234.0.11"
STARTS = 100
STOPPED = (20, 21, 60, 61)
"""Starts for which the agent is stopped."""

ANSWER = (
    "import http.server as h; "
    "s = h.HTTPServer((str(), 0), h.SimpleHTTPRequestHandler, bind_and_activate=False); "
    "s.socket = h.socketserver.socket.socket(fileno=3); s.serve_forever()"
)
EAGER = f"""[Service]
Type=oneshot
Environment=PORT=8080
EnvironmentFile=-/run/eager.port
ExecStart=/usr/bin/curl --silent --fail --max-time 20 --output /dev/null http://{WEB}:${{PORT}}/
"""
LAZY = {
    "system/lazy.socket": "[Socket]\nListenStream=8085\n",
    "system/lazy.service": f"[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/usr/bin/python3 -c '{ANSWER}'\n",
}
"""A service that has no listener but systemd's, by paths below /etc/systemd; it may start as often as it has to."""
STRICT = """apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: lazy, namespace: default}
spec: {selector: {matchLabels: {app: lazy}}, mtls: {mode: STRICT}}
"""
RESOLVED = "[Resolve]\nDNS=10.234.0.1\n"
PLAIN, PLAIN_ADDRESS = "plain.example.org", "192.0.2.7"
BOX = """apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: box, namespace: default, labels: {hostmesh.io/node: mesh2}}
spec: {address: 10.88.0.2, serviceAccount: box}
"""
ISOLATED = """apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: mesh2, namespace: default, labels: {hostmesh.io/node: mesh2}}
spec: {address: 10.234.0.12, serviceAccount: mesh2, labels: {app: isolated}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: nobody, namespace: default}
spec: {podSelector: {matchLabels: {app: isolated}}, policyTypes: [Ingress]}
"""
WATCH = """table inet watch {
  chain input {
    type filter hook prerouting priority -400;
    iifname "host0" tcp dport 8080 counter
  }
}
"""


@pytest.fixture(scope="module")
def estate() -> Iterator[None]:
    """Two hosts in the mesh, and a unit whose first act is to connect."""
    with hosts.estate(LAB, FILES / "estate.json"):
        run("mesh2", "tee", "/etc/systemd/system/eager.service", stdin=EAGER.encode())
        for path, text in LAZY.items():
            run("mesh1", "tee", f"/etc/systemd/{path}", stdin=text.encode())
        run("mesh1", "sh", "-ec", "systemctl daemon-reload; systemctl start lazy.socket")
        prepare_names_and_containers()
        must("ansible-playbook", "-i", FILES / "inventory.yml", FILES / "site.yml")
        with resolver():
            yield


def prepare_names_and_containers() -> None:
    """On mesh2 systemd-resolved resolves names, and containers have a network."""
    script = (
        "mkdir -p /etc/systemd/resolved.conf.d /opt/cni/bin /etc/cni/net.d; "
        "cat > /etc/systemd/resolved.conf.d/lab.conf; "
        "ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf; systemctl enable --now systemd-resolved"
    )
    run("mesh2", "sh", "-ec", script, stdin=RESOLVED.encode())
    run("mesh2", "tee", "/etc/cni/net.d/10-lab.conflist", stdin=(FILES / "10-lab.conflist").read_bytes())
    for plugin in ("bridge", "host-local"):
        script = f"cat > /opt/cni/bin/{plugin}; chmod 755 /opt/cni/bin/{plugin}"
        run("mesh2", "sh", "-ec", script, stdin=Path("/usr/lib/cni", plugin).read_bytes())


@contextmanager
def resolver() -> Iterator[None]:
    """Ordinary names are known to a name server on the hosts' bridge."""
    command = [
        *(sys.executable, "-m", "lab", "bridge", LAB.name, "dnsmasq", "--keep-in-foreground", "--no-resolv"),
        *("--no-hosts", "--conf-file=/dev/null", "--pid-file=", "--user=root", "--bind-interfaces"),
        *("--listen-address=10.234.0.1", "--except-interface=lo", f"--address=/{PLAIN}/{PLAIN_ADDRESS}"),
    ]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            yield
        finally:
            process.kill()


def ssh(host: str, *command: str, port: int = 22, connection: str = "none") -> subprocess.CompletedProcess[str]:
    """Over a connection of its own, as an operator's."""
    options = ("-F", str(LAB.ssh_config), "-o", "ConnectTimeout=3", "-p", str(port), "-o", f"ControlPath={connection}")
    # a host key is of the host, whatever the port
    options = (*options, "-o", f"HostKeyAlias={host}")
    try:
        return subprocess.run(
            ["ssh", *options, host, *command], capture_output=True, text=True, check=False, timeout=60
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess([], 255, "", "timeout")


def capture_of(host: str, name: str) -> str:
    return next((str(one["capture"]) for one in status(host).get("workloads", ()) if one["name"].startswith(name)), "")


@pytest.mark.usefixtures("estate")
def test_no_start_of_a_unit_leaks_or_is_somebody_else(record_property: Callable[[str, object], None]) -> None:
    """A hundred starts of a unit whose first act is to connect; while the agent is down they connect to nothing."""
    seconds_until(lambda: status("mesh1")["ready"] and status("mesh2")["ready"])
    run("mesh1", "nft", "-f", "-", stdin=WATCH.encode())
    reached = 0
    for number in range(STARTS):
        stopped = number in STOPPED
        if stopped and number - 1 not in STOPPED:
            # a start of the unit would start it
            run("mesh2", "systemctl", "mask", "--runtime", "--now", "hostmesh-agent")
        elif not stopped and number - 1 in STOPPED:
            run("mesh2", "systemctl", "unmask", "--runtime", "hostmesh-agent")
            run("mesh2", "systemctl", "start", "hostmesh-agent")
        script = "systemctl start eager.service && echo reached"
        answered = run("mesh2", "sh", "-c", script).strip() == "reached"
        assert answered != stopped, (number, run("mesh2", "journalctl", "-n", "30", "--no-pager"))
        reached += answered
    assert reached == STARTS - len(STOPPED)
    leaked = re.search(r"counter packets (\d+)", run("mesh1", "nft", "list", "table", "inet", "watch"))
    assert leaked is not None
    assert leaked[1] == "0", "a connection to the service came in plaintext"
    log = run("mesh1", "journalctl", "--unit=hostmesh-agent", "--output=cat")
    seen = [line for line in log.splitlines() if "access" in line and 'direction="inbound"' in line and ":8080" in line]
    identities = {found[1] if (found := re.search(r'src\.identity="([^"]*)"', line)) else "" for line in seen}
    assert identities == {"spiffe://cluster.local/ns/default/sa/eager"}, seen[:3]
    record_property("reached", reached)


@pytest.mark.usefixtures("estate")
def test_label_lets_go_and_takes_back() -> None:
    """`istio.io/dataplane-mode: none` on the registration, and its removal, while the unit runs."""
    document = "/etc/hostmesh/documents/ansible-inventory.yaml"
    before = run("mesh1", "cat", document)
    pid = run("mesh2", "systemctl", "show", "--value", "--property=MainPID", "sleep.service")
    changed = before.replace('"app": "sleep"', '"app": "sleep", "istio.io/dataplane-mode": "none"')
    assert changed != before
    run("mesh1", "tee", document, stdin=changed.encode())
    seconds_until(lambda: capture_of("mesh2", "sleep") == "opted out")
    assert "prod" not in run("mesh2", "nft", "list", "map", "inet", "hostmesh", "workloads_2")
    assert "sleep" not in run("mesh2", "nft", "list", "map", "inet", "hostmesh", "workloads_2")
    run("mesh1", "tee", document, stdin=before.encode())
    seconds_until(lambda: capture_of("mesh2", "sleep") == "captured")
    assert "sleep" in run("mesh2", "nft", "list", "map", "inet", "hostmesh", "workloads_2")
    assert run("mesh2", "systemctl", "show", "--value", "--property=MainPID", "sleep.service") == pid


@pytest.mark.usefixtures("estate")
def test_flushed_rules_come_back() -> None:
    """Whatever tool flushed them, within the five seconds between two looks."""
    run("mesh2", "nft", "flush", "ruleset")
    seconds_until(lambda: "sleep" in run("mesh2", "nft", "list", "table", "inet", "hostmesh"))
    assert run("mesh2", "hostmesh", "rules", "diff") == ""


def plain_to_lazy(patience: int = 20) -> bool:
    """Whether a stranger's plaintext is answered by the service of the socket unit."""
    curl = f"curl --silent --fail --max-time {patience} --output /dev/null http://{WEB}:8085/"
    return run("mesh2", "sh", "-c", f"{curl} && echo answered") != ""


@pytest.mark.usefixtures("estate")
def test_what_systemd_listens_on_for_a_service() -> None:
    """A socket unit's port: no plaintext under STRICT, and callers' identities, whatever of it is started anew."""
    seconds_until(lambda: status("mesh1").get("ready") and status("mesh2").get("ready"))
    strict = "/etc/hostmesh/documents/lazy.yaml"
    assert plain_to_lazy(), "nobody is answered, so the test proves nothing"
    run("mesh1", "systemctl", "stop", "lazy.service")
    run("mesh1", "tee", strict, stdin=STRICT.encode())
    run("mesh2", "tee", "/run/eager.port", stdin=b"PORT=8085\n")
    try:
        seconds_until(lambda: not plain_to_lazy())
        run("mesh1", "systemctl", "stop", "lazy.service")
        for command in (
            "true",
            "systemctl restart lazy.service",
            "systemctl stop lazy.service; systemctl restart lazy.socket",
        ):
            run("mesh1", "sh", "-ec", command)
            before = run("mesh1", "systemctl", "is-active", "lazy.service")
            assert not plain_to_lazy(), command
            assert run("mesh1", "systemctl", "is-active", "lazy.service") == before
            seconds_until(lambda: run("mesh2", "sh", "-c", "systemctl start eager.service && echo reached") != "")
            assert run("mesh1", "systemctl", "is-active", "lazy.service") == "active\n"
        # as at a boot: systemd listens, and neither the agent nor its rules are there
        run("mesh1", "sh", "-ec", "systemctl stop hostmesh-agent lazy.service; /opt/hostmesh/current/remove-rules")
        run("mesh1", "systemctl", "restart", "lazy.socket")
        assert not plain_to_lazy(patience=5)  # nothing refuses it: what comes is silence
        run("mesh1", "systemctl", "start", "hostmesh-agent")
        seconds_until(lambda: run("mesh2", "sh", "-c", "systemctl start eager.service && echo reached") != "")
        seconds_until(lambda: "elements" not in run("mesh1", "nft", "list", "set", "inet", "hostmesh_held", "ports"))
        assert not plain_to_lazy()

        def accesses() -> list[str]:
            log = run("mesh1", "journalctl", "--unit=hostmesh-agent", "--output=cat").splitlines()
            return [line for line in log if "dst.hbone_addr=10.234.0.11:8085" in line]

        seconds_until(accesses)
        seen = accesses()
        assert all('src.identity="spiffe://cluster.local/ns/default/sa/eager"' in line for line in seen), seen
    finally:
        run("mesh2", "rm", "-f", "/run/eager.port")
        run("mesh1", "rm", "-f", strict)


def explained(host: str = "mesh2") -> str:
    """The reason that explain gives on the caller's host, or on the other one."""
    return str(json.loads(run(host, "hostmesh", "explain", "sleep", "web-api:8080", "-o", "json"))["reason"])


@pytest.mark.usefixtures("estate")
def test_a_reload_that_names_nobody_is_refused() -> None:
    """A unit or a user that the host does not have fails `systemctl reload` itself, with where it is written."""
    file = "/etc/hostmesh/workloads.d/wrong.yaml"
    before = run("mesh2", "hostmesh", "rules", "plan")
    try:
        for capture in ("unit: nobody.service", "user: nobody-here"):
            run(
                "mesh2", "tee", file, stdin=f"workload: default/x\nserviceAccount: x\ncapture: {{{capture}}}\n".encode()
            )
            assert run("mesh2", "sh", "-c", "systemctl reload hostmesh-agent || echo refused") == "refused\n"
            refusal = f"{file}:3: capture.{capture.split(':')[0]}: "
            seconds_until(
                lambda refusal=refusal: refusal in run("mesh2", "journalctl", "--unit=hostmesh-agent", "--output=cat")  # type: ignore[misc]
            )
    finally:
        run("mesh2", "rm", "-f", file)
    assert run("mesh2", "sh", "-c", "systemctl reload hostmesh-agent && echo taken") == "taken\n"
    assert run("mesh2", "hostmesh", "rules", "plan") == before


@pytest.mark.usefixtures("estate")
def test_the_old_kind_of_iptables() -> None:
    """With the role's drop-in, though root's tools have made their lock for root alone; removal leaves nothing."""
    drop_in = "/etc/systemd/system/hostmesh-agent.service.d/60-hostmesh-iptables.conf"
    setting = "/etc/hostmesh/conf.d/backend.yaml"
    again = "systemctl stop hostmesh-agent; /opt/hostmesh/current/remove-rules; "
    fresh = "rm -f /run/xtables.lock; iptables-legacy --wait --list >/dev/null; systemctl daemon-reload; "
    try:
        run("mesh2", "mkdir", "-p", str(Path(drop_in).parent))
        run("mesh2", "tee", drop_in, stdin=(ROOT / "roles/agent/files" / Path(drop_in).name).read_bytes())
        run("mesh2", "tee", setting, stdin=b"capture: {backend: python-iptables}\n")
        run("mesh2", "sh", "-c", again + fresh + "systemctl start hostmesh-agent")
        seconds_until(lambda: status("mesh2").get("ready") and capture_of("mesh2", "eager") == "captured")
        assert run("mesh2", "cat", "/var/lib/hostmesh/backend") == "python-iptables\n"
        assert run("mesh2", "sh", "-c", "systemctl start eager && echo fine") == "fine\n"
        assert "HOSTMESH-OUT" in run("mesh2", "iptables-legacy-save")
    finally:
        run("mesh2", "sh", "-c", again + f"rm -f {drop_in} {setting}; systemctl daemon-reload")
        left = run("mesh2", "iptables-legacy-save")
        run("mesh2", "systemctl", "start", "hostmesh-agent")
    assert "HOSTMESH" not in left
    seconds_until(lambda: capture_of("mesh2", "sleep") == "captured")


@pytest.mark.usefixtures("estate")
def test_explain_finds_what_no_document_shows() -> None:
    """A service that does not run, and a name that leads elsewhere: by a connection that it makes itself.

    On the service's host by what is logged there.
    """
    seconds_until(lambda: explained() == explained("mesh1") == "MUTUAL_TLS")
    run("mesh1", "systemctl", "stop", "web-api")
    seconds_until(lambda: explained() == explained("mesh1") == "APPLICATION_REFUSED")
    run("mesh1", "systemctl", "start", "web-api")
    run(
        "mesh2",
        "sh",
        "-ec",
        "cp /etc/hosts /run/hosts; sed 's/.* web-api$/10.234.0.99 web-api/' /run/hosts > /etc/hosts",
    )
    assert explained() == "NAME_ELSEWHERE"
    run("mesh2", "cp", "/run/hosts", "/etc/hosts")
    seconds_until(lambda: explained() == "MUTUAL_TLS")


HOST = "workload: default/mesh2\nserviceAccount: mesh2\ncapture: {host: true}\n"
PORTS = (22, 2222)
MADE = "/etc/hostmesh/workloads.d/host.yaml", "/etc/hostmesh/conf.d/capture.yaml"


@pytest.fixture
def master(tmp_path: Path) -> Iterator[str]:
    """An operator's session that is open all the while; `ssh` can go through it."""
    run("mesh2", "tee", "/etc/ssh/sshd_config.d/port.conf", stdin=b"Port 22\nPort 2222\n")
    run("mesh2", "systemctl", "restart", "ssh.service")
    seconds_until(lambda: reachable(PORTS))
    control = str(tmp_path / "control")
    options = ("-F", str(LAB.ssh_config), "-p", "2222", "-o", "HostKeyAlias=mesh2", "-o", f"ControlPath={control}")
    subprocess.run(["ssh", *options, "-fNM", "mesh2"], check=True)
    yield control
    subprocess.run(["ssh", *options, "-O", "exit", "mesh2"], capture_output=True, check=False)


def reachable(ports: Iterable[int]) -> list[int]:
    """The ports at which an operator gets in over a new connection."""
    asked = list(ports)
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = pool.map(lambda port: ssh("mesh2", "true", port=port).returncode, asked)
        return [port for port, status in zip(asked, answers, strict=True) if status == 0]


def resolved(name: str) -> list[str]:
    """What a program of mesh2 learns from the C library."""
    return [line.split()[0] for line in run("mesh2", "getent", "ahostsv4", name).splitlines() if "STREAM" in line]


@pytest.mark.usefixtures("estate")
def test_names_with_systemd_resolved() -> None:
    """The agent is asked for names of the mesh, nobody else is; without it ordinary names resolve as ever."""
    name = "web-api.default.mesh.internal"
    seconds_until(lambda: resolved(name) != [] and resolved(PLAIN) == [PLAIN_ADDRESS])
    assert "10.234.0.1" not in run("mesh2", "resolvectl", "dns", "hostmesh-dns")
    assert "~mesh.internal" in run("mesh2", "resolvectl", "domain", "hostmesh-dns")
    run("mesh2", "systemctl", "restart", "systemd-resolved")
    seconds_until(lambda: resolved(name) != [] and resolved(PLAIN) == [PLAIN_ADDRESS])
    run("mesh2", "systemctl", "mask", "--runtime", "--now", "hostmesh-agent")
    run("mesh2", "resolvectl", "flush-caches")
    assert resolved(PLAIN) == [PLAIN_ADDRESS]
    assert resolved(name) == []
    run("mesh2", "systemctl", "unmask", "--runtime", "hostmesh-agent")
    run("mesh2", "systemctl", "start", "hostmesh-agent")
    seconds_until(lambda: resolved(name) != [])


@pytest.mark.usefixtures("estate")
def test_a_container_by_the_role_and_a_restart_of_the_agent() -> None:
    """Born into the mesh by the chained plugin; its namespace, which only /proc knows, outlives a real restart."""
    run("mesh1", "ip", "route", "replace", "10.88.0.0/24", "via", "10.234.0.12")
    run("mesh1", "tee", "/etc/hostmesh/documents/box.yaml", stdin=BOX.encode())
    run("mesh2", "systemd-run", "--unit=box", "--property=PrivateNetwork=yes", "sleep", "infinity")
    pid = run("mesh2", "systemctl", "show", "--value", "--property=MainPID", "box.service").strip()
    attach = (FILES / "attach.py").read_bytes()
    assert run("mesh2", "python3", "-", f"/proc/{pid}/ns/net", stdin=attach).strip() == "10.88.0.2/24"
    seconds_until(lambda: capture_of("mesh2", "box") == "captured")

    def calls() -> int:
        call = f"nsenter --net=/proc/{pid}/ns/net curl --silent --fail --max-time 20 http://{WEB}:8080/ || true"
        if "Hello From Web API!" not in run("mesh2", "sh", "-c", call):
            return 0  # captured, and refused until it has its certificate
        log = run("mesh1", "journalctl", "--unit=hostmesh-agent", "--output=cat", "--lines=200")
        return log.count('src.identity="spiffe://cluster.local/ns/default/sa/box"')

    seconds_until(lambda: calls() > 0)
    before = calls()
    run("mesh2", "systemctl", "restart", "hostmesh-agent")
    seconds_until(lambda: capture_of("mesh2", "box") == "captured")
    seconds_until(lambda: calls() > before)


@pytest.mark.usefixtures("estate")
def test_what_would_lock_out_is_refused() -> None:
    """What is found on the host is kept; what the operator says instead is checked, and changes nothing."""
    assert ssh("mesh2", "hostmesh rules apply").returncode == 0
    run("mesh2", "tee", MADE[0], stdin=HOST.encode())
    assert "nobody is locked out" in ssh("mesh2", "hostmesh rules plan --check-lockout").stdout
    run("mesh2", "tee", MADE[1], stdin=b"capture: {ssh_ports: [1]}\n")
    check = ssh("mesh2", "hostmesh rules plan --check-lockout")
    assert check.returncode == 1
    assert "ssh at port 22 (" in check.stderr
    assert ssh("mesh2", "hostmesh rules apply").returncode == 1
    assert reachable([22])


@pytest.mark.usefixtures("estate")
def test_what_locks_out_is_undone(master: str) -> None:
    """Forced, it cuts ssh at every port for new connections, and is undone as nobody confirms; the session survives."""
    forced = ssh("mesh2", "hostmesh rules apply --force --confirm-within 40s", connection=master)
    assert forced.returncode == 0, forced.stderr
    run("mesh2", "systemctl", "stop", "hostmesh-agent")  # else ssh comes through, as plaintext of anybody's
    assert reachable(PORTS) == [], "nothing was cut, so the test proves nothing"
    late = ssh("mesh2", "hostmesh rules confirm", connection=master)
    assert "older than the change" in late.stderr
    seconds_until(lambda: reachable(PORTS) == list(PORTS))
    assert ssh("mesh2", "true", connection=master).returncode == 0
    assert run("mesh2", "ls", *MADE) == ""
    assert "host.yaml" in run("mesh2", "ls", "/var/lib/hostmesh/confirm/refused")
    run("mesh2", "systemctl", "start", "hostmesh-agent")
    seconds_until(lambda: capture_of("mesh2", "sleep") == "captured")


@pytest.mark.usefixtures("estate")
def test_what_is_confirmed_stays() -> None:
    """Over a connection that is newer than the change."""
    run("mesh2", "tee", MADE[0], stdin=HOST.encode())
    assert ssh("mesh2", "hostmesh rules apply --confirm-within 30s").returncode == 0
    assert ssh("mesh2", "hostmesh rules confirm").stdout == "confirmed\n"
    assert "inactive" in run("mesh2", "systemctl", "is-active", "hostmesh-unconfirmed-change.timer")
    seconds_until(lambda: capture_of("mesh2", "mesh2") == "captured")
    assert reachable([22])


@pytest.mark.usefixtures("estate")
def test_a_network_policy_that_cuts_ssh_is_undone(master: str) -> None:
    """The host itself is isolated, and its sshd's ports are told wrong: nobody confirms, so nobody stays outside."""
    run("mesh2", "rm", "-f", *MADE)
    assert ssh("mesh2", "hostmesh rules apply").returncode == 0
    run("mesh1", "tee", "/etc/hostmesh/documents/isolated.yaml", stdin=ISOLATED.encode())
    settings = "capture: {ssh_ports: [1]}\nnetwork_policy: {enforce: true, host: default/mesh2}\n"
    run("mesh2", "tee", MADE[1], stdin=settings.encode())
    forced = ssh("mesh2", "hostmesh rules apply --force --confirm-within 30s", connection=master)
    assert forced.returncode == 0, forced.stderr
    seconds_until(lambda: reachable(PORTS) == [])
    assert ssh("mesh2", "true", connection=master).returncode == 0
    seconds_until(lambda: reachable(PORTS) == list(PORTS))
    assert "hostmesh_firewall" not in run("mesh2", "nft", "list", "tables")
