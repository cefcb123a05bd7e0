"""How a host calls its control plane: gRPC over TLS on asyncio, and what to tell the user when that fails."""

from hostmesh.rpc import cancellation as cancellation
