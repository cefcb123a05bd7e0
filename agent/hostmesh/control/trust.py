"""TrustKeeper: revokes, rotates the root step by step, and tells every agent at once whom to trust."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from hostmesh.control.ads import AdsService
from hostmesh.control.audit import AuditLog
from hostmesh.control.ca import CaBroken, CertificateAuthority
from hostmesh.control.crl import revocation_list
from hostmesh.control.issue import key_id
from hostmesh.control.ledger import Entry
from hostmesh.control.material import Material
from hostmesh.control.peer import IsRevoked, NodePeer
from hostmesh.control.pem_files import write
from hostmesh.control.revocations import HOLD
from hostmesh.control.rotation import (
    NodeTrust,
    Phase,
    Rotation,
    finish_blockers,
    node_trusts,
    observe,
    switch_blockers,
)
from hostmesh.control.shelf import Overtaken
from hostmesh.control.snapshot import ResourceSet
from hostmesh.model.identity import Identity
from hostmesh.xds.codec import encode_trust

_log = logging.getLogger(__name__)

CHECK_INTERVAL = 1.0
"""Seconds between looks at who has confirmed, and at what others have changed: files or shared records."""

REFRESH_INTERVAL = 86400.0
"""Seconds after which revocation lists are signed again, long before they end."""


class NotNow(Exception):
    """The step cannot be taken; `reasons` say why, one a line."""

    def __init__(self, step: str, reasons: tuple[str, ...]) -> None:
        super().__init__("\n".join([f"cannot {step}:", *(f"  {reason}" for reason in reasons)]))
        self.reasons = reasons


@dataclass(frozen=True, slots=True)
class RotationView:
    """Where a rotation is; `waiting` is why the next step is not taken yet."""

    phase: Phase | None
    started: float
    changed: float
    nodes: tuple[NodeTrust, ...]
    confirmed: frozenset[str]
    waiting: tuple[str, ...]
    retiring_until: float


def revoked_nodes(ca: CertificateAuthority) -> IsRevoked:
    """Tells which nodes may not call any more."""

    def is_revoked(peer: NodePeer) -> bool:
        return ca.revocations.revokes(peer.serial, peer.identity(ca.trust_domain))

    return is_revoked


class TrustKeeper:
    """Owns what the authority trusts. Run `run` beside the servers; everything else returns at once.

    Args:
        ca: whose roots and revocations these are.
        ads: tells the agents, and knows which of them have heard.
        audit: every step and every revocation.
        reload_server: called when the control plane's own certificate or the roots of its port must change.
        now: seconds since the epoch.
    """

    def __init__(
        self,
        ca: CertificateAuthority,
        ads: AdsService,
        audit: AuditLog,
        *,
        reload_server: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._ca = ca
        self._ads = ads
        self._audit = audit
        self._reload_server = reload_server
        self._now = now
        self._signed_at = 0.0
        self._published_number = 0
        self._problem = ""
        self._news = asyncio.Event()

    @property
    def problem(self) -> str:
        """Why the files of a plugged-in authority are not in use; empty if they are."""
        return self._problem

    def publish(self) -> None:
        """Tell everybody the present state.

        Raises:
            CaBroken: the list for others cannot be written; the agents have been told.
        """
        ca, now = self._ca, self._now()
        self._published_number = ca.revocations.number
        material, revocations = ca.material, ca.revocations
        crls = [revocation_list(one, revocations.serials, revocations.number, now) for one in material.signers]
        data = encode_trust(
            ca.trust_domain,
            material.roots,
            crls=crls,
            issuers=material.chain,
            revoked_identities=[one.identity for one in revocations.identities],
            signer=material.signer_id,
        )
        self._ads.publish_trust(ResourceSet({ca.trust_domain: self._version()}, {ca.trust_domain: data}))
        self._ads.end_revoked(revoked_nodes(ca))
        self._signed_at = now
        pem = b"".join(crl.public_bytes(serialization.Encoding.PEM) for crl in crls)
        write(ca.root_path.with_name("ca-crl.pem"), pem, 0o644)

    def revoke_identity(self, identity: Identity, reason: str) -> list[Entry]:
        """Take back an identity: its living certificates, which are returned, and all future ones.

        Raises:
            OSError: it could not be written down; nothing is revoked.
            CaBroken: as for `publish`.
        """
        found = self._ca.ledger.of_identity(identity)
        self._ca.revocations.revoke_identity(identity, reason, found)
        self.publish()
        return found

    def revoke_serial(self, serial: int, reason: str) -> Entry | None:
        """Take back one certificate, which is returned if the ledger knows it.

        Raises:
            OSError: it could not be written down; nothing is revoked.
            CaBroken: as for `publish`.
        """
        found = self._ca.ledger.find(serial)
        self._ca.revocations.revoke_serial(serial, reason, found)
        self.publish()
        return found

    def unrevoke_identity(self, identity: Identity) -> None:
        """Issue for it again; what was revoked stays so unless it was on hold.

        Raises:
            NotNow: it is not revoked.
            OSError: it could not be written down.
        """
        if not self._ca.revocations.unrevoke_identity(identity):
            raise NotNow("unrevoke", (f"{identity} is not revoked; `hostmesh ca revoked` lists what is",))
        self.publish()

    def unrevoke_serial(self, serial: int) -> None:
        """Take back a hold.

        Raises:
            NotNow: it is not revoked, or for good.
            OSError: it could not be written down.
        """
        if not self._ca.revocations.unrevoke_serial(serial):
            why = "is not revoked" if self._ca.revocations.find(serial) is None else f"was not revoked as {HOLD}"
            raise NotNow("unrevoke", (f"the certificate {serial:x} {why}; its owner gets a new one by itself",))
        self.publish()

    def agents(self) -> dict[str, tuple[bool, bool]]:
        """For each connected node whether it follows trust bundles, and whether it holds the present one."""
        return self._ads.trust_sessions()

    # Rotation

    def view(self) -> RotationView:
        """Where the rotation is and what it waits for."""
        rotation, now = self._observe(), self._now()
        if rotation is None:
            return RotationView(None, 0.0, 0.0, (), frozenset(), (), 0.0)
        nodes = self._nodes(rotation)
        if rotation.phase is Phase.OVERLAP:
            waiting = switch_blockers(rotation, nodes, now)
        else:
            waiting = finish_blockers(rotation, nodes, self._retiring_until(), now)
        return RotationView(
            rotation.phase,
            rotation.started,
            rotation.changed,
            nodes,
            rotation.confirmed,
            waiting,
            self._retiring_until(),
        )

    def start(self) -> None:
        """Begin: make a new root and tell everybody; the switch follows by itself.

        Raises:
            NotNow: there is one already, or the authority is plugged in.
            CaBroken: it could not be written down; nothing has begun.
        """
        material = self._ca.material
        if material.plugged:
            why = "the authority is plugged in; rotate it by its files, see docs/operating.md"
            raise NotNow("rotate", (why,))
        if material.rotation is not None:
            raise NotNow("start", ("a rotation goes on already; see `hostmesh ca rotate status`",))
        self._adopt(self._ca.own_root.start(material))

    def switch(self, *, force: bool = False) -> tuple[str, ...]:
        """Let the new root sign; what stood against it is returned if it was forced.

        Raises:
            NotNow: some agent would refuse what it signs.
            CaBroken: it could not be written down; nothing has changed.
        """
        rotation = self._going_on("switch")
        reasons = switch_blockers(rotation, self._nodes(rotation), self._now())
        if rotation.phase is not Phase.OVERLAP or (reasons and not force):
            raise NotNow("switch", reasons)
        self._move(replace(rotation, phase=Phase.SWITCHED, changed=self._now()))
        return reasons

    def finish(self, *, force: bool = False) -> tuple[str, ...]:
        """Dismiss the root that does not sign; what stood against it is returned if it was forced.

        Raises:
            NotNow: some agent would be stranded.
            CaBroken: it could not be written down.
        """
        rotation = self._going_on("finish")
        reasons = finish_blockers(rotation, self._nodes(rotation), self._retiring_until(), self._now())
        if rotation.phase is Phase.OVERLAP or (reasons and not force):
            raise NotNow("finish", reasons)
        self._adopt(self._ca.own_root.finish(self._ca.material))
        return reasons

    def abort(self) -> Phase | None:
        """Stay with the old root: at once if the new one has signed nothing, else the old one signs again.

        Raises:
            NotNow: there is nothing to abort, or it is aborted already.
            CaBroken: it could not be written down.
        """
        rotation = self._going_on("abort")
        if rotation.phase is Phase.REVERTED:
            raise NotNow("abort", ("it is aborted already; `hostmesh ca rotate finish` dismisses the new root",))
        if rotation.phase is Phase.OVERLAP:
            self._adopt(self._ca.own_root.finish(self._ca.material))
            return None
        self._move(replace(rotation, phase=Phase.REVERTED, changed=self._now()))
        return Phase.REVERTED

    async def run(self) -> None:
        """Go on with a rotation when it is safe, follow a plugged-in authority's files, keep the lists fresh."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_INTERVAL):
                    await self._news.wait()
            self._news.clear()
            try:
                self.check()
            except Overtaken:
                continue  # another control plane goes on with the rotation: the next look shows where it is
            except (CaBroken, OSError) as error:
                if str(error) != self._problem:
                    self._problem = str(error)
                    _log.error("the authority's files are not usable, the last good state stays: %s", error)

    def look(self) -> None:
        """Another control plane has revoked something: do not wait until the next look."""
        self._news.set()

    def check(self) -> None:
        """What `run` does again and again.

        Raises:
            CaBroken: files are not usable; told once for each change of theirs.
            OSError: the audit log cannot be written; the step has not been taken.
        """
        if self._ca.reload():
            self._problem = ""
            self._audit.record("ca", step="reload", serial=f"{self._ca.material.signer.certificate.serial_number:x}")
            self._changed()
        rotation = self._observe()
        if rotation is not None and not switch_blockers(rotation, self._nodes(rotation), self._now()):
            self._audit.record("ca", step="switch", result="all agents have the new root")
            self.switch()
        outdated = self._ca.revocations.number != self._published_number
        if outdated or self._now() - self._signed_at > REFRESH_INTERVAL:
            self.publish()

    def _going_on(self, step: str) -> Rotation:
        rotation = self._observe()
        if rotation is None:
            raise NotNow(step, ("no rotation goes on; `hostmesh ca rotate start` begins one",))
        return rotation

    def _observe(self) -> Rotation | None:
        """The rotation, with those who have confirmed since the last look."""
        material = self._ca.material
        rotation = material.rotation
        if rotation is None:
            return None
        seen = observe(rotation, self._nodes(rotation))
        if seen is not rotation:
            self._ca.own_root.save(seen)
            self._ca.adopt(replace(material, rotation=seen))
        return seen

    def _nodes(self, rotation: Rotation) -> tuple[NodeTrust, ...]:
        return node_trusts(rotation, self._ca.ledger.living(), self._ads.trust_sessions())

    def _retiring_until(self) -> float:
        return max((self._ca.alive_until(key_id(one.certificate)) for one in self._ca.material.others), default=0.0)

    def _move(self, rotation: Rotation) -> None:
        self._adopt(self._ca.own_root.move(self._ca.material, rotation))

    def _adopt(self, material: Material) -> None:
        self._ca.adopt(material)
        self._changed()

    def _changed(self) -> None:
        self.publish()
        self._reload_server()

    def _version(self) -> str:
        """Of the content, not of the bytes: a list that is signed again says nothing new."""
        material, revocations = self._ca.material, self._ca.revocations
        digest = hashlib.blake2b(digest_size=8)
        for root in material.roots:
            digest.update(_der(root))
        digest.update(material.signer_id)
        for one in sorted(revocations.serials, key=lambda one: one.serial):
            digest.update(f"{one.serial:x}/{one.issuer};".encode())
        for identity in sorted(one.identity for one in revocations.identities):
            digest.update(f"{identity};".encode())
        return digest.hexdigest()


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)
