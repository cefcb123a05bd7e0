"""Mistakes of who uses the lab are told before anything is made or removed."""

from __future__ import annotations

from pathlib import Path

import lab.__main__ as command
import pytest
from lab import instance, rootfs
from lab.console import LabError
from lab.instance import Address


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lab called `one` with a host called `mesh1`, of which there are files only."""
    monkeypatch.setattr(instance, "STATE", tmp_path)
    monkeypatch.setattr(rootfs, "require_tools", lambda: None)
    (tmp_path / "one" / "hosts" / "mesh1").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("name", ["mesh2", "..", "../..", ""])
def test_a_host_that_is_none_of_the_lab_is_not_taken_down(
    name: str, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A slip of the pen removes nothing: above the folder of a host are those of all others."""
    assert command.main(["down", "one", name]) == 1
    assert "has no host" in capsys.readouterr().err
    assert (state / "one" / "hosts" / "mesh1").is_dir()


@pytest.mark.parametrize(
    ("hosts", "why"),
    [
        (["a=10.0.0.11/24", "b=10.0.1.11/24"], "share one network"),
        (["a=10.0.0.1/32"], "has no room"),
        (["a=10.0.0.1/24"], "the bridge's own"),
        (["a=10.0.0.11/24", "b=10.0.0.11/24"], "have the same address"),
    ],
)
def test_addresses_must_fit_together(hosts: list[str], why: str) -> None:
    """Else hosts would boot and not hear each other, and nobody would know why."""
    with pytest.raises(LabError, match=why):
        command._gateway([Address.parse(one) for one in hosts])
