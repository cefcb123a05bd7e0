"""`make demo`: boot hosts, put them into the mesh with ansible-playbook, show what then holds.

Exit status 0 if every check was as expected and the second rollout changed nothing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.console import LabError

from demo import checks
from demo.deploy import boot, deploy
from demo.estate import LAB, MACHINES, SLEEP
from demo.table import Seen, Table

ROOT = Path(__file__).parent.parent
BIN = ROOT / ".venv" / "bin"
BUILD = ROOT / "roles" / "_common" / "files" / "build_bundle.py"
INVENTORY = "inventories/demo"
SITE = "playbooks/site.yml"
RECAP = re.compile(r"^(\S+)\s*: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)")


class DemoFailed(Exception):
    """A step on the way to the checks failed; there is nothing to check."""


@contextmanager
def step(text: str) -> Iterator[None]:
    """Announce a step, and say how long it took."""
    print(f"\n== {text}", flush=True)
    start = time.monotonic()
    yield
    print(f"== {time.monotonic() - start:.1f} s", flush=True)


def playbook(path: str) -> dict[str, int]:
    """Run a playbook as a user would; what it prints passes through. Returns changes by host.

    Raises:
        DemoFailed: it failed.
    """
    command = [str(BIN / "ansible-playbook"), "-i", INVENTORY, path]
    print(f"$ {' '.join(['ansible-playbook', *command[1:]])}", flush=True)
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
    changes: dict[str, int] = {}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if not line.startswith(("ok: ", "skipping: ", "included: ")) and line.strip():
                print(f"  {line.rstrip()}", flush=True)
            recap = RECAP.match(line)
            if recap:
                changes[recap[1]] = int(recap[3])
    if process.returncode != 0:
        raise DemoFailed(f"{' '.join(command[1:])} ended with status {process.returncode}; its messages are above")
    return changes


def prepare() -> None:
    """Boot the hosts with their services, and build what they will be given at the same time.

    Raises:
        DemoFailed: hostmesh cannot be built.
        LabError: a host or a service does not start.
    """
    build = [sys.executable, str(BUILD), "--source", str(ROOT)]
    with subprocess.Popen(build, stdout=subprocess.DEVNULL) as building:
        boot(LAB, MACHINES)
        deploy(LAB, MACHINES)
    if building.returncode != 0:
        raise DemoFailed("hostmesh cannot be built; the reason is above")


def main() -> int:
    """Run the whole demo."""
    start = time.monotonic()
    table = Table()
    try:
        with step("Booting three hosts with services that know nothing of a mesh, and one that will never be in it"):
            prepare()
        with step("Putting the hosts into the mesh"):
            playbook(SITE)
        checks.wait_enrolled()
        # From here on somebody uses the services all the time, also while the playbook runs again.
        SLEEP.ask(load=checks.WEB_API)
        first = checks.all_serials()
        with step("Putting the hosts into the mesh once more"):
            changes = playbook(SITE)
        text = ", ".join(f"{host} changed={count}" for host, count in changes.items())
        print("\n== Checks", flush=True)
        table.check("a second ansible-playbook", "changed=0", lambda: Seen(not any(changes.values()), text), within=0)
        checks.everything(table, first)
    except (DemoFailed, LabError, OSError) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        print("look into a host with: make demo-shell HOST=mesh1 (then: journalctl -u hostmesh-agent)", file=sys.stderr)
        return 1
    print(table.render())
    print(
        f"The demo took {time.monotonic() - start:.0f} s. Look around: make demo-shell HOST=mesh2. End: make demo-down."
    )
    return 0 if table.ok else 1


if __name__ == "__main__":
    sys.exit(main())
