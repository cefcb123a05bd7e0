"""Benchmarks: the same work directly, through a pair of Envoys and through hostmesh, in network namespaces."""
