"""Whom the responder answers for: CAs, ours and others', by the hashes in a CertID."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from uuid import UUID

from intaglio.asn1 import der
from intaglio.authority.directory import CaView, Snapshot
from intaglio.validation.authorities.values import Authority as StatusAuthority
from intaglio.validation.ocsp import responses
from intaglio.validation.responder_options import ResponderOptions
from intaglio.validation.status_profiles import PROFILES, StatusProfile
from intaglio.x509.certificates import CertificateInfo

#: Where the status of everybody's certificates is asked for; below it, by the name of the authority.
EVERYBODY = "/eva"
_PLAIN = ResponderOptions()


@dataclass(frozen=True)
class Issuer:
    """One key of a CA that OCSP answers are signed for.

    ``path`` is where its CA is asked. ``owner`` is whose serial numbers are looked up: one of our CAs (with the
    ``generation`` of its key), or the set of a status authority (``generation`` None). Without a ``profile`` answers
    are made as for our own CAs: valid for ``validity``, and unknown is what nobody issued. ``cutoff`` are finished
    extensions of every answer.
    """

    key: tuple[UUID, int]
    name: str
    path: str
    owner: UUID
    certificate: CertificateInfo = field(repr=False)
    ca: CaView | None = None
    generation: int | None = None
    validity: timedelta = timedelta(0)
    authority_id: UUID | None = None
    profile: StatusProfile | None = None
    options: ResponderOptions = _PLAIN
    cutoff: bytes = field(default=b"", repr=False)

    @property
    def foreign(self) -> bool:
        """Whether its status comes from a source, not from our own record of certificates."""
        return self.generation is None


class IssuerIndex:
    """Issuers of one configuration by the first three fields of a CertID, as they are encoded."""

    def __init__(self, snapshot: Snapshot, authorities: Iterable[StatusAuthority] = ()) -> None:
        self.epoch = snapshot.epoch
        self._built_in: dict[bytes, Issuer] = {}
        self._own: dict[bytes, Issuer] = {}
        self._everybody: dict[bytes, Issuer] = {}
        self._by_path: dict[tuple[str, bytes], Issuer] = {}
        self._options: dict[str, ResponderOptions] = {}
        configured = sorted(authorities, key=lambda each: (each.created_at, each.name))
        for authority in configured:
            self._options[f"{EVERYBODY}/{authority.name}"] = authority.responder
            for issuer in _issuers_of(authority, snapshot):
                self._add(issuer)
        described = {authority.ca_id for authority in configured if authority.ca_id is not None}
        for ca in snapshot.cas.values():
            for issuer in _own_keys(ca, ""):
                self._own[_cert_id_issuers(issuer.certificate.subject.der, issuer.certificate.spki)[0]] = issuer
            for issuer in _built_in(ca, f"/ocsp/{ca.organization}/{ca.name}"):
                for encoded in _cert_id_issuers(issuer.certificate.subject.der, issuer.certificate.spki):
                    self._built_in[encoded] = issuer
            if ca.id not in described:
                for issuer in _built_in(ca, f"{EVERYBODY}/{ca.full_id}"):
                    self._add(issuer)

    def find(self, cert_id_issuer: bytes, path: str | None) -> Issuer | None:
        """The issuer that ``CertId.issuer`` means at a path (None: where all our own CAs are asked), or None."""
        if path == EVERYBODY:
            return self._everybody.get(cert_id_issuer)
        if path is not None and path.startswith(EVERYBODY):
            return self._by_path.get((path, cert_id_issuer))
        issuer = self._built_in.get(cert_id_issuer)
        return issuer if issuer is None or path is None or path == issuer.path else None

    def of_certificate(self, certificate: CertificateInfo) -> Issuer | None:
        """The issuer whose name and key this CA certificate has, whether it is answered for or not, or None."""
        encoded = _cert_id_issuers(certificate.subject.der, certificate.spki)[0]
        return self._own.get(encoded) or self._everybody.get(encoded)

    @property
    def everybody(self) -> list[Issuer]:
        """Every issuer that is answered for, by its path."""
        return list({(issuer.path, issuer.key): issuer for issuer in self._by_path.values()}.values())

    def http_error(self, path: str | None) -> bool:
        """Whether failures at a path are told by HTTP status, too; where all are asked, when all authorities want it
        so."""
        if path == EVERYBODY:
            return bool(self._options) and all(options.http_error for options in self._options.values())
        return path in self._options and self._options[path].http_error

    def _add(self, issuer: Issuer) -> None:
        for encoded in _cert_id_issuers(issuer.certificate.subject.der, issuer.certificate.spki):
            self._everybody.setdefault(encoded, issuer)
            self._by_path.setdefault((issuer.path, encoded), issuer)


def _built_in(ca: CaView, path: str) -> Iterator[Issuer]:
    """The keys of one of our CAs, as its own responder answers for them."""
    if ca.ocsp_enabled and ca.state in ("active", "deleted"):
        yield from _own_keys(ca, path)


def _own_keys(ca: CaView, path: str) -> Iterator[Issuer]:
    for key in ca.keys.values():
        if key.key_id is not None and key.certificate is not None:
            yield Issuer(
                (ca.id, key.generation), ca.full_id, path, ca.id, key.certificate, ca, key.generation,
                ca.options.ocsp_validity,
            )  # fmt: skip


def _issuers_of(authority: StatusAuthority, snapshot: Snapshot) -> Iterator[Issuer]:
    """The keys of a status authority; those of one of our CAs when it is native."""
    profile = PROFILES[authority.profile]
    path = f"{EVERYBODY}/{authority.name}"
    if authority.ca_id is not None:
        ca = snapshot.cas.get(authority.ca_id)
        for own in _own_keys(ca, path) if ca is not None else ():
            yield Issuer(
                own.key, authority.name, path, own.owner, own.certificate, ca, own.generation, own.validity,
                authority.id, profile, authority.responder, _cutoff(profile, own.certificate),
            )  # fmt: skip
        return
    for position, certificate in enumerate(authority.issuers):
        yield Issuer(
            (authority.id, position), authority.name, path, authority.set_id, certificate, None, None, timedelta(0),
            authority.id, profile, authority.responder, _cutoff(profile, certificate),
        )  # fmt: skip


def _cutoff(profile: StatusProfile, certificate: CertificateInfo) -> bytes:
    return responses.archive_cutoff(certificate.not_before) if profile.archive_cutoff else b""


# SHA-1 here identifies a CA among those we know; nothing is signed over it. Clients still ask with it by default.
_HASHES: tuple[tuple[str, Callable[[bytes], bytes]], ...] = (
    ("1.3.14.3.2.26", lambda data: hashlib.sha1(data, usedforsecurity=False).digest()),
    ("2.16.840.1.101.3.4.2.1", lambda data: hashlib.sha256(data).digest()),
    ("2.16.840.1.101.3.4.2.2", lambda data: hashlib.sha384(data).digest()),
    ("2.16.840.1.101.3.4.2.3", lambda data: hashlib.sha512(data).digest()),
)


@lru_cache(maxsize=4096)
def _cert_id_issuers(subject: bytes, spki: bytes) -> tuple[bytes, ...]:
    """Every encoding of hashAlgorithm, issuerNameHash, issuerKeyHash; clients differ in writing NULL parameters.

    Remembered, because an index is made anew for every change of configuration, and rarely for one of these.
    """
    found = []
    for oid, digest in _HASHES:
        hashes = der.octet_string(digest(subject)) + der.octet_string(digest(public_key_bits(spki)))
        found += [der.sequence(der.oid(oid), der.null()) + hashes, der.sequence(der.oid(oid)) + hashes]
    return tuple(found)


def public_key_bits(spki: bytes) -> bytes:
    """Contents of the subjectPublicKey of a SubjectPublicKeyInfo."""
    return der.children(der.read_tlv(spki, der.SEQUENCE).content, 2)[1].content[1:]
