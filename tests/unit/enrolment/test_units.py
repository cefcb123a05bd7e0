"""Units as workloads: cgroups, problems, the files that a start needs, and the drop-in."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from hostmesh.enrolment.units import DROP_IN_NAME, drop_in, drop_in_path, locate, write_unit_files
from hostmesh.enrolment.workloads_d import Enrolled
from hostmesh.kernel.units import Unit
from hostmesh.model.identity import Identity

ROOT = Path(__file__).parents[3]
DROP_IN = f"/etc/systemd/system/web.service.d/{DROP_IN_NAME}"
WEB = Enrolled("prod", "web", "web", "web.service", "web.yaml", 4)
HOST = {
    "web.service": Unit("web.service", True, True, "system.slice/web.service", (DROP_IN,)),
    "www.service": Unit("web.service", True, True, "system.slice/web.service", (DROP_IN,)),
    "bare.service": Unit("bare.service", True, False, "system.slice/bare.service", ("/run/x.conf",)),
    "nope.service": Unit("nope.service", False, False, "system.slice/nope.service"),
    "lazy.service": Unit("lazy.service", True, False, "system.slice/lazy.service", (), ("lazy.socket", "lazy.timer")),
}


def show(units: Sequence[str]) -> Mapping[str, Unit]:
    return {unit: HOST[unit] for unit in units}


def test_locate() -> None:
    """The workload carries its number, identity and unit; the cgroup is systemd's."""
    located = locate([WEB], {"prod/web": 9}, "example.org", show)
    (unit,) = located.units
    assert (unit.cgroup, unit.workload.number, unit.workload.unit) == ("system.slice/web.service", 9, "web.service")
    assert unit.workload.identity == Identity("example.org", "prod", "web")
    assert (located.workloads, located.mistakes, located.missing_drop_ins) == ((unit.workload,), (), ())


def test_units_without_the_drop_in_are_named() -> None:
    """They are captured while they run; the next start would begin outside the mesh."""
    bare = Enrolled("prod", "bare", "default", "bare.service", "bare.yaml", 2)
    assert locate([WEB, bare], {"prod/web": 1, "prod/bare": 2}, "x", show).missing_drop_ins == ("bare.service",)


@pytest.mark.parametrize(
    ("unit", "complaint"),
    [
        ("nope.service", "nope.service is not known to systemd; next: systemctl list-unit-files --type=service"),
        ("www.service", "www.service is web.service, enrolled already at web.yaml:4"),
    ],
)
def test_problems_of_one_workload_do_not_stop_the_others(unit: str, complaint: str) -> None:
    """Each has its place in the file; the rest is captured."""
    other = Enrolled("prod", "other", "default", unit, "other.yaml", 7)
    located = locate([WEB, other], {"prod/web": 1, "prod/other": 2}, "x", show)
    (problem,) = located.mistakes
    assert str(problem).startswith("other.yaml:7: capture.unit: ")
    assert complaint in str(problem)
    assert located.workloads[0].key == "prod/web"


def test_unit_files_follow_the_plan(tmp_path: Path) -> None:
    """Written when they change, removed with their workload, foreign files left alone."""
    directory = tmp_path / "units"
    texts = {"web.service.nft": "# a\n"}
    write_unit_files(directory, texts)
    file = directory / "web.service.nft"
    assert file.read_text() == "# a\n"
    written = file.stat().st_ino
    (directory / "notes").touch()
    (directory / "old.service.nft").touch()
    write_unit_files(directory, texts)
    assert file.stat().st_ino == written
    assert sorted(path.name for path in directory.iterdir()) == ["notes", "web.service.nft"]
    write_unit_files(directory, {})
    assert [path.name for path in directory.iterdir()] == ["notes"]


def test_drop_in_path() -> None:
    """Beside the unit's own files, in the order of numbers."""
    assert drop_in_path("app@1.service") == Path("/etc/systemd/system/app@1.service.d/50-hostmesh.conf")


def test_the_role_ships_this_drop_in() -> None:
    """What Ansible installs is what the agent looks for."""
    files = ROOT / "roles/workload/files"
    assert (files / DROP_IN_NAME).read_text() == drop_in()
    assert (files / "50-hostmesh-start-anyway.conf").read_text() == drop_in(start_anyway=True)


def run_condition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nft: str, *, start_anyway: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run the drop-in's command as systemd would, with an `nft` and a `sleep` of the test's own."""
    for name, script in (("nft", nft), ("sleep", f"echo >> {tmp_path}/slept")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    line = next(line for line in drop_in(start_anyway=start_anyway).splitlines() if line.startswith("ExecCondition=+"))
    script = line.split("-c '")[1].removesuffix("'").replace("%n", "web.service")
    assert not any(special in script for special in "$%\\'")
    return subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=False)


def test_drop_in_gives_the_units_file_to_nft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, when it works."""
    done = run_condition(tmp_path, monkeypatch, f'echo "$@" >> {tmp_path}/called')
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "called").read_text() == "-f /run/hostmesh/units/web.service.nft\n"


def test_drop_in_waits_for_rules_that_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another tool flushed the table: the agent puts it back within seconds, and the start goes on."""
    done = run_condition(tmp_path, monkeypatch, f"echo >> {tmp_path}/called; test $(wc -l < {tmp_path}/called) -ge 4")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "slept").read_text().count("\n") == 3


def test_drop_in_fails_closed_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """255 makes the unit fail; another code would skip it quietly."""
    done = run_condition(tmp_path, monkeypatch, "echo 'Error: No such file' >&2; exit 1")
    assert done.returncode == 255
    assert done.stderr == (
        "Error: No such file\n"
        "hostmesh cannot capture web.service, so it is not started; next: systemctl status hostmesh-agent\n"
    )


def test_drop_in_of_who_rather_starts_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the workload's choice, and it is told."""
    done = run_condition(tmp_path, monkeypatch, "exit 1", start_anyway=True)
    assert done.returncode == 0
    assert done.stderr == (
        "hostmesh cannot capture web.service, so it starts outside the mesh; next: systemctl status hostmesh-agent\n"
    )
