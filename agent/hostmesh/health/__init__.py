"""Whether the workloads of this host can take requests: probes, and what follows from their results."""
