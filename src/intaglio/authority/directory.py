"""The in-process snapshot of configuration: CAs, their keys and profiles, and who may ask them.

A :class:`Snapshot` is immutable and names the configuration epoch it was read at. Decisions are taken on it without
touching the database; what they lead to is committed only if the epoch is still the same (``db.journal``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import select, text

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.authority import models
from intaglio.authority.options import CaOptions
from intaglio.authority.urls import CaUrls
from intaglio.core.errors import NotFound, Refused, StateConflict
from intaglio.db.engine import Database, Transaction
from intaglio.profiles import registry
from intaglio.profiles.engine import CompiledProfile, Issuer, compile_profile
from intaglio.profiles.model import CertificateProfile
from intaglio.x509.certificates import CertificateInfo, read_certificate
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
    _profiles: Mapping[str, CertificateProfile] = field(default_factory=dict, repr=False)
    _compiled: dict[tuple[str, int], CompiledProfile] = field(default_factory=dict, repr=False)

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
                remedy=f"Profiles of this CA: {', '.join(self.profile_ids) or 'none'}.",
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
        if (compiled := self._compiled.get(key)) is None:
            compiled = self._compiled[key] = compile_profile(profile, self.issuer(partition))
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
        """Raise StateConflict when the CA above has revoked this CA's certificate, or put it on hold."""
        if self.key.certificate_status != "valid":
            raise StateConflict(
                f'The certificate of CA "{self.full_id}" is {self.key.certificate_status}.',
                code="ca-certificate-revoked",
                remedy="Re-key the CA, or use another one.",
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


class Directory:
    """Keeps the newest snapshot. ``base_url`` is the base of the URLs that go into certificates."""

    def __init__(self, database: Database, base_url: str) -> None:
        self._database = database
        self._base_url = base_url
        self._snapshot: Snapshot | None = None
        self._lock = asyncio.Lock()

    @property
    def loaded(self) -> bool:
        return self._snapshot is not None

    async def snapshot(self) -> Snapshot:
        """The snapshot in memory, read now if there is none yet."""
        return self._snapshot or await self.reload()

    async def reload(self, *, beyond: int | None = None) -> Snapshot:
        """Read the configuration again, unless another caller has already gone ``beyond`` the given epoch."""
        async with self._lock:
            current = self._snapshot
            if current is not None and beyond is not None and current.epoch > beyond:
                return current
            async with self._database.read() as view:
                self._snapshot = await load_snapshot(view, self._base_url)
            return self._snapshot


async def load_snapshot(view: Transaction, base_url: str, *, isolate: bool = True) -> Snapshot:
    """Read all CAs, keys, profiles and grants in one consistent view.

    ``isolate=False`` is for a transaction that is under way and keeps others from changing the configuration itself.
    """
    if isolate:
        await view.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
    epoch = await view.scalar(text("SELECT epoch FROM journal_head"))
    organizations = {r["id"]: r["name"] for r in await view.all(select(models.organization))}
    keys = await _load_keys(view)
    custom = await _load_custom_profiles(view)
    rows = await view.all(select(models.ca))
    parents = {r["id"]: r["issuer_id"] for r in rows}
    current = {r["id"]: r["generation"] for r in rows}
    cas = {}
    for row in rows:
        own = keys.get(row["id"], {})
        chains = {generation: _chain(row["id"], generation, parents, keys, current) for generation in own}
        cas[row["id"]] = _ca_view(row, organizations[row["organization_id"]], own, chains, custom, base_url)
    clients, revoked = await _load_clients(view, cas)
    return Snapshot(epoch, view.now, cas, clients, revoked)


def _ca_view(
    row: Mapping[str, Any],
    organization: str,
    keys: dict[int, CaKeyView],
    chains: dict[int, tuple[CertificateInfo, ...]],
    custom: Mapping[str, CertificateProfile],
    base_url: str,
) -> CaView:
    profiles = {i: p for i in row["profiles"] if (p := custom.get(i) or registry.find(i)) is not None}
    return CaView(
        id=row["id"],
        organization_id=row["organization_id"],
        organization=organization,
        name=row["name"],
        kind=row["kind"],
        state=row["state"],
        label=row["label"],
        issuer_id=row["issuer_id"],
        algorithm=KeyAlgorithm(row["key_algorithm"]) if row["key_algorithm"] else None,
        ocsp_algorithm=KeyAlgorithm(row["ocsp_key_algorithm"]) if row["ocsp_key_algorithm"] else None,
        subject=Name.from_der(row["subject_der"]),
        options=CaOptions.model_validate(row["options"]),
        generation=row["generation"],
        keys=keys,
        profile_ids=tuple(row["profiles"]),
        chains={generation: tuple(c.der for c in chain) for generation, chain in chains.items() if chain},
        urls=CaUrls(base_url, organization, row["name"]),
        path_budget=_path_budget(chains.get(row["generation"], ())),
        _profiles=profiles,
    )


def _path_budget(chain: tuple[CertificateInfo, ...]) -> int | None:
    """How many further CA certificates may follow below the first certificate of ``chain`` (RFC 5280 section 6.1.4)."""
    budget: int | None = None
    for depth, certificate in enumerate(chain):
        if certificate.path_len is not None:
            room = certificate.path_len - depth
            budget = room if budget is None else min(budget, room)
    return budget


def _chain(
    ca_id: UUID,
    generation: int,
    parents: Mapping[UUID, UUID | None],
    keys: Mapping[UUID, Mapping[int, CaKeyView]],
    current: Mapping[UUID, int],
) -> tuple[CertificateInfo, ...]:
    """The certificate of one key of a CA, then its issuers up to the root; empty while the key has none.

    An issuer that was re-keyed since appears with the key that signed, not with its current one.
    """
    chain: list[CertificateInfo] = []
    key = keys.get(ca_id, {}).get(generation)
    parent = parents.get(ca_id)
    while key is not None and key.certificate is not None and len(chain) < 16:
        chain.append(key.certificate)
        if parent is None:
            break
        issuers = keys.get(parent, {})
        signing = (k for k in issuers.values() if k.certificate and k.key_identifier == chain[-1].aki)
        key = next(signing, issuers.get(current.get(parent, 0)))
        parent = parents.get(parent)
    return tuple(chain)


async def _load_keys(view: Transaction) -> dict[UUID, dict[int, CaKeyView]]:
    newest: dict[tuple[UUID, int], CertificateInfo] = {}
    statement = select(models.ca_certificate).where(models.ca_certificate.c.current)
    for row in await view.all(statement):
        newest[row["ca_id"], row["generation"]] = _certificate(row["der"])
    status = await _load_statuses(view)
    keys: dict[UUID, dict[int, CaKeyView]] = {}
    for row in await view.all(select(models.ca_key)):
        keys.setdefault(row["ca_id"], {})[row["generation"]] = CaKeyView(
            generation=row["generation"],
            key_id=row["key_id"],
            spki=row["spki"],
            key_identifier=row["key_identifier"],
            issuer_key_sha1=row["issuer_key_sha1"],
            issuer_key_sha256=row["issuer_key_sha256"],
            state=row["state"],
            certificate=newest.get((row["ca_id"], row["generation"])),
            certificate_status=status.get((row["ca_id"], row["generation"]), "valid"),
        )
    return keys


@lru_cache(maxsize=4096)
def _certificate(der: bytes) -> CertificateInfo:
    """The parsed certificate, kept: a snapshot is read at every change, and its certificates rarely change."""
    return read_certificate(der)


async def _load_statuses(view: Transaction) -> dict[tuple[UUID, int], str]:
    """Of which CA keys the certificate is held or revoked, by (CA, generation)."""
    own, ca, c = models.ca_certificate.c, models.ca.c, models.certificate.c
    query = (
        select(own.ca_id, own.generation, c.status)
        .select_from(models.ca_certificate)
        .join(models.ca, ca.id == own.ca_id)
        .join(models.certificate, (c.ca_id == ca.issuer_id) & (c.serial == own.serial))
        .where(own.current, c.status != "valid")
    )
    return {(row["ca_id"], row["generation"]): row["status"] for row in await view.all(query)}


async def _load_custom_profiles(view: Transaction) -> dict[str, CertificateProfile]:
    table = models.custom_profile
    rows = await view.all(select(table).where(table.c.state == "active").order_by(table.c.version))
    return {r["profile_id"]: CertificateProfile.model_validate(r["declaration"]) for r in rows}


async def _load_clients(
    view: Transaction, cas: Mapping[UUID, CaView]
) -> tuple[dict[tuple[UUID, bytes], ClientView], frozenset[tuple[UUID, bytes]]]:
    client_ca = {c.organization_id: c.id for c in cas.values() if c.kind == "client" and c.state != "deleted"}
    grants: dict[UUID, dict[UUID, Grant]] = {}
    users = await view.all(select(models.ca_user))
    names = {r["id"]: r["name"] for r in users}
    for row in await view.all(select(models.ca_grant)):
        grants.setdefault(row["ca_user_id"], {})[row["ca_id"]] = Grant(
            row["ca_id"], row["right"], names[row["ca_user_id"]]
        )
    clients = {
        (client_ca[row["organization_id"]], row["subject_key"]): ClientView(
            row["id"], row["name"], cas[client_ca[row["organization_id"]]].organization, grants.get(row["id"], {})
        )
        for row in users
        if row["organization_id"] in client_ca
    }
    c = models.certificate.c
    statement = select(c.ca_id, c.serial).where(
        c.ca_id.in_(list(client_ca.values())), c.status != "valid", c.not_after > view.now
    )
    revoked = frozenset((r["ca_id"], r["serial"]) for r in await view.all(statement))
    return clients, revoked
