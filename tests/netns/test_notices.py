"""What a rule of nftables notices is heard at once, however much it is."""

from __future__ import annotations

import re
import select
import socket
from contextlib import closing

import pytest
from tests.support.agent import until
from tests.support.netns import Namespace, namespace

from hostmesh.kernel.notices import NoNotices, Notices

pytestmark = pytest.mark.netns

RULES = (
    "add table inet t; add chain inet t c { type filter hook input priority 0; };"
    "add rule inet t c udp dport 9 log group 77 queue-threshold 1 counter"
)


def noticed(host: Namespace) -> int:
    """Packets so far; the kernel may come to them when whoever sent them has gone on."""
    counted = re.search(r"packets (\d+)", host.run("nft", "list", "table", "inet", "t"))
    assert counted is not None
    return int(counted[1])


def test_a_packet_is_heard_and_forgotten() -> None:
    """More than the socket holds is no error, and another packet is heard again."""
    with namespace() as host:
        host.run("nft", RULES)
        with host.entered(), closing(Notices(77)) as notices, socket.socket(type=socket.SOCK_DGRAM) as sender:
            for packets, altogether in ((1, 1), (5000, 5001), (1, 5002)):
                assert select.select([notices], [], [], 0)[0] == []
                for _ in range(packets):
                    sender.sendto(b"x", ("127.0.0.1", 9))
                until(lambda altogether=altogether: noticed(host) == altogether)  # type: ignore[misc]
                assert select.select([notices], [], [], 5)[0]
                notices.heard()


def test_a_group_has_one_listener() -> None:
    """The second is told why, and can do without."""
    with namespace() as host, host.entered(), closing(Notices(77)):
        with pytest.raises(NoNotices, match="group 77: Operation not permitted"):
            Notices(77)
        Notices(78).close()
