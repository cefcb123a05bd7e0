"""Bytes on the wire, sans I/O: HTTP/2, HBONE, TLS ClientHello, X.509 and the protocol buffers."""
