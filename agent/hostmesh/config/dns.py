"""The `dns` part of agent.yaml: names of services for this host and its workloads."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from hostmesh.model.address import SocketAddress

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


def _domain(value: str) -> str:
    if len(value) > 253 or not _NAME.fullmatch(value):
        raise ValueError("must be a domain in lower case, without a dot at either end, for example svc.cluster.local")
    return value


def _server(value: str) -> str:
    try:
        return str(SocketAddress.parse(value))
    except ValueError:
        whole = f"[{value}]:53" if ":" in value else f"{value}:53"
    try:
        return str(SocketAddress.parse(whole))
    except ValueError as error:
        raise ValueError("must be an IP address, or ip:port") from error


Domain = Annotated[str, AfterValidator(_domain)]


class Dns(BaseModel):
    """Names of services, answered where `enabled` at port `port` of loopback.

    `domain` is the cluster's; `domains` are those that the host's resolver sends to the agent, `svc.<domain>` where
    none is named. `namespace` is the one whose short names the host itself means. Other names are asked of
    `upstreams` (`ip` or `ip:port`), or of the name servers of /etc/resolv.conf. With `plain` the agent answers at
    127.0.15.53 port 53 too, for hosts whose resolv.conf is all there is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = False
    port: Annotated[int, Field(ge=1, le=65535)] = 15053
    plain: bool = False
    domain: Domain = "cluster.local"
    domains: tuple[Domain, ...] = ()
    namespace: str = Field(default="default", pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
    upstreams: tuple[Annotated[str, AfterValidator(_server)], ...] = ()

    @property
    def split(self) -> tuple[str, ...]:
        """What `domains` come to."""
        return self.domains or (f"svc.{self.domain}",)
