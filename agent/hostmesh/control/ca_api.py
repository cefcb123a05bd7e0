"""The authority's part of the operator's door: its state, revocation, root rotation.

`GET /v1/ca`; `GET /v1/ca/revoked`; `POST /v1/ca/revoke` takes `{"identity" or "serial", "reason"}`; `POST
/v1/ca/unrevoke` takes `{"identity" or "serial"}`; `POST /v1/ca/rotation` takes `{"step", "force"}` with step `start`,
`switch`, `finish` or `abort`. Serial numbers are hexadecimal text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

from aiohttp import web
from cryptography import x509

from hostmesh.control.apply import Refused
from hostmesh.control.audit import AuditLog
from hostmesh.control.ca import CertificateAuthority
from hostmesh.control.issue import key_id
from hostmesh.control.ledger import Entry
from hostmesh.control.request import RequestModel, caller_uid, read_body
from hostmesh.control.revocations import REASONS, UNSPECIFIED
from hostmesh.control.trust import TrustKeeper
from hostmesh.model.identity import Identity, InvalidIdentity

_MAX_SERIAL_BITS = 160


class _Subject(RequestModel):
    identity: str = ""
    serial: str = ""


class _Revoke(_Subject):
    reason: str = UNSPECIFIED


class _Step(RequestModel):
    step: Literal["start", "switch", "finish", "abort"]
    force: bool = False


class CaApi:
    """Routes about the authority.

    Args:
        ca: is shown.
        trust: does what is asked.
        audit: every request is recorded with the uid that asked, before it is done.
    """

    def __init__(self, ca: CertificateAuthority, trust: TrustKeeper, audit: AuditLog) -> None:
        self._ca = ca
        self._trust = trust
        self._audit = audit

    def routes(self) -> Iterable[web.RouteDef]:
        """For the application."""
        return (
            web.get("/v1/ca", self._status),
            web.get("/v1/ca/revoked", self._revoked),
            web.post("/v1/ca/revoke", self._revoke),
            web.post("/v1/ca/unrevoke", self._unrevoke),
            web.post("/v1/ca/rotation", self._rotate),
        )

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response(self._describe())

    async def _revoked(self, _: web.Request) -> web.Response:
        revocations = self._ca.revocations
        return web.json_response(
            {
                "identities": [
                    dataclasses.asdict(one) | {"identity": str(one.identity)} for one in revocations.identities
                ],
                "serials": [dataclasses.asdict(one) | {"serial": f"{one.serial:x}"} for one in revocations.serials],
            }
        )

    async def _revoke(self, request: web.Request) -> web.Response:
        asked = await read_body(request, _Revoke)
        if asked.reason not in REASONS:
            raise Refused(f"unknown reason {asked.reason!r}; one of {', '.join(REASONS)}")
        subject = _subject(asked)
        self._record(request, "revoke", asked, reason=asked.reason)
        if isinstance(subject, Identity):
            found = self._trust.revoke_identity(subject, asked.reason)
        else:
            entry = self._trust.revoke_serial(subject, asked.reason)
            found = [entry] if entry is not None else []
        return web.json_response({"certificates": [_entry(entry) for entry in found]})

    async def _unrevoke(self, request: web.Request) -> web.Response:
        asked = await read_body(request, _Subject)
        subject = _subject(asked)
        self._record(request, "unrevoke", asked)
        if isinstance(subject, Identity):
            self._trust.unrevoke_identity(subject)
        else:
            self._trust.unrevoke_serial(subject)
        return web.json_response({})

    async def _rotate(self, request: web.Request) -> web.Response:
        asked = await read_body(request, _Step)
        self._audit.record("ca", step=asked.step, result="requested", uid=caller_uid(request), force=asked.force)
        overruled: tuple[str, ...] = ()
        match asked.step:
            case "start":
                self._trust.start()
            case "switch":
                overruled = self._trust.switch(force=asked.force)
            case "finish":
                overruled = self._trust.finish(force=asked.force)
            case "abort":
                self._trust.abort()
        self._audit.record(
            "ca", step=asked.step, result="done", uid=caller_uid(request), overruled="; ".join(overruled)
        )
        return web.json_response({**self._describe(), "overruled": list(overruled)})

    def _describe(self) -> dict[str, Any]:
        material, view = self._ca.material, self._trust.view()
        rotation = dataclasses.asdict(view) | {"confirmed": sorted(view.confirmed)}
        return {
            "plugged": material.plugged,
            "problem": self._trust.problem,
            "signer": _certificate(material.signer.certificate),
            "roots": [_certificate(root) for root in material.roots],
            "rotation": rotation if view.phase is not None else None,
            "agents": {
                node: {"follows": follows, "current": current}
                for node, (follows, current) in sorted(self._trust.agents().items())
            },
        }

    def _record(self, request: web.Request, step: str, asked: _Subject, **fields: str) -> None:
        self._audit.record(
            "ca",
            step=step,
            result="requested",
            uid=caller_uid(request),
            identity=asked.identity,
            serial=asked.serial,
            **fields,
        )


def _subject(asked: _Subject) -> Identity | int:
    if bool(asked.identity) == bool(asked.serial):
        raise Refused("name either an identity or a serial number")
    if asked.identity:
        try:
            return Identity.parse(asked.identity)
        except InvalidIdentity as error:
            raise Refused(str(error)) from error
    try:
        serial = int(asked.serial.replace(":", ""), 16)
    except ValueError:
        serial = 0
    if serial <= 0 or serial.bit_length() > _MAX_SERIAL_BITS:
        raise Refused(f"{asked.serial!r} is not a serial number in hexadecimal")
    return serial


def _entry(entry: Entry) -> dict[str, Any]:
    return dataclasses.asdict(entry) | {"serial": f"{entry.serial:x}", "identity": str(entry.identity)}


def _certificate(certificate: x509.Certificate) -> dict[str, Any]:
    return {
        "subject": certificate.subject.rfc4514_string(),
        "keyId": key_id(certificate).hex(),
        "serial": f"{certificate.serial_number:x}",
        "notAfter": certificate.not_valid_after_utc.timestamp(),
    }
