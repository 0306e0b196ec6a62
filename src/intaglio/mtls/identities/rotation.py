"""Giving a trust domain its issuing CA, or another one: both count until nothing of the old one is in use any more."""

from __future__ import annotations

from sqlalchemy import delete, func, select

from intaglio.authority import models as authority_models
from intaglio.authority.configuration import changing
from intaglio.core.errors import InvalidInput, StateConflict
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.identity import sessions
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities import models
from intaglio.mtls.identities.authorities import (
    PRIVATE_SUFFIXES,
    NewCaWish,
    make_cas,
    offer_profiles,
    usable_ca,
)
from intaglio.mtls.identities.domains import (
    MOST_SUFFIXES,
    add_ca,
    get_domain,
    load_by_name,
    locked_domain,
    note,
    own_email_domains,
    set_values,
)
from intaglio.mtls.identities.environments import require_separate
from intaglio.mtls.identities.values import TrustDomain


async def give_ca(
    mtls: Mtls, principal: Principal, name: str, *, new_ca: NewCaWish | None = None, issuing_ca: str | None = None
) -> TrustDomain:
    """Let a trust domain issue with a new CA of its own, or with a given one, from now on.

    A draft becomes active; a domain that had another CA is rotating: certificates of both count, the trust bundle has
    both, until :func:`finish_rotation`. Needs ``mtls.identities``, for a new CA also ``ca.configure``. Raises NotFound,
    InvalidInput, Refused (``ca-not-suitable``), StateConflict (``foreign-environment``, a rotation under way).
    """
    if (new_ca is None) == (issuing_ca is None):
        raise InvalidInput("Either have a CA made, or name one.", code="ca-choice", target="issuing_ca")
    principal.require(Permission.MTLS_IDENTITIES)
    domain = await get_domain(mtls, principal, name)
    _require_not_rotating(domain)
    if new_ca is not None:
        suffixes = domain.dns_suffixes or (domain.name, *PRIVATE_SUFFIXES)
        mail = domain.email_domains or await _email_domains_in_use(mtls, domain)
        issuing_ca = await make_cas(
            mtls, principal, domain.organization, domain.environment, domain.name, suffixes, mail, new_ca
        )
    assert issuing_ca is not None
    await offer_profiles(mtls, principal, issuing_ca)
    async with changing(mtls.authority, principal, Permission.MTLS_IDENTITIES) as change:
        tx, snapshot = change.tx, await change.locked()
        domain = await locked_domain(tx, principal, name)
        _require_not_rotating(domain)
        ca = usable_ca(snapshot, issuing_ca, domain.organization_id)
        await require_separate(tx, snapshot, domain.environment, ca, domain.anchor)
        if ca.full_id not in domain.cas:
            await add_ca(tx, domain.id, ca.id)
        state = "active" if domain.state == "draft" or set(domain.cas) <= {ca.full_id} else "rotating"
        values = {"issuing_ca_id": ca.id, "state": state, "bundle_version": domain.bundle_version + 1}
        if ca.options.constraints is not None and not domain.dns_suffixes:
            values["dns_suffixes"] = list(ca.options.constraints.permitted_dns)
        if ca.options.constraints is not None and not domain.email_domains:
            values["email_domains"] = list(ca.options.constraints.permitted_email)
        await set_values(tx, domain.id, **values)
        note(tx, principal, "rotate", domain, issuing_ca=ca.full_id, before=domain.issuing_ca, state=state)
        return await load_by_name(tx, name)


async def finish_rotation(mtls: Mtls, principal: Principal, name: str, *, force: bool = False) -> TrustDomain:
    """Stop trusting the CAs that do not issue any more, and end the sessions that their certificates opened. Needs
    ``mtls.identities``.

    Raises NotFound, StateConflict: ``not-rotating``, and ``rotation-unfinished`` while certificates of an old CA are
    live, unless forced.
    """
    async with changing(mtls.authority, principal, Permission.MTLS_IDENTITIES) as change:
        tx = change.tx
        domain = await locked_domain(tx, principal, name)
        if domain.state != "rotating":
            raise StateConflict(f'The trust domain "{name}" is not rotating.', code="not-rotating")
        live = await live_of_old_cas(tx, domain)
        if live and not force:
            raise StateConflict(
                f"{live} live certificates are of a CA that would not be trusted any more.",
                code="rotation-unfinished",
                remedy="Wait until they were renewed, or force it: their holders are refused then.",
                extra={"certificates": live},
            )
        m, t = models.domain_ca.c, models.trust_domain.c
        issuing = select(t.issuing_ca_id).where(t.id == domain.id).scalar_subquery()
        await tx.execute(delete(models.domain_ca).where(m.domain_id == domain.id, m.ca_id != issuing))
        await set_values(tx, domain.id, state="active", bundle_version=domain.bundle_version + 1)
        # Whoever logs in with such a certificate holds on to what was just taken away, so his session is found here.
        b = models.binding.c
        dropped = select(b.id).where(b.domain_id == domain.id, b.ca_id != issuing, b.not_after > tx.now)
        ended = await sessions.end_sessions_of(tx, dropped)
        removed = sorted(set(domain.cas) - {domain.issuing_ca})
        note(
            tx, principal, "finish-rotation", domain, removed=removed, forced=bool(live), sessions_ended=ended
        )
        return await load_by_name(tx, name)


async def _email_domains_in_use(mtls: Mtls, domain: TrustDomain) -> list[str]:
    """The e-mail domains of a trust domain that names none: its own, and those its identities have addresses of. None
    when that is more than a CA is limited to."""
    i = models.identity.c
    host = func.lower(func.split_part(i.email, "@", 2))
    query = select(host.label("host")).where(i.domain_id == domain.id, i.email != "", i.state != "retired").distinct()
    async with mtls.database.read() as view:
        found = {row["host"] for row in await view.all(query.limit(MOST_SUFFIXES + 1))}
    mail = list(dict.fromkeys([*own_email_domains(domain.name), *sorted(found)]))
    return mail if len(mail) <= MOST_SUFFIXES else []


async def live_of_old_cas(view: Transaction, domain: TrustDomain) -> int:
    """How many live certificates of a trust domain are not of the CA that issues now."""
    b, c = models.binding.c, authority_models.certificate.c
    return int(
        await view.scalar(
            select(func.count())
            .select_from(models.binding)
            .join(authority_models.certificate, c.id == b.id)
            .where(
                b.domain_id == domain.id, b.ca != domain.issuing_ca, b.not_after > view.now, c.status != "revoked",
                b.replaced_by.is_(None),
            )
        )
    )  # fmt: skip


def _require_not_rotating(domain: TrustDomain) -> None:
    if domain.state == "rotating":
        raise StateConflict(
            f'The trust domain "{domain.name}" is rotating already.',
            code="already-rotating",
            remedy="Finish that first.",
        )
