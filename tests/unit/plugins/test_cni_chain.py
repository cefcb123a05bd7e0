"""The module that chains a CNI plugin: behind the others, once, and without a trace when it goes."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.support.scripts import call, plugin

OURS = {"type": "hostmesh-cni", "failurePolicy": "fail"}
LIST = b'{ "cniVersion":"1.0.0",\n\t"name": "net", "plugins": [ {"type": "bridge"},   {"type":"portmap"} ]}'


@pytest.fixture(scope="module")
def module() -> ModuleType:
    return plugin("modules/cni_chain.py")


class Host:
    """A list on the disk."""

    def __init__(self, module: ModuleType, directory: Path) -> None:
        self.module = module
        self.path = directory / "net.conflist"
        self.kept = module.kept_at(directory / "kept", self.path)
        self.path.write_bytes(LIST)
        self.path.chmod(0o640)

    def call(self, state: str = "present", plugin: dict[str, str] = OURS) -> tuple[bool, bool]:
        """Whether it changed, and whether it is as it was."""
        answer = self.answer(state=state, plugin=plugin)
        return answer["changed"], answer["restored"]

    def answer(self, **options: object) -> dict[str, Any]:
        """Of the module, with these options in place of the usual ones."""
        usual = {"path": str(self.path), "plugin": OURS, "kept": str(self.kept.parent)}
        return call(self.module, **{**usual, **options})

    @property
    def types(self) -> list[str]:
        return [one["type"] for one in json.loads(self.path.read_bytes())["plugins"]]


@pytest.fixture
def host(module: ModuleType, tmp_path: Path) -> Host:
    return Host(module, tmp_path)


def test_last_of_the_list_and_once(host: Host) -> None:
    """A second call changes nothing; another configuration takes the place of the first."""
    assert host.call() == (True, False)
    assert host.types == ["bridge", "portmap", "hostmesh-cni"]
    assert host.call() == (False, False)
    assert host.call(plugin={**OURS, "failurePolicy": "open"}) == (True, False)
    assert host.types == ["bridge", "portmap", "hostmesh-cni"]
    assert host.path.stat().st_mode & 0o777 == 0o640


def test_taken_out_to_the_byte(host: Host) -> None:
    """However often it changed in between; and nothing else stays."""
    host.call()
    host.call(plugin={**OURS, "failurePolicy": "open"})
    assert host.call("absent") == (True, True)
    assert host.path.read_bytes() == LIST
    assert not host.kept.exists()
    assert host.call("absent") == (False, False)


def test_changes_of_others_stay(host: Host) -> None:
    """Then the plugin alone is taken out."""
    host.call()
    config = json.loads(host.path.read_bytes())
    config["plugins"].insert(2, {"type": "tuning"})
    host.path.write_text(json.dumps(config))
    assert host.call("absent") == (True, False)
    assert host.types == ["bridge", "portmap", "tuning"]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"{", "not JSON"),
        (b'{"type": "bridge"}', "no `plugins`"),
        (b'{"plugins": [{}]}', "each must be an object"),
        (b'{"plugins": [{"type": "hostmesh-cni"}]}', "nothing to chain behind"),
    ],
)
def test_what_is_no_list_stays_as_it_is(host: Host, data: bytes, why: str) -> None:
    """With the reason."""
    host.path.write_bytes(data)
    assert why in host.answer()["msg"]
    assert host.path.read_bytes() == data


def test_a_link_that_somebody_planted_is_not_followed(host: Host, tmp_path: Path) -> None:
    """Neither beside the list nor where it is kept."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    host.kept.parent.mkdir()
    for path in (host.path, host.kept):
        path.with_name(f".{path.name}.new").symlink_to(victim)
    assert host.call() == (True, False)
    assert victim.read_text() == "untouched"
    assert host.kept.stat().st_mode & 0o777 == 0o600


def test_a_place_where_nothing_can_be_written_is_said(host: Host) -> None:
    """In words; the list stays."""
    answer = host.answer(kept="/proc/none")
    assert answer["failed"]
    assert "/proc/none" in answer["msg"]
    assert "Traceback" not in str(answer)
    assert host.path.read_bytes() == LIST
