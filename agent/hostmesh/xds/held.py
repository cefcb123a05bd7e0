"""What an xDS client holds of each type: name -> version and raw bytes; it survives reconnects (delta discovery)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hostmesh.xds.codec import ADDRESS_TYPE, AUTHORIZATION_TYPE, decode_address, decode_authorization


@dataclass(frozen=True, slots=True)
class XdsUpdate:
    """What changed, as raw resources that the codec has accepted. No name is both upserted and removed."""

    addresses: Mapping[str, bytes] = field(default_factory=dict)
    removed_addresses: tuple[str, ...] = ()
    authorizations: Mapping[str, bytes] = field(default_factory=dict)
    removed_authorizations: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.addresses or self.removed_addresses or self.authorizations or self.removed_authorizations)


@dataclass(frozen=True, slots=True)
class Versioned:
    """A resource with the version that the control plane gave it."""

    version: str
    data: bytes


class Held:
    """Everything held, by type URL; mutable, owned by the client."""

    def __init__(self) -> None:
        self.by_type: dict[str, dict[str, Versioned]] = {ADDRESS_TYPE: {}, AUTHORIZATION_TYPE: {}}

    def everything(self) -> XdsUpdate:
        """All of it, as the update that a new worker needs."""
        return XdsUpdate(
            addresses={name: held.data for name, held in self.by_type[ADDRESS_TYPE].items()},
            authorizations={name: held.data for name, held in self.by_type[AUTHORIZATION_TYPE].items()},
        )

    def counts(self) -> tuple[int, int]:
        """How many addresses and authorizations."""
        return len(self.by_type[ADDRESS_TYPE]), len(self.by_type[AUTHORIZATION_TYPE])


def _address_key(data: bytes) -> str:
    return decode_address(data).key


def _authorization_key(data: bytes) -> str:
    return decode_authorization(data).key


KEY_OF: Mapping[str, Callable[[bytes], str]] = {ADDRESS_TYPE: _address_key, AUTHORIZATION_TYPE: _authorization_key}
"""For each type: validates raw bytes and tells the object's own key; raises `Rejected`."""
