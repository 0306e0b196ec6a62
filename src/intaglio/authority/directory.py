"""The in-process snapshot of configuration: CAs, their keys and profiles, and who may ask them.

A :class:`Snapshot` is immutable and names the configuration epoch it was read at. Decisions are taken on it without
touching the database; what they lead to is committed only if the epoch is still the same (``db.journal``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from uuid import UUID

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.authority.options import CaOptions
from intaglio.authority.urls import CaUrls
from intaglio.core.errors import NotFound, Refused, StateConflict
from intaglio.profiles.engine import CompiledProfile, Issuer, compile_profile
from intaglio.profiles.model import CertificateProfile
from intaglio.x509.certificates import CertificateInfo
from intaglio.x509.names import Name


@dataclass(frozen=True)
class CaKeyView:
    """One key generation of a CA with its newest certificate."""

    generation: int
    key_id: UUID | None
    spki: bytes = field(repr=False)
    key_identifier: bytes = field(repr=False)
    issuer_key_sha1: bytes = field(repr=False)
    issuer_key_sha256: bytes = field(repr=False)
    state: str
    certificate: CertificateInfo | None = field(repr=False)
    certificate_status: str = "valid"  # held or revoked by the CA above, when that is one of ours


@dataclass(frozen=True)
class BrokenLink:
    """The CA of a chain, nearest to its beginning, whose certificate is ``status``: held or revoked."""

    ca: str
    status: str


@dataclass(frozen=True)
class CaView:
    """One CA as decisions see it. ``keys`` is by generation; ``generation`` is the current one (0: none yet)."""

    id: UUID
    organization_id: UUID
    organization: str
    name: str
    kind: str
    state: str
    label: str
    issuer_id: UUID | None
    algorithm: KeyAlgorithm | None
    ocsp_algorithm: KeyAlgorithm | None
    subject: Name
    options: CaOptions
    generation: int
    keys: Mapping[int, CaKeyView] = field(repr=False)
    profile_ids: tuple[str, ...] = ()
    #: By generation: the certificate of that key, then its issuers up to the root, DER.
    chains: Mapping[int, tuple[bytes, ...]] = field(default_factory=dict, repr=False)
    urls: CaUrls = field(default=CaUrls("", "", ""), repr=False)
    path_budget: int | None = None
    #: What is wrong with the chain of the current key; None while all its certificates are good.
    broken_link: BrokenLink | None = None
    _profiles: Mapping[str, CertificateProfile] = field(default_factory=dict, repr=False)
    _compiled: dict[tuple[str, int], tuple[CertificateProfile, CompiledProfile]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def full_id(self) -> str:
        """``{organization}~{ca id}``: the id in the gateway API."""
        return f"{self.organization}~{self.name}"

    @property
    def chain(self) -> tuple[bytes, ...]:
        """The chain of the current key; empty while the CA has no certificate."""
        return self.chains.get(self.generation, ())

    @property
    def has_key(self) -> bool:
        return self.key.key_id is not None if self.generation else self.kind != "external-root"

    @property
    def key(self) -> CaKeyView:
        """The current key. Raises StateConflict while the CA has no certificate."""
        try:
            return self.keys[self.generation]
        except KeyError:
            raise StateConflict(
                f'CA "{self.full_id}" has no certificate yet.',
                code="ca-not-active",
                remedy="Upload the certificate signed by its external root.",
            ) from None

    @property
    def certificate(self) -> CertificateInfo:
        """The current CA certificate. Raises StateConflict while there is none."""
        if self.key.certificate is None:
            raise StateConflict(f'CA "{self.full_id}" has no certificate yet.', code="ca-not-active")
        return self.key.certificate

    @property
    def ocsp_enabled(self) -> bool:
        return self.ocsp_algorithm is not None

    def profile(self, profile_id: str) -> CertificateProfile:
        """A profile that this CA offers, by either spelling. Raises NotFound for unknown and unassigned ones alike."""
        wanted = profile_id.replace("_", "-").lower() if profile_id not in self._profiles else profile_id
        if wanted not in self.profile_ids or wanted not in self._profiles:
            raise NotFound(
                f'CA "{self.full_id}" offers no profile "{profile_id}".',
                code="profile-unknown",
                remedy=f"Profiles of this CA: {', '.join(self.profile_ids) or 'none'}. "
                f"An administrator adds one: intaglio ca edit {self.full_id} --add-profile PROFILE.",
                target="profileId",
            )
        return self._profiles[wanted]

    @property
    def profiles(self) -> tuple[CertificateProfile, ...]:
        return tuple(self._profiles[i] for i in self.profile_ids if i in self._profiles)

    def partition_of(self, serial: bytes) -> int:
        """The CRL partition of a new certificate; 0 when the CA does not partition."""
        count = self.options.crl_partitions
        return 1 + int.from_bytes(serial[-4:], "big") % count if count else 0

    def compiled(self, profile_id: str, partition: int = 0) -> CompiledProfile:
        """The profile with this CA's fixed extensions already encoded. Raises NotFound, Refused."""
        return self.compile(self.profile(profile_id), partition)

    def compile(self, profile: CertificateProfile, partition: int = 0) -> CompiledProfile:
        """Like :meth:`compiled` for a profile that is not offered but used by the CA itself (OCSP signer, sub-CA)."""
        key = (f"{profile.id}@{profile.version}", partition)
        kept = self._compiled.get(key)
        if kept is not None and (kept[0] is profile or kept[0] == profile):
            return kept[1]
        compiled = compile_profile(profile, self.issuer(partition))
        self._compiled[key] = profile, compiled
        return compiled

    def issuer(self, partition: int = 0) -> Issuer:
        """This CA as the issuer of certificates. Raises StateConflict when it cannot sign."""
        self.require_active()
        certificate, crls = self.certificate, self.options.crl_interval is not None
        if self.algorithm is None:
            raise StateConflict(f'CA "{self.full_id}" has no key here.', code="ca-has-no-key")
        delta = self.options.delta_interval is not None
        return Issuer(
            name=self.full_id,
            subject_der=certificate.subject.der,
            key_id=self.key.key_identifier,
            algorithm=self.algorithm,
            not_before=certificate.not_before,
            not_after=certificate.not_after,
            path_budget=self.path_budget,
            ocsp_enabled=self.ocsp_enabled,
            ocsp_urls=(self.urls.ocsp,) if self.ocsp_enabled else (),
            issuer_urls=(self.urls.ca_certificate(self.generation),),
            crl_urls=(self.urls.crl(self.generation, partition),) if crls else (),
            delta_crl_urls=(self.urls.crl(self.generation, partition, delta=True),) if crls and delta else (),
        )

    def require_good_certificate(self) -> None:
        """Raise StateConflict when this CA's certificate, or that of a CA above it, was revoked or put on hold: nobody
        would trust what it issues (RFC 5280 section 6.1)."""
        broken = self.broken_link
        if broken is None:
            return
        if broken.ca == self.full_id:
            detail, remedy = "", "Re-key the CA, or use another one."
        else:
            detail = f', which is above CA "{self.full_id}",'
            remedy = f'Re-key CA "{broken.ca}" and then renew those below it, or use another CA.'
        raise StateConflict(
            f'The certificate of CA "{broken.ca}"{detail} is {broken.status}.',
            code="ca-certificate-revoked",
            remedy=remedy,
        )

    def require_active(self) -> None:
        """Raise StateConflict unless this CA can sign now."""
        if self.state != "active":
            raise StateConflict(
                f'CA "{self.full_id}" is {self.state}.',
                code="ca-not-active",
                remedy="Upload its certificate." if self.state == "awaiting-certificate" else "Use another CA.",
            )
        if not self.has_key:
            raise Refused(f'CA "{self.full_id}" is an external root: its key is not here.', code="ca-has-no-key")


@dataclass(frozen=True)
class Grant:
    """What one holder of a client credential may do on one CA."""

    ca_id: UUID
    right: str
    user: str


@dataclass(frozen=True)
class ClientView:
    """A holder of client credentials, found by subject DN and issuing client CA."""

    id: UUID
    name: str
    organization: str
    grants: Mapping[UUID, Grant]


@dataclass(frozen=True)
class Snapshot:
    """Configuration at one epoch."""

    epoch: int
    read_at: datetime
    cas: Mapping[UUID, CaView]
    clients: Mapping[tuple[UUID, bytes], ClientView] = field(repr=False)  # by (client CA, subject key)
    revoked_credentials: frozenset[tuple[UUID, bytes]] = field(repr=False)  # (client CA, serial)

    @cached_property
    def _by_full_id(self) -> dict[str, CaView]:
        return {c.full_id: c for c in self.cas.values() if c.state != "deleted"}

    @cached_property
    def by_issuer_key(self) -> dict[bytes, list[tuple[CaView, CaKeyView]]]:
        """CAs by OCSP issuerKeyHash (SHA-1 and SHA-256); deleted CAs keep being answered for."""
        found: dict[bytes, list[tuple[CaView, CaKeyView]]] = {}
        for view in self.cas.values():
            for key in view.keys.values():
                found.setdefault(key.issuer_key_sha1, []).append((view, key))
                found.setdefault(key.issuer_key_sha256, []).append((view, key))
        return found

    @cached_property
    def by_name(self) -> dict[tuple[str, str], CaView]:
        """Newest CA by (organization, CA id), deleted ones included: their CRL stays served."""
        found: dict[tuple[str, str], CaView] = {}
        for view in sorted(self.cas.values(), key=lambda c: (c.state != "deleted", c.id)):
            found[view.organization, view.name] = view
        return found

    def ca(self, full_id: str) -> CaView:
        """A CA by ``{organization}~{ca id}``. Raises NotFound."""
        try:
            return self._by_full_id[full_id]
        except KeyError:
            raise ca_unknown(full_id) from None


def ca_unknown(full_id: str) -> NotFound:
    """The refusal of a CA that does not exist, or that the caller may not know of: one and the same words."""
    return NotFound(f'There is no CA "{full_id[:80]}".', code="ca-unknown", target="caId")
