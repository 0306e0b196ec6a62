"""Whom a security code is for: somebody in the registry, or somebody who is put there now."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from intaglio.core.errors import InvalidInput, NotFound
from intaglio.core.principal import Permission, Principal
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment.policy import open_domain
from intaglio.mtls.enrolment.settings import EnrolmentSettings
from intaglio.mtls.identities import domains, models, registry
from intaglio.mtls.identities.registry import NewIdentity
from intaglio.mtls.identities.values import Identity, Kind
from intaglio.platform import live_settings


@dataclass(frozen=True)
class Person:
    """Somebody to make a code for: ``identity`` in the registry (id or name), or who he is.

    Without ``domain`` it is the one that the enrolment page shows. A user is known by his e-mail address.
    """

    identity: str = ""
    domain: str = ""
    kind: str = "user"
    display_name: str = ""
    email: str = ""
    team: str = ""
    name: str = ""


async def find_or_add(mtls: Mtls, principal: Principal, person: Person) -> Identity:
    """The identity of a person. Needs ``mtls.enrol``; to register a new one also ``mtls.identities``.

    Raises NotFound, InvalidInput, Forbidden, and what registering raises.
    """
    principal.require(Permission.MTLS_ENROL)
    if person.identity:
        return await registry.get_identity(mtls, principal, person.identity)
    if not person.email and not person.name:
        raise InvalidInput(
            "A security code is for an identity, or for somebody with an e-mail address.",
            code="person-missing",
            remedy="Give identity, or email and display_name.",
            target="identity",
        )
    async with mtls.database.read() as view:
        settings = await live_settings.current(view, EnrolmentSettings)
        domain = await open_domain(view, person.domain or None, settings)
        await domains.require_visible(view, principal, domain)
        i = models.identity.c
        known = await view.scalar(
            select(i.id)
            .where(
                i.domain_id == domain.id,
                i.kind == Kind.USER.value,
                i.state == "active",
                func.lower(i.email) == person.email.strip().lower(),
            )
            .order_by(i.id.desc())
            .limit(1)
        )
    if known is not None and person.kind == Kind.USER.value and not person.name:
        return await registry.get_identity(mtls, principal, known)
    if not principal.may(Permission.MTLS_IDENTITIES):
        raise NotFound(
            f'Nobody in the registry has the e-mail address "{person.email[:80]}".',
            code="identity-unknown",
            remedy="Have the person registered first, by somebody with mtls.identities.",
            target="email",
        )
    wanted = NewIdentity(
        domain=domain.name,
        kind=person.kind,
        name=person.name,
        display_name=person.display_name,
        email=person.email.strip().lower(),
        team=person.team,
    )
    return await registry.add_identity(mtls, principal, wanted)
