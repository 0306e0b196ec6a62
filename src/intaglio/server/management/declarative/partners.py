"""Pipelines and outbound credentials in declarations: those outside who call us, and those whom we call."""

from __future__ import annotations

from collections.abc import Iterator

from intaglio.core.errors import InvalidInput, Refused
from intaglio.core.principal import Permission, Principal
from intaglio.db.listing import ListQuery
from intaglio.mtls.automation import pipelines
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities import lifetimes, registry
from intaglio.mtls.outbound import service
from intaglio.mtls.outbound.values import NewOutbound
from intaglio.server.management.declarative.document import DeclaredOutbound, DeclaredPipeline, Document
from intaglio.server.management.declarative.steps import Step, changed_fields

_MOST_PIPELINES = 1_000
_OF_PIPELINES = (
    "identity", "issuer", "audience", "conditions", "lifetime", "jwks_url", "issuer_ca", "end_with_token", "token_uses",
)  # fmt: skip
_OF_OUTBOUND = ("title", "server_ca", "sni", "minimum_tls")


# ---- what there is ---------------------------------------------------------------------------------------------------


async def read_pipelines(mtls: Mtls, principal: Principal) -> list[DeclaredPipeline] | None:
    """Those the principal sees; None when there are more than a declaration can be compared with."""
    if not principal.may(Permission.MTLS_VIEW):
        return None
    found = await pipelines.list_pipelines(mtls, principal, ListQuery(sort="name", limit=_MOST_PIPELINES))
    if found.next_cursor is not None:
        return None
    declared = []
    for each in found.pipelines:
        identity = await registry.get_identity(mtls, principal, each.identity_id)
        declared.append(
            DeclaredPipeline(
                name=each.name,
                identity=f"{identity.kind}:{identity.name}@{identity.domain.name}",
                issuer=each.issuer,
                audience=each.audience,
                conditions={claim: list(values) for claim, values in each.conditions.items()},
                lifetime=lifetimes.text_of(each.lifetime),
                jwks_url=each.jwks_url,
                issuer_ca=each.issuer_ca,
                end_with_token=each.end_with_token,
                token_uses=each.token_uses,
            )
        )
    return declared


async def read_outbound(mtls: Mtls, principal: Principal) -> list[DeclaredOutbound] | None:
    """Those the principal sees that are not retired."""
    if not principal.may(Permission.MTLS_VIEW):
        return None
    return [
        DeclaredOutbound(
            name=each.name,
            organization=each.organization,
            host_pattern=each.host_pattern,
            title=each.title,
            server_ca=each.server_ca,
            sni=each.sni,
            minimum_tls=each.minimum_tls,
        )
        for each in await service.listing(mtls, principal)
        if each.state != "retired"
    ]


# ---- what differs ----------------------------------------------------------------------------------------------------


def partner_steps(wanted: Document, current: Document) -> Iterator[Step]:
    """Pipelines and outbound credentials to create and to change."""
    yield from _pipelines(wanted, current)
    yield from _outbound(wanted, current)


def gone_partners(wanted: Document, current: Document) -> Iterator[Step]:
    """Those that a complete section does not name."""
    if wanted.pipelines is not None:
        kept = {each.name for each in wanted.pipelines}
        yield from (Step("pipeline", "delete", each.name) for each in current.pipelines or () if each.name not in kept)
    if wanted.outbound is not None:
        kept = {each.reference for each in wanted.outbound}
        for each in current.outbound or ():
            if each.reference not in kept:
                yield Step("outbound credential", "delete", each.reference, each.organization)


def _pipelines(wanted: Document, current: Document) -> Iterator[Step]:
    if wanted.pipelines and current.pipelines is None:
        raise Refused(
            "There are more pipelines than a declaration can be compared with, or you may not see them.",
            code="too-many-pipelines",
            remedy="Change them with `intaglio mtls pipeline`.",
            target="pipelines",
        )
    known = {each.name: each for each in current.pipelines or ()}
    for pipeline in wanted.pipelines or ():
        before = known.get(pipeline.name)
        if before is None:
            yield Step("pipeline", "create", pipeline.name, wanted=pipeline)
            continue
        said = pipeline.model_fields_set - ({"lifetime"} if pipeline.lifetime is None else set())
        full = before.model_copy(update={name: getattr(pipeline, name) for name in said})
        full = full.model_copy(update={"lifetime": _canonical(full.lifetime)})
        if changes := changed_fields(full, before, [name for name in _OF_PIPELINES if name in said]):
            yield Step("pipeline", "change", pipeline.name, wanted=full, fields=changes)


def _outbound(wanted: Document, current: Document) -> Iterator[Step]:
    known = {each.reference: each for each in current.outbound or ()}
    for declared in wanted.outbound or ():
        outbound = _checked(declared)
        before = known.get(outbound.reference)
        if before is None:
            yield Step("outbound credential", "create", outbound.reference, outbound.organization, outbound)
            continue
        if outbound.host_pattern != before.host_pattern:
            raise Refused(
                f"outbound credential {outbound.reference}: host_pattern cannot be changed.",
                code="setting-frozen",
                remedy="Make another one: who holds the certificate of this one was told for its host.",
                target="host_pattern",
                extra={"fields": ["host_pattern"]},
            )
        full = before.model_copy(update={name: getattr(outbound, name) for name in declared.model_fields_set})
        if changes := changed_fields(full, before, _OF_OUTBOUND):
            yield Step("outbound credential", "change", outbound.reference, outbound.organization, full, changes)


def _checked(declared: DeclaredOutbound) -> DeclaredOutbound:
    """The same in the spelling in which it is kept. Raises InvalidInput."""
    checked = _new(declared).checked()
    return declared.model_copy(update={name: getattr(checked, name) for name in (*_OF_OUTBOUND, "host_pattern")})


def _canonical(lifetime: str | None) -> str | None:
    return None if lifetime is None else lifetimes.text_of(lifetimes.duration_of(lifetime, target="lifetime"))


# ---- doing it --------------------------------------------------------------------------------------------------------


async def put_pipeline(mtls: Mtls, principal: Principal, step: Step) -> None:
    """Create or change a pipeline. Raises what its use case raises."""
    wanted: DeclaredPipeline = step.wanted
    wish = pipelines.PipelineWish(
        identity=wanted.identity,
        issuer=wanted.issuer,
        audience=wanted.audience,
        conditions=wanted.conditions,
        lifetime=None if wanted.lifetime is None else lifetimes.duration_of(wanted.lifetime, target="lifetime"),
        jwks_url=wanted.jwks_url,
        issuer_ca=wanted.issuer_ca,
        end_with_token=wanted.end_with_token,
        token_uses=wanted.token_uses,
    )
    put = pipelines.add_pipeline if step.action == "create" else pipelines.change_pipeline
    await put(mtls, principal, wanted.name, wish)


async def put_outbound(mtls: Mtls, principal: Principal, step: Step) -> str:
    """Create or change a partner interface; returns what a person has still to do."""
    wanted: DeclaredOutbound = step.wanted
    if step.action == "change":
        await service.edit(mtls, principal, wanted.organization, _new(wanted))
        return ""
    await service.create(mtls, principal, wanted.organization, _new(wanted))
    return f"Outbound credential {step.name} gets its certificate from `intaglio mtls outbound import`."


async def delete_partner(mtls: Mtls, principal: Principal, step: Step) -> None:
    """Remove a pipeline; retire an outbound credential, with its keys."""
    if step.section == "pipeline":
        await pipelines.remove_pipeline(mtls, principal, step.name)
        return
    organization, _, name = step.name.partition("/")
    if not name:
        raise InvalidInput(f'"{step.name}" is no outbound credential.', code="name-invalid")
    await service.retire(mtls, principal, organization, name)


def _new(declared: DeclaredOutbound) -> NewOutbound:
    return NewOutbound(**declared.model_dump(exclude={"organization"}))
