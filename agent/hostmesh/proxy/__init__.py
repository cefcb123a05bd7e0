"""The byte path: route (pure), outbound, inbound, passthrough, pool, tunnels, relay."""
