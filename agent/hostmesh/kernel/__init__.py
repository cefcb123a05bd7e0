"""Linux, not mesh: netfilter, netlink, cgroups, sockets, systemd. Each foreign library in one module."""
