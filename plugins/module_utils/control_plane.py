# Copyright: The hostmesh authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The control plane's unix socket, as modules speak to it: standard library only, for they run on any host."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule

try:
    import yaml
except ImportError:
    yaml = None  # type: ignore[assignment]

Json = dict[str, Any]

ARGUMENTS: Json = {"socket": {"type": "path", "default": "/run/hostmesh-control-plane/control.sock"}}
"""What every module of the control plane takes."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("control-plane", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class ControlPlane:
    """Requests of one module; whatever goes wrong ends the module with what a user needs to know."""

    def __init__(self, module: AnsibleModule) -> None:
        self._module = module
        self._path = str(module.params["socket"])

    def get(self, path: str) -> Json:
        """Read."""
        return self.request("GET", path)

    def request(self, method: str, path: str, body: Json | None = None) -> Json:
        """Ask; refusals of the control plane fail the module in its words."""
        connection = _Connection(self._path)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            status, data = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            self._module.fail_json(
                msg=f"{self._path}: the control plane does not answer: {error}; "
                "run this on its host (delegate_to), as root, and see `systemctl status hostmesh-control-plane`"
            )
        finally:
            connection.close()
        try:
            answer: Json = json.loads(data)
        except ValueError:
            self._module.fail_json(msg=f"{self._path}: unexpected answer {status}: {data[:200]!r}")
        if status >= 400:
            problems = answer.get("problems", [])
            self._module.fail_json(msg="\n".join([*map(problem, problems), answer["error"]]), problems=problems)
        return answer


def problem(one: Json) -> str:
    """`file:line: field: why`."""
    return ": ".join(filter(None, [f"{one['source']}:{one['line']}", one["field"], one["why"]]))


def segment(text: str) -> str:
    """A part of a path; `-` stands for none."""
    return quote(text or "-", safe="")


def as_text(definition: Json) -> str:
    """A document as it is kept: YAML where the host can write it, else JSON, which is YAML too."""
    if yaml is None:
        return json.dumps(definition, indent=2) + "\n"
    return str(yaml.safe_dump(definition, sort_keys=False, allow_unicode=True))


def put(module: AnsibleModule, plane: ControlPlane, definitions: list[Json], sources: list[str]) -> None:
    """Make documents live, all or none, and end the module with what changed."""
    files = [{"source": source, "text": as_text(one)} for source, one in zip(sources, definitions)]  # noqa: B905
    answer = plane.request("POST", "/v1/diff" if module.check_mode else "/v1/apply", {"files": files})
    for warning in answer["warnings"]:
        module.warn(problem(warning))
    leave(module, answer["outcomes"])


def take(module: AnsibleModule, plane: ControlPlane, keys: list[tuple[str, str, str]]) -> None:
    """Withdraw the documents `(kind, namespace, name)` that are there, and end the module with what changed."""
    outcomes: list[Json] = []
    for kind, namespace, name in keys:
        live = plane.get(f"/v1/objects/{kind}")["items"]
        if any((one["namespace"], one["name"]) == (namespace, name) for one in live):
            query = "?dry_run=true" if module.check_mode else ""
            path = f"/v1/objects/{kind}/{segment(namespace)}/{segment(name)}{query}"
            outcomes += plane.request("DELETE", path)["outcomes"]
    leave(module, outcomes)


def leave(module: AnsibleModule, outcomes: list[Json]) -> None:
    """End with the control plane's own account of what it did or would do."""
    changed = [one for one in outcomes if one["action"] != "unchanged"]
    module.exit_json(
        changed=bool(changed),
        diff=[{"prepared": one["diff"]} for one in changed],
        objects=[{name: one[name] for name in ("kind", "namespace", "name", "action", "file")} for one in outcomes],
    )
