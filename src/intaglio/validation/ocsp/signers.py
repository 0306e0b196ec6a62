"""The keys that sign answers: who signs for an issuer, ready for use.

A status authority's own signer comes first, one whose certificate the CA's key itself signed before any other (RFC 6960
section 4.2.2.2); then the shared signer that it names. Our own CAs need neither: they make a delegated signer.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import and_, or_, select

from intaglio.asn1 import der
from intaglio.asn1.signature_schemes import signature_scheme
from intaglio.authority import ocsp_signers
from intaglio.authority.context import Authority
from intaglio.core import clock
from intaglio.core.errors import IntaglioError, Unavailable
from intaglio.core.logging import get_logger
from intaglio.db.engine import Transaction
from intaglio.keystore.service import Signer
from intaglio.validation.models import status_signer
from intaglio.validation.ocsp import responses
from intaglio.validation.ocsp.issuers import Issuer, public_key_bits
from intaglio.validation.responder_options import ResponderOptions
from intaglio.validation.signers.storage import issued_here
from intaglio.x509.certificates import CertificateInfo, read_certificate

log = get_logger(__name__)

#: Answers that may wait for a slow key (a token, RSA) in one process; to more than that the answer is tryLater.
MAX_WAITING = 256
#: How long a signer is used before the database is asked whether there is a newer one.
_RECHECK = timedelta(minutes=10)
_MOST_IN_CHAIN = 20


@dataclass(frozen=True)
class Signing:
    """A signer ready for use, with everything of an answer that it determines already encoded.

    ``issuing_ca`` is our CA that issued its certificate, None for anybody else.
    """

    certificate: CertificateInfo = field(repr=False)
    signer: Signer
    issuing_ca: UUID | None
    recheck_at: datetime
    signature_identifier: bytes = field(repr=False)
    responder_id: bytes = field(repr=False)
    certificates: bytes = field(repr=False)

    @property
    def not_after(self) -> datetime:
        return self.certificate.not_after

    def is_same(self, other: Signing) -> bool:
        """Whether both sign the same way in the same name, so that one answer can be about certificates of both."""
        return (
            self.certificate.der == other.certificate.der
            and self.responder_id == other.responder_id
            and self.signature_identifier == other.signature_identifier
        )


class Signers:
    """The signers of this process, by issuer."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._ready: dict[tuple[object, ...], Signing] = {}
        self._locks: dict[tuple[object, ...], asyncio.Lock] = {}
        self._waiting = 0

    def ready(self, issuer: Issuer, now: datetime) -> Signing | None:
        """The signer in memory, unless it should be looked up again."""
        signing = self._ready.get(_place(issuer))
        return signing if signing is not None and now < signing.recheck_at else None

    async def get(self, issuer: Issuer) -> Signing:
        """The signer of an issuer, made now if it is ours and has none. Raises IntaglioError when none is to be had."""
        place = _place(issuer)
        async with self._locks.setdefault(place, asyncio.Lock()):
            now = clock.now()
            if (signing := self.ready(issuer, now)) is not None:
                return signing
            try:
                signing = await self._load(issuer, now)
            except IntaglioError as error:
                former = self._ready.get(place)
                if former is None or former.not_after <= now:
                    raise
                log.warning("an OCSP signer could not be renewed", ca=issuer.name, reason=str(error))
                return former
            self._ready[place] = signing
            return signing

    async def sign(self, signing: Signing, data: bytes) -> bytes:
        """Signature over ``data``. Raises Unavailable (``ocsp-signer-busy``) when too many wait for slow keys."""
        if signing.signer.inline:
            return signing.signer.sign_now(data)
        if self._waiting >= MAX_WAITING:
            raise Unavailable("Too many OCSP answers are waiting for their signature.", code="ocsp-signer-busy")
        self._waiting += 1
        try:
            return await signing.signer.sign(data)
        finally:
            self._waiting -= 1

    def forget(self) -> None:
        """Look every signer up again before its next use."""
        self._ready.clear()
        self._locks.clear()

    def uses(self, ca_id: UUID, serial: bytes) -> bool:
        """Whether one of the signers in memory has this certificate."""
        return any(s.issuing_ca == ca_id and s.certificate.serial == serial for s in self._ready.values())

    async def _load(self, issuer: Issuer, now: datetime) -> Signing:
        if issuer.authority_id is not None:
            async with self._authority.database.read() as view:
                row = await _configured(view, issuer, now)
                if row is not None and row["kind"] == "ca" and (own := _own_key(issuer)) is not None:
                    signer = await self._authority.keystore.load(view, own)
                    return _signing(signer, issuer.certificate.der, None, None, issuer.options, now)
                if row is not None:
                    signer = await self._authority.keystore.load(view, row["key_id"])
                    return _signing(signer, row["certificate"], row["chain"], row["issuing_ca_id"], issuer.options, now)
        if issuer.ca is None or issuer.generation is None:
            raise Unavailable(
                f'Status authority "{issuer.name}" has no OCSP signer with a valid certificate.',
                code="ocsp-signer-missing",
                remedy="Make one: intaglio ocsp signer create --help",
            )
        record = await ocsp_signers.ensure_signer(self._authority, issuer.ca, issuer.generation)
        async with self._authority.database.read() as view:
            signer = await self._authority.keystore.load(view, record.key_id)
        return _signing(signer, record.certificate, None, record.ca_id, issuer.options, now)


def _own_key(issuer: Issuer) -> UUID | None:
    """The key of our CA itself, with the generation that is asked about."""
    if issuer.ca is None or issuer.generation is None:
        return None
    return issuer.ca.keys[issuer.generation].key_id


def _place(issuer: Issuer) -> tuple[object, ...]:
    """Where a signer is kept: issuers of a status authority may have other options than the same CA without one."""
    return *issuer.key, issuer.authority_id


async def _configured(view: Transaction, issuer: Issuer, now: datetime) -> Mapping[Any, Any] | None:
    """The best signer that was configured for an issuer, None without any; never one that our CA revoked or holds."""
    c = status_signer.c
    shared = and_(c.authority_id.is_(None), c.kind == "shared", c.label == issuer.options.shared_signer)
    wanted = c.authority_id == issuer.authority_id
    if issuer.options.shared_signer:
        wanted = or_(wanted, shared)
    usable = and_(c.certificate.is_not(None), c.not_before <= now, c.not_after > now)
    rows = await view.all(select(status_signer).where(wanted, usable))
    ours = await issued_here(view, [read_certificate(row["certificate"]) for row in rows])
    good = [row for row in rows if ours.get(row["certificate"], _ANOTHERS)[1]]
    best = max(good, key=lambda row: _rank(row, issuer), default=None)
    return None if best is None else {**best, "issuing_ca_id": ours.get(best["certificate"], _ANOTHERS)[0]}


_ANOTHERS = (None, True)  # issued by another CA: who revokes it has to replace it


def _rank(row: Mapping[Any, Any], issuer: Issuer) -> tuple[bool, bool, bool, datetime]:
    certificate = read_certificate(row["certificate"])
    direct = certificate.spki == issuer.certificate.spki or certificate.verify_signed_by(issuer.certificate.spki)
    return direct, row["authority_id"] is not None, row["current"], row["not_before"]


def _signing(
    signer: Signer,
    certificate_der: bytes,
    chain: bytes | None,
    issuing_ca: UUID | None,
    options: ResponderOptions,
    now: datetime,
) -> Signing:
    certificate = read_certificate(certificate_der)
    scheme = signature_scheme(signer.algorithm, options.digest, pss=options.pss)
    if options.digest is not None or options.pss:
        signer = signer.with_scheme(scheme)
    key_hash = hashlib.sha1(public_key_bits(certificate.spki), usedforsecurity=False).digest()
    return Signing(
        certificate,
        signer,
        issuing_ca,
        min(now + _RECHECK, certificate.not_after),
        scheme.identifier,
        responses.responder_name(certificate.subject.der)
        if options.responder_id == "name"
        else responses.responder_id(key_hash),
        responses.certificates(certificate_der, *_intermediates(chain)),
    )


def _intermediates(chain: bytes | None) -> Sequence[bytes]:
    """The certificates above a signer's that a relying party may lack: all but a root."""
    found = [read_certificate(element.der) for element in der.children(chain or b"", _MOST_IN_CHAIN)]
    return [certificate.der for certificate in found if not certificate.is_self_issued]
