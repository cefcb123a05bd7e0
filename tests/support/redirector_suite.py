"""What every netfilter must do for the Redirector: one suite, run against the fake and against the real kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.netfilter import Observed

from hostmesh.kernel.cgroup import CgroupRoot
from hostmesh.model.identity import Identity
from hostmesh.model.local import LocalWorkload
from hostmesh.redirect.apply import Redirector
from hostmesh.redirect.mark_acceptance import FWMARK_ACCEPT
from hostmesh.redirect.plan import CapturedUnit, ListenerPorts, Ruleset, plan, unit_text


@dataclass
class Bench:
    """A host: its netfilter, its cgroups below `top`, and ways to start, restart and stop units."""

    netfilter: Observed
    cgroups: CgroupRoot
    top: str
    runtime: Path
    proc_sys: Path
    start: Callable[[str], None]
    stop: Callable[[str], None]

    def __post_init__(self) -> None:
        self.redirector = self.agent()

    def agent(self) -> Redirector:
        """What a fresh process of the agent has."""
        return Redirector(self.cgroups, self.runtime, self.netfilter, self.proc_sys)

    def plan(self, *units: str | tuple[str, int], outbound: int = 15001) -> Ruleset:
        """The plan for units by name, numbered from 1 or as said."""
        numbered = [(u, n) if isinstance(u, str) else u for n, u in enumerate(units, 1)]
        captured = [
            CapturedUnit(
                LocalWorkload(n, f"w{n}", "prod", Identity("cluster.local", "prod", "w"), Path(u).name),
                f"{self.top}/{u}",
            )
            for u, n in numbered
        ]
        ports = ListenerPorts(outbound=outbound)
        return plan(captured, ports, cgroup_prefix=self.cgroups.nft_prefix)

    def restart(self, unit: str) -> None:
        """As systemd does: the cgroup is removed and made again, with another id."""
        self.stop(unit)
        self.start(unit)

    def marks(self, level: int = 2) -> dict[int, int]:
        """The capture map: cgroup id to mark."""
        held = self.netfilter.elements([f"workloads_{level}"])[f"workloads_{level}"]
        return {int.from_bytes(k, "little"): int.from_bytes(v, "little") for k, v in held.items()}

    def pairs(self, level: int = 2) -> set[tuple[int, int]]:
        """The guard's set: cgroup id and mark."""
        held = self.netfilter.elements([f"owners_{level}"])[f"owners_{level}"]
        return {(int.from_bytes(k[:8], "little"), int.from_bytes(k[8:12], "little")) for k in held}

    def id(self, unit: str) -> int:
        found = self.cgroups.id(f"{self.top}/{unit}")
        assert found is not None
        return found


class RedirectorSuite:
    """Subclasses provide the fixture `bench`; a.service and b.service run."""

    def test_apply_captures_what_runs(self, bench: Bench) -> None:
        """Both elements of each running unit are there; a unit that does not run has none."""
        assert bench.redirector.apply(bench.plan("a.service", "b.service", "stopped.service"))
        a, b = bench.id("a.service"), bench.id("b.service")
        assert bench.marks() == {a: 0x1000, b: 0x2000}
        assert bench.pairs() == {(a, 0x1539), (b, 0x2539)}
        assert bench.redirector.verify() == ()

    def test_second_apply_runs_no_transaction(self, bench: Bench) -> None:
        """Also not after the agent's restart: the kernel is read and compared."""
        ruleset = bench.plan("a.service", "b.service")
        bench.redirector.apply(ruleset)
        assert bench.netfilter.transactions == 1
        assert bench.redirector.apply(ruleset) == ()
        assert bench.agent().apply(ruleset) == ()
        assert (bench.netfilter.transactions, bench.netfilter.deletions) == (1, 0)

    def test_lost_table_is_found_and_laid_out_again(self, bench: Bench) -> None:
        """`nft flush ruleset` of somebody else is corrected within one transaction."""
        bench.redirector.apply(bench.plan("a.service"))
        rules = bench.netfilter.list_table()
        bench.netfilter.run("delete table inet hostmesh\n")
        assert bench.redirector.verify() == (
            "table inet hostmesh is not there",
            "a.service runs, but is not captured as prod/w1",
        )
        bench.redirector.reassert()
        assert bench.netfilter.list_table() == rules
        assert bench.marks() == {bench.id("a.service"): 0x1000}

    @pytest.mark.parametrize(
        ("meddling", "complaint"),
        [
            ("flush chain inet hostmesh arriving", "missing:"),
            ('add rule inet hostmesh outbound tcp dport 9 return comment "mine"', "foreign: tcp dport 9 return"),
            ("add chain inet hostmesh mine", "foreign: chain mine {"),
        ],
    )
    def test_meddling_in_the_table_is_named_and_undone(self, bench: Bench, meddling: str, complaint: str) -> None:
        """Verify says which rule; apply brings the very same rules back and keeps the elements."""
        bench.redirector.apply(bench.plan("a.service"))
        rules = bench.netfilter.list_table()
        bench.netfilter.run(f"{meddling}\n")
        assert any(complaint in difference for difference in bench.redirector.verify())
        bench.redirector.reassert()
        assert bench.netfilter.list_table() == rules
        assert bench.redirector.verify() == ()

    def test_start_of_a_unit_adds_both_elements(self, bench: Bench) -> None:
        """The unit's own file is enough; the agent then only collects what died with the old cgroup."""
        ruleset = bench.plan("a.service", "b.service")
        bench.redirector.apply(ruleset)
        old = bench.id("a.service")
        bench.restart("a.service")
        bench.netfilter.run(unit_text(ruleset, ruleset.units[0]))
        new = bench.id("a.service")
        assert new != old
        assert bench.marks() == {old: 0x1000, new: 0x1000, bench.id("b.service"): 0x2000}
        assert (new, 0x1539) in bench.pairs()
        before = bench.netfilter.transactions
        assert len(bench.redirector.apply(ruleset)) == 2
        assert (bench.netfilter.transactions, bench.netfilter.deletions) == (before, 1)
        assert bench.marks() == {new: 0x1000, bench.id("b.service"): 0x2000}
        assert bench.pairs() == {(new, 0x1539), (bench.id("b.service"), 0x2539)}

    def test_start_without_the_drop_in_is_caught_up_with(self, bench: Bench) -> None:
        """A unit that came up unnoticed is reported and captured from then on."""
        bench.redirector.apply(bench.plan("a.service"))
        bench.restart("a.service")
        assert "a.service runs, but is not captured as prod/w1" in bench.redirector.verify()
        bench.redirector.reassert()
        assert bench.marks() == {bench.id("a.service"): 0x1000}

    def test_start_during_apply_is_not_lost(self, bench: Bench) -> None:
        """What a start adds between reading the kernel and the transaction survives, even when rules change."""
        bench.redirector.apply(bench.plan("a.service"))
        changed = bench.plan("a.service", outbound=16001)

        def restart() -> None:
            bench.restart("a.service")
            bench.netfilter.inner.run(unit_text(changed, changed.units[0]))

        bench.netfilter.before_run.append(restart)
        bench.redirector.apply(changed)
        assert bench.marks()[bench.id("a.service")] == 0x1000
        assert (bench.id("a.service"), 0x1539) in bench.pairs()

    def test_unit_that_stops_during_apply_does_not_fail_the_others(self, bench: Bench) -> None:
        """Its path is gone when nft reads it: everything is looked at again."""
        bench.netfilter.before_run.append(lambda: bench.stop("b.service"))
        bench.redirector.apply(bench.plan("a.service", "b.service"))
        assert bench.marks() == {bench.id("a.service"): 0x1000}
        assert bench.redirector.verify() == ()

    def test_workload_that_is_no_more_is_not_captured(self, bench: Bench) -> None:
        """Its elements go, though its unit runs on."""
        bench.redirector.apply(bench.plan("a.service", "b.service"))
        bench.redirector.apply(bench.plan("a.service"))
        assert bench.marks() == {bench.id("a.service"): 0x1000}
        assert bench.pairs() == {(bench.id("a.service"), 0x1539)}

    def test_unit_that_becomes_another_workload_gets_its_mark(self, bench: Bench) -> None:
        """In one transaction, so that there is no moment without capture."""
        bench.redirector.apply(bench.plan(("a.service", 1)))
        before = bench.netfilter.transactions
        bench.redirector.apply(bench.plan(("a.service", 7)))
        bench.redirector.reassert()
        assert bench.netfilter.transactions == before + 1
        assert bench.marks() == {bench.id("a.service"): 0x7000}
        assert bench.pairs() == {(bench.id("a.service"), 0x7539)}

    def test_levels_come_and_go(self, bench: Bench) -> None:
        """A template instance lives one level deeper: it brings a map, a set and rules, and takes them with it."""
        bench.start("app.slice/app@1.service")
        bench.redirector.apply(bench.plan("a.service"))
        flat = bench.netfilter.list_table()
        bench.redirector.apply(bench.plan("a.service", "app.slice/app@1.service"))
        assert bench.marks(3) == {bench.id("app.slice/app@1.service"): 0x2000}
        bench.redirector.apply(bench.plan("a.service"))
        assert bench.netfilter.list_table() == flat
        assert bench.marks() == {bench.id("a.service"): 0x1000}

    def test_no_workloads_is_a_plan_too(self, bench: Bench) -> None:
        """The table stands ready for the first one."""
        bench.redirector.apply(bench.plan())
        assert bench.redirector.verify() == ()
        assert bench.redirector.reassert() == ()

    def test_remove_leaves_nothing(self, bench: Bench) -> None:
        """Table, memory and kernel setting are as they were; a second removal is no error."""
        before = self.accepts_marks(bench)
        bench.redirector.apply(bench.plan("a.service"))
        assert self.accepts_marks(bench) == "1"
        for _ in range(2):
            bench.redirector.remove()
            assert bench.netfilter.list_table() is None
            assert self.accepts_marks(bench) == before
            assert list(bench.runtime.iterdir()) == []
        assert bench.redirector.verify() == ("nothing was applied yet",)
        assert bench.redirector.reassert() == ()

    def test_setting_that_was_on_stays_on(self, bench: Bench) -> None:
        """Somebody else may need it."""
        (bench.proc_sys / FWMARK_ACCEPT.replace(".", "/")).write_text("1")
        bench.redirector.apply(bench.plan("a.service"))
        bench.redirector.remove()
        assert self.accepts_marks(bench) == "1"

    def test_setting_that_was_turned_off_is_reported_and_turned_on(self, bench: Bench) -> None:
        """Without it the proxy could not tell who calls, and would refuse everybody."""
        bench.redirector.apply(bench.plan("a.service"))
        (bench.proc_sys / FWMARK_ACCEPT.replace(".", "/")).write_text("0")
        assert bench.redirector.verify() == (f"{FWMARK_ACCEPT} is not 1",)
        bench.redirector.reassert()
        assert self.accepts_marks(bench) == "1"

    @staticmethod
    def accepts_marks(bench: Bench) -> str:
        return (bench.proc_sys / FWMARK_ACCEPT.replace(".", "/")).read_text().strip()
