#!/opt/hostmesh/current/bin/python -IS
"""hostmesh-cni: a chained CNI plugin that enrols containers (CNI SPEC 1.1.0). It asks the agent, who does the work.

With the argument `oci` it is a hook of an OCI runtime instead (runtime-spec, "POSIX-platform Hooks"), for runtimes
without CNI: the container's state is on stdin, its annotations say which workload it is.

Copied to where the runtime looks for plugins, and run with nothing but the standard library, so it imports nothing of
hostmesh. A container is enrolled if it says which workload it is; all others are
passed through unchanged. What it may say and where: cni-config/README.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import sys
from typing import Any, NoReturn

AGENT = "/run/hostmesh/cni.sock"
TIMEOUT = 20.0
"""Seconds for the agent's answer: rules, listeners and, at most, a restart of the agent."""

AGENT_VARIABLE = "HOSTMESH_CNI_SOCKET"
"""For the hook, which has no configuration."""

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
SINCE = {"CHECK": "0.4.0", "STATUS": "1.1.0", "GC": "1.1.0"}

INCOMPATIBLE, BAD_ENVIRONMENT, IO_FAILURE, BAD_JSON, BAD_CONFIG, TRY_LATER = 1, 4, 5, 6, 7, 11
NOT_AVAILABLE, NOT_ENROLLED, REFUSED = 50, 100, 101

DNS_CAPTURE = "ambient.istio.io/dns-capture"
ANNOTATIONS = "io.kubernetes.cri.pod-annotations"
"""Capability by which containerd and CRI-O pass a pod's annotations."""

_CONTAINER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
_IFNAME = re.compile(r"[^\s/:]{1,15}")

Json = dict[str, Any]


class CniError(Exception):
    """What the runtime is told (SPEC, "Error")."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.details = details


class AgentAway(Exception):
    """The agent does not answer."""


def main() -> int:
    """One call of the runtime: environment and stdin in, stdout and exit status out."""
    version = VERSIONS[-1]
    try:
        command = os.environ.get("CNI_COMMAND", "")
        config = _config(sys.stdin.read())
        version = str(config.get("cniVersion", "0.1.0"))
        answer = _run(command, config, version)
    except CniError as error:
        said = {"cniVersion": version, "code": error.code, "msg": str(error), "details": error.details}
        json.dump({key: value for key, value in said.items() if value}, sys.stdout)
        return 1
    if answer is not None:
        json.dump(answer, sys.stdout)
    return 0


def hook() -> int:
    """One call of an OCI runtime: createRuntime enrols, poststop (the container is gone) releases."""
    try:
        _hook(_config(sys.stdin.read()))
    except CniError as error:
        sys.stderr.write(f"hostmesh-cni: {error}: {error.details}\n")
        return 1
    return 0


def _hook(state: Json) -> None:
    said = _object(state, "annotations")
    if not said.get("hostmesh.io/workload"):
        return
    namespace = f"/proc/{state.get('pid', 0)}/ns/net"
    os.environ.update(CNI_CONTAINERID=str(state.get("id", "")), CNI_IFNAME="all", CNI_NETNS=namespace, CNI_ARGS="")
    config = {"name": "oci", "prevResult": {}, "args": {"cni": said}, "agentSocket": os.environ.get(AGENT_VARIABLE)}
    if state.get("status") == "stopped":
        _del(config)
    else:
        _add(config)


def _run(command: str, config: Json, version: str) -> Json | None:
    if command == "VERSION":
        return {"cniVersion": version, "supportedVersions": list(VERSIONS)}
    verb = {"ADD": _add, "DEL": _del, "CHECK": _check, "STATUS": _status, "GC": _gc}.get(command)
    if verb is None:
        raise CniError(BAD_ENVIRONMENT, f"CNI_COMMAND is {command!r}, which is no command of CNI")
    if version not in VERSIONS:
        raise CniError(INCOMPATIBLE, f"cniVersion {version} is not supported", f"supported: {', '.join(VERSIONS)}")
    if VERSIONS.index(version) < VERSIONS.index(SINCE.get(command, VERSIONS[0])):
        raise CniError(INCOMPATIBLE, f"{command} came with CNI {SINCE[command]}, the configuration is {version}")
    if not isinstance(config.get("name"), str) or not config["name"]:
        raise CniError(BAD_CONFIG, "the configuration has no name")
    if config.get("failurePolicy", "fail") not in ("fail", "open"):
        raise CniError(BAD_CONFIG, f"failurePolicy is {config['failurePolicy']!r}; it is fail or open")
    return verb(config)


# The commands


def _add(config: Json) -> Json:
    attachment = _attachment(config)
    netns = _environment("CNI_NETNS")
    result = config.get("prevResult")
    if not isinstance(result, dict):
        raise CniError(BAD_CONFIG, "no prevResult: hostmesh-cni must come after the plugin that makes the interface")
    workload = _workload(config)
    if workload is None:
        return result
    request = {"verb": "add", **attachment, **workload, "netns": netns, "addresses": _addresses(result)}
    try:
        with open(netns, "rb") as namespace:  # noqa: PTH123 - pathlib would double the time to start
            answer = _ask(config, request, namespace.fileno())
    except AgentAway as error:
        if config.get("failurePolicy") == "open":
            sys.stderr.write(f"hostmesh-cni: {error}; the container stays outside the mesh (failurePolicy: open)\n")
            return result
        raise CniError(TRY_LATER, "the hostmesh agent does not answer", str(error)) from error
    except OSError as error:
        raise CniError(IO_FAILURE, f"CNI_NETNS {netns} cannot be opened", str(error)) from error
    if answer["error"]:
        raise CniError(REFUSED, f"the hostmesh agent refused workload {workload['workload']}", answer["error"])
    return result


def _del(config: Json) -> None:
    attachment = _attachment(config)
    try:
        answer = _ask(config, {"verb": "del", **attachment})
    except AgentAway as error:
        # The runtime must be able to go on; the agent reads the note when it starts.
        _leave_note(config, attachment)
        sys.stderr.write(f"hostmesh-cni: {error}; the removal is done when it starts\n")
        return
    if answer["error"]:
        sys.stderr.write(f"hostmesh-cni: {answer['error']}\n")


def _check(config: Json) -> None:
    attachment = _attachment(config)
    _environment("CNI_NETNS")
    result = config.get("prevResult")
    if not isinstance(result, dict):
        raise CniError(BAD_CONFIG, "no prevResult: CHECK compares with what ADD returned")
    workload = _workload(config)
    if workload is None:
        return
    try:
        answer = _ask(config, {"verb": "check", **attachment, **workload})
    except AgentAway as error:
        raise CniError(TRY_LATER, "the hostmesh agent does not answer", str(error)) from error
    if answer["error"]:
        raise CniError(NOT_ENROLLED, f"workload {workload['workload']} is not captured", answer["error"])


def _status(config: Json) -> None:
    try:
        answer = _ask(config, {"verb": "status"})
    except AgentAway as error:
        raise CniError(NOT_AVAILABLE, "the hostmesh agent does not answer", str(error)) from error
    if answer["error"]:
        raise CniError(NOT_AVAILABLE, "the hostmesh agent cannot enrol containers now", answer["error"])


def _gc(config: Json) -> None:
    valid = config.get("cni.dev/valid-attachments")
    if not isinstance(valid, list) or not all(isinstance(one, dict) for one in valid):
        raise CniError(BAD_CONFIG, "no cni.dev/valid-attachments")
    kept = [{"container": str(one.get("containerID")), "ifname": str(one.get("ifname"))} for one in valid]
    try:
        answer = _ask(config, {"verb": "gc", "network": config["name"], "valid": kept})
    except AgentAway as error:
        raise CniError(TRY_LATER, "the hostmesh agent does not answer", str(error)) from error
    if answer["error"]:
        raise CniError(REFUSED, "not everything could be removed", answer["error"])


# What the runtime says


def _config(text: str) -> Json:
    try:
        config = json.loads(text)
    except ValueError as error:
        raise CniError(BAD_JSON, "the configuration on stdin is not JSON", str(error)) from error
    if not isinstance(config, dict):
        raise CniError(BAD_JSON, "the configuration on stdin is no JSON object")
    return config


def _environment(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise CniError(BAD_ENVIRONMENT, f"{name} is not set")
    return value


def _attachment(config: Json) -> Json:
    container, ifname = _environment("CNI_CONTAINERID"), _environment("CNI_IFNAME")
    if not _CONTAINER.fullmatch(container):
        raise CniError(BAD_ENVIRONMENT, f"CNI_CONTAINERID {container!r} is not valid")
    if ifname in (".", "..") or not _IFNAME.fullmatch(ifname):
        raise CniError(BAD_ENVIRONMENT, f"CNI_IFNAME {ifname!r} is not valid")
    return {"network": config["name"], "container": container, "ifname": ifname}


def _workload(config: Json) -> Json | None:
    """Who the container says it is, most specific first; None for one that is not to be enrolled."""
    arguments = dict(pair.partition("=")[::2] for pair in os.environ.get("CNI_ARGS", "").split(";"))
    named = {
        "hostmesh.io/workload": arguments.get("HOSTMESH_WORKLOAD"),
        "hostmesh.io/service-account": arguments.get("HOSTMESH_SERVICE_ACCOUNT"),
    }
    by_host_name = _object(config, "workloads").get(arguments.get("NERDCTL_CNI_DHCP_HOSTNAME", ""))
    for said in (
        _object(config, "runtimeConfig", ANNOTATIONS),
        _object(config, "args", "cni"),
        named,
        {"hostmesh.io/workload": by_host_name},
        {"hostmesh.io/workload": config.get("workload"), "hostmesh.io/service-account": config.get("serviceAccount")},
    ):
        workload = said.get("hostmesh.io/workload")
        if workload:
            account = said.get("hostmesh.io/service-account") or config.get("serviceAccount") or "default"
            wish = said.get(DNS_CAPTURE, config.get("dns"))
            return {"workload": str(workload), "serviceAccount": str(account), "dns": wish in (True, "true")}
    return None


def _object(config: Json, *path: str) -> Json:
    found: Any = config
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _addresses(result: Json) -> list[str]:
    try:
        return [str(one["address"]).partition("/")[0] for one in result.get("ips") or []]
    except (TypeError, KeyError) as error:
        raise CniError(BAD_CONFIG, "prevResult has ips without an address") from error


# The agent


def _ask(config: Json, request: Json, namespace: int | None = None) -> Json:
    path = str(config.get("agentSocket") or AGENT)
    descriptors = [] if namespace is None else [namespace]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(TIMEOUT)
            connection.connect(path)
            socket.send_fds(connection, [json.dumps(request).encode()], descriptors)
            answer = connection.recv(65536)
    except OSError as error:
        _away(path, str(error))
    if not answer:
        _away(path, "it closed the connection")
    try:
        return {"error": str(json.loads(answer)["error"])}
    except (ValueError, KeyError, TypeError) as error:
        _away(path, f"its answer is not understood: {error}")


def _away(path: str, why: str) -> NoReturn:
    raise AgentAway(f"no answer at {path}: {why}; next: systemctl status hostmesh-agent")


def _leave_note(config: Json, attachment: Json) -> None:
    """In a directory of the agent's, so nothing in the way there or in it is trusted."""
    directory = os.path.dirname(str(config.get("agentSocket") or AGENT))  # noqa: PTH120 - as above
    text = json.dumps(attachment).encode()
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        runtime = os.open(directory, flags)
        notes = os.open("cni-gone", flags, dir_fd=runtime)
        name = hashlib.sha256(text).hexdigest()
        note = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=notes)
        os.write(note, text)
    except FileExistsError:
        return
    except OSError as error:
        # There is no such directory where the agent never ran, and nothing to remove then either.
        sys.stderr.write(f"hostmesh-cni: no note could be left: {error}\n")


if __name__ == "__main__":
    sys.exit(hook() if sys.argv[1:] == ["oci"] else main())
