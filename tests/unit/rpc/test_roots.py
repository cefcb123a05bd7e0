"""Whom a host believes to be the control plane, through rotations and reinstallations."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from hostmesh.rpc.roots import Roots


@pytest.fixture
def given(tmp_path: Path) -> Path:
    path = tmp_path / "root-cert.pem"
    path.write_text("first")
    return path


def test_the_file_counts_until_something_is_learned(given: Path, tmp_path: Path) -> None:
    """And what was learned replaces it, over restarts: a dismissed root must not live on in a file."""
    learned = tmp_path / "roots.json"
    roots = Roots(given, learned)
    assert roots.pem() == "first"
    roots.learn(b"first and second")
    assert roots.pem() == Roots(given, learned).pem() == "first and second"
    roots.learn(b"second")
    assert Roots(given, learned).pem() == "second"
    assert learned.stat().st_mode & 0o777 == 0o600
    given.unlink()
    assert Roots(given, learned).pem() == "second"


def test_a_file_that_somebody_changed_counts_again(given: Path, tmp_path: Path) -> None:
    """The mesh may have been made anew: the operator's hand reaches every host."""
    roots = Roots(given, tmp_path / "roots.json")
    roots.learn(b"second")
    given.write_text("third")
    assert roots.pem() == "second\nthird"
    roots.learn(b"third")
    assert roots.pem() == "third"


def test_what_cannot_be_kept_or_read_is_said(given: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The host goes on with what it has."""
    with caplog.at_level(logging.WARNING):
        Roots(given, tmp_path / "gone" / "roots.json").learn(b"second")
        (tmp_path / "roots.json").write_text("{}")
        assert Roots(given, tmp_path / "roots.json").pem() == "first"
    texts = [record.getMessage() for record in caplog.records]
    assert "could not be kept: No such file or directory" in texts[0]
    assert "the roots of" in texts[1]


def test_without_a_place_nothing_is_learned(given: Path) -> None:
    """Tools that only ask once."""
    roots = Roots(given)
    roots.learn(b"second")
    assert roots.pem() == "first"
    given.unlink()
    with pytest.raises(FileNotFoundError):
        roots.pem()
