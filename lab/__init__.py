"""A lab of real systemd hosts: systemd-nspawn containers on a bridge in a network namespace of their own."""
