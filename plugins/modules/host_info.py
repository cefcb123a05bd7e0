#!/usr/bin/python
# Copyright: The hostmesh authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Everything that the roles decide on about a host, in one round trip."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_info
short_description: What hostmesh needs to know about a host
version_added: 0.1.0
description:
  - Reads what the roles of this collection decide on, in one round trip and without changing anything.
  - Stands in for fact gathering, which takes several times as long.
attributes:
  check_mode:
    description: Only reads, so it does the same in check mode.
    support: full
  diff_mode:
    description: Only reads.
    support: none
  platform:
    description: Linux with systemd.
    platforms: linux
    support: full
author:
  - The hostmesh authors (@hostmesh)
"""

EXAMPLES = r"""
- name: Look at the host
  hostmesh.mesh.host_info:
  register: host
"""

RETURN = r"""
python:
  description:
    - Version of the interpreter that would run hostmesh, as major.minor. The one that Ansible uses, or where that is
      older than 3.11 the newest beside it.
  type: str
  returned: always
  sample: "3.11"
executable:
  description: That interpreter.
  type: str
  returned: always
  sample: /usr/bin/python3
machine:
  description: Architecture.
  type: str
  returned: always
  sample: x86_64
kernel:
  description: Kernel release.
  type: str
  returned: always
  sample: 6.1.0-28-amd64
systemd:
  description: Whether systemd is PID 1.
  type: bool
  returned: always
cgroup2:
  description: Whether the host has the unified cgroup hierarchy (cgroup v2 alone).
  type: bool
  returned: always
nft:
  description: Path of the nft program, empty if there is none.
  type: str
  returned: always
  sample: /usr/sbin/nft
iptables:
  description: Path of the iptables-restore program, which does where there is no nft; empty if there is none.
  type: str
  returned: always
  sample: /usr/sbin/iptables-restore
installed:
  description: The version of hostmesh that C(/opt/hostmesh/current) points to, empty if there is none.
  type: str
  returned: always
enrolled:
  description: Whether the host holds a node certificate that has not expired.
  type: bool
  returned: always
host_keys:
  description: The host's public SSH keys of the kinds ed25519, ecdsa and rsa, without comments.
  type: list
  elements: str
  returned: always
documents:
  description: Names of the files in C(/etc/hostmesh/documents).
  type: list
  elements: str
  returned: always
"""

import platform
import ssl
import sys
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

PREFIX = Path("/opt/hostmesh")
COMMAND = Path("/usr/local/bin/hostmesh")
NODE_CERTIFICATE = Path("/var/lib/hostmesh/node-cert.pem")
DOCUMENTS = Path("/etc/hostmesh/documents")
SSH = Path("/etc/ssh")
OLDEST = (3, 11)
BESIDE = ((3, 14), (3, 13), (3, 12), (3, 11))


def installed() -> str:
    """The installed version; empty if any piece of the installation is missing."""
    current = PREFIX / "current"
    complete = current / ".complete"
    if not current.is_symlink() or not complete.exists() or not COMMAND.exists():
        return ""
    return current.readlink().name


def enrolled() -> bool:
    """Whether there is a node certificate that has not expired."""
    try:
        # What ssl's own tests decode certificates with: the host has no other library for it before the installation.
        certificate = ssl._ssl._test_decode_cert(str(NODE_CERTIFICATE))  # type: ignore[attr-defined]  # noqa: SLF001
    except (OSError, ssl.SSLError):
        return False
    return ssl.cert_time_to_seconds(certificate["notAfter"]) > time.time()


def host_keys(folder: Path) -> list[str]:
    """Lines of the host's public keys; kinds that it does not have are passed over."""
    files = [folder / f"ssh_host_{kind}_key.pub" for kind in ("ed25519", "ecdsa", "rsa")]
    lines = [
        " ".join(file.read_text(encoding="utf-8", errors="replace").split()[:2]) for file in files if file.exists()
    ]
    return [line for line in lines if line]


def interpreter(module: AnsibleModule) -> tuple[str, str]:
    """Version and path of the Python that is to run hostmesh: Ansible's own, unless that is too old for it."""
    own = sys.version_info[:2]
    for major, minor in BESIDE if own < OLDEST else ():
        path = module.get_bin_path(f"python{major}.{minor}")
        if path:
            return f"{major}.{minor}", path
    return f"{own[0]}.{own[1]}", sys.executable


def yaml_files(folder: Path) -> list[str]:
    """Names of the YAML files in a folder, which may be missing."""
    return sorted(path.name for path in folder.glob("*.yaml"))


def main() -> None:
    """Answer Ansible's call."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    python, executable = interpreter(module)
    module.exit_json(
        changed=False,
        python=python,
        executable=executable,
        machine=platform.machine(),
        kernel=platform.release(),
        systemd=Path("/run/systemd/system").is_dir(),
        cgroup2=Path("/sys/fs/cgroup/cgroup.controllers").exists(),
        nft=module.get_bin_path("nft") or "",
        iptables=module.get_bin_path("iptables-restore") or "",
        installed=installed(),
        enrolled=enrolled(),
        host_keys=host_keys(SSH),
        documents=yaml_files(DOCUMENTS),
    )


if __name__ == "__main__":
    main()
