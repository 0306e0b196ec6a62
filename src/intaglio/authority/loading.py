"""Reading the configuration snapshot from the database, and keeping the newest one of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import select, text

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.authority import models
from intaglio.authority.directory import CaKeyView, CaView, ClientView, Grant, Snapshot
from intaglio.authority.options import CaOptions
from intaglio.authority.urls import CaUrls
from intaglio.db.engine import Database, Transaction
from intaglio.profiles import registry
from intaglio.profiles.model import CertificateProfile
from intaglio.x509.certificates import CertificateInfo, read_certificate
from intaglio.x509.names import Name


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
