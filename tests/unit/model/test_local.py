"""The packet mark names a local workload, the TLS server name a remote one."""

from __future__ import annotations

from hostmesh.model.identity import Identity
from hostmesh.model.local import MARK_SHIFT, PROXY_MARK, LocalWorkload, server_name


def test_marks_leave_the_low_bits_to_the_proxys_own_mark() -> None:
    """Any workload's mark can be combined with the proxy's without touching it, up to the last number."""
    for number in (1, 7, 0xFFFFF):
        workload = LocalWorkload(number, "api", "shop", Identity("td", "shop", "api"), "api.service")
        assert workload.mark >> MARK_SHIFT == number
        assert workload.mark & PROXY_MARK == 0
        assert workload.mark <= 0xFFFFFFFF
        assert workload.key == "shop/api"


def test_server_names_are_valid_dns_names_and_tell_uids_apart() -> None:
    """A uid has slashes and any length; labels end at 63 octets and hold letters, digits and hyphens."""
    uids = ["Kubernetes//Pod/shop/api", "Kubernetes//Pod/shop/api2", "x" * 1000, ""]
    names = [server_name(uid) for uid in uids]
    assert len(set(names)) == len(uids)
    for name in names:
        label, _, rest = name.partition(".")
        assert label.isalnum()
        assert len(label) <= 63
        assert rest == "workload.hostmesh.internal"
    assert server_name(uids[0]) == names[0]
