"""Whose certificates count at an ingress, and which CA of ours is behind a name and a key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from uuid import UUID

from cryptography import x509 as pyca
from OpenSSL import crypto

from intaglio.x509.certificates import CertificateInfo

#: Normalised subject and SubjectPublicKeyInfo: what identifies an issuer (RFC 5280 section 6.1.1, trust anchors).
IssuerId = tuple[bytes, bytes]

# X509_V_FLAG_NO_CHECK_TIME of openssl/x509_vfy.h: validity is judged apart, because it changes while a chain does not.
_NO_CHECK_TIME = 0x200000


@dataclass(frozen=True)
class KnownIssuer:
    """A key of a CA of ours.

    ``ca`` is ``{organization}~{ca}``; ``domains`` are the trust domains in which it counts; ``status`` of its own
    certificate is valid, held or revoked; ``certificate`` is the newest for the key. ``recorded`` means that this
    platform issues with it, and so knows the status of everything it issued.
    """

    ca_id: UUID
    ca: str
    generation: int
    certificate: CertificateInfo = field(repr=False)
    domains: frozenset[str]
    status: str = "valid"
    recorded: bool = True

    @property
    def id(self) -> IssuerId:
        return self.certificate.subject.key, self.certificate.spki


@dataclass(frozen=True)
class Trust:
    """What counts in one trust domain. ``known`` are the keys of all CAs of this platform, whatever they count for."""

    domain: str
    environment: str
    known: Mapping[IssuerId, KnownIssuer] = field(repr=False)

    @cached_property
    def anchors(self) -> tuple[CertificateInfo, ...]:
        """The certificates of the CAs whose certificates count here."""
        mine = (issuer.certificate for issuer in self.known.values() if self.domain in issuer.domains)
        return tuple(sorted(mine, key=lambda certificate: certificate.fingerprint))

    @cached_property
    def version(self) -> bytes:
        """Changes exactly when a chain may be judged differently."""
        digest = hashlib.sha256(self.domain.encode())
        for issuer in sorted(self.known.values(), key=lambda issuer: issuer.certificate.fingerprint):
            digest.update(issuer.certificate.fingerprint)
            digest.update(f"{issuer.status} {issuer.recorded} {','.join(sorted(issuer.domains))}\n".encode())
        return digest.digest()

    @cached_property
    def by_name(self) -> Mapping[bytes, tuple[KnownIssuer, ...]]:
        """The keys of our CAs by normalised subject."""
        found: dict[bytes, tuple[KnownIssuer, ...]] = {}
        for issuer in self.known.values():
            name = issuer.certificate.subject.key
            found[name] = (*found.get(name, ()), issuer)
        return found

    @cached_property
    def by_der(self) -> Mapping[bytes, CertificateInfo]:
        """The certificates of our CAs by their octets, so that chains share them."""
        return {issuer.certificate.der: issuer.certificate for issuer in self.known.values()}

    @cached_property
    def store(self) -> crypto.X509Store:
        """OpenSSL's store of the anchors. Validity periods are not its business."""
        store = crypto.X509Store()
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN | _NO_CHECK_TIME)
        for anchor in self.anchors:
            store.add_cert(crypto.X509.from_cryptography(pyca.load_der_x509_certificate(anchor.der)))
        return store


def trust_of(domain: str, environment: str, known: Iterable[KnownIssuer]) -> Trust:
    """The trust of one domain among all keys of our CAs."""
    return Trust(domain, environment, {issuer.id: issuer for issuer in known})
