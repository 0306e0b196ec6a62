"""Whom the responder answers for: CAs by the hashes in a CertID, and the signer of each of their keys."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from intaglio.asn1 import der
from intaglio.authority import ocsp_signers
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaKeyView, CaView, Snapshot
from intaglio.authority.ocsp_signers import OcspSigner
from intaglio.core import clock
from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.keystore.service import Signer
from intaglio.validation.ocsp import responses
from intaglio.x509.certificates import read_certificate

log = get_logger(__name__)

#: How long a signer is used before the database is asked whether there is a newer one.
_SIGNER_RECHECK = timedelta(minutes=10)


@dataclass(frozen=True)
class Issuer:
    """One key of a CA that OCSP answers are signed for. ``path`` is where its CA is asked."""

    ca: CaView
    generation: int
    path: str
    validity: timedelta

    @property
    def key(self) -> tuple[UUID, int]:
        return self.ca.id, self.generation


class IssuerIndex:
    """Issuers of one configuration snapshot by the first three fields of a CertID, as they are encoded."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.epoch = snapshot.epoch
        self._by_cert_id: dict[bytes, Issuer] = {}
        for ca in snapshot.cas.values():
            if ca.ocsp_enabled and ca.state in ("active", "deleted"):
                for key in ca.keys.values():
                    if key.key_id is not None and key.certificate is not None:
                        self._add(ca, key)

    def find(self, cert_id_issuer: bytes) -> Issuer | None:
        """The issuer that ``CertId.issuer`` means, or None when it is none of ours."""
        return self._by_cert_id.get(cert_id_issuer)

    def _add(self, ca: CaView, key: CaKeyView) -> None:
        path = f"/ocsp/{ca.organization}/{ca.name}"
        issuer = Issuer(ca, key.generation, path, ca.options.ocsp_validity)
        for encoded in _cert_id_issuers(ca, key):
            self._by_cert_id[encoded] = issuer


# SHA-1 here identifies a CA among those we know; nothing is signed over it. Clients still ask with it by default.
_HASHES: tuple[tuple[str, Callable[[bytes], bytes]], ...] = (
    ("1.3.14.3.2.26", lambda data: hashlib.sha1(data, usedforsecurity=False).digest()),
    ("2.16.840.1.101.3.4.2.1", lambda data: hashlib.sha256(data).digest()),
    ("2.16.840.1.101.3.4.2.2", lambda data: hashlib.sha384(data).digest()),
    ("2.16.840.1.101.3.4.2.3", lambda data: hashlib.sha512(data).digest()),
)


def _cert_id_issuers(ca: CaView, key: CaKeyView) -> Iterator[bytes]:
    """Every encoding of hashAlgorithm, issuerNameHash, issuerKeyHash; clients differ in writing NULL parameters."""
    assert key.certificate is not None
    name, public_key = key.certificate.subject.der, _public_key_bits(key.spki)
    for oid, digest in _HASHES:
        hashes = der.octet_string(digest(name)) + der.octet_string(digest(public_key))
        yield der.sequence(der.oid(oid), der.null()) + hashes
        yield der.sequence(der.oid(oid)) + hashes


def _public_key_bits(spki: bytes) -> bytes:
    return der.children(der.read_tlv(spki, der.SEQUENCE).content, 2)[1].content[1:]


@dataclass(frozen=True)
class Signing:
    """A signer ready for use, with everything of an answer that it determines already encoded."""

    record: OcspSigner
    signer: Signer
    serial: bytes
    recheck_at: datetime
    responder_id: bytes = field(repr=False)
    certificates: bytes = field(repr=False)

    @property
    def signature_identifier(self) -> bytes:
        return self.signer.algorithm.signature_identifier


class Signers:
    """The OCSP signers of this process, by issuer."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._ready: dict[tuple[UUID, int], Signing] = {}
        self._locks: dict[tuple[UUID, int], asyncio.Lock] = {}

    def ready(self, issuer: Issuer, now: datetime) -> Signing | None:
        """The signer in memory, unless it should be looked up again."""
        signing = self._ready.get(issuer.key)
        return signing if signing is not None and now < signing.recheck_at else None

    async def get(self, issuer: Issuer) -> Signing:
        """The signer of an issuer, made now if it has none. Raises IntaglioError when there is none to be had."""
        async with self._locks.setdefault(issuer.key, asyncio.Lock()):
            now = clock.now()
            if (signing := self.ready(issuer, now)) is not None:
                return signing
            try:
                signing = await self._load(issuer, now)
            except IntaglioError as error:
                former = self._ready.get(issuer.key)
                if former is None or former.record.not_after <= now:
                    raise
                log.warning("an OCSP signer could not be renewed", ca=issuer.ca.full_id, reason=str(error))
                return former
            self._ready[issuer.key] = signing
            return signing

    def forget(self) -> None:
        """Look every signer up again before its next use."""
        self._ready.clear()

    def uses(self, ca_id: UUID, serial: bytes) -> bool:
        """Whether one of the signers in memory has this certificate."""
        return any(s.record.ca_id == ca_id and s.serial == serial for s in self._ready.values())

    async def _load(self, issuer: Issuer, now: datetime) -> Signing:
        record = await ocsp_signers.ensure_signer(self._authority, issuer.ca, issuer.generation)
        async with self._authority.database.read() as view:
            signer = await self._authority.keystore.load(view, record.key_id)
        certificate = read_certificate(record.certificate)
        key_hash = hashlib.sha1(_public_key_bits(certificate.spki), usedforsecurity=False).digest()
        return Signing(
            record,
            signer,
            certificate.serial,
            min(now + _SIGNER_RECHECK, record.not_after),
            responses.responder_id(key_hash),
            responses.certificates(record.certificate),
        )
