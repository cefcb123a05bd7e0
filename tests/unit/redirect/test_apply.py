"""The Redirector on the fake netfilter: the common suite, and failures that a kernel does not show at will."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.netfilter import FakeNetfilter, Observed
from tests.support.redirector_suite import Bench, RedirectorSuite

from hostmesh.kernel.cgroup import CgroupRoot
from hostmesh.kernel.netfilter import NetfilterError, NoSuchCgroup
from hostmesh.redirect.mark_acceptance import CaptureFailed


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    root = CgroupRoot(tmp_path / "cgroup", tmp_path / "cgroup")
    runtime, setting = tmp_path / "run", tmp_path / "proc/sys/net/ipv4/tcp_fwmark_accept"
    for directory in (root.mount, runtime, setting.parent):
        directory.mkdir(parents=True)
    setting.write_text("0\n")
    held: list[Path] = []

    def start(unit: str) -> None:
        (root.mount / "top" / unit).mkdir(parents=True)

    def stop(unit: str) -> None:
        # kept elsewhere, so that the file system does not give the inode to the next one
        held.append((root.mount / "top" / unit).rename(root.mount / f"gone{len(held)}"))

    made = Bench(Observed(FakeNetfilter(root)), root, "top", runtime, tmp_path / "proc/sys", start, stop)
    start("a.service")
    start("b.service")
    return made


class TestFakeRedirector(RedirectorSuite):
    """The suite without a kernel."""


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"digest": 1}', '{"digest": "", "listing": "", "more": 1}'])
def test_damaged_memory_is_no_memory(bench: Bench, damage: str) -> None:
    """A record cut short costs one needless transaction, and is whole again."""
    ruleset = bench.plan("a.service")
    bench.redirector.apply(ruleset)
    (bench.runtime / "capture.json").write_text(damage)
    assert bench.redirector.apply(ruleset) == ("table inet hostmesh has rules of another plan",)
    assert bench.redirector.apply(ruleset) == ()


def test_refusal_changes_nothing(bench: Bench) -> None:
    """When nft refuses, what was captured stays captured and the error tells."""
    bench.redirector.apply(bench.plan("a.service"))
    before = (bench.netfilter.list_table(), bench.marks(), bench.pairs())

    def refuse() -> None:
        raise NetfilterError("nft: syntax error")

    bench.netfilter.before_run.append(refuse)
    with pytest.raises(NetfilterError, match="syntax error"):
        bench.redirector.apply(bench.plan("a.service", "b.service", outbound=16001))
    assert (bench.netfilter.list_table(), bench.marks(), bench.pairs()) == before


def test_units_that_never_rest_end_in_an_error(bench: Bench) -> None:
    """A path that is always gone when nft reads it is given up on, in words."""

    def vanish() -> None:
        raise NoSuchCgroup("cgroupv2 path fails")

    bench.netfilter.before_run += [vanish] * 5
    with pytest.raises(CaptureFailed, match="units started and stopped"):
        bench.redirector.apply(bench.plan("a.service"))


def test_meddling_during_apply_is_not_remembered_as_ours(bench: Bench) -> None:
    """A foreign rule that slips in between the transaction and its listing is noticed at once."""
    inner = bench.netfilter.inner
    listings = iter([False, True])

    class Meddler(Observed):
        def list_table(self) -> str | None:
            if next(listings, False):
                inner.run('add rule inet hostmesh outbound accept comment "mine"\n')
            return inner.list_table()

    bench.netfilter = Meddler(inner)
    agent = bench.agent()
    agent.apply(bench.plan("a.service"))
    assert bench.netfilter.transactions == 2
    assert "mine" not in str(inner.list_table())


def test_read_only_setting_says_what_to_do(bench: Bench) -> None:
    """Under ProtectKernelTunables= the agent cannot turn it on; nothing is captured by halves."""
    setting = bench.proc_sys / "net/ipv4/tcp_fwmark_accept"
    setting.unlink()
    setting.mkdir()
    (bench.proc_sys / "net/ipv4").joinpath("tcp_fwmark_accept").rmdir()
    with pytest.raises(CaptureFailed, match=r"no net\.ipv4\.tcp_fwmark_accept; Linux"):
        bench.redirector.apply(bench.plan("a.service"))
    assert bench.netfilter.transactions == 0
