"""Whose questions about names are brought to the agent, from workloads.d down to the kernel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hostmesh.redirect.dns_apply import DnsRedirector
from hostmesh.redirect.dns_plan import Asker, DnsRules, dns_plan


class Naming:
    """Blocking: an asyncio program calls it in a thread, one call at a time.

    Args:
        redirector: of this host.
        port: where the agent answers, 0 where it does not.
        plain: whether it answers at 127.0.15.53 too.
        cgroup_prefix: path of the cgroup v2 hierarchy below /sys/fs/cgroup.
    """

    def __init__(self, redirector: DnsRedirector, port: int, *, plain: bool = False, cgroup_prefix: str = "") -> None:
        self._redirector = redirector
        self._port = port
        self._plain = plain
        self._prefix = cgroup_prefix
        self._rules: DnsRules | None = None
        self.askers: tuple[Asker, ...] = ()
        """Whose questions are captured, running or not."""

    @property
    def unit_texts(self) -> Mapping[str, str]:
        """By unit: what its start gives to nft, so that its first question is captured."""
        rules = self._rules
        return {} if rules is None else {one.workload.unit: rules.elements_text(one) for one in rules.askers}

    def plan(self, askers: Iterable[Asker]) -> None:
        """Compute the rules; there are none where nobody needs them."""
        self.askers = tuple(askers) if self._port else ()
        if self.askers or (self._port and self._plain):
            self._rules = dns_plan(self.askers, self._port, plain=self._plain, cgroup_prefix=self._prefix)
        else:
            self._rules = None

    def apply(self) -> tuple[str, ...]:
        """Make the kernel be as planned; what differed, one line each.

        Raises:
            NetfilterError: the kernel refused.
        """
        return self._redirector.apply(self._rules)
