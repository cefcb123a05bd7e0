#!/usr/bin/python
# Copyright: The hostmesh authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Which services of a host are in the mesh, as one declarative list."""

from __future__ import annotations

DOCUMENTATION = r"""
module: workloads
short_description: Say which services of a host are in the mesh
version_added: 0.1.0
description:
  - Writes one enrolment for each service into C(/etc/hostmesh/workloads.d) and gives its unit the drop-in that captures
    every start of it. Services are not restarted and their connections are left alone.
  - What an earlier call enrolled and the list no longer holds is withdrawn. Enrolments that were written by other means
    are left alone.
options:
  workloads:
    description: All services of this host that are to be in the mesh.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the workload, as the control plane knows it.
        type: str
        required: true
      namespace:
        description: Its namespace.
        type: str
        required: true
      service_account:
        description: The account in its identity.
        type: str
        required: true
      unit:
        description: Full name of the systemd service, where a service is captured.
        type: str
        default: ""
      capture:
        description:
          - What is captured instead (C(user), C(host)), and what of it is not (C(exclude)), as C(workloads.d) has it.
        type: dict
        default: {}
      on_capture_failure:
        description: Whether a service that cannot be captured does not start, or starts outside the mesh.
        type: str
        choices: [fail, start]
        default: fail
      health:
        description: How its health is probed, as Istio's C(ReadinessProbe).
        type: dict
      outbound_traffic_policy:
        description: Whether it may reach what the mesh does not know.
        type: str
        choices: [ALLOW_ANY, REGISTRY_ONLY]
        default: ALLOW_ANY
  drop_in:
    description: Text of the drop-in.
    type: str
    required: true
  drop_in_start_anyway:
    description: Text of the drop-in for services that start although they cannot be captured.
    type: str
    default: ""
  drop_in_socket:
    description: Text of the drop-in for socket units of the services; they get none if it is empty.
    type: str
    default: ""
attributes:
  check_mode:
    description: Says what would change.
    support: full
  diff_mode:
    description: Shows the files before and after.
    support: full
  platform:
    description: Linux with systemd.
    platforms: linux
    support: full
author:
  - The hostmesh authors (@hostmesh)
"""

EXAMPLES = r"""
- name: One service of this host is in the mesh
  hostmesh.mesh.workloads:
    workloads:
      - name: web-api-mesh1
        namespace: default
        service_account: web-api
        unit: web-api.service
    drop_in: "{{ lookup('ansible.builtin.file', '50-hostmesh.conf') }}"
  notify: Reload hostmesh-agent
"""

RETURN = r"""
enrolled:
  description: Units that were not in the mesh before.
  type: list
  elements: str
  returned: always
withdrawn:
  description: Units that are no longer in the mesh.
  type: list
  elements: str
  returned: always
"""

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hostmesh.mesh.plugins.module_utils.files import replace

WORKLOADS = Path("/etc/hostmesh/workloads.d")
UNITS = Path("/etc/systemd/system")
DROP_IN = "50-hostmesh.conf"
HEADER = "# Written by the Ansible collection hostmesh.mesh; changes are lost.\n"
UNIT_LINE = re.compile(r"^  unit: (\S+)$", re.MULTILINE)
HOSTMESH = Path("/usr/local/bin/hostmesh")


class DropIns(NamedTuple):
    """What stands beside services, and beside their socket units where there is anything to say."""

    service: str
    start_anyway: str = ""
    held: str = ""

    def socket(self, start_anyway: bool) -> str:
        """As a service's: what fails stops the unit, or is passed over."""
        return self.held.replace("ExecStartPre=+", "ExecStartPre=-+") if start_anyway else self.held


def unit_of(workload: dict[str, Any]) -> str:
    """The unit that is captured, empty where something else is."""
    capture = workload.get("capture") or {}
    other = any(way in capture for way in ("user", "host", "netns"))
    return "" if other else str(capture.get("unit") or workload["unit"])


def enrolment(workload: dict[str, Any]) -> str:
    """The text of one file of workloads.d."""
    policy = workload.get("outbound_traffic_policy", "ALLOW_ANY")
    closed = "" if policy == "ALLOW_ANY" else f"outboundTrafficPolicy:\n  mode: {policy}\n"
    unit = unit_of(workload)
    others = {name: value for name, value in (workload.get("capture") or {}).items() if name != "unit"}
    lines = [f"unit: {unit}"] if unit else []
    lines += [f"{name}: {json.dumps(value)}" for name, value in others.items()]
    return (
        f"{HEADER}workload: {workload['namespace']}/{workload['name']}\n"
        f"serviceAccount: {workload['service_account']}\n"
        "capture:\n"
        + "".join(f"  {line}\n" for line in lines)
        + (f"health: {json.dumps(workload['health'])}\n" if workload.get("health") else "")
        + closed
    )


def written_before() -> dict[Path, str]:
    """The enrolments that this module wrote, by file."""
    texts = {path: current(path) or "" for path in WORKLOADS.glob("*.yaml")}
    return {path: text for path, text in texts.items() if text.startswith(HEADER)}


def units_of(texts: dict[Path, str]) -> set[str]:
    """The units that the given enrolments name."""
    return {unit for text in texts.values() for unit in UNIT_LINE.findall(text)}


def drop_in_path(unit: str) -> Path:
    """Where systemd looks for the drop-in of a unit."""
    return UNITS / f"{unit}.d" / DROP_IN


def plan(
    workloads: list[dict[str, Any]],
    drop_ins: DropIns,
    sockets: Callable[[str], set[str]] = lambda _: set(),
) -> dict[Path, str | None]:
    """Every file that has to be as given; None for one that has to be absent.

    Args:
        workloads: those of the host.
        drop_ins: what stands beside units.
        sockets: names of the socket units of a service.
    """
    before = written_before()
    wanted: dict[Path, str | None] = {
        WORKLOADS / f"{one['namespace']}.{one['name']}.yaml": enrolment(one) for one in workloads
    }
    units = {unit_of(one): one for one in workloads if unit_of(one)}
    for unit, one in units.items():
        if not unit.endswith(".slice"):
            anyway = one.get("on_capture_failure") == "start"
            wanted[drop_in_path(unit)] = drop_ins.start_anyway if anyway else drop_ins.service
            wanted |= {drop_in_path(name): drop_ins.socket(anyway) for name in sorted(sockets(unit))}
    gone = [path for path in before if path not in wanted]
    left = {name for unit in units_of(before) for name in (unit, *sockets(unit))}
    return {**dict.fromkeys([*gone, *map(drop_in_path, left)]), **wanted}


def current(path: Path) -> str | None:
    """What is in a file, which others may have written in any encoding; None if it is not there."""
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else None


def put(path: Path, text: str | None) -> None:
    """Make one file as planned."""
    if text is None:
        path.unlink()
        if path.name == DROP_IN and not any(path.parent.iterdir()):
            path.parent.rmdir()
        return
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    replace(path, text.encode(), 0o644)


def socket_units(module: AnsibleModule, unit: str) -> set[str]:
    """Socket units of a service: those that systemd knows, and the one that would have its name."""
    if not unit.endswith(".service"):
        return set()
    _, said, _ = module.run_command(["systemctl", "show", "--property=TriggeredBy", "--value", "--", unit], True)
    return {name for name in said.split() if name.endswith(".socket")} | {unit.removesuffix(".service") + ".socket"}


def check_units(module: AnsibleModule, units: set[str]) -> None:
    """Refuse units that systemd does not know: nothing would ever be captured."""
    unknown = []
    for unit in sorted(units):
        _, state, _ = module.run_command(["systemctl", "show", "--property=LoadState", "--value", "--", unit], True)
        if state.strip() == "not-found":
            unknown.append(unit)
    if not unknown:
        return
    text = (
        f"systemd on this host does not know {', '.join(unknown)}; "
        "install the service first, or correct `unit` of the workload in the inventory "
        "(see: systemctl list-unit-files --type=service)"
    )
    if module.check_mode:
        module.warn(text)
    else:
        module.fail_json(msg=text)


def check_lockout(module: AnsibleModule, changes: dict[Path, str | None]) -> None:
    """Refuse what the agent would refuse, and what would take ssh away; a check says it."""
    if not HOSTMESH.exists():
        return
    with tempfile.TemporaryDirectory() as directory:
        for path in WORKLOADS.glob("*.y*ml"):
            if path not in changes:
                shutil.copyfile(path, Path(directory, path.name))
        for path, text in changes.items():
            if path.parent == WORKLOADS and text is not None:
                Path(directory, path.name).write_text(text, encoding="utf-8")
        command = [str(HOSTMESH), "rules", "plan", "--check-lockout", "--workloads-dir", directory]
        status, _, complaint = module.run_command(command)
    if status == 0:
        return
    text = complaint.removeprefix("Error: ").replace(directory, str(WORKLOADS)).strip()
    if module.check_mode:
        module.warn(text)
    else:
        module.fail_json(msg=text)


def check_duplicates(module: AnsibleModule, workloads: list[dict[str, Any]]) -> None:
    """Refuse two workloads for one unit, and one workload twice."""
    for field, why in (("unit", "a unit has one identity"), ("name", "a workload is one unit")):
        seen: set[str] = set()
        for one in workloads:
            key = unit_of(one) if field == "unit" else f"{one['namespace']}/{one['name']}"
            if key and key in seen:
                module.fail_json(msg=f"{key} is listed twice; {why}: remove one of them from the inventory")
            seen.add(key)


def main() -> None:
    """Answer Ansible's call."""
    fields: dict[str, Any] = {
        **{name: {"type": "str", "required": True} for name in ("name", "namespace", "service_account")},
        "unit": {"type": "str", "default": ""},
        "capture": {"type": "dict", "default": {}},
        "on_capture_failure": {"type": "str", "choices": ["fail", "start"], "default": "fail"},
        "health": {"type": "dict"},
    }
    fields["outbound_traffic_policy"] = {
        "type": "str",
        "choices": ["ALLOW_ANY", "REGISTRY_ONLY"],
        "default": "ALLOW_ANY",
    }
    module = AnsibleModule(
        argument_spec={
            "workloads": {"type": "list", "elements": "dict", "required": True, "options": fields},
            "drop_in": {"type": "str", "required": True},
            "drop_in_start_anyway": {"type": "str", "default": ""},
            "drop_in_socket": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    check_duplicates(module, module.params["workloads"])
    try:
        converge(module, module.params["workloads"])
    except OSError as error:
        module.fail_json(msg=f"what is in the mesh cannot be read or written: {error}")


def converge(module: AnsibleModule, workloads: list[dict[str, Any]]) -> None:
    """Make the files be as the list says, and end the module with what changed."""
    units, before = {unit_of(one) for one in workloads} - {""}, units_of(written_before())
    names = ("drop_in", "drop_in_start_anyway", "drop_in_socket")
    drop_ins = DropIns(*(module.params[name].rstrip("\n") + "\n" for name in names))
    sockets = (lambda unit: socket_units(module, unit)) if drop_ins.held.strip() else (lambda _: set())
    planned = plan(workloads, drop_ins, sockets)
    changes = {path: text for path, text in planned.items() if current(path) != text}
    if units - before:
        check_units(module, units - before)
    if any(path.parent == WORKLOADS for path in changes):
        check_lockout(module, changes)
    diff: list[dict[str, Any]] = [
        {"before_header": str(path), "after_header": str(path), "before": current(path) or "", "after": text or ""}
        for path, text in changes.items()
    ]
    if not module.check_mode:
        for path, text in changes.items():
            put(path, text)
        if any(path.name == DROP_IN for path in changes):
            module.run_command(["systemctl", "daemon-reload"], check_rc=True)
    module.exit_json(
        changed=bool(changes), diff=diff, enrolled=sorted(units - before), withdrawn=sorted(before - units)
    )


if __name__ == "__main__":
    main()
