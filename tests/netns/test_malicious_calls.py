"""Calls to the agent's own ports, from inside and outside of the mesh: no loop, no way past the proxy, no state."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.netns.two_hosts import MESH, local_agents
from tests.support.agent import until

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

PATHS = {
    15001: "/",
    15006: "/",
    15008: "/",
    15080: "/",
    15000: "/config_dump",
    15020: "/metrics",
    15021: "/healthz/ready",
}
HIDDEN = {15001: "refused", 15006: "refused", 15080: "refused"}
PROXIED = dict.fromkeys((15001, 15006, 15008, 15080), "closed")
PLAIN = {15020: "200", 15021: "200"}
"""Ports of the host, not of a workload, which everybody may read as ever."""

EXPECTED = {
    ("captured", "itself"): {**PROXIED, 15000: "closed", **PLAIN},
    ("captured", "loopback"): {**HIDDEN, 15008: "closed", 15000: "421", **PLAIN},
    ("captured", "the other host"): {**PROXIED, 15000: "closed", **PLAIN},
    ("stranger", "itself"): {**HIDDEN, 15008: "closed", 15000: "refused", **PLAIN},
    ("stranger", "loopback"): {**HIDDEN, 15008: "closed", 15000: "421", **PLAIN},
    ("stranger", "the other host"): {**HIDDEN, 15008: "closed", 15000: "refused", **PLAIN},
}
"""The admin port answers to names of loopback only, which a page in a browser cannot say; `call` says another."""


def call(lab: Lab, who: str, ip: str, port: int) -> str:
    """`refused`, `closed`, or the status that somebody answered."""
    request = f"GET {PATHS[port]} HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n"
    try:
        with lab.connect(lab.host, (ip, port), lab.a if who == "captured" else None) as sock:
            sock.sendall(request.encode())
            answer = sock.recv(4096)
    except ConnectionRefusedError:
        return "refused"
    except ConnectionError:
        return "closed"
    return answer.split()[1].decode() if answer else "closed"


def test_the_agents_ports(lab: Lab, tmp_path: Path) -> None:
    """The proxy's ports serve nobody who calls them, the admin port nobody from elsewhere; traffic goes on."""
    both = MESH.replace("[CLIENT]", f"[CLIENT, '{lab.host.v6}']").replace("[SERVER]", f"[SERVER, '{lab.peer.v6}']")
    v4 = {"itself": lab.host.v4, "loopback": "127.0.0.1", "the other host": lab.peer.v4}
    v6 = {"itself": lab.host.v6, "loopback": "::1", "the other host": lab.peer.v6}
    with local_agents(lab, tmp_path, both) as (client, server):
        for times, addresses in enumerate((v4, v6), 1):
            for where in ("itself", "the other host"):  # once each agent has seen that nobody of the mesh listens there
                until(lambda ip=addresses[where]: call(lab, "captured", ip, 15021) == "200")  # type: ignore[misc]
            seen = {
                (who, where): {port: call(lab, who, addresses[where], port) for port in EXPECTED[who, where]}
                for who, where in EXPECTED
            }
            assert seen == EXPECTED
            app = lab.listen(lab.peer, addresses["the other host"], 8080, lab.b)
            sock = lab.connect(lab.host, (addresses["the other host"], 8080), lab.a)
            sock.sendall(b"hello")
            with lab.accept(app) as served:
                assert served.recv(5) == b"hello"
            count = 4 * times
            until(lambda n=count: client.log.count("RECURSIVE_CALL") >= n and server.log.count("RECURSIVE_CALL") >= n)  # type: ignore[misc]
