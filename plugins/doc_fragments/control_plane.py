# Copyright: The hostmesh authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What the modules that speak to the control plane have in common."""

from __future__ import annotations


class ModuleDocFragment:
    """Read by ansible-doc."""

    DOCUMENTATION = r"""
options:
  socket:
    description: The control plane's socket on the host where the module runs.
    type: path
    default: /run/hostmesh-control-plane/control.sock
attributes:
  check_mode:
    description: Says what would change; the control plane checks everything that it would check.
    support: full
  diff_mode:
    description: Shows what changes, as the control plane sees it.
    support: full
  platform:
    description: Linux.
    platforms: linux
    support: full
notes:
  - Runs on the host of the control plane, as root or a member of the group C(hostmesh); use C(delegate_to).
author:
  - The hostmesh authors (@hostmesh)
"""
