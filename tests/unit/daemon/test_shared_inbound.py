"""When a host wants one certificate for all of its workloads, and when another one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from tests.support.pki import ALICE, BOB, Authority

from hostmesh.config.agent import AgentConfig
from hostmesh.config.settings import Certificates, Settings
from hostmesh.daemon.shared_inbound import SharedInbound
from hostmesh.identity.manager import SecretManager
from hostmesh.model.identity import Credentials, Identity
from hostmesh.model.local import LocalWorkload
from hostmesh.model.node import inbound_identity

SHARED = inbound_identity("cluster.local", "host1")
A = LocalWorkload(1, "alice", "default", ALICE, "a.service")
B = LocalWorkload(2, "bob", "default", BOB, "b.service")
BOX = LocalWorkload(3, "box", "default", Identity("cluster.local", "default", "box"), "", in_namespace=True)


def config(*, enabled: bool = True) -> AgentConfig:
    return AgentConfig(Settings(node="host1", certificates=Certificates(shared_inbound=enabled)))


def test_wanted_where_workloads_share_addresses() -> None:
    """Containers have their own; one workload alone is meant anyway; it is opt-in."""
    secrets = cast("SecretManager", None)
    shared = SharedInbound(config(), secrets, lambda _: True)
    cases: tuple[tuple[Sequence[LocalWorkload], tuple[Identity, ...]], ...] = (
        ((A, B), (SHARED,)),
        ((A, BOX), ()),
        ((A,), ()),
    )
    for workloads, wanted in cases:
        assert shared.wanted(workloads) == wanted
    assert SharedInbound(config(enabled=False), secrets, lambda _: True).wanted((A, B)) == ()


def test_asked_for_again_once_when_a_workload_is_registered() -> None:
    """Before that the authority would not name it; if it does not name it then, asking again does not help."""

    async def main() -> None:
        authority, asked = Authority(), asyncio.Queue[Identity]()
        known = {A}

        async def fetch(identity: Identity) -> Credentials:
            asked.put_nowait(identity)
            return authority.issue(identity, uris=(str(ALICE),))

        secrets = SecretManager(fetch, on_credentials=lambda _: None, on_failure=lambda *_: None)
        shared = SharedInbound(config(), secrets, known.__contains__)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(secrets.run())
            shared.review((A, B))
            secrets.want(SHARED)
            assert await asked.get() == SHARED
            while secrets.credentials(SHARED) is None:
                await asyncio.sleep(0)
            shared.review((A, B))
            known.add(B)
            shared.review((A, B))
            assert await asked.get() == SHARED
            for _ in range(20):
                await asyncio.sleep(0)
            shared.review((A, B))
            for _ in range(20):
                await asyncio.sleep(0)
            running.cancel()
        assert asked.empty()

    asyncio.run(main())


def test_running_workers_keep_it_where_it_was_switched_off() -> None:
    """They would have nothing to show to whoever names no server; everything else that is gone they lose."""
    secrets = cast("SecretManager", None)
    for enabled, lost in ((True, (SHARED, ALICE)), (False, (ALICE,))):
        assert SharedInbound(config(enabled=enabled), secrets, lambda _: True).to_lose((SHARED, ALICE)) == lost
