"""Values survive the way to a worker."""

from __future__ import annotations

from hostmesh.daemon.messages import (
    credentials_update,
    local_workloads_update,
    read_credentials,
    read_local_workload,
    read_trust,
    trust_update,
)
from hostmesh.model.identity import Credentials, Identity
from hostmesh.model.local import LocalWorkload
from hostmesh.model.trust import TrustBundle

WEB = Identity("cluster.local", "default", "web-api")


def test_credentials_survive_the_round_trip() -> None:
    """A 128-bit serial does not fit a protobuf integer and must not be cut."""
    credentials = Credentials(WEB, b"key", b"chain", b"roots", 1.5, 2.5, 2**127 + 1)
    message = credentials_update([credentials]).credentials.credentials[0]
    assert read_credentials(message) == credentials


def test_failures_and_forgotten_identities_are_told_by_name() -> None:
    """Waiting connections fail with the reason that the manager gave."""
    update = credentials_update(forgotten=[WEB], failed={WEB: "CA unreachable"}).credentials
    assert list(update.forgotten) == [str(WEB)]
    assert dict(update.failed) == {str(WEB): "CA unreachable"}


def test_local_workloads_survive_the_round_trip() -> None:
    """The number is what the kernel's mark says."""
    workload = LocalWorkload(7, "web-api", "default", WEB, "web-api.service")
    assert read_local_workload(local_workloads_update([workload]).local_workloads.workloads[0]) == workload


def test_trust_survives_the_round_trip() -> None:
    """Serial numbers of any size, by issuer; who signs now is main's business."""
    revoked = frozenset({(b"one", 2**127 + 1), (b"one", 0), (b"other", 255)})
    bundle = TrustBundle("cluster.local", b"roots", revoked, frozenset({WEB}))
    assert read_trust(trust_update(bundle).trust) == bundle
