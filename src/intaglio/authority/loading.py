"""Reading the configuration snapshot from the database, and keeping the newest one of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from uuid import UUID

from sqlalchemy import select, text

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.authority import models
from intaglio.authority.directory import BrokenLink, CaKeyView, CaView, ClientView, Grant, Snapshot
from intaglio.authority.options import CaOptions
from intaglio.authority.urls import CaUrls
from intaglio.db.engine import Database, Transaction
from intaglio.profiles import registry
from intaglio.profiles.model import CertificateProfile
from intaglio.x509.certificates import CertificateInfo, read_certificate
from intaglio.x509.names import Name

T = TypeVar("T")

_DEEPEST = 16  # certificates in a chain
_C, _K = models.ca.c, models.ca_key.c
_CA_COLUMNS = (
    *(_C.id, _C.organization_id, _C.name, _C.kind, _C.state, _C.label, _C.issuer_id, _C.key_algorithm),
    *(_C.ocsp_key_algorithm, _C.subject_der, _C.profiles, _C.generation, _C.options),
)
_KEY_COLUMNS = (
    *(_K.ca_id, _K.generation, _K.key_id, _K.spki, _K.key_identifier, _K.issuer_key_sha1, _K.issuer_key_sha256),
    _K.state,
)


class Memory:
    """What was made for the last snapshot, taken again where it would be made from exactly the same.

    A change of configuration concerns one CA of many. What is compared is content, never a date or a version, so
    whoever read something meanwhile, or in a transaction that came to nothing, can do no harm. It also keeps the
    profiles that a CA has compiled.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[object, object]] = {}

    def make(self, key: Hashable, make: Callable[..., T], *source: object) -> T:
        """``make(*source)``, or what that gave the last time under ``key``."""
        kept = self._kept.get(key)
        if kept is not None and kept[0] == source:
            return cast(T, kept[1])
        made = make(*source)
        self._kept[key] = source, made
        return made


class Directory:
    """Keeps the newest snapshot. ``base_url`` is the base of the URLs that go into certificates."""

    def __init__(self, database: Database, base_url: str) -> None:
        self._database = database
        self._base_url = base_url
        self._snapshot: Snapshot | None = None
        self._memory = Memory()
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
                await view.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
                self._snapshot = await self.read(view)
            return self._snapshot

    async def read(self, view: Transaction) -> Snapshot:
        """The configuration as ``view`` sees it, which either is a consistent view of the database or keeps others from
        changing the configuration itself."""
        return await load_snapshot(view, self._base_url, self._memory)


async def load_snapshot(view: Transaction, base_url: str, memory: Memory) -> Snapshot:
    """Read all CAs, keys, profiles and grants."""
    epoch = await view.scalar(text("SELECT epoch FROM journal_head"))
    organizations = {r["id"]: r["name"] for r in await view.all(select(models.organization))}
    keys = await _load_keys(view, memory)
    custom = await _load_custom_profiles(view, memory)
    rows = await view.all(select(*_CA_COLUMNS))
    hierarchy = _Hierarchy(
        {r["id"]: r["issuer_id"] for r in rows},
        {r["id"]: r["generation"] for r in rows},
        {r["id"]: f"{organizations[r['organization_id']]}~{r['name']}" for r in rows},
        keys,
    )
    offered: dict[tuple[str, ...], dict[str, CertificateProfile]] = {}  # most CAs offer the same
    cas = {}
    for row in rows:
        ca_id, wanted = row["id"], tuple(row["profiles"])
        if wanted not in offered:
            offered[wanted] = {i: p for i in wanted if (p := custom.get(i) or registry.find(i)) is not None}
        chains, broken_link = hierarchy.chains(ca_id)
        cas[ca_id] = memory.make(
            ca_id, _ca_view, tuple(row.items()), organizations[row["organization_id"]], keys.get(ca_id, {}), chains,
            broken_link, offered[wanted], base_url,
        )  # fmt: skip
    clients, revoked = await _load_clients(view, cas)
    return Snapshot(epoch, view.now, cas, clients, revoked)


def _ca_view(
    columns: tuple[tuple[str, Any], ...],
    organization: str,
    keys: dict[int, CaKeyView],
    chains: dict[int, tuple[CertificateInfo, ...]],
    broken_link: BrokenLink | None,
    profiles: Mapping[str, CertificateProfile],
    base_url: str,
) -> CaView:
    row = dict(columns)
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
        broken_link=broken_link,
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


@dataclass(frozen=True)
class _Hierarchy:
    """Which CA is above which, with the keys of all and their current key generations; ``names`` are full ids."""

    parents: Mapping[UUID, UUID | None]
    current: Mapping[UUID, int]
    names: Mapping[UUID, str]
    keys: Mapping[UUID, Mapping[int, CaKeyView]]

    def chains(self, ca_id: UUID) -> tuple[dict[int, tuple[CertificateInfo, ...]], BrokenLink | None]:
        """By generation the certificate of that key, then its issuers up to the root, empty while it has none; and
        which is the first of the current chain that is held or revoked."""
        links = {generation: self._links(ca_id, generation) for generation in self.keys.get(ca_id, {})}
        broken = (
            BrokenLink(self.names[link], key.certificate_status)
            for link, key, _ in links.get(self.current[ca_id], ())
            if key.certificate_status != "valid"
        )
        return {g: tuple(certificate for _, _, certificate in found) for g, found in links.items()}, next(broken, None)

    def _links(self, ca_id: UUID, generation: int) -> list[tuple[UUID, CaKeyView, CertificateInfo]]:
        """An issuer that was re-keyed since appears with the key that signed, not with its current one."""
        links: list[tuple[UUID, CaKeyView, CertificateInfo]] = []
        link: UUID | None = ca_id
        key = self.keys.get(ca_id, {}).get(generation)
        while link is not None and key is not None and key.certificate is not None and len(links) < _DEEPEST:
            links.append((link, key, key.certificate))
            link = self.parents.get(link)
            if link is not None:
                issuers = self.keys.get(link, {})
                aki = key.certificate.aki
                signing = (k for k in issuers.values() if k.certificate and k.key_identifier == aki)
                key = next(signing, issuers.get(self.current.get(link, 0)))
        return links


async def _load_keys(view: Transaction, memory: Memory) -> dict[UUID, dict[int, CaKeyView]]:
    c = models.ca_certificate.c
    newest = {
        (row["ca_id"], row["generation"]): row["der"]
        for row in await view.all(select(c.ca_id, c.generation, c.der).where(c.current))
    }
    status = await _load_statuses(view)
    keys: dict[UUID, dict[int, CaKeyView]] = {}
    for row in await view.all(select(*_KEY_COLUMNS)):
        which = row["ca_id"], row["generation"]
        keys.setdefault(row["ca_id"], {})[row["generation"]] = memory.make(
            which, _key_view, tuple(row.items()), newest.get(which), status.get(which, "valid")
        )
    return keys


def _key_view(columns: tuple[tuple[str, Any], ...], certificate: bytes | None, status: str) -> CaKeyView:
    row = dict(columns)
    return CaKeyView(
        generation=row["generation"],
        key_id=row["key_id"],
        spki=row["spki"],
        key_identifier=row["key_identifier"],
        issuer_key_sha1=row["issuer_key_sha1"],
        issuer_key_sha256=row["issuer_key_sha256"],
        state=row["state"],
        certificate=read_certificate(certificate) if certificate is not None else None,
        certificate_status=status,
    )


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


async def _load_custom_profiles(view: Transaction, memory: Memory) -> dict[str, CertificateProfile]:
    table = models.custom_profile
    rows = await view.all(select(table).where(table.c.state == "active").order_by(table.c.version))
    found = {r["profile_id"]: r["declaration"] for r in rows}
    return {i: memory.make(i, CertificateProfile.model_validate, declaration) for i, declaration in found.items()}


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
