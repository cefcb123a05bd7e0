"""HTTP/2 for CONNECT tunnels, sans I/O (RFC 9113)."""
