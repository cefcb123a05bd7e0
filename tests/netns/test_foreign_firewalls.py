"""Capture beside other owners of rules: neither harms the other."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from tests.support.foreign_firewalls import RELOAD, foreign

from hostmesh.kernel.sockets import get_mark

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = pytest.mark.netns


def rules_of_others(lab: Lab) -> str:
    """Everything but our table, as nft prints it without counters."""
    text = lab.host.run("nft", "-s", "list", "ruleset")
    return re.sub(r"^table inet hostmesh \{\n.*?^\}\n", "", text, flags=re.MULTILINE | re.DOTALL)


def captured(lab: Lab) -> bool:
    with lab.listen(lab.host, "127.0.0.1", 15001) as proxy:
        lab.connect(lab.host, (lab.peer.v4, 8080), lab.a)
        return get_mark(lab.accept(proxy)) == 0x1000


@pytest.mark.parametrize("tool", list(RELOAD))
def test_reloads_and_removal(lab: Lab, tool: str) -> None:
    """After a reload of the other's, the next look of ours restores capture; removal leaves theirs to the byte."""
    with foreign(lab.host, tool) as shell:
        before = rules_of_others(lab)
        assert before
        lab.apply()
        assert captured(lab)
        assert rules_of_others(lab) == before
        shell.run(RELOAD[tool])
        with lab.host.entered():
            lab.redirector.reassert()
            assert lab.redirector.verify() == ()
        assert captured(lab)
        assert rules_of_others(lab) == before
        with lab.host.entered():
            lab.redirector.remove()
        assert lab.host.run("nft", "-s", "list", "ruleset") == before


def test_removal_lets_open_connections_live(lab: Lab) -> None:
    """What was captured goes on through the proxy as long as that runs, though no other rule needs conntrack."""
    lab.apply()
    proxy = lab.listen(lab.host, "127.0.0.1", 15001)
    client = lab.connect(lab.host, (lab.peer.v4, 8080), lab.a)
    server = lab.accept(proxy)
    with lab.host.entered():
        lab.redirector.release()
    client.sendall(b"still here")
    assert server.recv(100) == b"still here"
    server.sendall(b"so am I")
    assert client.recv(100) == b"so am I"
    direct = lab.listen(lab.peer, lab.peer.v4, 8080)
    lab.connect(lab.host, (lab.peer.v4, 8080), lab.a)
    lab.accept(direct)
    lab.apply()
    assert lab.verify() == ()
    with lab.host.entered():
        lab.redirector.remove()
    assert lab.host.run("nft", "list", "ruleset") == ""
