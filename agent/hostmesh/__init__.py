"""hostmesh: the ambient mesh for bare metal and VMs."""

__version__ = "0.1.0"
