"""The module that chains a CNI plugin: behind the others, once, and without a trace when it goes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]
OURS = {"type": "hostmesh-cni", "failurePolicy": "fail"}
LIST = b'{ "cniVersion":"1.0.0",\n\t"name": "net", "plugins": [ {"type": "bridge"},   {"type":"portmap"} ]}'


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cni_chain", ROOT / "plugins" / "modules" / "cni_chain.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


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
        before = self.path.read_bytes()
        after, restored = self.module.plan(before, plugin, state, self.kept)
        self.module.carry_out(self.path, before, after, state, self.kept)
        return before != after, restored

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
    with pytest.raises(host.module.Unusable, match=why):
        host.call()
    assert host.path.read_bytes() == data
