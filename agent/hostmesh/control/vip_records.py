"""Which addresses services were given, in a few records: `vips/00` to `vips/3f`, each with a part of the services.

Parts, because a record must not grow without bound, and few, because a transaction may not have many.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping

from hostmesh.control.records import ABSENT, Records
from hostmesh.control.translate.values import Vips
from hostmesh.model.address import IPAddress, parse_ip

_log = logging.getLogger(__name__)

PREFIX = "vips/"
_TURN = f"{PREFIX}turn"
_PARTS = 64


class VipRecords:
    """Reads and writes them; `read` comes before `write`, which relies on it.

    Args:
        records: where they are.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._parts: dict[str, str] = {}
        self._turn = ABSENT

    def read(self) -> Vips:
        """What is given now. What cannot be read counts as not given: those services get new addresses."""
        found = dict(self._records.under(PREFIX))
        turn = found.pop(_TURN, None)
        self._turn = turn.version if turn is not None else ABSENT
        self._parts = {key: record.value for key, record in found.items()}
        vips: dict[str, tuple[IPAddress, ...]] = {}
        for key, text in self._parts.items():
            try:
                vips |= {name: tuple(parse_ip(one) for one in given) for name, given in json.loads(text).items()}
            except (ValueError, AttributeError, TypeError) as error:
                _log.warning("%s: %s is not usable (%s): services get new addresses", self._records.where, key, error)
        return vips

    def write(self, vips: Vips, guard: Mapping[str, int]) -> None:
        """Give these and no others.

        Raises:
            Conflict: they are not what `read` has seen, or something of `guard` is not.
            OSError: not written.
        """
        parts: dict[str, dict[str, list[str]]] = {}
        for name, given in sorted(vips.items()):
            parts.setdefault(_part(name), {})[name] = [str(one) for one in given]
        texts = {key: json.dumps(part) for key, part in parts.items()}
        changes: dict[str, str | None] = {key: text for key, text in texts.items() if self._parts.get(key) != text}
        changes |= {key: None for key in self._parts if key not in texts}
        self._records.commit({**changes, _TURN: ""}, expect={_TURN: self._turn, **guard})


def _part(name: str) -> str:
    return f"{PREFIX}{hashlib.blake2b(name.encode(), digest_size=1).digest()[0] % _PARTS:02x}"
