"""SecretManager: has one certificate for each wanted identity, in time (ztunnel's secret manager)."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace

from hostmesh.identity.failure import FetchFailed
from hostmesh.identity.health import Health, HealthLog, health
from hostmesh.identity.schedule import (
    BACKOFF_MAXIMUM,
    MAX_CONCURRENT,
    Slot,
    choose,
    failed,
    lapse,
    lapsed,
    renewal_time,
    succeeded,
)
from hostmesh.model.identity import Credentials, Identity
from hostmesh.rpc.failure import Failure, Validity, clock_text, timestamp

_log = logging.getLogger(__name__)

_LONGEST_SLEEP = 5.0  # the wall clock may be set meanwhile, or the host have slept
_RETRY_SPREAD = 2.0

Fetch = Callable[[Identity], Awaitable[Credentials]]


@dataclass(frozen=True, slots=True)
class SecretStatus:
    """One identity as a config dump shows it. `state` is Initializing, Available or `Unavailable: <error>`.

    `last_error` is that of the last renewal, empty if it succeeded.
    """

    identity: Identity
    state: str
    credentials: Credentials | None
    renew_at: float
    last_error: str
    health: Health = Health.PENDING


class SecretManager:
    """Owns the credentials of wanted identities. Everything but `run` returns at once; call it from the loop's thread.

    Args:
        fetch: gets one certificate from the CA; raises `FetchFailed`.
        on_credentials: takes each new credential, and again when one is wanted that is there already.
        on_failure: an identity has no valid certificate and this is why; those who wait for it should give up.
        now: seconds since the epoch.
        jitter: 0 to 1, random.
        max_concurrent: how many fetches may run at once.
        longest_pause: between attempts, in seconds, by the kind of the last failure.
    """

    def __init__(
        self,
        fetch: Fetch,
        *,
        on_credentials: Callable[[Credentials], None],
        on_failure: Callable[[Identity, str], None],
        now: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
        max_concurrent: int = MAX_CONCURRENT,
        longest_pause: Callable[[Failure], float] = lambda _failure: BACKOFF_MAXIMUM,
    ) -> None:
        self._fetch = fetch
        self._on_credentials = on_credentials
        self._on_failure = on_failure
        self._now = now
        self._jitter = jitter
        self._max_concurrent = max_concurrent
        self._longest_pause = longest_pause
        self._health_log = HealthLog(_log)
        self._slots: dict[Identity, Slot] = {}
        self._credentials: dict[Identity, Credentials] = {}
        self._running: set[Identity] = set()
        self._changed = asyncio.Event()

    def want(self, identity: Identity, *, waiting: bool = False) -> None:
        """Have a certificate for `identity` from now on.

        Args:
            identity: whose.
            waiting: a connection waits for it, so it goes first; the answer comes by callback, at once if it is known.
        """
        slot = self._slots.get(identity)
        if slot is None:
            self._slots[identity] = Slot(identity, self._now(), waiting=waiting, fetching=identity in self._running)
            self._changed.set()
        elif not waiting:
            return
        elif slot.not_after is not None:
            self._on_credentials(self._credentials[identity])
        elif slot.error:
            self._on_failure(identity, slot.error)
        elif not slot.waiting:
            self._slots[identity] = replace(slot, waiting=True)
            self._changed.set()

    def forget(self, identity: Identity) -> None:
        """No longer needed: drop its credentials and ask for no more."""
        self._slots.pop(identity, None)
        self._credentials.pop(identity, None)
        self._health_log.forget(identity)

    def keep_only(self, identities: Iterable[Identity]) -> list[Identity]:
        """Want exactly these; returns the ones that were forgotten."""
        wanted = set(identities)
        gone = [identity for identity in self._slots if identity not in wanted]
        for identity in gone:
            self.forget(identity)
        for identity in sorted(wanted):
            self.want(identity)
        return gone

    def adopt(self, credentials: Credentials) -> None:
        """Take over a certificate obtained earlier; it is renewed in time, at once if that time has passed."""
        due = renewal_time(credentials.not_before, credentials.not_after, credentials.not_before, self._jitter())
        identity = credentials.identity
        self._credentials[identity] = credentials
        self._slots[identity] = Slot(identity, due, not_after=credentials.not_after)
        self._changed.set()

    def renew(self, identity: Identity) -> None:
        """Replace its certificate now, as the one that is there is not accepted any more."""
        slot = self._slots.get(identity)
        if slot is not None and not slot.fetching:
            self._slots[identity] = replace(slot, due=min(slot.due, self._now()))
            self._changed.set()

    def renew_within(self, identity: Identity, seconds: float) -> None:
        """Replace its certificate soon, at a random moment so that not all hosts come at once."""
        slot = self._slots.get(identity)
        if slot is not None and not slot.fetching:
            due = min(slot.due, self._now() + seconds * self._jitter())
            self._slots[identity] = replace(slot, due=due)
            self._changed.set()

    def discard(self, identity: Identity, reason: str) -> None:
        """Its certificate is worth nothing any more: hand it out no longer, and get another one at once."""
        slot = self._slots.get(identity)
        if slot is not None and self._credentials.pop(identity, None) is not None:
            self._slots[identity] = replace(slot, due=self._now(), not_after=None, failures=0, error=reason)
            self._changed.set()

    def retry_failed(self) -> None:
        """The CA may be back: try what failed within two seconds instead of after its back-off."""
        now = self._now()
        for identity, slot in self._slots.items():
            if slot.failures and not slot.fetching:
                due = min(slot.due, now + self._jitter() * _RETRY_SPREAD)
                self._slots[identity] = replace(slot, due=due, failures=0)
        self._changed.set()

    def credentials(self, identity: Identity) -> Credentials | None:
        """Those that are valid now."""
        held = self._credentials.get(identity)
        return held if held is not None and held.not_after > self._now() else None

    def available(self) -> list[Credentials]:
        """All that are valid now, by identity; what a new worker gets."""
        return [c for identity in sorted(self._credentials) if (c := self.credentials(identity)) is not None]

    def statistics(self) -> list[SecretStatus]:
        """A snapshot of all wanted identities, sorted."""
        return [self._status(identity, slot) for identity, slot in sorted(self._slots.items())]

    def _status(self, identity: Identity, slot: Slot) -> SecretStatus:
        held = self._credentials.get(identity)
        return SecretStatus(identity, slot.state, held, slot.due, slot.error, self._health(identity, slot))

    async def run(self) -> None:
        """Fetch and renew until cancelled."""
        async with asyncio.TaskGroup() as fetches:
            while True:
                self._changed.clear()
                self._let_lapse()
                self._warn_in_time()
                for_nobody = len(self._running - self._slots.keys())
                choice = choose(self._slots.values(), self._now(), self._max_concurrent - for_nobody)
                for identity in choice.start:
                    self._slots[identity] = replace(self._slots[identity], fetching=True)
                    self._running.add(identity)
                    fetches.create_task(self._fetch_one(identity), name=f"certificate of {identity}")
                await self._wait_until(choice.wake)

    async def _wait_until(self, moment: float | None) -> None:
        wait = _LONGEST_SLEEP if moment is None else min(max(moment - self._now(), 0.0), _LONGEST_SLEEP)
        try:
            async with asyncio.timeout(wait):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _fetch_one(self, identity: Identity) -> None:
        try:
            credentials = await self._fetch(identity)
            self._accept(identity, credentials)
        except FetchFailed as error:
            self._fail(identity, error)
        finally:
            self._running.discard(identity)
            self._changed.set()

    def _accept(self, identity: Identity, credentials: Credentials) -> None:
        slot = self._slots.get(identity)
        if slot is None:
            return
        now = self._now()
        skew = clock_text(f"the new certificate of {identity}", _validity(credentials), now)
        if skew and (credentials.not_after <= now or self.credentials(identity) is not None):
            raise FetchFailed(skew, Failure.CLOCK)  # one that is not valid yet is still better than none
        if skew:
            _log.warning("%s", skew)
        self._credentials[identity] = credentials
        self._slots[identity] = succeeded(slot, credentials.not_before, credentials.not_after, now, self._jitter())
        _log.info("certificate of %s is available, %s", identity, _validity(credentials))
        self._health_log.forget(identity)
        self._on_credentials(credentials)

    def _fail(self, identity: Identity, error: FetchFailed) -> None:
        slot = self._slots.get(identity)
        if slot is None:
            return
        reason = str(error)
        longest = self._longest_pause(error.failure)
        slot = self._slots[identity] = failed(slot, reason, self._now(), self._jitter(), longest)
        wait = slot.due - self._now()
        kept = "there is no valid one" if slot.not_after is None else _kept(slot.not_after)
        text = f"certificate of {identity} cannot be had: {reason} ({kept}; next try in {wait:.0f} s)"
        self._health_log.note(identity, self._health(identity, slot), text, error.failure)
        if slot.not_after is None:
            self._on_failure(identity, reason)

    def _let_lapse(self) -> None:
        now = self._now()
        for identity, slot in list(self._slots.items()):
            if lapsed(slot, now):
                del self._credentials[identity]
                gone = self._slots[identity] = lapse(
                    slot, "the certificate has expired and its renewal has not come yet"
                )
                text = f"certificate of {identity} has expired: {gone.error}"
                self._health_log.note(identity, Health.ABSENT, text)
                self._on_failure(identity, gone.error)

    def _warn_in_time(self) -> None:
        for identity, slot in self._slots.items():
            is_soon = slot.not_after is not None and self._health(identity, slot) is Health.EXPIRES_SOON
            if is_soon and self._health_log.said(identity) is not Health.EXPIRES_SOON:
                left = (slot.not_after or 0.0) - self._now()
                text = f"certificate of {identity} expires in {left:.0f} s and cannot be renewed: {slot.error}"
                self._health_log.note(identity, Health.EXPIRES_SOON, text)

    def _health(self, identity: Identity, slot: Slot) -> Health:
        held = self._credentials.get(identity)
        return health(slot, held.not_before if held is not None else 0.0, self._now())


def _kept(not_after: float) -> str:
    return f"the present one stays in use until {timestamp(not_after)}"


def _validity(credentials: Credentials) -> Validity:
    return Validity(credentials.not_before, credentials.not_after)
