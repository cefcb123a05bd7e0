"""Two captured containers of one host: what they say to each other goes through HBONE, each from its own place."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.support.netns import Namespace, linked, listen, make_socket, namespace
from tests.support.netns import connect as link
from tests.support.pods import PodAgent, described, pod_agent, talk, wait_until

from hostmesh.model.authorization import Action, Authorization, PolicyScope

pytestmark = pytest.mark.netns

SOCKS5 = 15080


@dataclass
class Lab:
    agent: PodAgent
    a: Namespace
    b: Namespace
    stack: ExitStack

    def dial(self, where: Namespace, address: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = self.stack.enter_context(make_socket(where, None, family))
        sock.connect((address, port))
        return sock

    def listen(self, where: Namespace, address: str, port: int) -> socket.socket:
        return self.stack.enter_context(listen(where, address, port))

    def accept(self, listener: socket.socket) -> tuple[socket.socket, str]:
        sock, name = listener.accept()
        return self.stack.enter_context(sock), name[0]

    def access(self) -> list[dict[str, object]]:
        """Fields of the access log."""
        return [dict(record.fields) for record in self.agent.proxy_main.records]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """`a` and `b` are linked and described, not captured yet."""
    with ExitStack() as stack:
        a, b = stack.enter_context(linked("a", "b"))
        agent = stack.enter_context(pod_agent(tmp_path, SOCKS5))
        agent.put(described("a", a.v4, a.v6), described("b", b.v4, b.v6))
        yield Lab(agent, a, b, stack)


def both(lab: Lab) -> None:
    lab.agent.capture("a", lab.a.path)
    lab.agent.capture("b", lab.b.path)


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_one_talks_to_the_other_by_both_identities(lab: Lab, ipv6: bool) -> None:
    """The tunnel leaves from the one's namespace and ends in the other's; the application hears its own address."""
    both(lab)
    address, source = (lab.b.v6, lab.a.v6) if ipv6 else (lab.b.v4, lab.a.v4)
    app = lab.listen(lab.b, address, 8080)
    client = lab.dial(lab.a, address, 8080)
    server, seen = lab.accept(app)
    assert talk(client, server) == (b"question", b"answer")
    assert seen == address  # as on the host: the proxy's own connection
    client.close()
    server.close()
    lab.agent.proxy_main.wait_logs(2)
    outbound, inbound = sorted(lab.access(), key=lambda fields: str(fields["direction"]), reverse=True)
    assert outbound["src.identity"] == inbound["src.identity"] == "spiffe://cluster.local/ns/prod/sa/a"
    assert outbound["dst.identity"] == inbound["dst.identity"] == "spiffe://cluster.local/ns/prod/sa/b"
    assert str(inbound["src.addr"]).startswith(f"[{source}]" if ipv6 else source)


def test_socks_clients_are_who_their_namespace_is(lab: Lab) -> None:
    """On its own loopback, without capture; the port is nobody's outside of it, and is gone with the workload."""
    both(lab)
    app = lab.listen(lab.b, lab.b.v4, 8080)
    client = lab.dial(lab.a, "127.0.0.1", SOCKS5)
    client.sendall(b"\x05\x01\x00\x05\x01\x00\x01" + ip_address(lab.b.v4).packed + (8080).to_bytes(2, "big"))
    answer = b"".join(client.recv(1) for _ in range(12))
    assert answer == bytes.fromhex("0500 05000001000000000000")
    server, _ = lab.accept(app)
    assert talk(client, server) == (b"question", b"answer")
    client.close()
    server.close()
    lab.agent.proxy_main.wait_logs(2)
    assert {fields["src.identity"] for fields in lab.access()} == {"spiffe://cluster.local/ns/prod/sa/a"}
    with pytest.raises(ConnectionError):
        lab.dial(lab.b, lab.a.v4, SOCKS5).recv(1)
    lab.agent.release("a")
    wait_until(lambda: is_refused(lab, lab.a, SOCKS5))


def is_refused(lab: Lab, where: Namespace, port: int) -> bool:
    try:
        lab.dial(where, "127.0.0.1", port).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass  # it was in the queue of a listener that was closed just then
    return False


def test_many_at_once(lab: Lab) -> None:
    """More connections than there are sockets at hand: the rest waits for the next batch."""
    both(lab)
    app = lab.listen(lab.b, lab.b.v4, 8080)
    clients = [lab.dial(lab.a, lab.b.v4, 8080) for _ in range(50)]
    servers = [lab.accept(app)[0] for _ in clients]
    for number, client in enumerate(clients):
        client.sendall(bytes([number]))
    assert sorted(server.recv(1)[0] for server in servers) == list(range(50))


def test_plaintext_from_outside_is_judged(lab: Lab) -> None:
    """A caller outside the mesh gets in while nothing forbids it, and not when something does."""
    lab.agent.capture("b", lab.b.path)
    app = lab.listen(lab.b, lab.b.v4, 8080)
    client = lab.dial(lab.a, lab.b.v4, 8080)
    server, _ = lab.accept(app)
    assert talk(client, server) == (b"question", b"answer")
    lab.agent.put(Authorization("nobody", "prod", PolicyScope.NAMESPACE, Action.ALLOW))
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with pytest.raises(ConnectionResetError):
        lab.dial(lab.a, lab.b.v4, 8080).recv(1)


def test_who_is_not_of_the_mesh_is_reached_from_inside(lab: Lab) -> None:
    """Passthrough leaves with the container's own address, not the host's."""
    lab.agent.capture("a", lab.a.path)
    with namespace("out") as outside:
        near, far = link(lab.a, outside, 78)
        app = lab.listen(outside, far.v4, 80)
        client = lab.dial(lab.a, far.v4, 80)
        server, seen = lab.accept(app)
        assert seen == near.v4
        assert talk(client, server) == (b"question", b"answer")


def test_another_port_of_the_workload_is_not_another_workloads(lab: Lab) -> None:
    """What nobody listens to is refused by the workload, and the caller is told."""
    both(lab)
    client = lab.dial(lab.a, lab.b.v4, 9999)
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    wait_until(lambda: "503" in str([fields.get("error") for fields in lab.access()]))


def test_released_is_as_before(lab: Lab) -> None:
    """No rules, no listeners; what is open goes on through the proxy."""
    both(lab)
    app = lab.listen(lab.b, lab.b.v4, 8080)
    client = lab.dial(lab.a, lab.b.v4, 8080)
    server, _ = lab.accept(app)
    lab.agent.release("a")
    lab.agent.release("b")
    assert talk(client, server) == (b"question", b"answer")
    direct = lab.dial(lab.a, lab.b.v4, 8080)
    server, seen = lab.accept(app)
    assert seen == lab.a.v4
    assert talk(direct, server) == (b"question", b"answer")
    for where in (lab.a, lab.b):
        assert "redirect" not in where.run("nft", "list", "ruleset")
        assert ":150" not in where.run("ss", "-Htln")


def test_captured_once_more_is_the_same(lab: Lab) -> None:
    """The same listeners; released and captured again there are others, and one set of them."""
    both(lab)
    before = [one.id for one in lab.agent.namespaces.open]
    lab.agent.capture("a", lab.a.path)
    assert [one.id for one in lab.agent.namespaces.open] == before
    lab.agent.release("a")
    lab.agent.capture("a", lab.a.path)
    assert len({one.id for one in lab.agent.namespaces.open} - set(before)) == 1
    assert lab.a.run("ss", "-Htln").count(":15008 ") == 1
    app = lab.listen(lab.b, lab.b.v4, 8080)
    client = lab.dial(lab.a, lab.b.v4, 8080)
    server, _ = lab.accept(app)
    assert talk(client, server) == (b"question", b"answer")


def test_the_former_namespace_of_a_workload_is_as_before(lab: Lab) -> None:
    """Another one is the workload now; nobody is cut off in the one that is not."""
    lab.agent.capture("a", lab.a.path)
    with namespace("moved") as elsewhere:
        elsewhere, near = link(elsewhere, lab.b, 82)
        lab.agent.capture("a", elsewhere.path)
        assert "redirect" in elsewhere.run("nft", "list", "ruleset")
        assert "redirect" not in lab.a.run("nft", "list", "ruleset")
        assert ":150" not in lab.a.run("ss", "-Htln")
        for where, address in ((elsewhere, near.v4), (lab.a, lab.b.v4)):
            app = lab.listen(lab.b, address, 8080)
            client = lab.dial(where, address, 8080)
            server, seen = lab.accept(app)
            assert seen == where.v4
            assert talk(client, server) == (b"question", b"answer")


def test_a_namespace_made_again_is_captured_again(lab: Lab, tmp_path: Path) -> None:
    """Under the same name there is another one; nothing of ours keeps the first alive, its sockets serve nobody."""
    name = f"{lab.a.name}again"
    for round_ in range(2):
        subprocess.run(["ip", "netns", "add", name], check=True)
        try:
            again = Namespace(name)
            again.ip("link set lo up")
            again, b = link(again, lab.b, 80)
            if round_:
                assert lab.agent.reassert() == (f"prod/again: captured in {again.path}",)
            else:
                lab.agent.put(described("again", again.v4))
                lab.agent.capture("again", again.path)
            app = lab.listen(lab.b, b.v4, 8000 + round_)
            client = lab.dial(again, b.v4, 8000 + round_)
            server, seen = lab.accept(app)
            assert seen == again.v4
            assert talk(client, server) == (b"question", b"answer")
            for sock in (client, server, app):
                sock.close()
        finally:
            subprocess.run(["ip", "netns", "delete", name], check=True)
        lab.agent.reassert()
        # The device's other end goes with the namespace, once the last socket in it is closed.
        wait_until(lambda: "10.80.0.2" not in lab.b.run("ip", "-4", "addr"))


def test_rules_that_somebody_flushes_come_back(lab: Lab) -> None:
    """Within one look of the agent."""
    both(lab)
    lab.a.run("nft", "flush", "ruleset")
    assert lab.agent.reassert() == ("prod/a: rules in its network namespace laid out again",)
    assert lab.agent.reassert() == ()


def test_one_that_is_not_there_stops_no_other(lab: Lab) -> None:
    """It is a problem that names the file; it is captured as soon as it is there, and forgotten if nobody wants it."""
    name = f"{lab.a.name}late"
    lab.agent.capture("late", Path("/run/netns", name))
    both(lab)
    (problem,) = lab.agent.namespaces.problems
    assert str(problem) == f"test.yaml:1: capture.netns: /run/netns/{name}: No such file or directory"
    assert [lab.agent.is_captured(f"prod/{name}") for name in ("a", "b", "late")] == [True, True, False]
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        lab.agent.reassert()
        assert (lab.agent.is_captured("prod/late"), lab.agent.namespaces.problems) == (True, ())
        lab.agent.release("late")
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)
    lab.agent.capture("late", Path("/run/netns", name))
    lab.agent.release("late")
    assert (lab.agent.is_captured("prod/late"), lab.agent.namespaces.problems) == (False, ())
