"""Where the mesh comes from: with istiod, as it expects to be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from tests.support.istiod import TRUST_DOMAIN, Istiod
from tests.support.mesh import background, until

from hostmesh.config.agent import load
from hostmesh.daemon.istiod_mode import istiod_access
from hostmesh.daemon.mesh_source import Listeners, mesh_source
from hostmesh.model.identity import Identity
from hostmesh.model.workload import Workload
from hostmesh.rpc.channel import ControlPlane
from hostmesh.xds.client import XdsUpdate
from hostmesh.xds.codec import ADDRESS_TYPE, AUTHORIZATION_TYPE, encode_workload

AGENT = Identity(TRUST_DOMAIN, "vms", "agent")
WEB = Workload("Kubernetes/networking.istio.io/WorkloadEntry/default/web", "web", "default")


def test_istiod_is_asked_for_what_it_has_by_who_the_token_says(tmp_path: Path) -> None:
    """Node and metadata agree with the token, no node is named, and only Istio's types are asked for."""

    async def body(istiod: Istiod) -> None:
        istiod.tokens = {"t-agent": AGENT}
        istiod.resources[ADDRESS_TYPE][WEB.uid] = encode_workload(WEB).SerializeToString()
        (tmp_path / "tokens" / "vms").mkdir(parents=True)
        (tmp_path / "tokens" / "vms" / "agent").write_text("t-agent\n")
        (tmp_path / "agent.yaml").write_text(
            f"node: mesh2\nstate_dir: {tmp_path}\n"
            f"control_plane: {{kind: istiod, address: '{istiod.endpoint}', xds_identity: vms/agent, "
            f"tokens: {tmp_path}/tokens, root_cert: {istiod.ca.root_path}}}\n"
        )
        config = load(tmp_path / "agent.yaml", {})
        access = istiod_access(config, istiod.endpoint, istiod.roots)
        updates: list[XdsUpdate] = []
        listeners = Listeners(updates.append, lambda _status: None)
        unused = ControlPlane(istiod.endpoint, istiod.roots)
        xds = mesh_source(config, istiod.endpoint, unused, access, listeners)
        async with background(forever(xds.run())):
            await until(lambda: xds.synced)
        assert [name for update in updates for name in update.addresses] == [WEB.uid]
        assert istiod.asked == [ADDRESS_TYPE, AUTHORIZATION_TYPE]
        said = {key: value.string_value for key, value in istiod.nodes[0].metadata.fields.items()}
        assert (said["NAMESPACE"], said["SERVICE_ACCOUNT"], said["NODE_NAME"]) == ("vms", "agent", "")
        assert said["CLUSTER_ID"] == "Kubernetes"

    async def main() -> None:
        async with Istiod(tmp_path / "istiod").serving() as istiod:
            await body(istiod)

    asyncio.run(main())


async def forever(running: Coroutine[Any, Any, None]) -> None:
    await running
