"""FetchFailed: a certificate could not be had now."""

from __future__ import annotations

from hostmesh.rpc.failure import Failure


class FetchFailed(Exception):
    """The text says why and is shown to users; the same request may succeed later.

    `failure` is the kind: who logs tells a new trouble from the old one by it, as texts hold moments and addresses.
    """

    def __init__(self, text: str, failure: Failure = Failure.BROKEN) -> None:
        super().__init__(text)
        self.failure = failure
