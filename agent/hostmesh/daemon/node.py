"""The node's own certificate at start: the stored one, else one bought with the join token that Ansible left."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from hostmesh.identity.enrolment import EnrolmentRefused, enrol
from hostmesh.identity.node import NodeStore
from hostmesh.model.identity import Credentials
from hostmesh.rpc.channel import ControlPlane
from hostmesh.rpc.failure import ControlPlaneError

_log = logging.getLogger("hostmesh.enrolment")

POLL_INTERVAL = 1.0
"""How soon a token that somebody leaves is noticed."""

RETRY_INTERVAL = 3.0
"""Pause between attempts while the control plane cannot be asked."""


class Enroller:
    """Waits until this host is a node of the mesh. Says each reason for waiting once, when it changes."""

    def __init__(
        self, control_plane: ControlPlane, store: NodeStore, node: str, trust_domain: str, token_path: Path
    ) -> None:
        self._control_plane = control_plane
        self._store = store
        self._node = node
        self._trust_domain = trust_domain
        self._token_path = token_path
        self._refused: str | None = None
        self.waiting_for = ""

    async def credentials(self, now: Callable[[], float] = time.time) -> Credentials:
        """Valid credentials of this node, from disk or by enrolment.

        Raises:
            NodeStoreBroken: what is stored is damaged.
        """
        stored = self._store.load()
        while stored is None or stored.not_after <= now():
            expired = "" if stored is None else "this node's certificate has expired; "
            enrolled = await self._attempt(expired)
            if enrolled is not None:
                stored = enrolled
        self.waiting_for = ""
        return stored

    async def _attempt(self, prefix: str) -> Credentials | None:
        token = self._token()
        if token is None:
            self._say(
                f"{prefix}no join token at {self._token_path}; mint one on the control plane with "
                f"`hostmesh token create --node {self._node}` and leave it there"
            )
            await asyncio.sleep(POLL_INTERVAL)
            return None
        try:
            credentials = await enrol(self._control_plane, self._node, self._trust_domain, token)
        except EnrolmentRefused as refusal:
            self._refused = token
            self._say(f"{prefix}enrolment refused, {refusal.reason}: {refusal}")
            return None
        except ControlPlaneError as error:
            self._say(f"{prefix}{error}")
            await asyncio.sleep(RETRY_INTERVAL)
            return None
        self._store.save(credentials)
        self._token_path.unlink(missing_ok=True)
        _log.info("enrolled as node %s", self._node)
        return credentials

    def _token(self) -> str | None:
        """The token that lies there, unless the control plane has refused just that one."""
        try:
            token = self._token_path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return token if token and token != self._refused else None

    def _say(self, reason: str) -> None:
        if reason != self.waiting_for:
            self.waiting_for = reason
            _log.warning("not enrolled: %s", reason)
