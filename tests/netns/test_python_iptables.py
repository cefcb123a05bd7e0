"""python-iptables as the backend: that it writes what the tools would, and what its library leaves to us."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.netns.conftest import captured, workload
from tests.netns.two_hosts import MESH, put_certificate
from tests.support.agent import agent, start, until
from tests.support.netns import Cgroup, Namespace, namespace, slice_of_cgroups
from tests.support.patience import PATIENCE
from tests.support.pki import Authority

from hostmesh.kernel.iptables import Family, Iptables, Variant
from hostmesh.kernel.iptables_helper import LOCK
from hostmesh.kernel.netfilter import NetfilterError, NoSuchCgroup
from hostmesh.kernel.python_iptables import PythonIptables
from hostmesh.redirect.iptables_plan import JUMPS, compile_tables
from hostmesh.redirect.subjects import CapturedHost, CapturedUser, Exclusions, Intent, Reserved, Scope

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = pytest.mark.netns

TOOLS = Iptables(Variant.LEGACY)
MINE = "*nat\n:MINE - [0:0]\n-A MINE -p tcp --dport 81 -j REDIRECT --to-ports 82\nCOMMIT\n"


@pytest.fixture
def tables() -> Iterator[PythonIptables]:
    made = PythonIptables()
    yield made
    made.close()


@pytest.fixture
def host() -> Iterator[Namespace]:
    with namespace("iptc") as made, made.entered():
        yield made


def rules(family: Family) -> list[str]:
    saved = "".join(TOOLS.save(family, table) for table in JUMPS)
    return [line.partition(" [")[0] for line in saved.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("family", Family)
def test_the_kernel_has_what_the_tools_would_have_made(tables: PythonIptables, host: Namespace, family: Family) -> None:
    """To the byte, for every kind of rule that capture has."""
    with slice_of_cgroups() as (root, top):
        unit = Cgroup(root, f"{top}/a.service")
        unit.start()
        networks = tuple(ip_network(text) for text in ("192.0.2.0/24", "2001:db8::/32"))
        scope = Scope(Exclusions((22,), networks, ("eth7",), (33,)), Exclusions((9,), networks, ("eth8",)))
        intent = Intent(
            (captured(unit, 1, scope),),
            (CapturedUser(workload(2), 1000, (8080,), scope),),
            CapturedHost(workload(3), scope),
            listening={"prod/w1": (80, 81)},
            reserved=replace(Reserved(), owners=(7,), outbound=((networks[0], 53), (networks[1], 0))),
            socks5=15080,
        )
        compiled = compile_tables(intent, family, [unit.path])
        text = ""
        for table, jumps in JUMPS.items():
            lines = [f"*{table}", *(f":{name} - [0:0]" for name in compiled.of(table))]
            lines += [f"-A {name} {rule}" for name, several in compiled.of(table).items() for rule in several]
            lines += [f"-I {hook} 1 -j {chain}" for hook, chain in jumps.items()]
            text += "\n".join([*lines, "COMMIT", ""])
        tables.restore(family, text)
        ours = rules(family)
        with namespace("tools") as other, other.entered():
            TOOLS.restore(family, text)
            assert ours == rules(family)
        assert any("-g HOSTMESH-O1" in line for line in ours)


def test_a_cgroup_that_is_gone_is_an_error_and_changes_nothing(tables: PythonIptables, host: Namespace) -> None:
    """The library by itself would say nothing, and leave the rule out."""
    tables.restore(Family.V4, MINE)
    before = rules(Family.V4)
    with pytest.raises(NoSuchCgroup):
        tables.restore(Family.V4, '*nat\n-A MINE -j RETURN\n-A MINE -m cgroup --path "no/such" -j RETURN\nCOMMIT\n')
    assert rules(Family.V4) == before
    with pytest.raises(NetfilterError, match="NOBODY"):
        tables.restore(Family.V4, "*nat\n-A MINE -j RETURN\n-A MINE -j NOBODY\nCOMMIT\n")
    assert rules(Family.V4) == before
    tables.restore(Family.V4, "*nat\n-A MINE -j RETURN\nCOMMIT\n")
    assert [line for line in rules(Family.V4) if line not in before] == ["-A MINE -j RETURN"]


@pytest.mark.usefixtures("host")
def test_what_the_library_prints_is_kept_for_a_failure(
    tables: PythonIptables, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It warns with every rule of some kinds, which is nothing for the journal; what ends the process is told."""
    text = "*filter\n:MINE - [0:0]\n-A MINE -m connlabel --label 99 --set -j RETURN\nCOMMIT\n"
    for _ in range(3):
        tables.restore(Family.V4, text)
        tables.save(Family.V4, "filter")
    assert capfd.readouterr().err == ""
    tables.close()
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    with pytest.raises(NetfilterError, match="No module named 'encodings'"):
        tables.save(Family.V4, "filter")


def test_it_waits_for_who_has_the_lock_of_the_tools(tables: PythonIptables, host: Namespace) -> None:
    """Else it would undo what a tool is about to do."""
    tables.save(Family.V4, "nat")
    with LOCK.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        writer = threading.Thread(target=tables.restore, args=(Family.V4, MINE))
        writer.start()
        writer.join(0.3)
        assert writer.is_alive()
        assert not any("MINE" in line for line in rules(Family.V4))
    writer.join(PATIENCE)
    assert any("-A MINE" in line for line in rules(Family.V4))


def test_what_others_change_meanwhile_stays(tables: PythonIptables, host: Namespace) -> None:
    """Both families, in turns with the tools, and after its process has been killed."""
    for number, family in enumerate((*Family, *Family)):
        TOOLS.restore(family, f"*nat\n-A OUTPUT -p tcp --dport {number + 1} -j ACCEPT\nCOMMIT\n")
        tables.restore(family, MINE)
        if number == 1:
            tables.close()
    for first, family in enumerate(Family):
        accepted = [line.split()[7] for line in rules(family) if line.startswith("-A OUTPUT")]
        assert accepted == [str(first + 1), str(first + 3)]
        assert sum(line.startswith("-A MINE") for line in rules(family)) == 1


@pytest.mark.timeout(180)
def test_a_whole_agent(lab: Lab, tmp_path: Path) -> None:
    """It captures by the library, and a reload that replaces its program leaves no process behind that nobody reaps."""
    mesh = tmp_path / "mesh.yaml"
    mesh.write_text(MESH.replace("CLIENT", lab.host.v4).replace("SERVER", "192.0.2.9"))
    remote = lab.listen(lab.peer, lab.peer.v4, 8080)
    with agent(lab.host, tmp_path, lab.a.path) as made:
        put_certificate(tmp_path / "certificates", Authority(), "w1")
        (made.workloads / "w.yaml").write_text("workload: prod/w1\nserviceAccount: w1\ncapture: {unit: w1.service}\n")
        settings = {
            "node": "host1",
            "workers": 1,
            "capture": {"backend": "python-iptables"},
            "local_xds_path": str(mesh),
            "certificates": {"directory": str(tmp_path / "certificates")},
        }
        made.configure(**settings)
        start(made)
        made.configure(**settings, drain_deadline="6s")
        made.reload()
        until(lambda: "Z" not in made.children().values())
        assert "HOSTMESH-OUT" in lab.host.run("iptables-legacy-save")
        assert "hostmesh" not in lab.host.run("nft", "list", "tables")
        sock = lab.connect(lab.host, (lab.peer.v4, 8080), lab.a)
        lab.accept(remote).close()
        sock.close()
        until(lambda: 'direction="outbound"' in made.log)
        assert (tmp_path / "state" / "backend").read_text() == "python-iptables\n"
