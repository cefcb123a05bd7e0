"""What a connection that was really made adds to an explanation that found nothing in its way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from hostmesh.admin.explain import Explanation
from hostmesh.admin.parties import Target
from hostmesh.admin.steps import Step
from hostmesh.admin.world import World
from hostmesh.model.address import IPAddress, SocketAddress
from hostmesh.telemetry.reasons import Reason


class Outcome(Enum):
    """What became of the connection, as its client sees it."""

    OPEN = "is accepted"
    REFUSED = "is refused"
    SILENT = "gets no answer"
    NOT_RUNNING = "was not tried: the unit does not run"


@dataclass(frozen=True, slots=True)
class Tried:
    """One connection of a unit's own.

    `named` is what was asked for and `resolved` what this host's resolver says it is; `error` and `reason` are the
    agent's, of its access log.
    """

    unit: str
    named: str
    resolved: tuple[IPAddress, ...]
    address: SocketAddress
    outcome: Outcome
    error: str = ""
    reason: Reason | None = None


def addresses_of(world: World, target: Target) -> frozenset[IPAddress]:
    """By which the mesh knows it: its own, and those of whoever stands behind it."""
    found = {target.ip}
    if target.service is not None:
        found |= {vip.ip for vip in target.service.vips}
        found |= {ip for endpoint in world.state.endpoints(target.service) for ip in endpoint.addresses}
    if target.workload is not None:
        found |= set(target.workload.addresses)
    return frozenset(found)


def with_tried(found: Explanation, tried: Tried, known: frozenset[IPAddress]) -> Explanation:
    """The explanation, after a connection was made as well.

    Args:
        found: in which nothing stops the connection.
        tried: what was made, and what became of it.
        known: addresses by which the mesh knows the destination.
    """
    steps = (*found.steps, *_names(tried, known), _made(tried, through=found.reason is Reason.THROUGH_WAYPOINT))
    allowed = tried.outcome in (Outcome.OPEN, Outcome.NOT_RUNNING)
    odd = next((step.reason for step in steps if step.weight == "odd" and step.reason is not None), None)
    reason = found.reason if allowed and odd is None else odd or steps[-1].reason or found.reason
    return Explanation(steps, allowed, reason)


def _names(tried: Tried, known: frozenset[IPAddress]) -> Iterator[Step]:
    if not tried.resolved:
        text = f"this host's resolver does not know {tried.named}; a client that asks it does not come this far"
        yield Step("name", f"{text} (docs/dns.md)", "odd")
    elif known.isdisjoint(tried.resolved):
        where = ", ".join(map(str, tried.resolved))
        text = f"this host's resolver says that {tried.named} is {where}: clients go there, and not to the service"
        yield Step("name", text, "odd", Reason.NAME_ELSEWHERE)


def _made(tried: Tried, *, through: bool) -> Step:
    text = f"a connection of {tried.unit} to {tried.address} {tried.outcome.value}"
    if tried.outcome is Outcome.OPEN:
        return Step("try", text)
    if tried.outcome is Outcome.NOT_RUNNING:
        return Step("try", text, "odd")
    if tried.error:
        text = f"{text}: {tried.error}"
    elif tried.outcome is Outcome.REFUSED:
        text = f"{text}, and the agent has not logged it: did it come to the agent? See `hostmesh rules diff`"
    # 503 is what a stock proxy says when its service does not accept; a waypoint says it of much else.
    if tried.reason is Reason.PEER_DECLINED and tried.error.startswith("http status: 503") and not through:
        text = f"{text}: its agent could not connect to the service there; is it running, and on that port and address?"
        return Step("try", text, "stops", Reason.APPLICATION_REFUSED)
    return Step("try", text, "stops", tried.reason or Reason.CONNECT_FAILED)
