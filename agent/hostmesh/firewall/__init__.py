"""NetworkPolicy on hosts: what it means, the rules of the kernel that say so, and its half inside the tunnels."""
