"""Who is connected to the control plane."""

from __future__ import annotations

from hostmesh.cli.proxy_status import rows


def test_one_row_for_each_proxy() -> None:
    """SYNCED has answered everything, STALE has not yet, NACK has refused what it was sent last."""
    node = {"cluster": "c1", "version": "1.2", "types": ["Address", "Authorization"], "address": "192.0.2.1:9"}
    good = {"name": "a", "settled": True, "nacks": 0, "last_nack": "", **node}
    stale = {**good, "name": "b", "settled": False}
    nack = {**stale, "name": "c", "nacks": 2, "last_nack": "bad", "cluster": "", "version": ""}
    assert rows([good, stale, nack], wide=True) == [
        ("NAME", "CLUSTER", "VERSION", "SYNCED", "SUBSCRIBED TYPES", "ADDRESS", "NACKS", "LAST NACK"),
        ("a", "c1", "1.2", "SYNCED", "2 (Address,Authorization)", "192.0.2.1:9", "0", "-"),
        ("b", "c1", "1.2", "STALE", "2 (Address,Authorization)", "192.0.2.1:9", "0", "-"),
        ("c", "-", "-", "NACK", "2 (Address,Authorization)", "192.0.2.1:9", "2", "bad"),
    ]
