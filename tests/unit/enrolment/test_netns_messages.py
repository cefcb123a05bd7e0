"""The packets between the agent and hostmesh-netns: what is written is read, and nothing else is taken."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.enrolment.netns_messages import BadRequest, Reply, Request, read_reply, read_request

ports = st.integers(1, 65535)


@given(
    st.builds(
        Request,
        verb=st.sampled_from(["enter", "rules", "digest", "sockets", "leave"]),
        ports=st.tuples(ports, ports, ports),
        excluded=st.lists(ports, max_size=5).map(tuple),
        addresses=st.lists(st.ip_addresses(), max_size=3).map(tuple),
        ipv6=st.booleans(),
        count=st.integers(0, 64),
        socks5=st.integers(0, 65535),
    )
)
def test_a_request_is_read_as_it_was_written(request: Request) -> None:
    """Whatever it says."""
    assert read_request(request.encode()) == request


def test_a_reply_is_read_as_it_was_written() -> None:
    """Names of descriptors in order."""
    reply = Reply("", ("outbound", "inbound"), "abc")
    assert read_reply(reply.encode()) == reply


@given(st.binary(max_size=200))
def test_nonsense_is_refused(packet: bytes) -> None:
    """By the one error that is told to who asked."""
    with pytest.raises(BadRequest):
        read_request(packet)
    with pytest.raises(BadRequest):
        read_reply(packet)


GOOD = json.loads(Request("enter", addresses=(IPv4Address("10.0.0.1"), IPv6Address("fd00::1"))).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"verb": "run"},
        {"verb": ["enter"]},
        {"ports": [15001, 15006]},
        {"ports": [15001, 15006, "15008; flush ruleset"]},
        {"ports": [0, 15006, 15008]},
        {"ports": None},
        {"excluded": ["22 } accept"]},
        {"excluded": [True]},
        {"excluded": [65536]},
        {"addresses": ["web"]},
        {"addresses": 5},
        {"count": 65},
        {"count": -1},
        {"count": "8"},
        {"socks5": 65536},
        {"socks5": "80"},
        {"socks5": True},
    ],
    ids=str,
)
def test_each_part_is_checked(change: dict[str, object]) -> None:
    """No text of the caller's can become part of a rule, and no number is too large."""
    with pytest.raises(BadRequest):
        read_request(json.dumps({**GOOD, **change}).encode())
