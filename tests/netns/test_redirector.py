"""The Redirector on the real kernel: the common suite, and what only a kernel can prove."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.netfilter import Observed
from tests.support.netns import Cgroup, comes, namespace, slice_of_cgroups
from tests.support.redirector_suite import Bench, RedirectorSuite

from hostmesh.kernel.sockets import get_mark
from hostmesh.redirect.backend import KernelNetfilter
from hostmesh.redirect.plan import ListenerPorts, plan, unit_text

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = pytest.mark.netns

FOREIGN_NFT = """
table inet filter {
  set blocked {
    type ipv4_addr
    elements = { 192.0.2.1, 192.0.2.7 }
  }
  chain input {
    type filter hook input priority filter; policy accept;
    ip saddr @blocked counter drop comment "ours"
  }
}
table ip mine {
  chain out {
    type nat hook output priority -100
    ip daddr 192.0.2.9 tcp dport 80 redirect to :15001
  }
}
"""


class TestKernelRedirector(RedirectorSuite):
    """The suite in a fresh namespace."""

    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[Bench]:
        with namespace("bench") as host, slice_of_cgroups() as (root, top), host.entered():
            made = Bench(
                Observed(KernelNetfilter()),
                root,
                top,
                tmp_path,
                Path("/proc/sys"),
                start=lambda unit: Cgroup(root, f"{top}/{unit}").start(),
                stop=lambda unit: Cgroup(root, f"{top}/{unit}").stop(),
            )
            for unit in ("a.service", "b.service"):
                made.start(unit)
            yield made


def test_foreign_rules_are_the_same_to_the_byte(lab: Lab) -> None:
    """Native nft tables and those of iptables-nft, before capture and after its removal."""
    lab.host.run("nft", "-f", "-", stdin=FOREIGN_NFT)
    for family in ("iptables-nft", "ip6tables-nft"):
        lab.host.run(family, "-A", "INPUT", "-p", "tcp", "--dport", "9999", "-j", "DROP")
        lab.host.run(family, "-t", "nat", "-A", "PREROUTING", "-p", "tcp", "--dport", "81", "-j", "REDIRECT")
    foreign = lab.host.run("nft", "-a", "list", "ruleset")
    lab.apply()
    during = lab.host.run("nft", "-a", "list", "ruleset")
    assert "table inet hostmesh" in during
    assert during.startswith(foreign)
    with lab.host.entered():
        lab.redirector.remove()
    assert lab.host.run("nft", "-a", "list", "ruleset") == foreign


def test_capture_comes_before_iptables_whoever_was_first(lab: Lab) -> None:
    """A REDIRECT of iptables for the same connection does not win."""
    lab.apply()
    lab.host.run("iptables-nft", "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-j", "REDIRECT", "--to-ports", "9")
    proxy = lab.listen(lab.host, "127.0.0.1", 15001)
    lab.connect(lab.host, (lab.peer.v4, 8080), lab.a)
    assert get_mark(lab.accept(proxy)) == 0x1000


def test_restarted_unit_is_captured_from_its_first_connection(lab: Lab, tmp_path: Path) -> None:
    """Without its file a new start leaves outside the mesh; with it, both directions and the guard know it."""
    lab.apply()
    remote = lab.listen(lab.peer, lab.peer.v4, 8080)
    outbound = lab.listen(lab.host, "127.0.0.1", 15001)
    lab.a.stop()
    lab.a.start()
    lab.connect(lab.host, (lab.peer.v4, 8080), lab.a)
    lab.accept(remote)
    file = tmp_path / "a.service.nft"
    file.write_text(unit_text(lab.ruleset, lab.units[0]))
    lab.host.run("nft", "-f", str(file))
    lab.connect(lab.host, (lab.peer.v4, 8080), lab.a)
    assert get_mark(lab.accept(outbound)) == 0x1000
    inbound = lab.listen(lab.host, "::", 15006)
    app = lab.listen(lab.host, lab.host.v4, 8010, lab.a)
    lab.connect(lab.peer, (lab.host.v4, 8010))
    assert get_mark(lab.accept(inbound)) == 0x1000
    lab.connect(lab.host, (lab.host.v4, 8010), mark=0x1539)
    lab.accept(app)
    with pytest.raises(ConnectionRefusedError):
        lab.connect(lab.host, (lab.host.v4, 8010), mark=0x2539)


def test_start_fails_where_the_rules_are_not(lab: Lab) -> None:
    """No table means that nothing would be captured: the unit's file fails, so the unit does not start."""
    with pytest.raises(subprocess.CalledProcessError, match="nft"):
        lab.host.run("nft", "-f", "-", stdin=unit_text(lab.ruleset, lab.units[0]))


def test_changing_rules_never_opens_a_gap(lab: Lab) -> None:
    """A workload that connects all the while is captured every time: the real destination is never reached."""
    lab.apply()
    remote = lab.listen(lab.peer, lab.peer.v4, 8080)
    for port in (15001, 16001):
        proxy = lab.listen(lab.host, "127.0.0.1", port)
        proxy.listen(4096)
    ready = [lab.socket(lab.host, lab.a) for _ in range(400)]
    done = threading.Event()

    def change() -> None:
        swapped = [
            plan(lab.units, ListenerPorts(outbound=p), cgroup_prefix=lab.cgroups.nft_prefix) for p in (16001, 15001)
        ]
        while not done.is_set():
            for ruleset in swapped:
                lab.apply(ruleset)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for sock in ready:
            sock.connect((lab.peer.v4, 8080))
    finally:
        done.set()
        thread.join()
    assert not comes(remote)


def test_missing_privilege_is_said_in_words(lab: Lab) -> None:
    """Somebody without CAP_NET_ADMIN learns which capability is missing."""
    program = (
        "from hostmesh.kernel import netfilter, netlink\n"
        "add = lambda: netfilter.run('add table inet x')\n"
        "delete = lambda: netlink.delete_elements('x', {'y': [b'z' * 8]})\n"
        "for call in (add, delete):\n"
        "    try: call()\n"
        "    except netfilter.NetfilterUnavailable as error: print('CAP_NET_ADMIN' in str(error))\n"
    )
    setpriv = [str(shutil.which("setpriv")), "--bounding-set=-all", "--inh-caps=-all"]
    assert lab.host.run(*setpriv, sys.executable, "-c", program).split() == ["True", "True"]
