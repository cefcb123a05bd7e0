"""/etc/hostmesh/workloads.d: what of this host is which workload.

A document has `workload: prod/web`, `serviceAccount: web` (default when left out) and one of
`capture: {unit: web-api.service}`, also of a slice, `capture: {user: backup, ports: [8080]}`, `capture: {host: true}`
and `capture: {netns: app1, addresses: [10.0.0.7]}`; `exclude` says what of it is not captured, and
`probes: [{port: 8080, from: [10.0.0.5/32]}]` whose health probes it takes in plaintext. With
`outboundTrafficPolicy: {mode: REGISTRY_ONLY}` it reaches nothing that the mesh does not know. It may have a `health`
that is probed, as in `health: {httpGet: {port: 8080, path: /healthz}}`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from hostmesh.config.strict_yaml import Document, InvalidYaml, Problem, load_documents, parse
from hostmesh.enrolment.probes import Health
from hostmesh.kernel.namespaces import NAMED
from hostmesh.model.health import Check
from hostmesh.model.workload import DEFAULT_SERVICE_ACCOUNT

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_UNIT = re.compile(r"[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]*)?\.(service|slice)")
_FAILSAFE = re.compile(
    r"(sshd?|dropbear|hostmesh-.*|systemd-.*|dbus(-broker)?)(@.*)?\.service|(-|system|user|user-.*|init|machine)\.slice"
)
_USER = re.compile(r"[a-z_][a-z0-9_.-]{0,31}\$?")
_INTERFACE = re.compile(r"[^\s/\"]{1,15}")
_RESERVED_USERS = frozenset({"root", "sshd", "hostmesh-agent", "hostmesh-proxy"})
BYPASS_INBOUND = "ambient.istio.io/bypass-inbound-capture"
DEFAULT_INBOUND = "hostmesh.io/default-inbound"


def _name(value: str) -> str:
    if len(value) > 253 or not all(_LABEL.fullmatch(part) for part in value.split(".")):
        raise ValueError("not a Kubernetes name: lower case letters, digits, '-' and '.'")
    return value


def _workload(value: str) -> str:
    namespace, slash, name = value.partition("/")
    if not slash or not _LABEL.fullmatch(namespace):
        raise ValueError("must be <namespace>/<name>, for example prod/web")
    _name(name)
    return value


def _unit(value: str) -> str:
    if not _UNIT.fullmatch(value) or len(value) > 255:
        raise ValueError("must be the full name of a service or slice, for example web-api.service")
    if "@.service" in value:
        raise ValueError("is a template; name an instance of it, for example app@1.service")
    if _FAILSAFE.fullmatch(value):
        raise ValueError("is needed to repair the host and is never captured")
    return value


def _netns(value: str) -> str:
    path = NAMED / value
    if not value or path.name in (".", "..") or ".." in path.parts or len(str(path)) > 255:
        raise ValueError("must be the name of a network namespace (`ip netns list`), or an absolute path to one")
    if "/" in value and not value.startswith("/"):
        raise ValueError("is neither a name nor an absolute path")
    if re.fullmatch(r"/proc/(self|thread-self|1)/.*", str(path)):
        raise ValueError("is the host's own network namespace; capture its services by their units")
    return str(path)


def _address(value: object) -> object:
    return ip_address(value) if isinstance(value, str) else value


def _network(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("must be a network, for example 10.0.0.0/8")  # noqa: TRY004 - pydantic wants it
    try:
        return ip_network(value)
    except ValueError:
        loose = ip_network(value, strict=False)
        raise ValueError(f"{value} has bits set beyond its prefix; write {loose}") from None


def _user(value: object) -> object:
    text = str(value)
    if isinstance(value, bool) or not (text.isdecimal() or _USER.fullmatch(text)):
        raise ValueError("must be the name of a user, or a uid")
    return text


def _captured_user(value: str) -> str:
    if value in _RESERVED_USERS or value == "0":
        raise ValueError("is needed to repair the host and is never captured; for everything else use `host: true`")
    return value


def _interface(value: str) -> str:
    if not _INTERFACE.fullmatch(value):
        raise ValueError("is no name of a network interface: 1 to 15 characters, no blanks")
    return value


Address = Annotated[IPv4Address | IPv6Address, BeforeValidator(_address)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
Port = Annotated[int, Field(ge=1, le=65535)]
User = Annotated[str, BeforeValidator(_user)]
Interface = Annotated[str, AfterValidator(_interface)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=False)


class Inbound(_Strict):
    """Connections to a workload that are not captured."""

    ports: list[Port] = []
    cidrs: list[Network] = []
    interfaces: list[Interface] = []


class Outbound(Inbound):
    """Connections of a workload that are not captured; `owners` are users that make them."""

    owners: list[User] = []


class Exclude(_Strict):
    """What of a workload is not captured."""

    inbound: Inbound = Inbound()
    outbound: Outbound = Outbound()


class HealthProbe(_Strict):
    """Who checks the health of a workload: from these networks to this port, in plaintext."""

    port: Port
    from_: Annotated[list[Network], Field(min_length=1)] = Field(alias="from")


NOTHING = Exclude()


class _Capture(_Strict):
    unit: Annotated[str, AfterValidator(_unit)] | None = None
    user: Annotated[User, AfterValidator(_captured_user)] | None = None
    host: Literal[True] | None = None
    netns: Annotated[str, AfterValidator(_netns)] | None = None
    addresses: list[Address] = []
    ports: list[Port] = []
    exclude: Exclude = NOTHING
    dns: bool = False

    @property
    def way(self) -> str:
        """The field that says what is captured."""
        return next(name for name in _WAYS if getattr(self, name) is not None)

    @model_validator(mode="after")
    def _one_way(self) -> _Capture:
        if sum(getattr(self, name) is not None for name in _WAYS) != 1:
            raise ValueError("must have exactly one of unit, user, host and netns")
        if self.addresses and self.netns is None:
            raise ValueError("addresses are those of a network namespace, and only go with netns")
        if self.ports and self.user is None:
            raise ValueError("ports are those that a user listens on, and only go with user")
        if self.dns and self.host is not None:
            raise ValueError("dns (capture of questions) does not go with host, which must resolve by itself")
        if self.netns is not None and self.exclude != NOTHING:
            raise ValueError("exclude does not go with netns: nothing but the workload is in its namespace")
        return self


_WAYS = ("unit", "user", "host", "netns")


class _Annotations(_Strict):
    bypass_inbound: Literal["true", "false"] = Field("false", alias=BYPASS_INBOUND)
    default_inbound: Literal["true", "false"] = Field("false", alias=DEFAULT_INBOUND)


class _OutboundTrafficPolicy(_Strict):
    mode: Literal["ALLOW_ANY", "REGISTRY_ONLY"]


class _Enrolment(_Strict):
    workload: Annotated[str, AfterValidator(_workload)]
    service_account: Annotated[str, AfterValidator(_name)] = Field(DEFAULT_SERVICE_ACCOUNT, alias="serviceAccount")
    annotations: _Annotations = _Annotations.model_validate({})
    capture: _Capture
    outbound_traffic_policy: _OutboundTrafficPolicy | None = Field(None, alias="outboundTrafficPolicy")
    probes: list[HealthProbe] = []
    health: Health | None = None

    @model_validator(mode="after")
    def _annotated(self) -> _Enrolment:
        if self.capture.netns is not None and self.annotations.bypass_inbound == "true":
            raise ValueError(f"{BYPASS_INBOUND} does not go with netns")
        if self.capture.netns is not None and self.annotations.default_inbound == "true":
            raise ValueError(f"{DEFAULT_INBOUND} does not go with netns: nobody else has its addresses")
        if self.capture.netns is not None and self.probes:
            raise ValueError("probes do not go with netns: those of this host are known without being named")
        return self


def check_names(workload: str, service_account: str) -> tuple[str, str]:
    """Namespace and name of a workload that somebody else than a document names.

    Raises:
        ValueError: no valid names.
    """
    _name(service_account)
    namespace, _, name = _workload(workload).partition("/")
    return namespace, name


@dataclass(frozen=True, slots=True)
class Enrolled:
    """One document: the unit `unit` is the workload `namespace/name`. `source` and `line` say where it is written.

    Or what is in the network namespace mounted at `netns` is, which must have `addresses`; or the processes of `user`,
    who listen on `ports`; or the `host`: then `unit` is empty. With `dns` its questions about names go to the agent.
    """

    namespace: str
    name: str
    service_account: str
    unit: str
    source: str
    line: int
    netns: str = ""
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()
    user: str = ""
    host: bool = False
    ports: tuple[int, ...] = ()
    exclude: Exclude = NOTHING
    bypass_inbound: bool = False
    registry_only: bool = False
    dns: bool = False
    probes: tuple[HealthProbe, ...] = ()
    health: Check | None = None
    default_inbound: bool = False

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


def read(directory: Path) -> tuple[Enrolled, ...]:
    """Read every *.yaml and *.yml of the directory; one that does not exist enrols nothing.

    Raises:
        InvalidYaml: every problem of every file; nothing of any file may be applied then.
    """
    problems: list[Problem] = []
    found: list[Enrolled] = []
    files = directory.iterdir() if directory.is_dir() else ()
    for file in sorted(f for f in files if f.suffix in (".yaml", ".yml") and not f.name.startswith(".")):
        try:
            found += read_text(file.read_text(), str(file))
        except InvalidYaml as error:
            problems += error.problems
        except (OSError, UnicodeDecodeError) as error:
            problems.append(Problem(str(file), 1, "", f"cannot be read: {error}"))
    problems += _duplicates(found)
    if problems:
        raise InvalidYaml(problems)
    return tuple(found)


def read_text(text: str, source: str) -> list[Enrolled]:
    """Read the documents of one file.

    Raises:
        InvalidYaml: every problem of the first bad document.
    """
    return [_enrolled(document) for document in load_documents(text, source)]


def _enrolled(document: Document) -> Enrolled:
    written = parse(document, _Enrolment)
    namespace, _, name = written.workload.partition("/")
    capture = written.capture
    line = document.line(("capture", capture.way))
    return Enrolled(
        namespace,
        name,
        written.service_account,
        capture.unit or "",
        document.source,
        line,
        capture.netns or "",
        tuple(capture.addresses),
        capture.user or "",
        capture.host is True,
        tuple(capture.ports),
        capture.exclude,
        written.annotations.bypass_inbound == "true",
        written.outbound_traffic_policy is not None and written.outbound_traffic_policy.mode == "REGISTRY_ONLY",
        capture.dns,
        tuple(written.probes),
        written.health.check() if written.health is not None else None,
        written.annotations.default_inbound == "true",
    )


def _default(enrolled: Enrolled) -> str:
    return "a default workload" if enrolled.default_inbound else ""


def _duplicates(found: list[Enrolled]) -> list[Problem]:
    problems: list[Problem] = []
    first: dict[tuple[str, str], Enrolled] = {}
    for enrolled in found:
        for field, value, why in (
            ("workload", enrolled.key, "one workload is one unit on a host"),
            ("capture.unit", enrolled.unit, "a unit has one identity"),
            ("capture.user", enrolled.user, "a user has one identity"),
            ("capture.host", "the host" if enrolled.host else "", "there is one host"),
            ("capture.netns", enrolled.netns, "a network namespace has one identity"),
            (f"annotations.{DEFAULT_INBOUND}", _default(enrolled), "peers that do not say whom they mean get one"),
        ):
            if not value:
                continue
            other = first.setdefault((field, value), enrolled)
            if other is not enrolled:
                text = f"{value} is enrolled already at {other.source}:{other.line}; {why}"
                problems.append(Problem(enrolled.source, enrolled.line, field, text))
    return problems
