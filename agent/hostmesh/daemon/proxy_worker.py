"""`python -m hostmesh.daemon.proxy_worker FD DOORS-FD`: a proxy worker's process, without what it would load in vain.

hashlib loads the distribution's OpenSSL (3.5 MB) for hashes that Python has itself; TLS is another OpenSSL's.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

_OWN_HASHES = ("_md5", "_sha1", "_sha3", "_blake2")


def leave_out_openssl() -> None:
    """Let hashlib find no OpenSSL, where Python was built with hashes of its own; Fedora's was not."""
    second_family = all(map(find_spec, ("_sha256", "_sha512"))) or find_spec("_sha2")
    if second_family and all(map(find_spec, _OWN_HASHES)):
        sys.modules["_hashlib"] = None  # type: ignore[assignment]  # importlib: `None` is a module that is not there


if __name__ == "__main__":
    leave_out_openssl()
    from hostmesh.daemon.worker import main

    main()
