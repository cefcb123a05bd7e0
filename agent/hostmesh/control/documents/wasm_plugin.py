"""Istio WasmPlugin (extensions.istio.io): a WebAssembly module that a waypoint runs on every request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from hostmesh.config.strict_yaml import Path
from hostmesh.control.documents.authorization_policy import TargetRef
from hostmesh.control.documents.base import Finding, PortNumber, Resource, Selector, Strict, Text
from hostmesh.control.documents.policy_rules import check_target

_ELSEWHERE = ("imagePullPolicy", "imagePullSecret", "verificationKey")


class EnvVar(Strict):
    """A variable that the module sees; `HOST` takes the waypoint's own."""

    name: Text
    value: str = ""
    value_from: Literal["INLINE", "HOST"] = "INLINE"


class VmConfig(Strict):
    """Of the module's virtual machine."""

    env: Annotated[list[EnvVar], Field(max_length=256)] = Field(default=[])


class PortMatch(Strict):
    """A port of the service."""

    number: PortNumber


class TrafficMatch(Strict):
    """Traffic that it runs on; a waypoint is a server."""

    mode: Literal["UNDEFINED", "CLIENT", "SERVER", "CLIENT_AND_SERVER"] = "CLIENT_AND_SERVER"
    ports: list[PortMatch] = Field(default=[])


class WasmPluginSpec(Strict):
    """`url` is a file on the waypoint's host."""

    selector: Selector | None = None
    target_ref: TargetRef | None = None
    target_refs: Annotated[list[TargetRef], Field(max_length=16)] | None = None
    url: Text
    sha256: Annotated[str, Field(pattern=r"^([a-fA-F0-9]{64})?$")] = ""
    image_pull_policy: str = ""
    image_pull_secret: str = ""
    verification_key: str = ""
    plugin_config: dict[str, Any] | None = None
    plugin_name: Annotated[str, Field(max_length=256)] = ""
    phase: Literal["UNSPECIFIED_PHASE", "AUTHN", "AUTHZ", "STATS"] = "UNSPECIFIED_PHASE"
    priority: int = 0
    fail_strategy: Literal["FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD"] = "FAIL_CLOSE"
    vm_config: VmConfig = VmConfig()
    match: list[TrafficMatch] = Field(default=[])
    type: Literal["UNSPECIFIED_PLUGIN_TYPE", "HTTP", "NETWORK"] = "UNSPECIFIED_PLUGIN_TYPE"

    @property
    def targets(self) -> list[TargetRef]:
        """What it is attached to."""
        return [*([self.target_ref] if self.target_ref else []), *(self.target_refs or [])]

    @property
    def path(self) -> str:
        """The file."""
        return urlsplit(self.url).path if self.url.startswith("file:") else self.url


class WasmPlugin(Resource):
    """A module and where it runs."""

    spec: WasmPluginSpec


def check_wasm_plugin(plugin: WasmPlugin) -> Iterator[Finding]:
    """Rules beyond the shape."""
    spec = plugin.spec
    parts = urlsplit(spec.url)
    if parts.scheme not in ("", "file") or parts.netloc or not spec.path.startswith("/"):
        why = f"{spec.url!r} is not fetched: put the module on the waypoint's host and write file:///its/path.wasm"
        yield Finding(("spec", "url"), why)
    for name in _ELSEWHERE:
        if name in _given(spec):
            yield Finding(("spec", name), "is for images, and the module is a file; remove the field")
    if spec.type == "NETWORK":
        yield Finding(("spec", "type"), "plugins of TCP connections are not run here, only those of HTTP")
    if not spec.targets:
        field: Path = ("spec", "selector") if spec.selector is not None else ("spec",)
        yield Finding(field, "agents run no WebAssembly; attach it to a waypoint or a service with targetRefs")
    if spec.target_ref and spec.target_refs:
        yield Finding(("spec", "targetRef"), "only one of targetRef or targetRefs can be set")
    if spec.target_ref:
        yield from check_target(spec.target_ref, ("spec", "targetRef"))
    for number, target in enumerate(spec.target_refs or ()):
        yield from check_target(target, ("spec", "targetRefs", number))
    for number, variable in enumerate(spec.vm_config.env):
        if variable.value_from == "HOST" and variable.value:
            why = "the waypoint's own value is taken; remove the field or valueFrom: HOST"
            yield Finding(("spec", "vmConfig", "env", number, "value"), why)


def _given(spec: WasmPluginSpec) -> set[str]:
    return {type(spec).model_fields[name].alias or name for name in spec.model_fields_set}
