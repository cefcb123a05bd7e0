"""Two TLS engines behind one interface: the OpenSSL that cryptography carries, and the system's."""
