"""iptables as the backend: what the suite of test_capture.py, which it passes, does not say."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from hostmesh.kernel import sysctl
from hostmesh.kernel.iptables import Family, Iptables, Variant
from hostmesh.kernel.sockets import get_mark
from hostmesh.redirect.choose import Backend, works
from hostmesh.redirect.iptables_plan import start_text
from hostmesh.redirect.mark_acceptance import FWMARK_ACCEPT
from hostmesh.redirect.plan import plan

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = [
    pytest.mark.netns,
    pytest.mark.parametrize("lab", ["iptables-legacy", "iptables-nft", "python-iptables"], indirect=True),
]


def variant(lab: Lab) -> Iptables:
    """The tools that see what the backend does."""
    return Iptables(Variant.NFT if lab.redirector.ending == "iptables-nft" else Variant.LEGACY)


def everything(lab: Lab) -> list[str]:
    """Rules and chains of everybody, without counters and dates."""
    with lab.host.entered():
        saved = [variant(lab).save(family, table) for family in Family for table in ("nat", "filter")]
    return [line.partition(" [")[0] for text in saved for line in text.splitlines() if not line.startswith("#")]


def test_all_of_them_work_here(lab: Lab) -> None:
    """Or the rest proves nothing."""
    with lab.host.entered():
        assert all(works(backend) for backend in Backend)


def test_second_look_changes_nothing(lab: Lab) -> None:
    """And what somebody else changes is named, and put back; first again, if need be."""
    assert lab.apply()[-1] == "iptables has rules of another plan, of units that have started since, or none"
    assert (lab.look(), lab.verify()) == ((), ())
    rules = everything(lab)
    with lab.host.entered():
        variant(lab).restore(Family.V4, "*nat\n-F HOSTMESH-OUT\n-I OUTPUT 1 -p tcp -j RETURN\nCOMMIT\n")
    assert lab.verify() == ("somebody has changed our rules in iptables, table nat",)
    lab.look()
    assert lab.verify() == ()
    assert [line for line in everything(lab) if line != "-A OUTPUT -p tcp -j RETURN"] == rules


def test_foreign_rules_are_the_same_to_the_byte(lab: Lab) -> None:
    """Before capture, and after its removal."""
    rules = (":DOCKER - [0:0]", "-A OUTPUT -j DOCKER", "-A DOCKER -p tcp --dport 81 -j REDIRECT --to-ports 82")
    docker = "\n".join(["*nat", *rules, "COMMIT", ""])
    with lab.host.entered():
        for family in Family:
            variant(lab).restore(family, docker)
    before = everything(lab)
    lab.apply()
    assert [line for line in everything(lab) if "HOSTMESH-" not in line] == before
    with lab.host.entered():
        lab.redirector.remove()
        lab.redirector.remove()
    assert everything(lab) == before


def test_restarted_unit_is_captured_from_its_first_connection(lab: Lab) -> None:
    """Its start gives iptables a rule of its own, as the path means another cgroup now."""
    lab.apply()
    lab.a.stop()
    lab.a.start()
    if lab.redirector.ending == "python-iptables":
        file = lab.runtime / "start"
        file.write_text(start_text(lab.units[0]))
        lab.host.run(sys.executable, "-m", "hostmesh", "rules", "start", str(file))
    else:
        with lab.host.entered():
            variant(lab).restore(Family.V4, start_text(lab.units[0]))
    proxy = lab.listen(lab.host, "127.0.0.1", 15001)
    lab.connect(lab.host, (lab.peer.v4, 8080), lab.a)
    assert get_mark(lab.accept(proxy)) == 0x1000
    assert not any("somebody" in change for change in lab.look())
    assert lab.verify() == ()
    lab.connect(lab.host, (lab.peer.v4, 8080), lab.a)
    assert get_mark(lab.accept(proxy)) == 0x1000


def test_workload_that_is_no_more_leaves_nothing(lab: Lab) -> None:
    """Its chains go, too."""
    lab.apply()
    assert any("HOSTMESH-O2" in line for line in everything(lab))
    lab.apply(plan(lab.units[:1], cgroup_prefix=lab.cgroups.nft_prefix))
    assert not any("HOSTMESH-O2" in line for line in everything(lab))


def test_the_setting_of_the_kernel_is_given_back(lab: Lab) -> None:
    """As with nft: on while somebody is captured, and as it was when the rules go; a release leaves it on."""
    with lab.host.entered():
        sysctl.write(FWMARK_ACCEPT, "0")
    lab.apply()
    with lab.host.entered():
        assert sysctl.read(FWMARK_ACCEPT) == "1"
        lab.redirector.release()
        assert sysctl.read(FWMARK_ACCEPT) == "1"
        lab.redirector.remove()
        assert sysctl.read(FWMARK_ACCEPT) == "0"
