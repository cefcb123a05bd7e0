"""Two hosts in a mesh of Istio, with its own control plane."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.support.agent import until
from tests.support.istio_hosts import agents, assert_carries, documents

if TYPE_CHECKING:
    from tests.netns.conftest import Lab
    from tests.support.real_istiod import Document, RealIstiod

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

DENY: Document = {
    "apiVersion": "security.istio.io/v1",
    "kind": "AuthorizationPolicy",
    "metadata": {"name": "no-ledgers", "namespace": "prod"},
    "spec": {"action": "DENY", "rules": [{"from": [{"source": {"principals": ["cluster.local/ns/prod/sa/ledger"]}}]}]},
}


def test_the_example_inventory_works_with_istiod(lab: Lab, istiod: RealIstiod, tmp_path: Path) -> None:
    """What the roles write, the tokens of service accounts and the emitted documents are all that it takes.

    A policy of Istio ends the open connection and refuses the next, and taking it away lets them in again.
    """
    with ExitStack() as stack:
        for document in yaml.safe_load_all(documents(lab)):
            istiod.apply(document)
            stack.callback(istiod.delete, document)
        client, server = stack.enter_context(agents(lab, tmp_path, istiod.root, istiod.token))
        assert_carries(lab, client, server, "ledger")
        listener = lab.listen(lab.peer, lab.peer.v4, 8081, lab.b)
        held = lab.connect(lab.host, (lab.peer.v4, 8081), lab.a)
        held.sendall(b"a")
        with lab.accept(listener) as served:
            assert served.recv(1) == b"a"
            istiod.apply(DENY)
            held.settimeout(10)
            with pytest.raises(ConnectionResetError):
                held.recv(1)
        until(lambda: "connection closed due to policy change" in server.log)
        istiod.delete(DENY)
        until(lambda: "no-ledgers" not in server.get(15000, "/config_dump"))
        assert_carries(lab, client, server, "ledger", 8082)
