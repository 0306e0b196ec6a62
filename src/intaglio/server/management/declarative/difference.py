"""What must change so that the installation is what a document says. Pure: two documents in, steps out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from intaglio.authority.cas.values import setting_frozen
from intaglio.core.errors import InvalidInput, Refused
from intaglio.mtls.access.ingress_values import networks
from intaglio.server.management.declarative.document import (
    DeclaredCa,
    DeclaredExternalRoot,
    DeclaredIngress,
    DeclaredIssuing,
    DeclaredOrganization,
    Document,
)
from intaglio.server.management.declarative.endpoints import endpoint_steps, gone_endpoints
from intaglio.server.management.declarative.partners import gone_partners, partner_steps
from intaglio.server.management.declarative.signers import gone_signers, signer_steps
from intaglio.server.management.declarative.status import gone_status, status_steps
from intaglio.server.management.declarative.steps import FieldChange, Step, changed_fields, field_change, text
from intaglio.server.management.declarative.timestamps import gone_timestamp_issuers, timestamp_steps
from intaglio.server.management.declarative.tokens import gone_tokens, token_steps
from intaglio.x509.names import Name


def difference(wanted: Document, current: Document, *, prune: bool) -> list[Step]:
    """The steps in the order in which they can be taken: what others need comes first, deletions come last.

    ``prune`` also deletes what a section does not name. Raises Refused (``setting-frozen``) where something differs
    that is fixed once it exists.
    """
    steps = [*_settings(wanted, current), *token_steps(wanted, current), *_profiles(wanted, current)]
    removals: list[Step] = []
    existing = {each.name: each for each in current.organizations or ()}
    for organization in wanted.organizations or ():
        known = existing.get(organization.name)
        steps += _organization(organization, known)
        if prune and known is not None:
            named = {ca.name for ca in organization.cas}
            removals += _deletions(organization.name, [ca for ca in known.cas if ca.name not in named])
    if prune and wanted.organizations is not None:
        named = {each.name for each in wanted.organizations}
        for name, known in existing.items():
            if name not in named:
                removals += [*_deletions(name, known.cas), Step("organization", "delete", name)]
    if prune and wanted.profiles is not None:
        kept = {str(each.get("id")) for each in wanted.profiles}
        gone = [str(each["id"]) for each in current.profiles or () if each["id"] not in kept]
        removals += [Step("profile", "delete", name) for name in gone]
    steps += [*_domains(wanted, current), *_identities(wanted, current)]
    steps += [*_policies(wanted, current), *_ingresses(wanted, current), *partner_steps(wanted, current)]
    steps += [*status_steps(wanted, current), *signer_steps(wanted, current), *timestamp_steps(wanted, current)]
    steps += endpoint_steps(wanted, current)
    if prune:
        # Pipelines, ingresses, then identities: a trust domain ends when it has none. CAs of trust domains go last.
        # Status authorities refer to CAs, too. Tokens go when no key is in them any more.
        removals = [*gone_partners(wanted, current), *_gone_from_trust(wanted, current), *removals]
        removals = [*gone_signers(wanted, current), *gone_status(wanted, current), *removals]
        removals = [*gone_endpoints(wanted, current), *removals]  # they refer to CAs
        removals = [*gone_timestamp_issuers(wanted, current), *removals, *gone_tokens(wanted, current)]
    return steps + removals


def _settings(wanted: Document, current: Document) -> Iterator[Step]:
    for group, values in (wanted.settings or {}).items():
        known = (current.settings or {}).get(group)
        if known is None:
            raise InvalidInput(f'There are no settings "{group}".', code="setting-unknown", target=f"settings/{group}")
        changes = tuple(
            FieldChange(name, text(known.get(name)), text(value))
            for name, value in values.items()
            if known.get(name) != value
        )
        if changes:
            yield Step("settings", "change", group, wanted=values, fields=changes)


def _profiles(wanted: Document, current: Document) -> Iterator[Step]:
    known = {str(each["id"]): each for each in current.profiles or ()}
    for profile in wanted.profiles or ():
        name = str(profile.get("id"))
        if name not in known:
            yield Step("profile", "create", name, wanted=profile)
        elif known[name] != profile:
            names = sorted(set(profile) | set(known[name]))
            changes = (field_change(each, known[name].get(each), profile.get(each)) for each in names)
            yield Step("profile", "change", name, wanted=profile, fields=tuple(c for c in changes if c is not None))


def _domains(wanted: Document, current: Document) -> Iterator[Step]:
    known = {each.name: each for each in current.trust_domains or ()}
    for domain in wanted.trust_domains or ():
        before = known.get(domain.name)
        if before is None:
            yield Step("trust domain", "create", domain.name, domain.organization, domain)
            continue
        if frozen := [name for name in _FROZEN_IN_DOMAINS if getattr(domain, name) != getattr(before, name)]:
            raise Refused(
                f"trust domain {domain.name}: {', '.join(frozen)} cannot be changed.",
                code="setting-frozen",
                remedy="Make another trust domain.",
                target=frozen[0],
                extra={"fields": frozen},
            )
        full = domain.model_copy(
            update={
                "lifetimes": {**before.lifetimes, **domain.lifetimes},
                "ceilings": {**before.ceilings, **domain.ceilings},
                "issuing_ca": domain.issuing_ca or before.issuing_ca,
                "dns_suffixes": domain.dns_suffixes or before.dns_suffixes,
                "email_domains": domain.email_domains or before.email_domains,
            }
        )
        names = (
            *("title", "lifetimes", "ceilings", "required_attributes", "dns_suffixes", "email_domains", "pki_choice"),
            "issuing_ca",
        )
        if changes := changed_fields(full, before, names):
            yield Step("trust domain", "change", domain.name, domain.organization, full, changes)


_FROZEN_IN_DOMAINS = ("environment", "organization", "anchor")


def _identities(wanted: Document, current: Document) -> Iterator[Step]:
    if wanted.identities and current.identities is None:
        raise Refused(
            "There are more identities than a declaration can be compared with.",
            code="too-many-identities",
            remedy="Register them with `intaglio mtls identity import --skip-existing`.",
            target="identities",
        )
    known = {each.reference: each for each in current.identities or ()}
    for identity in wanted.identities or ():
        before = known.get(identity.reference)
        if before is None:
            yield Step("identity", "create", identity.reference, wanted=identity)
            continue
        if identity.kind == "service" and not identity.service:
            identity = identity.model_copy(update={"service": identity.name})
        names = ("display_name", "email", "team", "service", "roles", "version", "owner", "dns_names", "properties")
        if changes := changed_fields(identity, before, names):
            yield Step("identity", "change", identity.reference, wanted=identity, fields=changes)


def _policies(wanted: Document, current: Document) -> Iterator[Step]:
    known = {each.reference: each for each in current.policies or ()}
    for policy in wanted.policies or ():
        before = known.get(policy.reference)
        if before is None:
            yield Step("policy", "create", policy.reference, policy.organization, policy)
        elif changes := changed_fields(policy, before, ("language", "source", "cases", "description")):
            yield Step("policy", "change", policy.reference, policy.organization, policy, changes)


def _ingresses(wanted: Document, current: Document) -> Iterator[Step]:
    known = {each.reference: each for each in current.ingresses or ()}
    for declared in wanted.ingresses or ():
        ingress = _normal(declared)
        before = known.get(ingress.reference)
        if before is None:
            yield Step("ingress", "create", ingress.reference, ingress.organization, ingress)
            continue
        said = ingress.model_fields_set
        fixed = [name for name in ("domain", "type") if name in said]
        if frozen := [name for name in fixed if getattr(ingress, name) != getattr(before, name)]:
            raise Refused(
                f"ingress {ingress.reference}: {', '.join(frozen)} cannot be changed.",
                code="setting-frozen",
                remedy="Make another ingress.",
                target=frozen[0],
                extra={"fields": frozen},
            )
        if changes := changed_fields(ingress, before, [name for name in _OF_INGRESSES if name in said]):
            yield Step("ingress", "change", ingress.reference, ingress.organization, ingress, changes)


_OF_INGRESSES = (
    "description", "listener", "hosts", "ip_rule", "policy", "revocation_source", "refresh_seconds", "forward",
    "fail_mode", "mode",
)  # fmt: skip


def _normal(ingress: DeclaredIngress) -> DeclaredIngress:
    """The ingress with networks and policy in the spelling in which they are kept. Raises InvalidInput."""
    values: dict[str, Any] = {}
    if ingress.ip_rule is not None:
        values["ip_rule"] = networks(ingress.ip_rule)
    if ingress.policy is not None:
        values["policy"] = ingress.policy.rpartition("~")[2]
    return ingress.model_copy(update=values)


def _gone_from_trust(wanted: Document, current: Document) -> list[Step]:
    """What a complete section does not name is retired."""
    steps: list[Step] = []
    if wanted.ingresses is not None:
        kept = {each.reference for each in wanted.ingresses}
        gone = [each.reference for each in current.ingresses or () if each.reference not in kept]
        steps += [Step("ingress", "delete", reference) for reference in gone]
    if wanted.policies is not None:
        kept = {each.reference for each in wanted.policies}
        gone = [each.reference for each in current.policies or () if each.reference not in kept]
        steps += [Step("policy", "delete", reference) for reference in gone]
    if wanted.identities is not None:
        kept = {each.reference for each in wanted.identities}
        gone = [each.reference for each in current.identities or () if each.reference not in kept]
        steps += [Step("identity", "delete", reference) for reference in gone]
    if wanted.trust_domains is not None:
        named = {each.name for each in wanted.trust_domains}
        gone = [each.name for each in current.trust_domains or () if each.name not in named]
        steps += [Step("trust domain", "delete", name) for name in gone]
    return steps


def _organization(wanted: DeclaredOrganization, known: DeclaredOrganization | None) -> Iterator[Step]:
    if known is None:
        yield Step("organization", "create", wanted.name, wanted=wanted)
    elif changes := changed_fields(wanted, known, ("description", "join_policy")):
        yield Step("organization", "change", wanted.name, wanted=wanted, fields=changes)
    if wanted.members is not None:
        before = sorted(known.members or ()) if known else []
        if sorted(wanted.members) != before:
            change = FieldChange("members", text(before), text(sorted(wanted.members)))
            yield Step("members", "change", wanted.name, wanted=wanted.members, fields=(change,))
    existing = {ca.name: ca for ca in known.cas} if known else {}
    for ca in _issuers_first(wanted):
        if ca.name not in existing:
            yield Step("ca", "create", ca.name, wanted.name, ca)
        elif changes := _ca_changes(wanted.name, ca, existing[ca.name]):
            yield Step("ca", "change", ca.name, wanted.name, ca, changes)


def _issuers_first(organization: DeclaredOrganization) -> list[DeclaredCa]:
    """The CAs in an order in which each finds its issuer there. Raises InvalidInput for a circle."""
    waiting, placed, ordered = list(organization.cas), set[str](), list[DeclaredCa]()
    declared = {ca.name for ca in waiting}
    while waiting:
        ready = [
            ca
            for ca in waiting
            if not isinstance(ca, DeclaredIssuing) or ca.issuer in placed or ca.issuer not in declared
        ]
        if not ready:
            raise InvalidInput(
                f'In "{organization.name}" {", ".join(ca.name for ca in waiting)} are issuers of each other.',
                code="declaration-invalid",
                target="declaration",
            )
        ordered += ready
        placed |= {ca.name for ca in ready}
        waiting = [ca for ca in waiting if ca.name not in placed]
    return ordered


def _ca_changes(organization: str, wanted: DeclaredCa, known: DeclaredCa) -> tuple[FieldChange, ...]:
    frozen = [name for name in _FROZEN if _differs(name, wanted, known)]
    if wanted.kind != known.kind:
        frozen = ["kind"]
    if frozen == ["key_provider"]:
        raise _moved(f"{organization}~{wanted.name}", wanted, known)
    if frozen:
        refusal = setting_frozen(frozen)
        raise Refused(
            f"{organization}~{wanted.name}: {refusal.detail}",
            code=refusal.code,
            remedy=refusal.remedy,
            target=refusal.target,
            extra=refusal.extra,
        )
    if isinstance(wanted, DeclaredExternalRoot):
        return changed_fields(wanted, known, ("label",))
    return changed_fields(wanted, known, ("label", "profiles", "administrators", "auditors", "tenants", "options"))


def _moved(ca: str, wanted: DeclaredCa, known: DeclaredCa) -> Refused:
    """The key of a CA is elsewhere than declared: it was moved since, or is to be moved. A declaration does neither."""
    here, there = getattr(known, "key_provider", ""), getattr(wanted, "key_provider", "")
    return Refused(
        f'{ca}: its key is in "{here}", the declaration says "{there}".',
        code="setting-frozen",
        remedy=f"Declare where it is (key_provider: {here}), or bring it there: intaglio key migrate {ca} --to {there} "
        f"for the key it has, intaglio ca rekey {ca} --provider {there} for a new one.",
        target="key_provider",
        extra={"fields": ["key_provider"]},
    )


_FROZEN = ("key_algorithm", "key_provider", "subject", "issuer", "path_length", "ocsp_key_algorithm")


def _differs(name: str, wanted: DeclaredCa, known: DeclaredCa) -> bool:
    ours, theirs = getattr(wanted, name, None), getattr(known, name, None)
    if ours is None or theirs is None or name not in wanted.model_fields_set:  # not declared: as it is
        return False
    if name == "subject":
        declared = ours if isinstance(ours, str) else None
        return declared is not None and Name.parse(declared).key != Name.parse(theirs).key
    return bool(ours != theirs)


def _deletions(organization: str, cas: Iterable[DeclaredCa]) -> list[Step]:
    """Those that are nobody's issuer any more first."""
    remaining, steps = list(cas), list[Step]()
    while remaining:
        issuers = {ca.issuer for ca in remaining if isinstance(ca, DeclaredIssuing)}
        leaves = [ca for ca in remaining if ca.name not in issuers] or remaining
        steps += [Step("ca", "delete", ca.name, organization) for ca in leaves]
        gone = {ca.name for ca in leaves}
        remaining = [ca for ca in remaining if ca.name not in gone]
    return steps
