"""What a container runtime does on a host: the plugins of the lab's network, in their order (CNI 1.0, section 3)."""

import json
import os
import subprocess
import sys
from pathlib import Path

netns = sys.argv[1]
network = json.loads(Path("/etc/cni/net.d/10-lab.conflist").read_text())
result = {}
for plugin in network["plugins"]:
    config = {**plugin, "cniVersion": network["cniVersion"], "name": network["name"]}
    if result:
        config["prevResult"] = result
    environment = {
        "PATH": os.environ["PATH"],
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "box",
        "CNI_NETNS": netns,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/opt/cni/bin",
        "CNI_ARGS": "IgnoreUnknown=1;HOSTMESH_WORKLOAD=default/box;HOSTMESH_SERVICE_ACCOUNT=box",
    }
    program = "/opt/cni/bin/" + plugin["type"]
    done = subprocess.run(
        [program], input=json.dumps(config), text=True, capture_output=True, env=environment, check=False
    )
    if done.returncode:
        sys.exit(f"{program}: {done.stdout} {done.stderr}")
    result = json.loads(done.stdout)
sys.stdout.write(result["ips"][0]["address"])
