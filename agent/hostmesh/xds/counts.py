"""What the metrics tell of the stream to the control plane, by ztunnel's names for types and reasons."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hostmesh.wire.proto.discovery_pb2 import DeltaDiscoveryResponse

CONNECTION_ERROR = "ConnectionError"
ERROR = "Error"
COMPLETE = "Complete"
ASKED = "asked"
ANSWERED = "answered"
REFUSED = "refused"


@dataclass(slots=True)
class XdsCounts:
    """Since the start. `terminations` by reason: not connected at all, ended by an error, ended by the other side.

    `on_demand` are names: those the control plane was asked for, those it has answered, those of which nothing comes.
    """

    messages: Counter[str] = field(default_factory=Counter)
    message_bytes: Counter[str] = field(default_factory=Counter)
    terminations: Counter[str] = field(default_factory=Counter)
    on_demand: Counter[str] = field(default_factory=Counter)

    def response(self, response: DeltaDiscoveryResponse) -> None:
        """A response with its resources."""
        self.messages[response.type_url] += 1
        self.message_bytes[response.type_url] += sum(len(one.resource.value) for one in response.resources)
