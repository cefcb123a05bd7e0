"""Allocated addresses: one of each family, kept as long as the service lives, never one that is taken."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from hypothesis import given
from hypothesis import strategies as st

from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate.vips import allocate
from hostmesh.model.address import IPAddress, parse_ip

MESH = MeshConfig()
SMALL = MeshConfig(vip4=IPv4Network("240.0.0.0/29"), vip6=IPv6Network("2001:2::/126"))


def ips(*texts: str) -> tuple[IPAddress, ...]:
    return tuple(parse_ip(text) for text in texts)


def test_first_come_first_served() -> None:
    """From .1 on, in the order given."""
    assert allocate({"a/x": (), "a/y": ()}, set(), {}, MESH) == {
        "a/x": ips("240.240.0.1", "2001:2::1"),
        "a/y": ips("240.240.0.2", "2001:2::2"),
    }


def test_what_was_given_stays() -> None:
    """Over restarts, and when services come and go around it."""
    kept = {"a/y": ips("240.240.0.7", "2001:2::7"), "a/gone": ips("240.240.0.1", "2001:2::1")}
    assert allocate({"a/x": (), "a/y": ()}, set(), kept, MESH) == {
        "a/x": ips("240.240.0.1", "2001:2::1"),
        "a/y": ips("240.240.0.7", "2001:2::7"),
    }


def test_users_choices_and_records_win() -> None:
    """An address that a user gave to another service is not kept; one recorded in a document's status is."""
    kept = {"a/x": ips("240.240.0.1", "2001:2::1")}
    found = allocate({"a/x": (), "a/y": ips("240.240.0.9")}, set(ips("240.240.0.1")), kept, MESH)
    assert found == {"a/x": ips("240.240.0.2", "2001:2::1"), "a/y": ips("240.240.0.9", "2001:2::2")}


def test_addresses_outside_the_ranges_are_not_kept() -> None:
    """Another mesh's records do not count here."""
    assert allocate({"a/x": ips("10.0.0.1")}, set(), {}, MESH)["a/x"][0] == parse_ip("240.240.0.1")


def test_a_full_range_leaves_services_without() -> None:
    """Six hosts in a /29, three in a /126 from .1: later services get what is left."""
    found = allocate({f"a/{n}": () for n in range(8)}, set(), {}, SMALL)
    assert [len(found[f"a/{n}"]) for n in range(8)] == [2, 2, 2, 1, 1, 1, 0, 0]


@given(
    st.lists(st.sampled_from("abcdefgh"), unique=True),
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 9), max_size=8),
    st.sets(st.integers(0, 9)),
)
def test_no_address_is_given_twice(wanted: list[str], kept: dict[str, int], taken: set[int]) -> None:
    """Whatever was kept and whoever took what."""
    addresses = [parse_ip(f"240.0.0.{n}") for n in range(10)]
    found = allocate(
        dict.fromkeys(wanted, ()), {addresses[n] for n in taken}, {k: (addresses[n],) for k, n in kept.items()}, SMALL
    )
    given_out = [address for each in found.values() for address in each]
    assert len(given_out) == len(set(given_out))
    assert not {addresses[n] for n in taken} & set(given_out)
    assert list(found) == wanted
