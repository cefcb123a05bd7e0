"""What a container runtime does with a network: `runtime.py ADD|DEL NAME CNI_ARGS`, plugin by plugin (CNI SPEC, 3)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PLUGINS = Path("/opt/cni/bin")
NETWORK = Path("/etc/cni/net.d/10-pods.conflist")


def main() -> None:
    """Run the chain, in order or in reverse; print the last result."""
    command, name, arguments = sys.argv[1:]
    network = json.loads(NETWORK.read_text(encoding="utf-8"))
    kept = Path(f"/run/{name}.result")
    result = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else None
    plugins = network["plugins"] if command == "ADD" else network["plugins"][::-1]
    environment = {**os.environ, "CNI_COMMAND": command, "CNI_CONTAINERID": name, "CNI_IFNAME": "eth0"}
    environment |= {"CNI_NETNS": f"/run/netns/{name}", "CNI_PATH": str(PLUGINS), "CNI_ARGS": arguments}
    for plugin in plugins:
        config = {**plugin, "cniVersion": network["cniVersion"], "name": network["name"]}
        if result is not None:
            config["prevResult"] = result
        done = subprocess.run(
            [PLUGINS / plugin["type"]],
            input=json.dumps(config),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{plugin['type']}: {done.stdout} {done.stderr}")
        if command == "ADD":
            result = json.loads(done.stdout)
            kept.write_text(json.dumps(result), encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
