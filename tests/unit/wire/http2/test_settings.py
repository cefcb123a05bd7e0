"""SETTINGS values (RFC 9113 §6.5.2)."""

from __future__ import annotations

import pytest

from hostmesh.wire.http2.errors import ErrorCode, Http2Error
from hostmesh.wire.http2.limits import CLIENT_LIMITS, SERVER_LIMITS, Role
from hostmesh.wire.http2.settings import PeerSettings, advertisement


def entry(setting: int, value: int) -> bytes:
    return setting.to_bytes(2, "big") + value.to_bytes(4, "big")


@pytest.mark.parametrize(
    ("setting", "value", "role", "code"),
    [
        (2, 2, Role.SERVER, ErrorCode.PROTOCOL_ERROR),
        (2, 1, Role.CLIENT, ErrorCode.PROTOCOL_ERROR),
        (4, 1 << 31, Role.SERVER, ErrorCode.FLOW_CONTROL_ERROR),
        (5, 16383, Role.SERVER, ErrorCode.PROTOCOL_ERROR),
        (5, 1 << 24, Role.SERVER, ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_out_of_range(setting: int, value: int, role: Role, code: ErrorCode) -> None:
    """Each value that the RFC forbids, with the error that it names; a server never enables push."""
    with pytest.raises(Http2Error) as caught:
        PeerSettings().apply(entry(setting, value), role)
    assert caught.value.code is code


def test_edges_and_order() -> None:
    """The extremes are permitted; of repeated settings the last counts; unknown ones are nothing."""
    peer = PeerSettings()
    told = [(1, 0), (2, 0), (2, 1), (3, 0), (3, 2**32 - 1), (4, 0), (4, 2**31 - 1), (5, 2**24 - 1), (5, 16384), (6, 5)]
    peer.apply(b"".join(entry(*one) for one in [*told, (0xFFFF, 7)]), Role.SERVER)
    assert peer == PeerSettings(2**31 - 1, 2**31 - 1, 16384, 5)


def test_advertisement_in_order_of_ids() -> None:
    """As ztunnel's, with HEADER_TABLE_SIZE 0 in front."""
    ids = {
        role: [int.from_bytes(payload[at : at + 2], "big") for at in range(0, len(payload), 6)]
        for role, payload in (
            (Role.CLIENT, advertisement(Role.CLIENT, CLIENT_LIMITS)),
            (Role.SERVER, advertisement(Role.SERVER, SERVER_LIMITS)),
        )
    }
    assert ids == {Role.CLIENT: [1, 2, 4, 5, 6], Role.SERVER: [1, 3, 4, 5, 6]}
