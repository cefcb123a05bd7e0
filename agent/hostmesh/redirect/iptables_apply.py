"""The owner of our chains in iptables, where that is the backend: applies the plan, watches it, removes it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hostmesh.kernel.cgroup import CgroupRoot
from hostmesh.kernel.iptables import Family, Iptables
from hostmesh.kernel.netfilter import NoSuchCgroup
from hostmesh.kernel.python_iptables import PythonIptables
from hostmesh.kernel.record import Record
from hostmesh.redirect.iptables_plan import JUMPS, PREFIX, STARTED, Tables, compile_tables, start_text
from hostmesh.redirect.mark_acceptance import CaptureFailed, MarkAcceptance
from hostmesh.redirect.plan import Ruleset
from hostmesh.redirect.subjects import CapturedUnit

_ATTEMPTS = 5

Tools = Iptables | PythonIptables


@dataclass(frozen=True, slots=True)
class Applied:
    """What was applied: digest of the plan with the cgroups it meant, and how iptables listed ours afterwards."""

    digest: str
    own: Mapping[str, list[str]]


class IptablesRedirector:
    """As Redirector, with other tools; blocking, one call at a time.

    Args:
        cgroups: where the hierarchy is.
        runtime: as Redirector's.
        tools: those that rule this host.
        proc_sys: /proc/sys.
    """

    def __init__(self, cgroups: CgroupRoot, runtime: Path, tools: Tools, proc_sys: Path = Path("/proc/sys")) -> None:
        self._cgroups = cgroups
        self._record = Record(runtime / "capture-iptables.json", Applied)
        self._marks = MarkAcceptance(runtime, proc_sys)
        self._tools = tools
        self._ruleset: Ruleset | None = None
        self.ending = tools.name

    def apply(self, ruleset: Ruleset) -> tuple[str, ...]:
        """As Redirector's; each table changes at once, the guard's before the one it guards."""
        self._ruleset = ruleset
        for _ in range(_ATTEMPTS):
            found = self.differences(ruleset)
            if not found:
                return ()
            try:
                self._correct(ruleset)
            except NoSuchCgroup:
                continue
            return found
        raise CaptureFailed("units started and stopped all the while rules were prepared; next: try again")

    def start_files(self, ruleset: Ruleset, unit: CapturedUnit) -> dict[str, str]:
        """As Redirector's."""
        del ruleset
        return {self.ending: start_text(unit)}

    def text(self, ruleset: Ruleset) -> str:
        """As Redirector's."""
        running = self._running(ruleset)
        lines: list[str] = []
        for family in Family:
            tables = compile_tables(ruleset.intent, family, running)
            for table in JUMPS:
                rules = [f"-A {name} {rule}" for name, several in tables.of(table).items() for rule in several]
                lines += [f"# {family.value}", f"*{table}", *rules, "COMMIT"]
        return "\n".join([*lines, ""])

    def reassert(self) -> tuple[str, ...]:
        """As Redirector's."""
        return () if self._ruleset is None else self.apply(self._ruleset)

    def verify(self) -> tuple[str, ...]:
        """As Redirector's."""
        return ("nothing was applied yet",) if self._ruleset is None else self.differences(self._ruleset)

    def differences(self, ruleset: Ruleset) -> tuple[str, ...]:
        """As Redirector's."""
        return tuple(self._differences(ruleset))

    def remove(self) -> None:
        """Our chains and the rules that lead to them go; nobody else's are touched. The kernel's setting is given back.

        Raises:
            NetfilterError, CaptureFailed: as Redirector's.
        """
        self.release()
        self._marks.give_back()

    def release(self) -> None:
        """As Redirector's; iptables' tables go on translating what is open by themselves."""
        for family in Family:
            text = "".join(self._removal(family, table) for table in reversed(JUMPS))
            if text:
                self._tools.restore(family, text)
        self._ruleset = None
        self._record.remove()

    def rest(self) -> None:
        """As Redirector's."""
        self._tools.close()

    @staticmethod
    def counters() -> dict[str, int]:
        """As Redirector's: none, as health probes are let through by nftables only."""
        return {}

    def _differences(self, ruleset: Ruleset) -> Iterator[str]:
        yield from self._marks.differences()
        applied = self._record.read()
        if applied is None or applied.digest != self._digest(ruleset):
            yield "iptables has rules of another plan, of units that have started since, or none"
            return
        for family in Family:
            for table in JUMPS:
                if self._own(family, table) != applied.own.get(f"{family.value} {table}"):
                    yield f"somebody has changed our rules in {family.value}, table {table}"

    def _correct(self, ruleset: Ruleset) -> None:
        self._marks.turn_on()
        digest = self._digest(ruleset)
        running = self._running(ruleset)
        for family in Family:
            tables = compile_tables(ruleset.intent, family, running)
            self._tools.restore(family, "".join(self._text(family, table, tables) for table in JUMPS))
        own = {f"{family.value} {table}": self._own(family, table) for family in Family for table in JUMPS}
        self._record.write(Applied(digest, own))

    def _running(self, ruleset: Ruleset) -> dict[str, int]:
        ids = {cgroup: self._cgroups.id(cgroup) for cgroup in ruleset.cgroups}
        return {cgroup: found for cgroup, found in ids.items() if found is not None}

    def _digest(self, ruleset: Ruleset) -> str:
        """Of the rules, and of the cgroups that their paths mean now."""
        running = self._running(ruleset)
        tables = [compile_tables(ruleset.intent, family, running) for family in Family]
        return hashlib.sha256(repr((tables, sorted(running.items()))).encode()).hexdigest()

    def _text(self, family: Family, table: str, tables: Tables) -> str:
        saved = self._tools.save(family, table).splitlines()
        chains = tables.of(table)
        there = [line[1:].split()[0] for line in saved if line.startswith(f":{PREFIX}")]
        lines = [f"*{table}", *(f":{name} - [0:0]" for name in {*there, *chains})]
        for name, rules in chains.items():
            lines += [f"-A {name} {rule}" for rule in rules]
        for hook, chain in JUMPS[table].items():
            lines += [f"-D {hook} -j {chain}" for line in saved if line == f"-A {hook} -j {chain}"]
            lines.append(f"-I {hook} 1 -j {chain}")
        lines += [f"-X {name}" for name in there if name not in chains]
        return "\n".join([*lines, "COMMIT", ""])

    def _removal(self, family: Family, table: str) -> str:
        saved = self._tools.save(family, table).splitlines()
        there = [line[1:].split()[0] for line in saved if line.startswith(f":{PREFIX}")]
        if not there:
            return ""
        jumps = [
            f"-D {hook} -j {chain}"
            for hook, chain in JUMPS[table].items()
            for line in saved
            if line == f"-A {hook} -j {chain}"
        ]
        empty = [f":{name} - [0:0]" for name in there]
        return "\n".join([f"*{table}", *empty, *jumps, *(f"-X {name}" for name in there), "COMMIT", ""])

    def _own(self, family: Family, table: str) -> list[str]:
        """Our chains, and the first rule of each chain that must lead to them."""
        lines = self._tools.save(family, table).splitlines()
        own = [line for line in lines if line.startswith((f":{PREFIX}", f"-A {PREFIX}"))]
        # a start of a unit is no change by somebody: the digest tells, by its new cgroup
        own = [line for line in own if not line.startswith(f"-A {STARTED} ")]
        own = [line.partition(" [")[0] for line in own]
        firsts = {hook: next((line for line in lines if line.startswith(f"-A {hook} ")), "") for hook in JUMPS[table]}
        return [
            *sorted(line for line in own if line.startswith(":")),
            *(x for x in own if x[0] == "-"),
            *firsts.values(),
        ]
