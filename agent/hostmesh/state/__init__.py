"""What the mesh knows: workloads, services and policies, with look-ups (ztunnel state.rs)."""
