"""How a workload of this host gets into the mesh: systemd units now."""
