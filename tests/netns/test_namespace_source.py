"""Applications in network namespaces of their own that see the addresses of their clients (`original_source`)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.netns.test_namespace_proxy import Lab, both
from tests.support.netns import linked
from tests.support.pods import described, pod_agent, talk, wait_until

pytestmark = pytest.mark.netns

ROUTING = ("ip -4 rule", "ip -6 rule", "ip -4 route show table all", "ip -6 route show table all")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """As in test_namespace_proxy."""
    with ExitStack() as stack:
        a, b = stack.enter_context(linked("a", "b"))
        agent = stack.enter_context(pod_agent(tmp_path, original_source=True))
        agent.put(described("a", a.v4, a.v6), described("b", b.v4, b.v6))
        yield Lab(agent, a, b, stack)


def routing(lab: Lab) -> str:
    return "\n".join(lab.b.run(*command.split()) for command in ROUTING)


@pytest.mark.parametrize("captured", [True, False], ids=["HBONE", "plaintext"])
@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_the_application_sees_its_client(lab: Lab, ipv6: bool, captured: bool) -> None:
    """Bytes go both ways, a megabyte of them too, and both ends are heard."""
    lab.agent.capture("b", lab.b.path)
    if captured:
        lab.agent.capture("a", lab.a.path)
    address, source = (lab.b.v6, lab.a.v6) if ipv6 else (lab.b.v4, lab.a.v4)
    app = lab.listen(lab.b, address, 8080)
    client = lab.dial(lab.a, address, 8080)
    server, seen = lab.accept(app)
    assert seen == source
    assert talk(client, server) == (b"question", b"answer")
    server.sendall(bytes(1 << 20))
    server.shutdown(socket.SHUT_WR)
    assert sum(len(data) for data in iter(lambda: client.recv(65536), b"")) == 1 << 20
    client.close()
    assert server.recv(1) == b""


def test_policy_routing_is_put_back_and_goes_with_the_workload(lab: Lab) -> None:
    """Somebody's `ip rule del` is noticed; a namespace that is released has the routing that it had before."""
    before = routing(lab)
    both(lab)
    during = routing(lab)
    assert during != before
    lab.b.ip("rule del priority 15007")
    wait_until(lambda: bool(lab.agent.reassert()) and routing(lab) == during)
    lab.agent.release("b")
    assert routing(lab) == before
