"""Publisher: whatever changes, Envoy gets a configuration that Envoy itself has found right, or keeps the last one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from itertools import islice

from hostmesh.model.identity import Credentials
from hostmesh.model.trust import TrustBundle
from hostmesh.model.waypoint import WaypointProgram
from hostmesh.waypoint.culprit import MOST, suspects
from hostmesh.waypoint.envoy import Refused
from hostmesh.waypoint.generations import Generations
from hostmesh.waypoint.resources import files, secret_files, validation
from hostmesh.waypoint.revoked import without_revoked
from hostmesh.waypoint.shape import Json
from hostmesh.waypoint.wasm import with_digests

_log = logging.getLogger("hostmesh.waypoint")

DEBOUNCE = 0.05
RETRY = 10.0

Validate = Callable[[Json], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class PublisherStatus:
    """`error` is why the newest program is not in force; empty if it is."""

    published: int = 0
    error: str = ""


class Publisher:
    """Takes the parts as they come; `run` publishes.

    Args:
        generations: where files go.
        bind: the address that Envoy listens on.
        validate: asks Envoy; raises `Refused`.
        on_published: called after each time.
    """

    def __init__(
        self,
        generations: Generations,
        bind: str,
        validate: Validate,
        on_published: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_published = on_published
        self._generations = generations
        self._bind = bind
        self._validate = validate
        self._program: WaypointProgram | None = None
        self._good: WaypointProgram | None = None
        self._refused: WaypointProgram | None = None
        self._credentials: Credentials | None = None
        self._bundle: TrustBundle | None = None
        self._news = asyncio.Event()
        self.first = asyncio.Event()
        self.status = PublisherStatus()

    @property
    def in_force(self) -> WaypointProgram | None:
        """What Envoy was told last."""
        return self._good

    def look_again(self) -> None:
        """Files that the program names may have changed."""
        self._news.set()

    def set_program(self, program: WaypointProgram | None) -> None:
        """What it has to do; None: its Gateway is gone, and it serves nothing."""
        if program is None and self._program is not None:
            before = self._program
            program = WaypointProgram(before.name, before.namespace, before.trust_domain, before.identity, before.port)
        self._program = program
        self._news.set()

    def set_credentials(self, credentials: Credentials) -> None:
        """Its own certificate."""
        self._credentials = credentials
        self._news.set()

    def set_trust(self, bundle: TrustBundle) -> None:
        """Whom the mesh trusts, and whom no more."""
        self._bundle = bundle
        self._news.set()

    async def run(self) -> None:
        """Publish what changes, until cancelled."""
        while True:
            await self._news.wait()
            await asyncio.sleep(DEBOUNCE)  # parts that change together come together
            self._news.clear()
            if self._program is None or self._credentials is None:
                continue
            program, credentials = self._program, self._credentials
            try:
                try:
                    await self._publish(program, credentials)
                except Refused as error:
                    await self._keep_the_last_good(error, program, credentials)
            except OSError as error:
                self._failed(f"its files cannot be written: {error.strerror or error}")
                asyncio.get_running_loop().call_later(RETRY, self._news.set)

    async def _publish(self, program: WaypointProgram, credentials: Credentials) -> None:
        made = await self._checked(program, credentials)
        await asyncio.to_thread(self._generations.publish, made)
        self._good = program
        self.status = PublisherStatus(self.status.published + 1)
        self.first.set()
        self._on_published()

    async def _checked(self, program: WaypointProgram, credentials: Credentials) -> dict[str, Json]:
        """The files, which Envoy takes; making those of a thousand services takes seconds, and so a thread."""
        made, whole = await asyncio.to_thread(self._made, program, credentials, self._bundle)
        await self._validate(whole)
        return made

    def _made(
        self, program: WaypointProgram, credentials: Credentials, bundle: TrustBundle | None
    ) -> tuple[dict[str, Json], Json]:
        enforced = without_revoked(with_digests(program), bundle)
        secrets = _secrets(credentials, bundle)
        made = files(enforced, str(self._generations.directory), self._bind, program.port)
        return made | secrets, validation(made, secrets)

    async def _keep_the_last_good(self, error: Refused, program: WaypointProgram, credentials: Credentials) -> None:
        """A new certificate must not wait for the program to become right again; whose fault it is may wait."""
        if program != self._refused:
            self._refused = program
            self._failed(str(error))
        why = self.status.error
        if self._good is not None and self._good != program:
            try:
                await self._publish(self._good, credentials)
            except Refused as again:
                _log.error("and what was in force is refused, too: %s", again)
            self.status = replace(self.status, error=why)
        culprit = await self._culprit(program, credentials) if why == str(error) else ""
        if culprit and not why.startswith(culprit):
            self._failed(f"{culprit}: {error}")

    async def _culprit(self, program: WaypointProgram, credentials: Credentials) -> str:
        """What its author calls the document that Envoy refuses; empty if it is none alone, or something is new."""
        for name, rest in islice(suspects(program), MOST):
            if self._news.is_set():
                break
            try:
                await self._checked(rest, credentials)
            except Refused:
                continue
            return name
        return ""

    def _failed(self, why: str) -> None:
        if why != self.status.error:
            _log.error("the configuration is refused, the last good one stays in force: %s", why)
        self.status = replace(self.status, error=why)


def _secrets(credentials: Credentials, bundle: TrustBundle | None) -> dict[str, Json]:
    """Lists of revoked certificates only while there is one: without any, none can be missing or too old."""
    roots = bundle.roots_pem if bundle is not None else credentials.roots_pem
    crls = bundle.crls_pem if bundle is not None and bundle.revoked else b""
    return secret_files(credentials.chain_pem.decode(), credentials.key_pem.decode(), roots.decode(), crls.decode())
