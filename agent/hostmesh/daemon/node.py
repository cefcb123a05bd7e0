"""Membership: makes this host a node of the mesh and keeps it one, whatever it has slept through.

In this order: by its certificate while that is good, by its SSH host key, by a join token that somebody left.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from hostmesh.identity.enrolment import EnrolmentRefused, Sign, enrol
from hostmesh.identity.failure import FetchFailed
from hostmesh.identity.health import Health
from hostmesh.identity.host_key import HostKeyUnavailable
from hostmesh.identity.manager import Fetch, SecretStatus
from hostmesh.identity.node import NodeRenewal, NodeStore, NodeStoreBroken, longest_pause
from hostmesh.model.identity import Credentials, Identity
from hostmesh.rpc.channel import ControlPlane
from hostmesh.rpc.failure import ControlPlaneError, Failure
from hostmesh.transport.backoff import Backoff

_log = logging.getLogger("hostmesh.enrolment")

POLL_INTERVAL = 1.0
"""How soon a token that somebody leaves is noticed."""

RETRY_INITIAL = 1.0
"""Shortest pause between attempts."""


class Membership:
    """Says each reason for waiting once, when it changes.

    Args:
        control_plane: without node files.
        store: where key and certificate are kept.
        node: this host's name.
        trust_domain: of the mesh.
        token_path: where a join token may lie.
        sign: signs with the SSH host keys.
        fetch: gets a certificate from the CA, authenticated by the present one.
        now: seconds since the epoch.
    """

    def __init__(
        self,
        control_plane: ControlPlane,
        store: NodeStore,
        node: str,
        trust_domain: str,
        token_path: Path,
        *,
        sign: Sign,
        fetch: Fetch,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._control_plane = control_plane
        self._store = store
        self._node = node
        self._trust_domain = trust_domain
        self._token_path = token_path
        self._sign = sign
        self._fetch = fetch
        self._now = now
        self._spent: str | None = None
        self._renewal: NodeRenewal | None = None
        self._backoff = Backoff(RETRY_INITIAL)
        self._said: tuple[Failure, str] | None = None
        self._waiting_for = ""

    @property
    def waiting_for(self) -> str:
        """Why this host is not a node now; empty if it is one."""
        status = self.status()
        if status is not None and status.health is Health.ABSENT:
            return status.last_error
        return self._waiting_for

    def status(self) -> SecretStatus | None:
        """Of the node's own certificate; None before there was one."""
        return self._renewal.status() if self._renewal is not None else None

    async def join(self) -> None:
        """Return when this host has valid credentials: those on the disk, or new ones."""
        stored = self._load()
        prefix = "" if stored is None else "this node's certificate has expired; "
        while stored is None or stored.not_after <= self._now():
            try:
                stored = await self._prove()
                self._store.save(stored)
                self._spend_token()
            except FetchFailed as problem:
                self._say(problem, prefix)
                await self._pause(self._next_pause(problem.failure))
            except OSError as error:
                await self._pause(RETRY_INITIAL)
                self._say(FetchFailed(_disk(error), Failure.LOCAL), prefix)
        self._waiting_for = ""
        self._renewal = NodeRenewal(self._store, stored, self._renew, on_renewed=self._renewed, now=self._now)

    async def keep(self, on_renewed: Callable[[], None]) -> None:
        """Renew until cancelled; `join` must have returned. `on_renewed` is told when a new certificate is on disk."""
        assert self._renewal is not None, "join first"
        self._on_renewed = on_renewed
        await self._renewal.run()

    def doubt(self) -> None:
        """The control plane does not accept the present certificate: find out now whether another way is open."""
        if self._renewal is not None:
            self._renewal.renew()

    def _renewed(self) -> None:
        self._spend_token()
        self._on_renewed()

    def _load(self) -> Credentials | None:
        try:
            return self._store.load()
        except NodeStoreBroken as broken:
            _log.error("%s", broken)
            return None

    async def _renew(self, identity: Identity) -> Credentials:
        """By certificate; by host key if that has run out or is not accepted."""
        renewal = self._renewal
        assert renewal is not None, "it is the renewal that asks"
        if renewal.credentials is not None:
            try:
                return await self._fetch(identity)
            except FetchFailed as error:
                if error.failure is not Failure.NOT_ADMITTED:
                    raise
                _log.warning("%s", error)
                issued = await self._prove()
                renewal.discard(str(error))  # even if by this host's clock it is the valid one
                return issued
        return await self._prove()

    async def _prove(self) -> Credentials:
        """A host key that is registered admits before a token does; the control plane decides.

        Raises:
            FetchFailed: with the way out.
        """
        token = self._token()
        try:
            self._store.check_writable()  # a token is good once
            issued = await enrol(
                self._control_plane, self._node, self._trust_domain, token, sign=self._sign, now=self._now
            )
        except EnrolmentRefused as refusal:
            self._spent = token or self._spent
            raise FetchFailed(f"enrolment refused: {refusal}", Failure.REFUSED) from refusal
        except HostKeyUnavailable as problem:
            raise FetchFailed(self._no_way_in(problem), Failure.LOCAL) from problem
        except ControlPlaneError as error:
            raise FetchFailed(str(error), error.failure) from error
        except OSError as error:
            raise FetchFailed(_disk(error), Failure.LOCAL) from error
        _log.info("enrolled as node %s", self._node)
        return issued

    def _token(self) -> str:
        """The token that lies there, unless the control plane has refused just that one; empty if there is none."""
        try:
            token = self._token_path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""
        return token if token != self._spent else ""

    def _spend_token(self) -> None:
        """It has done its work, or was not needed."""
        try:
            self._token_path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("%s: the used join token cannot be removed (%s)", self._token_path, error.strerror)

    def _no_way_in(self, problem: HostKeyUnavailable) -> str:
        return (
            f"{problem}; or mint a join token on the control plane with `hostmesh token create --node {self._node}` "
            f"and leave it at {self._token_path}"
        )

    async def _pause(self, seconds: float) -> None:
        """At most so long: a token that somebody leaves meanwhile is tried at once."""
        waited = 0.0
        while waited < seconds and not (waited and self._token()):
            step = min(POLL_INTERVAL, seconds - waited)
            await asyncio.sleep(step)
            waited += step

    def _next_pause(self, failure: Failure) -> float:
        """Growing; as long as the control plane cannot be asked they stay short, so that it finds its hosts at once."""
        return min(self._backoff.next(), longest_pause(failure))

    def _say(self, problem: FetchFailed, prefix: str) -> None:
        """In the log when it is another one; texts hold moments, so kind and reason code are compared."""
        self._waiting_for = f"{prefix}{problem}"
        cause = problem.__cause__
        news = (problem.failure, cause.reason if isinstance(cause, EnrolmentRefused) else "")
        if news != self._said:
            self._said = news
            _log.error("not enrolled: %s", self._waiting_for)


def _disk(error: OSError) -> str:
    return f"{error.filename or 'the state directory'}: cannot be written ({error.strerror or error}); make room for it"
