"""Rules of the audit log: one JSON object a line, private, bounded."""

from __future__ import annotations

import json
from pathlib import Path

from hostmesh.control.audit import AuditLog


def test_lines(tmp_path: Path) -> None:
    """Each event with its time; text that would break a line or a terminal is escaped."""
    path = tmp_path / "audit.log"
    log = AuditLog(path, now=lambda: 0.5)
    log.record("enrol", node="mesh2", result="refused")
    log.record("enrol", node="a\nb\x1b[31m", not_after=1.5)
    first, second = path.read_text().splitlines()
    assert json.loads(first) == {
        "time": "1970-01-01T00:00:00.500+00:00",
        "event": "enrol",
        "node": "mesh2",
        "result": "refused",
    }
    assert json.loads(second)["node"] == "a\nb\x1b[31m"
    assert "\x1b" not in second
    assert path.stat().st_mode & 0o777 == 0o600


def test_one_previous_file_is_kept(tmp_path: Path) -> None:
    """Nobody can fill the disk by being refused."""
    path = tmp_path / "audit.log"
    log = AuditLog(path, rotate_bytes=300)
    for number in range(40):
        log.record("enrol", number=number)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["audit.log", "audit.log.1"] or [f.name for f in files] == ["audit.log.1"]
    assert sum(file.stat().st_size for file in files) < 1000
    last = max(json.loads(line)["number"] for file in files for line in file.read_text().splitlines())
    assert last == 39
