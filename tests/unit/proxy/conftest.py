"""What most tests of the proxy have: two hosts with a workload each, and a peer that they know nothing of."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.hbone_peer import Peer, dial
from tests.support.proxy import ALICE, Mesh


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    """Alice's host and bob's."""
    with Mesh() as made:
        yield made


@pytest.fixture
def peer(mesh: Mesh) -> Iterator[Peer]:
    """Somebody with alice's certificate at bob's host, who says whatever a test wants."""
    with dial((mesh.ip, 15008), mesh.authority.issue(ALICE), mesh.authority.pem) as made:
        yield made
