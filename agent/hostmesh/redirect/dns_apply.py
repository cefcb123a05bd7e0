"""The one owner of table inet hostmesh_dns: lays it out as one transaction, looks at it, removes it (nft(8))."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hostmesh.kernel import netfilter
from hostmesh.kernel.cgroup import CgroupRoot
from hostmesh.kernel.netfilter import NoSuchCgroup
from hostmesh.redirect.dns_plan import TABLE, DnsRules

_ATTEMPTS = 5


class DnsRedirector:
    """Blocking: an asyncio program calls it in a thread, one call at a time.

    Args:
        cgroups: where the hierarchy is.
        runtime: directory that lives until the next boot.
        run: applies a transaction.
        list_table: the table without elements, None when it is not there.
    """

    def __init__(
        self,
        cgroups: CgroupRoot,
        runtime: Path,
        run: Callable[[str], None] = netfilter.run,
        list_table: Callable[[str, str], str | None] = netfilter.list_table,
    ) -> None:
        self._cgroups = cgroups
        self._marker = runtime / "dns-rules"
        self._run = run
        self._list = list_table
        self._applied: tuple[str, frozenset[tuple[str, int]], str | None] | None = None

    def apply(self, rules: DnsRules | None) -> tuple[str, ...]:
        """Make the kernel be as planned, None: without the table; what differed, one line each.

        Raises:
            NetfilterError: nft refused; the table is as it was.
        """
        if rules is None:
            return self._remove()
        for _ in range(_ATTEMPTS):
            running = frozenset((a.cgroup, found) for a in rules.askers if (found := self._cgroups.id(a.cgroup)))
            if self._applied == (rules.rules, running, self._list("inet", TABLE)):
                return ()
            living = {cgroup for cgroup, _ in running}
            text = "".join(rules.elements_text(asker) for asker in rules.askers if asker.cgroup in living)
            try:
                self._run(rules.rules + text)
            except NoSuchCgroup:
                continue
            self._marker.touch()
            self._applied = rules.rules, running, self._list("inet", TABLE)
            return (f"table inet {TABLE} laid out",)
        return ()  # units came and went all the while; the next re-assertion will do

    def _remove(self) -> tuple[str, ...]:
        if not self._marker.exists():
            return ()
        # `add` first: deleting a table that is not there would be an error
        self._run(f"add table inet {TABLE}\ndelete table inet {TABLE}\n")
        self._marker.unlink()
        self._applied = None
        return (f"table inet {TABLE} is gone",)
