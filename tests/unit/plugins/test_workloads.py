"""The module that enrols a host's services: exactly the list, and nothing that others wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import pytest
from tests.support.scripts import call, plugin

from hostmesh.enrolment.workloads_d import read

DROP_IN = "[Service]\nExecCondition=true\n"
WEB = {"name": "web-mesh1", "namespace": "default", "service_account": "web", "unit": "web.service"}
BATCH = {"name": "batch-mesh1", "namespace": "jobs", "service_account": "night", "unit": "batch@1.service"}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    loaded = plugin("modules/workloads.py")
    for name in ("WORKLOADS", "UNITS"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(loaded, name, tmp_path / name)
    return loaded


def nothing(_: str) -> set[str]:
    """No service has a socket unit."""
    return set()


def converge(
    module: ModuleType, *workloads: Mapping[str, object], sockets: Callable[[str], set[str]] = nothing
) -> set[str]:
    """What one call of the module changes, by file name."""
    plan = module.plan(list(workloads), module.DropIns(DROP_IN), sockets)
    changes = {path: text for path, text in plan.items() if module.current(path) != text}
    for path, text in changes.items():
        module.put(path, text)
    return {path.name if path.parent == module.WORKLOADS else path.parent.name for path in changes}


def test_enrolments_are_what_the_agent_reads(module: ModuleType) -> None:
    """The files have the agent's own format."""
    converge(module, WEB, BATCH)
    assert {(e.key, e.service_account, e.unit) for e in read(module.WORKLOADS)} == {
        ("default/web-mesh1", "web", "web.service"),
        ("jobs/batch-mesh1", "night", "batch@1.service"),
    }


def test_a_workload_may_be_kept_to_the_mesh(module: ModuleType) -> None:
    """As the agent reads it; what says nothing stays as it was before there was the choice."""
    before = module.enrolment(WEB)
    assert module.enrolment({**WEB, "outbound_traffic_policy": "ALLOW_ANY"}) == before
    converge(module, {**WEB, "outbound_traffic_policy": "REGISTRY_ONLY"}, BATCH)
    assert {(e.key, e.registry_only) for e in read(module.WORKLOADS)} == {
        ("default/web-mesh1", True),
        ("jobs/batch-mesh1", False),
    }


def test_the_list_is_all_there_is(module: ModuleType) -> None:
    """A second call changes nothing; what leaves the list leaves the host, drop-in and its folder included."""
    assert converge(module, WEB, BATCH) == {
        "default.web-mesh1.yaml",
        "jobs.batch-mesh1.yaml",
        "web.service.d",
        "batch@1.service.d",
    }
    assert converge(module, WEB, BATCH) == set()
    assert converge(module, WEB) == {"jobs.batch-mesh1.yaml", "batch@1.service.d"}
    assert not (module.UNITS / "batch@1.service.d").exists()


def test_a_workload_moves_to_another_unit(module: ModuleType) -> None:
    """The old unit loses its drop-in, the new one gets it."""
    converge(module, WEB)
    assert converge(module, {**WEB, "unit": "web2.service"}) == {
        "default.web-mesh1.yaml",
        "web.service.d",
        "web2.service.d",
    }
    assert not module.drop_in_path("web.service").exists()


def test_what_others_wrote_is_left_alone(module: ModuleType) -> None:
    """An enrolment by hand stays, and so does another drop-in beside ours."""
    by_hand = module.WORKLOADS / "cache.yaml"
    by_hand.write_text("workload: default/cache\ncapture: {unit: cache.service}\n")
    other = module.UNITS / "web.service.d" / "10-limits.conf"
    other.parent.mkdir()
    other.write_text("[Service]\nLimitNOFILE=1000\n")
    converge(module, WEB)
    converge(module)
    assert by_hand.exists()
    assert other.exists()


def test_other_ways_of_capture(module: ModuleType) -> None:
    """A user, the host, and what is excluded; a slice has no drop-in, and the choice of a service is its own."""
    common = {"namespace": "default", "service_account": "x", "unit": "x.service"}
    excluded = {"exclude": {"inbound": {"ports": [9100]}}}
    workloads = (
        {**common, "name": "user", "capture": {"user": "backup", "ports": [8080]}},
        {**common, "name": "host", "capture": {"host": True}},
        {**common, "name": "slice", "capture": {"unit": "app.slice"}},
        {**common, "name": "unit", "capture": excluded, "on_capture_failure": "start"},
    )
    for path, text in module.plan(list(workloads), module.DropIns("closed\n", "open\n")).items():
        module.put(path, text)
    found = {one.name: one for one in read(module.WORKLOADS)}
    assert (found["user"].user, found["user"].ports, found["host"].host) == ("backup", (8080,), True)
    assert (found["slice"].unit, found["unit"].unit) == ("app.slice", "x.service")
    assert found["unit"].exclude.inbound.ports == [9100]
    assert [path.parent.name for path in module.UNITS.rglob("*.conf")] == ["x.service.d"]
    assert module.drop_in_path("x.service").read_text() == "open\n"


def test_socket_units_of_services_have_a_drop_in_as_long_as_these_are_enrolled(
    module: ModuleType, tmp_path: Path
) -> None:
    """Closed while they start; a service that starts anyway has one that may fail, and a slice has none."""
    held = "[Socket]\nExecStartPre=+hold\n"
    workloads = [WEB, {**BATCH, "on_capture_failure": "start"}, {**WEB, "name": "app", "unit": "app.slice"}]

    def socket_units(unit: str) -> set[str]:
        name, _, kind = unit.rpartition(".")
        return {f"{name}.socket"} if kind == "service" else set()

    def changes(*enrolled: Mapping[str, object]) -> dict[str, str | None]:
        drop_ins = module.DropIns(DROP_IN, "open\n", held)
        planned = module.plan(list(enrolled), drop_ins, socket_units)
        for path, text in planned.items():
            if module.current(path) != text:
                module.put(path, text)
        return {path.parent.name: text for path, text in planned.items() if ".socket.d" in str(path)}

    anyway = "[Socket]\nExecStartPre=-+hold\n"
    assert changes(*workloads) == {"web.socket.d": held, "batch@1.socket.d": anyway}
    assert changes(WEB) == {"web.socket.d": held, "batch@1.socket.d": None}
    assert changes() == {"web.socket.d": None}
    assert not list((tmp_path / "UNITS").iterdir())


@pytest.fixture
def systemd(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that knows every unit."""
    monkeypatch.setattr(module, "check_units", lambda *_: None)
    monkeypatch.setattr(module.AnsibleModule, "run_command", lambda *_, **__: (0, "", ""))


def test_a_file_of_others_may_be_anything(module: ModuleType, systemd: None) -> None:
    """An editor's leftovers, say, in no known encoding; also where ours is to be."""
    (module.WORKLOADS / "notes.yaml").write_bytes(b"\xe4\xf6\xfc")
    (module.WORKLOADS / "default.web-mesh1.yaml").write_bytes(b"\xe4\xf6\xfc")
    assert call(module, workloads=[WEB], drop_in=DROP_IN)["enrolled"] == ["web.service"]
    assert (module.WORKLOADS / "notes.yaml").read_bytes() == b"\xe4\xf6\xfc"
    assert not call(module, workloads=[WEB], drop_in=DROP_IN)["changed"]


def test_a_link_that_somebody_planted_is_not_followed(module: ModuleType, systemd: None, tmp_path: Path) -> None:
    """What is written is written beside nobody's file."""
    (tmp_path / "victim").write_text("untouched")
    (module.WORKLOADS / ".default.web-mesh1.yaml.new").symlink_to(tmp_path / "victim")
    assert call(module, workloads=[WEB], drop_in=DROP_IN)["changed"]
    assert (tmp_path / "victim").read_text() == "untouched"
    assert (module.WORKLOADS / "default.web-mesh1.yaml").stat().st_mode & 0o777 == 0o644


def test_a_place_where_nothing_can_be_written_is_said(module: ModuleType, systemd: None) -> None:
    """In words, with the path."""
    (module.UNITS / "web.service.d").write_text("a file where the folder of drop-ins belongs")
    answer = call(module, workloads=[WEB], drop_in=DROP_IN)
    assert answer["failed"]
    assert "web.service.d" in answer["msg"]
