"""Revocation and rotation over real gRPC: agents hear within a second, nodes that are revoked are nobody at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from tests.support.mesh import TRUST_DOMAIN, Host, Mesh, background, until, workload

from hostmesh.control.rotation import Phase
from hostmesh.control.snapshot import Snapshot
from hostmesh.control.trust import NotNow
from hostmesh.identity.ca_client import CaClient
from hostmesh.identity.enrolment import EnrolmentRefused, enrol
from hostmesh.identity.failure import FetchFailed
from hostmesh.model.identity import Identity
from hostmesh.model.node import node_identity
from hostmesh.model.trust import TrustBundle
from hostmesh.rpc.roots import Roots
from hostmesh.wire.x509 import chain_keys
from hostmesh.xds.client import NodeInfo, XdsClient
from hostmesh.xds.codec import decode_trust
from hostmesh.xds.held import XdsUpdate

WEB = workload("web")
NODE = node_identity(TRUST_DOMAIN, "mesh1")

AT_ONCE = 9.0
"""Seconds: a bound for a busy machine, yet below whatever looks from time to time."""


class Agent:
    """What a host's agent does of it: follows, and asks for certificates."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.bundles: list[TrustBundle] = []
        self.client = XdsClient(host.control_plane, NodeInfo("mesh1", "10.0.0.1"), self._take)
        self.ca = CaClient(host.control_plane, 3600)

    def _take(self, update: XdsUpdate) -> None:
        if update.trust:
            self.bundles.append(decode_trust(update.trust))

    @asynccontextmanager
    async def following(self) -> AsyncIterator[Agent]:
        async with background(self.client.run()):
            await until(lambda: self.bundles and self.client.synced)
            yield self


def revoked_events(mesh: Mesh) -> Iterable[object]:
    return [event.get("step") for event in mesh.audited() if event["event"] == "ca"]


async def meet(mesh: Mesh) -> Agent:
    mesh.registered["mesh1"] = {WEB}
    mesh.ads.publish(Snapshot())
    return Agent(await mesh.host("mesh1"))


def test_a_revoked_workload_is_known_everywhere_within_a_second(tmp_path: Path) -> None:
    """Its certificates by number, itself by name; nothing is issued for it until it is unrevoked."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh, (await meet(mesh)).following() as agent:
            held = await agent.ca.fetch(WEB)
            began = time.monotonic()
            (entry,) = mesh.trust.revoke_identity(WEB, "keyCompromise")
            assert (entry.serial, entry.node) == (held.serial, "mesh1")
            await until(lambda: len(agent.bundles) == 2)
            assert time.monotonic() - began < AT_ONCE
            bundle = agent.bundles[-1]
            assert bundle.revokes(chain_keys(held.chain_pem), ())
            assert bundle.revokes((), (WEB,))
            with pytest.raises(FetchFailed, match=r"web is revoked; `hostmesh ca unrevoke --identity"):
                await agent.ca.fetch(WEB)
            mesh.trust.unrevoke_identity(WEB)
            await until(lambda: len(agent.bundles) == 3)
            fresh = await agent.ca.fetch(WEB)
            assert agent.bundles[-1].revokes(chain_keys(held.chain_pem), (WEB,))
            assert not agent.bundles[-1].revokes(chain_keys(fresh.chain_pem), (WEB,))
            crl = x509.load_pem_x509_crl((tmp_path / "ca" / "ca-crl.pem").read_bytes())
            assert [one.serial_number for one in crl] == [held.serial]

    asyncio.run(main())


@pytest.mark.parametrize("by", ["identity", "serial"])
def test_a_revoked_node_is_nobody_at_once(tmp_path: Path, by: str) -> None:
    """Its stream ends, it is not admitted again, it gets no certificate; by name not even with a new token."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh, (await meet(mesh)).following() as agent:
            if by == "identity":
                mesh.trust.revoke_identity(NODE, "unspecified")
            else:
                mesh.trust.revoke_serial(agent.host.credentials.serial, "unspecified")
            await until(lambda: not mesh.ads.connected_nodes())
            await until(
                lambda: "UNAUTHENTICATED: the certificate of node mesh1 is revoked" in agent.client.status().error
            )
            with pytest.raises(FetchFailed, match="the certificate of node mesh1 is revoked"):
                await agent.ca.fetch(WEB)
            token = mesh.tokens.mint("mesh1")
            if by == "identity":
                with pytest.raises(EnrolmentRefused) as refused:
                    await enrol(mesh.anonymous(), "mesh1", TRUST_DOMAIN, token)
                assert refused.value.reason == "IDENTITY_REVOKED"
                mesh.trust.unrevoke_identity(NODE)
            agent.host.store.save(await enrol(mesh.anonymous(), "mesh1", TRUST_DOMAIN, token))
            await agent.ca.fetch(WEB)

    asyncio.run(main())


def test_revocations_survive_a_restart_and_are_not_sent_again(tmp_path: Path) -> None:
    """An agent that has them is told nothing new by a control plane that comes back."""

    async def main() -> None:
        mesh = Mesh(tmp_path)
        async with mesh.serving():
            agent = await meet(mesh)
            mesh.trust.revoke_serial(77, "superseded")
            async with agent.following():
                assert len(agent.bundles) == 1
        mesh.open()
        async with mesh.serving():
            mesh.ads.publish(Snapshot())
            async with background(agent.client.run()):
                await until(lambda: mesh.ads.trust_sessions() == {"mesh1": (True, True)})
            assert len(agent.bundles) == 1
            assert [one.serial for one in mesh.ca.revocations.serials] == [77]

    asyncio.run(main())


def test_a_rotation_goes_on_by_itself_when_all_have_heard(tmp_path: Path) -> None:
    """Overlap, confirmation, switch; the finish waits for the last certificate of the old root."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh, (await meet(mesh)).following() as agent:
            old = await agent.ca.fetch(WEB)
            mesh.trust.start()
            await until(lambda: mesh.trust.view().phase is Phase.SWITCHED)
            assert mesh.trust.view().confirmed == {"mesh1"}
            new = await agent.ca.fetch(WEB)
            assert chain_keys(new.chain_pem)[0][0] != chain_keys(old.chain_pem)[0][0]
            for one in (old, new):
                assert one.roots_pem.count(b"BEGIN") == (1 if one is old else 2)
            assert agent.bundles[-1].signer == mesh.ca.material.signer_id
            with pytest.raises(NotNow, match="certificates of the old root may live until"):
                mesh.trust.finish()
            assert mesh.trust.finish(force=True)[0].startswith("certificates of the old root may live until")
            await until(lambda: agent.bundles[-1].roots_pem.count(b"BEGIN") == 1)
            assert revoked_events(mesh) == ["switch"]

    asyncio.run(main())


def test_the_switch_waits_for_a_node_that_is_away(tmp_path: Path) -> None:
    """It would come back and refuse everybody; the operator may overrule, or give up."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            agent = await meet(mesh)
            await agent.ca.fetch(WEB)
            mesh.trust.start()
            mesh.trust.check()
            view = mesh.trust.view()
            assert view.phase is Phase.OVERLAP
            assert "not connected, with certificates from before the rotation: mesh1" in view.waiting[0]
            with pytest.raises(NotNow, match="goes on already"):
                mesh.trust.start()
            with pytest.raises(NotNow, match="mesh1"):
                mesh.trust.switch()
            with pytest.raises(NotNow, match="the new root does not sign yet"):
                mesh.trust.finish(force=True)
            assert mesh.trust.switch(force=True) == view.waiting
            assert mesh.trust.abort() is Phase.REVERTED
            assert mesh.trust.finish(force=True) == ()
            assert mesh.trust.view().phase is None
            with pytest.raises(NotNow, match="`hostmesh ca rotate start` begins one"):
                mesh.trust.abort()

    asyncio.run(main())


def test_a_host_that_was_away_for_the_whole_rotation_comes_back(tmp_path: Path) -> None:
    """It knows the old root only, and its certificate has expired: it still believes the control plane."""

    async def main() -> None:
        mesh = Mesh(tmp_path)
        old_root = tmp_path / "old-root.pem"
        old_root.write_bytes(mesh.ca.roots_pem)
        async with mesh.serving():
            mesh.trust.start()
            await until(lambda: mesh.trust.view().phase is Phase.SWITCHED)
            mesh.trust.finish()
            assert mesh.ca.roots_pem != old_root.read_bytes()
            stale = mesh.anonymous()
            stale._roots = Roots(old_root)
            got = await enrol(stale, "late", TRUST_DOMAIN, mesh.tokens.mint("late"))
            assert got.roots_pem == mesh.ca.roots_pem

    asyncio.run(main())


def test_a_dismissed_root_admits_nobody(tmp_path: Path) -> None:
    """A node that lives on a certificate of it is refused by TLS itself, also on a port that was open before."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            agent = await meet(mesh)
            await agent.ca.fetch(WEB)
            mesh.trust.start()
            mesh.trust.switch(force=True)
            await agent.ca.fetch(WEB)
            mesh.trust.finish(force=True)
            with pytest.raises(FetchFailed):
                await agent.ca.fetch(WEB)

    asyncio.run(main())


def test_unrevoking_what_is_not_revoked_is_an_error(tmp_path: Path) -> None:
    """A typo must not look like success; a number stays revoked for good."""
    mesh = Mesh(tmp_path)
    other = Identity(TRUST_DOMAIN, "default", "typo")
    with pytest.raises(NotNow, match="typo is not revoked"):
        mesh.trust.unrevoke_identity(other)
    with pytest.raises(NotNow, match="4d is not revoked"):
        mesh.trust.unrevoke_serial(77)
    mesh.trust.revoke_serial(77, "superseded")
    with pytest.raises(NotNow, match="was not revoked as certificateHold"):
        mesh.trust.unrevoke_serial(77)
