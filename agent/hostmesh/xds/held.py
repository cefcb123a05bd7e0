"""What an xDS client holds of each type: name -> version and raw bytes; it survives reconnects (delta discovery)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields

from hostmesh.xds.codec import (
    ADDRESS_TYPE,
    AUTHORIZATION_TYPE,
    NETWORK_POLICY_TYPE,
    TRUST_TYPE,
    WAYPOINT_TYPE,
    decode_address,
    decode_authorization,
    decode_policy_resource,
    decode_program,
    decode_trust,
    program_name,
    resource_name,
)
from hostmesh.xds.interest import Interest


@dataclass(frozen=True, slots=True)
class XdsUpdate:
    """What changed, as raw resources that the codec has accepted. No name is both upserted and removed.

    `trust` is a new trust bundle, empty if there is none: a mesh does not stop to trust anybody. `network_policies`
    are policies, and members and namespaces that they can mean; `programs` are those of waypoints. `on_demand` says
    that addresses are a part of the mesh: of names that are `learned` everything is there, of `forgotten` ones not any
    more, and of `refused` ones, with the reason, nothing comes.
    """

    addresses: Mapping[str, bytes] = field(default_factory=dict)
    removed_addresses: tuple[str, ...] = ()
    authorizations: Mapping[str, bytes] = field(default_factory=dict)
    removed_authorizations: tuple[str, ...] = ()
    trust: bytes = b""
    network_policies: Mapping[str, bytes] = field(default_factory=dict)
    removed_network_policies: tuple[str, ...] = ()
    programs: Mapping[str, bytes] = field(default_factory=dict)
    removed_programs: tuple[str, ...] = ()
    on_demand: bool = False
    learned: tuple[str, ...] = ()
    forgotten: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(getattr(self, each.name) for each in fields(self) if each.name != "on_demand")


@dataclass(frozen=True, slots=True)
class Versioned:
    """A resource with the version that the control plane gave it."""

    version: str
    data: bytes


class Held:
    """Everything held, by type URL; mutable, owned by the client.

    Args:
        interest: in which addresses, None for in all of them.
    """

    def __init__(self, interest: Interest | None = None) -> None:
        self.interest = interest
        self.anew = False
        """What an earlier start has left was not for this way of following the mesh."""
        self.by_type: dict[str, dict[str, Versioned]] = {url: {} for url in KEY_OF}

    def everything(self) -> XdsUpdate:
        """All of it, as the update that a new worker needs."""
        return XdsUpdate(
            addresses={name: held.data for name, held in self.by_type[ADDRESS_TYPE].items()},
            authorizations={name: held.data for name, held in self.by_type[AUTHORIZATION_TYPE].items()},
            trust=next((held.data for held in self.by_type[TRUST_TYPE].values()), b""),
            network_policies={name: held.data for name, held in self.by_type[NETWORK_POLICY_TYPE].items()},
            programs={name: held.data for name, held in self.by_type[WAYPOINT_TYPE].items()},
            on_demand=self.interest is not None,
            learned=self.interest.known if self.interest is not None else (),
        )

    def counts(self) -> tuple[int, int]:
        """How many addresses and authorizations."""
        return len(self.by_type[ADDRESS_TYPE]), len(self.by_type[AUTHORIZATION_TYPE])


def _address_key(data: bytes) -> str:
    return decode_address(data).key


def _authorization_key(data: bytes) -> str:
    return decode_authorization(data).key


def _trust_key(data: bytes) -> str:
    return decode_trust(data).trust_domain


def _network_policy_key(data: bytes) -> str:
    return resource_name(decode_policy_resource(data))


def _program_key(data: bytes) -> str:
    return program_name(decode_program(data))


KEY_OF: Mapping[str, Callable[[bytes], str]] = {
    TRUST_TYPE: _trust_key,
    NETWORK_POLICY_TYPE: _network_policy_key,
    ADDRESS_TYPE: _address_key,
    AUTHORIZATION_TYPE: _authorization_key,
    WAYPOINT_TYPE: _program_key,
}
"""For each type: validates raw bytes and tells the object's own key; raises `Rejected`."""
