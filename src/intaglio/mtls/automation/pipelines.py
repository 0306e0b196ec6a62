"""Pipelines: whose identity tokens prove which identity.

A CI system gives each job a signed token that says which repository, branch or project it runs for; a cluster gives
each pod one that says which service account it is. A pipeline binds such tokens, by issuer, audience and conditions on
their claims, to one registered identity, and says how long a job may take: no certificate outlives that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, insert, select, update

from intaglio.audit import record as audit
from intaglio.core.errors import InvalidInput, NotFound, Refused, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Row, Transaction
from intaglio.db.listing import Listing, ListQuery
from intaglio.mtls.automation import conditions, errors, identity_tokens
from intaglio.mtls.automation.identity_tokens import Proved
from intaglio.mtls.automation.issuer_keys import Issuer, IssuerKeys, https_url
from intaglio.mtls.automation.models import login, pipeline_use
from intaglio.mtls.automation.models import pipeline as table
from intaglio.mtls.automation.settings import AutomationSettings
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities import domains, lifetimes, names, registry
from intaglio.mtls.identities import models as identity_models
from intaglio.mtls.identities.values import AUTOMATED, Identity
from intaglio.platform import live_settings, outgoing
from intaglio.x509.certificates import pem, read_certificates

_LONGEST_AUDIENCE = 500
_MOST_CA_CERTIFICATES = 10
_MOST_USES = 1000


@dataclass(frozen=True)
class Pipeline:
    """Which tokens prove ``identity`` (its SPIFFE ID).

    ``jwks_url`` is empty where the discovery document of the issuer says it; ``issuer_ca`` (PEM) is empty where the
    trust anchors of the system vouch for its server. ``lifetime`` is how long a certificate lives at most; with
    ``end_with_token`` it does not outlive the token either. A token counts ``token_uses`` times, 0 being any number;
    ``version`` counts changes.
    """

    id: UUID
    name: str
    identity_id: UUID
    identity: str
    issuer: str
    jwks_url: str
    issuer_ca: str
    audience: str
    conditions: Mapping[str, Sequence[str]]
    lifetime: timedelta
    end_with_token: bool
    token_uses: int
    version: int
    created_by: str
    created_at: datetime
    changed_at: datetime
    used_at: datetime | None
    uses: int

    @property
    def token_issuer(self) -> Issuer:
        return Issuer(self.issuer, self.jwks_url, self.issuer_ca)


@dataclass(frozen=True)
class PipelineWish:
    """What a pipeline shall be; ``lifetime`` None is what its trust domain gives."""

    identity: UUID | str
    issuer: str
    audience: str
    conditions: Mapping[str, Sequence[str]]
    lifetime: timedelta | None = None
    jwks_url: str = ""
    issuer_ca: str = ""
    end_with_token: bool = False
    token_uses: int = 1


@dataclass(frozen=True)
class PipelinePage:
    """A page of pipelines; ``next_cursor`` is None at the end."""

    pipelines: Sequence[Pipeline]
    next_cursor: str | None
    total: int | None


@dataclass(frozen=True)
class Job:
    """Who a token proves to be, and how long its certificate may live."""

    pipeline: Pipeline
    identity: Identity
    longest: timedelta
    not_beyond: datetime | None
    subject: str = field(default="")


async def add_pipeline(mtls: Mtls, principal: Principal, name: str, wanted: PipelineWish) -> Pipeline:
    """Bind the tokens of an issuer to an identity. Needs ``mtls.identities`` in its organization.

    Raises NotFound, InvalidInput (``conditions-invalid``, ``url-invalid``, ``token-uses-invalid``), Refused (a person
    or device; ``lifetime-above-ceiling``), StateConflict (``pipeline-exists``).
    """
    principal.require(Permission.MTLS_IDENTITIES)
    values = _checked(wanted) | {"id": new_id(), "name": names.identity_name(name)}
    async with mtls.database.transaction() as tx:
        identity = await _bindable(tx, principal, wanted.identity)
        if await tx.scalar(select(table.c.id).where(table.c.name == name)) is not None:
            raise StateConflict(
                f'There is a pipeline "{name}" already.', code="pipeline-exists", remedy="Choose another name."
            )
        values |= {"identity_id": identity.id, "lifetime": _lifetime(identity, wanted.lifetime)}
        values |= {"created_by": principal.name, "created_at": tx.now, "changed_at": tx.now}
        await tx.execute(insert(table).values(**values))
        made = await _load(tx, name)
        _note(tx, principal, "add", identity, made)
        return made


async def change_pipeline(mtls: Mtls, principal: Principal, name: str, wanted: PipelineWish) -> Pipeline:
    """Replace what a pipeline says; logins that rest on it end at once. Raises like :func:`add_pipeline`."""
    principal.require(Permission.MTLS_IDENTITIES)
    values = _checked(wanted)
    async with mtls.database.transaction() as tx:
        await _visible(tx, principal, name)
        identity = await _bindable(tx, principal, wanted.identity)
        values |= {"identity_id": identity.id, "lifetime": _lifetime(identity, wanted.lifetime), "changed_at": tx.now}
        values["version"] = table.c.version + 1
        await tx.execute(update(table).where(table.c.name == name).values(**values))
        made = await _load(tx, name)
        resting = update(login).where(login.c.pipeline_id == made.id, login.c.revoked_at.is_(None))
        await tx.execute(resting.values(revoked_at=tx.now))
        _note(tx, principal, "change", identity, made)
        return made


async def remove_pipeline(mtls: Mtls, principal: Principal, name: str) -> None:
    """Let the tokens count no more; logins that rest on them end at once. Certificates go on until they end, or until
    they are revoked. Needs ``mtls.identities``. Raises NotFound."""
    principal.require(Permission.MTLS_IDENTITIES)
    async with mtls.database.transaction() as tx:
        found = await _visible(tx, principal, name)
        identity = await registry.load_identity(tx, found.identity_id)
        await tx.execute(delete(table).where(table.c.id == found.id))
        _note(tx, principal, "remove", identity, found)


async def get_pipeline(mtls: Mtls, principal: Principal, name: str) -> Pipeline:
    """One pipeline. Needs ``mtls.view``, or ``mtls.own`` for those of what one owns. Raises NotFound."""
    domains.require_reader(principal)
    async with mtls.database.read() as view:
        return await _visible(view, principal, name)


async def list_pipelines(mtls: Mtls, principal: Principal, asked: ListQuery) -> PipelinePage:
    """A page of pipelines by name. Needs ``mtls.view``, or ``mtls.own`` for those of what one owns.

    ``asked.filter`` knows name, issuer, audience, domain, created_by and created_at. Raises InvalidInput.
    """
    domains.require_reader(principal)
    d = identity_models.trust_domain.c
    columns = {
        "name": table.c.name, "issuer": table.c.issuer, "audience": table.c.audience, "domain": d.name,
        "created_by": table.c.created_by, "created_at": table.c.created_at,
    }  # fmt: skip
    query = _query().where(*registry.visible_to(principal))
    listing = Listing(query, columns, identity=table.c.id, sort="name", sortable=frozenset({"name", "created_at"}))
    async with mtls.database.read() as view:
        page = await listing.page(view, asked)
        known = await registry.load_identities(view, [row["identity_id"] for row in page.rows])
    found = [_of(row, known[row["identity_id"]]) for row in page.rows]
    return PipelinePage(found, page.next_cursor, page.total)


async def job_of(mtls: Mtls, keys: IssuerKeys, name: str, token: str, *, used_for: bytes) -> Job:
    """Who a token proves to be by the pipeline ``name``; counts a use of the token, unless it was ``used_for`` the same
    before (the SHA-256 of a key, or something unique).

    Raises Unauthenticated (``identity-token-invalid``), Forbidden (``pipeline-refused``, ``identity-token-used``,
    identity suspended), Unavailable (``issuer-unreachable``).
    """
    async with mtls.database.read() as view:
        settings = await live_settings.current(view, AutomationSettings)
        guard = await outgoing.guard_of(view)
        row = await view.one_or_none(_query().where(table.c.name == name))
        identity = None if row is None else await registry.load_identity(view, row["identity_id"])
    if row is None or identity is None:
        identity_tokens.claimed_issuer(token)  # what is no token at all is told so
        raise errors.pipeline_unknown()
    found = _of(row, identity)
    if identity_tokens.claimed_issuer(token) != found.issuer:
        raise errors.pipeline_unknown()
    proved = await identity_tokens.verify(
        token, found.token_issuer, found.audience, keys, guard,
        fresh_for=settings.jwks_minutes * 60, outage=settings.jwks_outage_minutes * 60,
    )  # fmt: skip
    if not conditions.hold(found.conditions, proved.claims):
        raise errors.pipeline_unknown()
    registry.require_active(identity)
    subject = str(proved.claims.get("sub", ""))[:300]
    await _use(mtls, found, identity, proved, used_for, subject)
    return Job(found, identity, found.lifetime, proved.expires_at if found.end_with_token else None, subject)


async def require_unchanged(tx: Transaction, pipeline_id: UUID, version: int) -> None:
    """Raise Forbidden (``pipeline-refused``) when a pipeline says something else by now; it stays until the end."""
    same = select(table.c.id).where(table.c.id == pipeline_id, table.c.version == version)
    if await tx.scalar(same.with_for_update(read=True)) is None:
        raise errors.pipeline_unknown()


async def exists(view: Transaction, pipeline_id: UUID) -> bool:
    """Whether a pipeline is there. Logins that rest on one end with each of its changes."""
    return await view.scalar(select(table.c.id).where(table.c.id == pipeline_id)) is not None


async def forget_uses(tx: Transaction) -> None:
    """Forget the uses of tokens that have expired."""
    await tx.execute(delete(pipeline_use).where(pipeline_use.c.expires_at < tx.now))


# ---- steps -----------------------------------------------------------------------------------------------------------


def _checked(wanted: PipelineWish) -> dict[str, Any]:
    audience = wanted.audience
    if not 0 <= wanted.token_uses <= _MOST_USES:
        raise InvalidInput(
            f"A token counts 1 to {_MOST_USES} times, or any number of times (0).",
            code="token-uses-invalid",
            target="token_uses",
        )
    if not 0 < len(audience) <= _LONGEST_AUDIENCE or not audience.isprintable():
        raise InvalidInput(
            "A pipeline needs an audience: what a job asks its token to be made for.",
            code="audience-invalid",
            remedy="Use a URL of this server, and no audience that other services use too.",
            target="audience",
        )
    return {
        "issuer": https_url(wanted.issuer, target="issuer"),
        "jwks_url": https_url(wanted.jwks_url, target="jwks_url") if wanted.jwks_url else "",
        "issuer_ca": _pem(wanted.issuer_ca),
        "audience": audience,
        "conditions": conditions.checked(wanted.conditions),
        "end_with_token": wanted.end_with_token,
        "token_uses": wanted.token_uses,
    }


def _pem(given: str) -> str:
    if not given.strip():
        return ""
    found = read_certificates(given)
    if not all(each.is_ca for each in found) or len(found) > _MOST_CA_CERTIFICATES:
        raise InvalidInput(
            f"The issuer's CA is given as 1 to {_MOST_CA_CERTIFICATES} CA certificates.",
            code="issuer-ca-invalid",
            target="issuer_ca",
        )
    return "".join(pem(each.der) for each in found)


def _lifetime(identity: Identity, wanted: timedelta | None) -> int:
    return int(lifetimes.lifetime_for(identity.domain, identity.kind, wanted).total_seconds())


async def _bindable(tx: Transaction, principal: Principal, reference: UUID | str) -> Identity:
    identity = await registry.locked_identity(tx, principal, reference)
    if identity.kind not in AUTOMATED:
        raise Refused(
            f"A {identity.kind} does not prove itself by the token of a machine.",
            code="identity-not-automated",
            remedy="Bind a pipeline, workload or service.",
            target="identity",
        )
    return identity


async def _visible(view: Transaction, principal: Principal, name: str) -> Pipeline:
    row = await view.one_or_none(_query().where(table.c.name == name, *registry.visible_to(principal)))
    if row is None:
        raise NotFound(f'There is no pipeline "{name[:80]}".', code="pipeline-unknown")
    return _of(row, await registry.load_identity(view, row["identity_id"]))


async def _load(view: Transaction, name: str) -> Pipeline:
    row = await view.one_or_none(_query().where(table.c.name == name))
    assert row is not None
    return _of(row, await registry.load_identity(view, row["identity_id"]))


def _query() -> Any:
    i, d = identity_models.identity, identity_models.trust_domain
    return select(table).join(i, i.c.id == table.c.identity_id).join(d, d.c.id == i.c.domain_id)


def _of(row: Row, identity: Identity) -> Pipeline:
    plain = {name: row[name] for name in Pipeline.__dataclass_fields__ if name not in ("identity", "lifetime")}
    return Pipeline(**plain, identity=identity.uri, lifetime=timedelta(seconds=row["lifetime"]))


async def _use(
    mtls: Mtls, pipeline: Pipeline, identity: Identity, proved: Proved, used_for: bytes, subject: str
) -> None:
    """Count a use of a pipeline and of a token. Raises Forbidden (``pipeline-refused``, ``identity-token-used``)."""
    async with mtls.database.transaction() as tx:
        values = {"used_at": tx.now, "uses": table.c.uses + 1}
        same = (table.c.id == pipeline.id) & (table.c.version == pipeline.version)
        # The row of the pipeline is held from here on, so nobody else counts at the same time.
        if (await tx.execute(update(table).where(same).values(**values))).rowcount == 0:
            raise errors.pipeline_unknown()
        if pipeline.token_uses:
            u = pipeline_use.c
            this = (u.pipeline_id == pipeline.id) & (u.token_sha256 == proved.sha256)
            known = {bytes(row["used_for"]) for row in await tx.all(select(u.used_for).where(this))}
            if used_for not in known:
                if len(known) >= pipeline.token_uses:
                    raise errors.identity_token_used()
                use = {"pipeline_id": pipeline.id, "token_sha256": proved.sha256, "used_for": used_for}
                expires_at = proved.expires_at + identity_tokens.SKEW
                await tx.execute(insert(pipeline_use).values(**use, expires_at=expires_at))
        _note(tx, identity.principal(), "accept", identity, pipeline, subject=subject)


def _note(
    tx: Transaction, principal: Principal, verb: str, identity: Identity, pipeline: Pipeline, **facts: Any
) -> None:
    facts |= {"issuer": pipeline.issuer, "audience": pipeline.audience}
    if verb != "accept":
        facts["conditions"] = {name: list(values) for name, values in pipeline.conditions.items()}
    audit.record(
        tx, principal, f"pipeline.{verb}", "pipeline", pipeline.name, organization=identity.domain.organization,
        identity=identity.uri, **facts,
    )  # fmt: skip
