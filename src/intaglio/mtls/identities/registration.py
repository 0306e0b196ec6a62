"""What is checked before an identity is registered or changed, and the names that are made here."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from intaglio.authority import locks
from intaglio.core.errors import IntaglioError, InvalidInput, Refused, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Principal
from intaglio.db.engine import Transaction
from intaglio.mtls.identities import models, names
from intaglio.mtls.identities.values import Identity, Kind, TrustDomain

_DERIVED_CHARACTERS = 20  # of base32: 100 bits
#: The kinds that carry team and service, and may carry DNS names.
_SERVING = frozenset({Kind.SERVICE, Kind.WORKLOAD})


@dataclass(frozen=True)
class NewIdentity:
    """Who is to be registered. The name of a user is made here, and that of a device where none is given."""

    domain: str
    kind: str
    name: str = ""
    display_name: str = ""
    email: str = ""
    team: str = ""
    service: str = ""
    roles: Sequence[str] = ()
    version: str = ""
    owner: str = ""
    dns_names: Sequence[str] = ()
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class IdentityChanges:
    """What can be changed of an identity; None leaves it."""

    display_name: str | None = None
    email: str | None = None
    team: str | None = None
    service: str | None = None
    roles: Sequence[str] | None = None
    version: str | None = None
    owner: str | None = None
    dns_names: Sequence[str] | None = None
    properties: Mapping[str, str] | None = None


def checked_rows(
    wanted: Sequence[NewIdentity],
    known: Mapping[str, TrustDomain],
    secret: bytes,
    principal: Principal,
    tx: Transaction,
) -> list[dict[str, Any]]:
    """The rows of new identities, ``known`` being their trust domains by name, ``secret`` what names are made from.

    Raises InvalidInput, Refused; with several wrong ones ``fields`` names each by its position (``[3]``).
    """
    rows: list[dict[str, Any]] = []
    wrong: list[tuple[int, IntaglioError]] = []
    for position, each in enumerate(wanted):
        try:
            rows.append(_row(each, known[each.domain], secret, principal, tx))
        except IntaglioError as error:
            wrong.append((position, error))
    if len(wanted) == 1 and wrong:
        raise wrong[0][1]
    if wrong:
        raise InvalidInput(
            f"{len(wrong)} of {len(wanted)} identities cannot be registered, so none was.",
            code="identities-invalid",
            remedy="Correct those named and try again.",
            fields=[(f"[{position}]", str(error)) for position, error in wrong[:100]],
        )
    return rows


def _row(
    wanted: NewIdentity, domain: TrustDomain, secret: bytes, principal: Principal, tx: Transaction
) -> dict[str, Any]:
    kind, identity_id = names.kind_of(wanted.kind), new_id()
    if kind is Kind.USER:
        if wanted.name:
            raise InvalidInput(
                "The name of a user is made here.", code="name-not-allowed", remedy="Leave it out.", target="name"
            )
        name = derived_name(secret, "u", identity_id)
    elif kind is Kind.DEVICE and not wanted.name:
        name = derived_name(secret, "d", identity_id)
    else:
        name = names.identity_name(wanted.name)
        if "." in name:  # OpenSSL takes a common name with dots for a DNS name and holds it against name constraints
            raise InvalidInput(
                f'"{name}" looks like a DNS name.',
                code="name-invalid",
                remedy="Leave the dots out; DNS names are registered apart.",
                target="name",
            )
    return {
        "id": identity_id,
        "domain_id": domain.id,
        "kind": kind.value,
        "name": name,
        "state": "active",
        "created_by": principal.name,
        "created_at": tx.now,
        "changed_at": tx.now,
        **checked_attributes(wanted, kind, domain, name),
    }


def checked_attributes(wanted: NewIdentity, kind: Kind, domain: TrustDomain, name: str) -> dict[str, Any]:
    """What is certified, or kept, of an identity. Raises InvalidInput, Refused."""
    if wanted.dns_names and kind not in _SERVING:
        raise InvalidInput(f"A {kind} has no DNS names.", code="dns-name-not-allowed", target="dns_names")
    service = wanted.service or (name if kind is Kind.SERVICE else "")
    values = {
        "display_name": names.plain_text(wanted.display_name, target="display_name"),
        "email": names.email_address(wanted.email, domain.email_domains) if wanted.email else "",
        "team": names.identity_name(wanted.team, target="team") if wanted.team else "",
        "service": names.identity_name(service, target="service") if service else "",
        "roles": list(names.roles(wanted.roles)),
        "version": names.word(wanted.version, target="version") if wanted.version else "",
        "owner": names.plain_text(wanted.owner, target="owner"),
        "dns_names": list(names.dns_names(wanted.dns_names, domain.dns_suffixes)),
        "properties": names.properties(dict(wanted.properties)),
    }
    required = domain.required_attributes if kind in _SERVING else ("email",) if kind is Kind.USER else ()
    if missing := [attribute for attribute in required if not values[attribute]]:
        raise Refused(
            f"A {kind} of {domain.name} needs: {', '.join(missing)}.",
            code="attribute-missing",
            remedy="Name them when it is registered; they go into its certificates.",
            target=missing[0],
        )
    return values


async def new_ones(tx: Transaction, rows: list[dict[str, Any]], *, skip_existing: bool) -> list[dict[str, Any]]:
    """The rows whose identities do not exist. Raises InvalidInput for one that is named twice, StateConflict."""
    if len({_key(row) for row in rows}) < len(rows):
        raise InvalidInput("The same identity is named twice.", code="identities-invalid", target="identities")
    i = models.identity.c
    taken: set[tuple[Any, ...]] = set()
    for domain_id, kind in sorted({(row["domain_id"], row["kind"]) for row in rows}):  # locks in one order for all
        wanted = [_key(row)[2] for row in rows if (row["domain_id"], row["kind"]) == (domain_id, kind)]
        if kind == Kind.USER:
            found = await addresses_held(tx, domain_id, wanted)
        else:
            names_held = select(i.name).where(i.domain_id == domain_id, i.kind == kind, i.name.in_(wanted))
            found = {row["name"] for row in await tx.all(names_held)}
        taken |= {(domain_id, kind, key) for key in found}
    if taken and not skip_existing:
        shown = ", ".join(sorted(key[2] for key in taken)[:5])
        raise StateConflict(
            f"There is such an identity already: {shown}.",
            code="identity-exists",
            remedy="Choose another name; that of a retired identity is not given out again.",
            target="name",
        )
    return [row for row in rows if _key(row) not in taken]


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What is unique about an identity; users, whose names are made here, have one per e-mail address."""
    return row["domain_id"], row["kind"], row["email"].lower() if row["kind"] == Kind.USER else row["name"]


async def require_address_free(tx: Transaction, identity: Identity, email: str) -> None:
    """Raise StateConflict (``email-taken``) for an address that another user of the trust domain has; nobody else
    takes it until the end. Only users are told apart by their addresses."""
    if identity.kind is not Kind.USER or email.lower() == identity.email.lower():
        return
    if await addresses_held(tx, identity.domain.id, [email.lower()], but=identity.id):
        raise StateConflict(
            f'Somebody else in the trust domain "{identity.domain.name}" has the address {email[:80]}.',
            code="email-taken",
            remedy="Use another address, or have the identity retired that has it.",
            target="email",
        )


async def addresses_held(
    tx: Transaction, domain_id: UUID, addresses: Sequence[str], *, but: UUID | None = None
) -> set[str]:
    """Which of these addresses (in lower case) users of a trust domain have that are not retired, ``but`` one.

    Whoever takes an address takes turns with others who do, so that two never both find it free.
    """
    await locks.lock(tx, "mtls-addresses", domain_id)
    i = models.identity.c
    lower = func.lower(i.email)
    found = select(lower.label("email")).where(
        i.domain_id == domain_id, i.kind == Kind.USER.value, i.state != "retired", lower.in_(addresses)
    )
    return {row["email"] for row in await tx.all(found if but is None else found.where(i.id != but))}


def derived_name(secret: bytes, prefix: str, of: UUID) -> str:
    """A name that says nothing about whose it is, and that nobody can compute without the secret."""
    digest = hmac.digest(secret, of.bytes, hashlib.sha256)
    return f"{prefix}-{base64.b32encode(digest).decode().lower()[:_DERIVED_CHARACTERS]}"
