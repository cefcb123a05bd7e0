"""The one owner of table inet hostmesh: applies the plan, watches it, removes it (nft(8))."""

from __future__ import annotations

from pathlib import Path

from hostmesh.kernel.cgroup import CgroupRoot
from hostmesh.kernel.netfilter import NoSuchCgroup
from hostmesh.kernel.record import Record
from hostmesh.redirect.backend import KernelNetfilter, Netfilter
from hostmesh.redirect.compare import Applied, Differences, Seen, compare, is_complete, transaction
from hostmesh.redirect.mark_acceptance import CaptureFailed, MarkAcceptance
from hostmesh.redirect.namespace_plan import no_rules
from hostmesh.redirect.plan import TABLE, Ruleset, unit_text
from hostmesh.redirect.subjects import CapturedUnit

_ATTEMPTS = 5
"""Units stop and start while a transaction is prepared; five such races in a row mean something else."""


class Redirector:
    """Blocking: an asyncio program calls it in a thread, one call at a time.

    Args:
        cgroups: where the hierarchy is.
        runtime: directory that lives until the next boot, for what must be remembered (/run/hostmesh).
        netfilter: nf_tables of this network namespace.
        proc_sys: /proc/sys.
    """

    ending = "nft"
    """Of the names of files that starts of units give to the tools."""

    def __init__(
        self,
        cgroups: CgroupRoot,
        runtime: Path,
        netfilter: Netfilter | None = None,
        proc_sys: Path = Path("/proc/sys"),
    ) -> None:
        self._cgroups = cgroups
        self._record = Record(runtime / "capture.json", Applied)
        self._marks = MarkAcceptance(runtime, proc_sys)
        self._netfilter = netfilter or KernelNetfilter()
        self._ruleset: Ruleset | None = None

    def apply(self, ruleset: Ruleset) -> tuple[str, ...]:
        """Make the kernel be as planned, changing only what differs, in one transaction without a gap.

        Returns:
            The differences that there were; empty when nothing had to be done.

        Raises:
            CaptureFailed: the setting that marks accepted sockets is off and cannot be changed here.
            NetfilterUnavailable: no nft, no privilege, no support in the kernel.
            NetfilterError: nft refused.
        """
        self._ruleset = ruleset
        corrected = self._marks.turn_on()
        for _ in range(_ATTEMPTS):
            seen = self._look(ruleset)
            differences = compare(ruleset, seen, self._record.read())
            if not differences:
                return corrected
            if self._correct(ruleset, seen, differences):
                return (*corrected, *differences.describe())
        raise CaptureFailed("units started and stopped all the while rules were prepared; next: try again")

    @staticmethod
    def start_files(ruleset: Ruleset, unit: CapturedUnit) -> dict[str, str]:
        """What a start of the unit gives to the tools, by the ending of the file's name."""
        return {Redirector.ending: unit_text(ruleset, unit)}

    def rest(self) -> None:
        """Nothing of ours runs any more until the next call."""

    @staticmethod
    def text(ruleset: Ruleset) -> str:
        """The rules for people, as the tools take them."""
        elements = [ruleset.elements_text(unit) for unit in ruleset.units]
        elements += [ruleset.sockets_text(unit, cgroup) for unit, cgroup in ruleset.sockets]
        elements += [ruleset.fixed_text(name, one) for name, ones in ruleset.fixed.items() for one in ones]
        return ruleset.rules + "".join(elements)

    def reassert(self) -> tuple[str, ...]:
        """`apply` the plan last applied again; nothing when none was.

        Raises:
            CaptureFailed, NetfilterError: as `apply`.
        """
        return () if self._ruleset is None else self.apply(self._ruleset)

    def verify(self) -> tuple[str, ...]:
        """Say how the kernel differs from the plan last applied, one line each; `apply` corrects it.

        Raises:
            NetfilterError: as `apply`.
        """
        return ("nothing was applied yet",) if self._ruleset is None else self.differences(self._ruleset)

    def differences(self, ruleset: Ruleset) -> tuple[str, ...]:
        """Say how the kernel differs from a plan, one line each; changes nothing.

        Raises:
            NetfilterError: as `apply`.
        """
        return (*self._marks.differences(), *compare(ruleset, self._look(ruleset), self._record.read()).describe())

    def release(self) -> None:
        """Capture nothing any more, and let connections that were captured live on as long as the proxy does.

        What stays is a table that captures nothing: without it the kernel would stop to translate what is still open.

        Raises:
            NetfilterError: as `apply`.
        """
        self._netfilter.run(no_rules())
        self._ruleset = None
        self._record.remove()

    def remove(self) -> None:
        """Delete the table with everything in it, and give the kernel setting its former value back.

        Connections that were captured are cut off where nobody else's rules need conntrack; `release` comes before, and
        this when they have ended. Foreign rules are not touched.

        Raises:
            NetfilterError: as `apply`.
            CaptureFailed: the rules are gone, but the setting cannot be changed here.
        """
        # `add` first: deleting a table that is not there would be an error
        self._netfilter.run(f"add table inet {TABLE}\ndelete table inet {TABLE}\n")
        self._ruleset = None
        self._record.remove()
        self._marks.give_back()

    def counters(self) -> dict[str, int]:
        """Packets by the name of the counter; none when the table is not there.

        Raises:
            NetfilterError: as `apply`.
        """
        return self._netfilter.counters()

    def _look(self, ruleset: Ruleset) -> Seen:
        listing = self._netfilter.list_table()
        elements = self._netfilter.elements(ruleset.sets) if listing is not None else {}
        ids = {cgroup: self._cgroups.id(cgroup) for cgroup in ruleset.cgroups}
        return Seen(listing, elements, {cgroup: found for cgroup, found in ids.items() if found is not None})

    def _correct(self, ruleset: Ruleset, seen: Seen, differences: Differences) -> bool:
        """False when a unit stopped while its element was added, or somebody changed the table: look again."""
        text = transaction(ruleset, seen, differences)
        if text:
            try:
                self._netfilter.run(text)
            except NoSuchCgroup:
                return False
        if differences.leftover and not differences.rules:
            self._netfilter.delete_elements(differences.leftover)
        if not differences.rules:
            return True
        listing = self._netfilter.list_table()
        if listing is None or not is_complete(ruleset, listing):
            return False
        self._record.write(Applied(ruleset.digest, listing))
        return True
