"""Trust domains: made for an environment, with a CA of their own or a given one, changed, rotated and retired."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Select, func, insert, select, update

from intaglio.audit import record as audit
from intaglio.authority import models as authority_models
from intaglio.authority.access import memberships_of, require_organization, sees_all
from intaglio.authority.configuration import changing
from intaglio.core.errors import InvalidInput, NotFound, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Row, Transaction
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities import lifetimes, models, names
from intaglio.mtls.identities.authorities import (
    PRIVATE_SUFFIXES,
    NewCaWish,
    make_cas,
    offer_profiles,
    require_email_within_limits,
    require_within_limits,
    usable_ca,
)
from intaglio.mtls.identities.environments import require_separate
from intaglio.mtls.identities.values import Kind, TrustDomain
from intaglio.x509.host_names import check_dns_name

Anchor = Literal["root", "issuing"]
PkiChoice = Literal["own", "aws-private-ca", "vault", "acme", "enterprise"]
REQUIRABLE = ("team", "service", "roles", "version")
MOST_SUFFIXES = 50


@dataclass(frozen=True)
class NewDomain:
    """What a trust domain shall be. With neither ``new_ca`` nor ``issuing_ca`` it stays a draft until it gets one.

    A CA of its own is limited to ``dns_suffixes``; without any, to names below its own and to private ones. Likewise to
    e-mail addresses of ``email_domains`` (``.example``: all hosts below); without any, to those of its own name and
    below.
    """

    name: str
    environment: str
    organization: str
    title: str = ""
    new_ca: NewCaWish | None = None
    issuing_ca: str | None = None
    anchor: Anchor = "root"
    lifetimes: Mapping[Kind, timedelta] = field(default_factory=dict)
    ceilings: Mapping[Kind, timedelta] = field(default_factory=dict)
    required_attributes: Sequence[str] = ("team", "service")
    dns_suffixes: Sequence[str] = ()
    email_domains: Sequence[str] = ()
    pki_choice: PkiChoice = "own"


@dataclass(frozen=True)
class DomainChanges:
    """What can be changed of a trust domain; None leaves it."""

    title: str | None = None
    lifetimes: Mapping[Kind, timedelta] | None = None
    ceilings: Mapping[Kind, timedelta] | None = None
    required_attributes: Sequence[str] | None = None
    dns_suffixes: Sequence[str] | None = None
    email_domains: Sequence[str] | None = None
    pki_choice: PkiChoice | None = None


async def create_domain(mtls: Mtls, principal: Principal, wanted: NewDomain) -> TrustDomain:
    """Make a trust domain. Needs ``mtls.identities`` in the organization, for new CAs also ``ca.configure``.

    Raises NotFound (organization, CA), InvalidInput, StateConflict (``already-exists``, ``foreign-environment``),
    Refused (a CA that cannot issue, lifetimes).
    """
    ceilings = lifetimes.ceilings(wanted.ceilings)
    suffixes = _suffixes(wanted.dns_suffixes)
    if wanted.new_ca is not None and not suffixes:
        suffixes = [names.domain_name(wanted.name), *PRIVATE_SUFFIXES]
    mail = email_domains(wanted.email_domains)
    if wanted.new_ca is not None and not mail:
        mail = own_email_domains(names.domain_name(wanted.name))
    values: dict[str, Any] = {
        "name": names.domain_name(wanted.name),
        "environment": names.environment_name(wanted.environment),
        "title": names.plain_text(wanted.title, target="title"),
        "anchor": wanted.anchor,
        "ceilings": _seconds(ceilings),
        "lifetimes": _seconds(lifetimes.lifetimes(wanted.lifetimes, ceilings)),
        "required_attributes": _required(wanted.required_attributes),
        "dns_suffixes": suffixes,
        "email_domains": mail,
        "pki_choice": wanted.pki_choice,
    }
    await _require_free(mtls, principal, wanted)
    issuing_ca = wanted.issuing_ca
    if wanted.new_ca is not None:
        issuing_ca = await make_cas(
            mtls, principal, wanted.organization, wanted.environment, wanted.name, suffixes, mail, wanted.new_ca
        )
    elif issuing_ca is not None:
        await offer_profiles(mtls, principal, issuing_ca)
    async with changing(mtls.authority, principal, Permission.MTLS_IDENTITIES) as change:
        tx, snapshot = change.tx, await change.locked()
        organization = await require_organization(tx, principal, wanted.organization, Permission.MTLS_IDENTITIES)
        await _require_name_free(tx, wanted.name)
        ca = None
        if issuing_ca is not None:
            ca = usable_ca(snapshot, issuing_ca, organization.id)
            await require_separate(tx, snapshot, wanted.environment, ca, wanted.anchor)
        values |= {"id": new_id(), "organization_id": organization.id, "state": "active" if ca else "draft"}
        values |= {"issuing_ca_id": ca.id if ca else None, "created_by": principal.name, "created_at": tx.now}
        await tx.execute(insert(models.trust_domain).values(**values))
        if ca is not None:
            await add_ca(tx, values["id"], ca.id)
        domain = await load_by_name(tx, wanted.name)
        note(tx, principal, "create", domain, issuing_ca=issuing_ca or "", anchor=wanted.anchor)
        return domain


async def list_domains(mtls: Mtls, principal: Principal) -> list[TrustDomain]:
    """The trust domains of the organizations that the principal sees, by name. Needs ``mtls.view`` or ``mtls.own``."""
    require_reader(principal)
    async with mtls.database.read() as view:
        query = domains_query().order_by(models.trust_domain.c.name)
        if not sees_all(principal):
            if principal.kind != "user":
                return []
            query = query.where(models.trust_domain.c.organization_id.in_(memberships_of(principal.name)))
        return [domain_of(row) for row in await view.all(query)]


async def get_domain(mtls: Mtls, principal: Principal, name: str) -> TrustDomain:
    """One trust domain. Needs ``mtls.view`` or ``mtls.own``. Raises NotFound."""
    require_reader(principal)
    async with mtls.database.read() as view:
        return await visible_domain(view, principal, name)


async def edit_domain(mtls: Mtls, principal: Principal, name: str, changes: DomainChanges) -> TrustDomain:
    """Change a trust domain; what was issued stays as it is. Needs ``mtls.identities``.

    Raises NotFound, InvalidInput, Refused (``lifetime-above-ceiling``), StateConflict when it is retired.
    """
    async with changing(mtls.authority, principal, Permission.MTLS_IDENTITIES) as change:
        tx = change.tx
        domain = await locked_domain(tx, principal, name)
        values: dict[str, Any] = {}
        if changes.title is not None:
            values["title"] = names.plain_text(changes.title, target="title")
        if changes.ceilings is not None or changes.lifetimes is not None:
            highest = lifetimes.ceilings({**domain.ceilings, **(changes.ceilings or {})})
            kept = {kind: min(span, highest[kind]) for kind, span in domain.lifetimes.items()}
            values["ceilings"] = _seconds(highest)
            values["lifetimes"] = _seconds(lifetimes.lifetimes({**kept, **(changes.lifetimes or {})}, highest))
        if changes.required_attributes is not None:
            values["required_attributes"] = _required(changes.required_attributes)
        if changes.dns_suffixes is not None:
            values["dns_suffixes"] = _suffixes(changes.dns_suffixes)
            require_within_limits(change.before, domain, values["dns_suffixes"])
        if changes.email_domains is not None:
            values["email_domains"] = email_domains(changes.email_domains)
            require_email_within_limits(change.before, domain, values["email_domains"])
        if changes.pki_choice is not None:
            values["pki_choice"] = changes.pki_choice
        if values:
            await set_values(tx, domain.id, **values)
        note(tx, principal, "edit", domain, changed=values)
        return await load_by_name(tx, name)


async def retire_domain(mtls: Mtls, principal: Principal, name: str) -> TrustDomain:
    """End a trust domain: nothing more is issued in it. Needs ``mtls.identities``.

    Its CAs stay bound to its environment. Raises NotFound, StateConflict (``domain-in-use``) while it has identities
    that are not retired.
    """
    async with changing(mtls.authority, principal, Permission.MTLS_IDENTITIES) as change:
        tx = change.tx
        domain = await locked_domain(tx, principal, name)
        i = models.identity.c
        live = await tx.scalar(select(func.count()).where(i.domain_id == domain.id, i.state != "retired"))
        if live:
            raise StateConflict(
                f'The trust domain "{name}" has {live} identities that are not retired.',
                code="domain-in-use",
                remedy="Retire them first; that revokes their certificates.",
            )
        await set_values(tx, domain.id, state="retired", retired_at=tx.now)
        note(tx, principal, "retire", domain)
        return await load_by_name(tx, name)


# ---- for the modules beside this one ---------------------------------------------------------------------------------


def require_reader(principal: Principal) -> None:
    """Raise Unauthenticated or Forbidden for who may not read about identities."""
    if not (principal.may(Permission.MTLS_OWN) or principal.may(Permission.MTLS_IDENTITIES)):
        principal.require(Permission.MTLS_VIEW)


async def visible_domain(view: Transaction, principal: Principal, name: str) -> TrustDomain:
    """The trust domain, for a principal who may see its organization. Raises NotFound."""
    domain = await load_by_name(view, name)
    await require_visible(view, principal, domain)
    return domain


async def require_visible(view: Transaction, principal: Principal, domain: TrustDomain) -> None:
    """Raise NotFound for a principal who may not see the organization of a trust domain."""
    if sees_all(principal):
        return
    mine = memberships_of(principal.name).where(
        authority_models.organization_member.c.organization_id == domain.organization_id
    )
    if principal.kind != "user" or await view.scalar(mine) is None:
        raise domain_unknown(domain.name)


async def locked_domain(tx: Transaction, principal: Principal, name: str) -> TrustDomain:
    """The trust domain, nobody else changing it until the end. Raises NotFound, StateConflict when it is retired."""
    t = models.trust_domain
    await tx.scalar(select(t.c.id).where(t.c.name == name).with_for_update())
    domain = await visible_domain(tx, principal, name)
    if domain.state == "retired":
        raise StateConflict(f'The trust domain "{name}" is retired.', code="domain-retired")
    return domain


async def load_by_name(view: Transaction, name: str) -> TrustDomain:
    """The trust domain, whoever may see it. Raises NotFound."""
    row = await view.one_or_none(domains_query().where(models.trust_domain.c.name == name))
    if row is None:
        raise domain_unknown(name)
    return domain_of(row)


async def load_by_ids(view: Transaction, ids: Iterable[UUID]) -> dict[UUID, TrustDomain]:
    """Trust domains by id."""
    rows = await view.all(domains_query().where(models.trust_domain.c.id.in_(set(ids))))
    return {row["id"]: domain_of(row) for row in rows}


async def load_all(view: Transaction) -> list[TrustDomain]:
    """All trust domains, retired ones too, by name."""
    return [domain_of(row) for row in await view.all(domains_query().order_by(models.trust_domain.c.name))]


def domains_query() -> Select[Any]:
    """Trust domains with the names of their organization and CAs."""
    t, o, c, m = models.trust_domain, authority_models.organization, authority_models.ca, models.domain_ca
    issuing = c.alias("issuing")
    trusted = select(m.c.domain_id).join(c, c.c.id == m.c.ca_id).where(m.c.domain_id == t.c.id)
    cas, ids = (
        trusted.with_only_columns(func.array_agg(column)).scalar_subquery().correlate(t)
        for column in (c.c.name, c.c.id)
    )
    named = (o.c.name.label("organization"), issuing.c.name.label("issuing_ca"), cas.label("cas"), ids.label("ca_ids"))
    return (
        select(t, *named)
        .join(o, o.c.id == t.c.organization_id)
        .outerjoin(issuing, issuing.c.id == t.c.issuing_ca_id)
    )


def domain_of(row: Row) -> TrustDomain:
    """The trust domain in a row of :func:`domains_query`."""
    organization = row["organization"]
    return TrustDomain(
        id=row["id"],
        name=row["name"],
        environment=row["environment"],
        organization=organization,
        organization_id=row["organization_id"],
        title=row["title"],
        state=row["state"],
        issuing_ca=f"{organization}~{row['issuing_ca']}" if row["issuing_ca"] else "",
        cas=tuple(sorted(f"{organization}~{name}" for name in row["cas"] or ())),
        bundle_version=row["bundle_version"],
        lifetimes=_spans(row["lifetimes"]),
        ceilings=_spans(row["ceilings"]),
        pki_choice=row["pki_choice"],
        created_at=row["created_at"],
        anchor=row["anchor"],
        required_attributes=tuple(row["required_attributes"]),
        dns_suffixes=tuple(row["dns_suffixes"]),
        email_domains=tuple(row["email_domains"]),
        created_by=row["created_by"],
        issuing_ca_id=row["issuing_ca_id"],
        ca_ids=tuple(row["ca_ids"] or ()),
    )


async def set_values(tx: Transaction, domain_id: UUID, **values: Any) -> None:
    """Change columns of a trust domain."""
    t = models.trust_domain
    await tx.execute(update(t).where(t.c.id == domain_id).values(**values))


async def add_ca(tx: Transaction, domain_id: UUID, ca_id: UUID) -> None:
    """Trust one more CA in a trust domain."""
    await tx.execute(insert(models.domain_ca).values(domain_id=domain_id, ca_id=ca_id, added_at=tx.now))


def own_email_domains(name: str) -> list[str]:
    """The hosts of e-mail addresses in a trust domain that names none: its own name, and all below it."""
    return [name, f".{name}"]


def email_domains(given: Sequence[str]) -> list[str]:
    """Hosts of e-mail addresses, each once; one with a leading dot stands for all below it. Raises InvalidInput."""
    if len(given) > MOST_SUFFIXES:
        raise InvalidInput(f"At most {MOST_SUFFIXES} e-mail domains.", target="email_domains")
    dots = ("." if each.startswith(".") else "" for each in given)
    hosts = (check_dns_name(each.removeprefix(".")).lower() for each in given)
    found = list(dict.fromkeys(dot + host for dot, host in zip(dots, hosts, strict=True)))
    if wildcards := [each for each in found if "*" in each]:
        raise InvalidInput(
            f'"{wildcards[0]}" is not an e-mail domain.', remedy="Write .example for all hosts below it.",
            target="email_domains",
        )  # fmt: skip
    return found


def note(tx: Transaction, principal: Principal, verb: str, domain: TrustDomain, **facts: Any) -> None:
    """Record a change of a trust domain."""
    audit.record(
        tx, principal, f"trust-domain.{verb}", "trust-domain", domain.name, organization=domain.organization,
        environment=domain.environment, **facts,
    )  # fmt: skip


def domain_unknown(name: str) -> NotFound:
    """The refusal of a trust domain that does not exist, or that the caller may not know of."""
    return NotFound(f'There is no trust domain "{name[:80]}".', code="domain-unknown", target="domain")


# ---- steps -----------------------------------------------------------------------------------------------------------


async def _require_free(mtls: Mtls, principal: Principal, wanted: NewDomain) -> None:
    """Before anything is made: may the principal, and is the name free?"""
    async with mtls.database.read() as view:
        await require_organization(view, principal, wanted.organization, Permission.MTLS_IDENTITIES)
        await _require_name_free(view, wanted.name)


async def _require_name_free(view: Transaction, name: str) -> None:
    t = models.trust_domain.c
    if await view.scalar(select(t.id).where(t.name == name)):
        raise StateConflict(
            f'There is a trust domain "{name}" already.',
            code="already-exists",
            remedy="Choose another name; those of retired ones are not given out again.",
            target="name",
        )


def _required(attributes: Sequence[str]) -> list[str]:
    if unknown := sorted(set(attributes) - set(REQUIRABLE)):
        raise InvalidInput(
            f"{', '.join(unknown)[:80]} cannot be required.",
            code="attribute-unknown",
            remedy=f"Require some of: {', '.join(REQUIRABLE)}.",
            target="required_attributes",
        )
    return [name for name in REQUIRABLE if name in {"team", "service", *attributes}]


def _suffixes(given: Sequence[str]) -> list[str]:
    if len(given) > MOST_SUFFIXES:
        raise InvalidInput(f"At most {MOST_SUFFIXES} DNS suffixes.", target="dns_suffixes")
    return list(dict.fromkeys(check_dns_name(suffix.lstrip(".")).lower() for suffix in given))


def _seconds(spans: Mapping[Kind, timedelta]) -> dict[str, int]:
    return {kind.value: int(span.total_seconds()) for kind, span in spans.items()}


def _spans(seconds: Mapping[str, int]) -> dict[Kind, timedelta]:
    return {Kind(kind): timedelta(seconds=value) for kind, value in seconds.items()}
