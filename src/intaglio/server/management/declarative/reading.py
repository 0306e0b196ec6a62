"""The installation as a document: what ``export`` writes, and what a wanted document is compared with."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final, cast

import intaglio.server.management.settings_groups  # noqa: F401 - groups that nobody has used yet are shown, too
from intaglio.authority import custom_profiles, memberships, organizations
from intaglio.authority.cas import views
from intaglio.authority.cas.values import CaDetails
from intaglio.authority.client_users import ADMINISTRATOR, AUDITOR
from intaglio.authority.rights import list_rights
from intaglio.core.principal import Permission, Principal
from intaglio.db.listing import ListQuery
from intaglio.mtls.access import ingresses, policies
from intaglio.mtls.identities import domains, lifetimes, registry
from intaglio.mtls.identities.domains import PkiChoice
from intaglio.platform import live_settings
from intaglio.profiles.model import CertificateProfile
from intaglio.server.management.declarative.document import (
    DeclaredCa,
    DeclaredCase,
    DeclaredDomain,
    DeclaredExternalRoot,
    DeclaredIdentity,
    DeclaredIngress,
    DeclaredIssuing,
    DeclaredOrganization,
    DeclaredPolicy,
    DeclaredRoot,
    Document,
)
from intaglio.server.management.declarative.endpoints import read_endpoints, read_tenants
from intaglio.server.management.declarative.partners import read_outbound, read_pipelines
from intaglio.server.management.declarative.signers import read_signers
from intaglio.server.management.declarative.status import read_authorities, read_directories
from intaglio.server.management.declarative.timestamps import read_timestamp_issuers
from intaglio.server.management.declarative.tokens import read_tokens
from intaglio.server.services import Services
from intaglio.x509.certificates import pem

#: More identities than this are kept in files of their own: `intaglio mtls identity import`.
MOST_IDENTITIES: Final = 1_000


async def read(services: Services, principal: Principal) -> Document:
    """Everything the principal sees. Needs ``ca.view``; sections he may not see are left out."""
    principal.require(Permission.CA_VIEW)
    return Document(
        settings=await _settings(services, principal),
        profiles=await _profiles(services, principal),
        organizations=[
            await _organization(services, principal, each.name)
            for each in await organizations.list_organizations(services.authority, principal)
            if each.name != organizations.PLATFORM_ORGANIZATION
        ],
        trust_domains=await _domains(services, principal),
        identities=await _identities(services, principal),
        policies=await _policies(services, principal),
        ingresses=await _ingresses(services, principal),
        pipelines=await read_pipelines(services.mtls, principal),
        outbound=await read_outbound(services.mtls, principal),
        status_directories=await read_directories(services.validation, principal),
        status_authorities=await read_authorities(services.validation, principal),
        ocsp_signers=await read_signers(services.validation, principal),
        timestamp_issuers=await read_timestamp_issuers(services.timestamps, principal),
        tokens=await read_tokens(services.tokens, principal),
        enrollment_tenants=await read_tenants(services.enrollment, principal),
        enrollment_endpoints=await read_endpoints(services.enrollment, principal),
    )


def profile_content(profile: CertificateProfile) -> dict[str, object]:
    """A profile as it is declared: versions are counted by the installation."""
    return profile.model_dump(mode="json", exclude_defaults=True, exclude_none=True, exclude={"version"})


async def _settings(services: Services, principal: Principal) -> dict[str, dict[str, object]] | None:
    if not principal.may(Permission.PLATFORM_MANAGE):
        return None
    async with services.database.read() as view:
        stored = await live_settings.show_all(view, principal)
    return {each.group: each.values.model_dump(mode="json") for each in stored}


async def _profiles(services: Services, principal: Principal) -> list[dict[str, object]]:
    found = await custom_profiles.list_profiles(services.authority, principal)
    return [profile_content(each.profile) for each in found if each.state == "active"]


async def _organization(services: Services, principal: Principal, name: str) -> DeclaredOrganization:
    authority = services.authority
    found = await organizations.get_organization(authority, principal, name)
    members = await memberships.list_members(authority, principal, name)
    cas = await views.list_cas(authority, principal, organization=name)
    return DeclaredOrganization.model_validate(
        {
            "name": name,
            "description": found.description,
            "join_policy": found.join_policy,
            "members": [each.user for each in members if each.state == "member"],
            "cas": [await _ca(services, principal, each) for each in sorted(cas, key=_issuers_first)],
        }
    )


async def _domains(services: Services, principal: Principal) -> list[DeclaredDomain] | None:
    if not principal.may(Permission.MTLS_VIEW):
        return None
    found = await domains.list_domains(services.mtls, principal)
    return [
        DeclaredDomain(
            name=each.name,
            environment=each.environment,
            organization=each.organization,
            title=each.title,
            issuing_ca=each.issuing_ca or None,
            anchor="issuing" if each.anchor == "issuing" else "root",
            lifetimes={kind.value: lifetimes.text_of(span) for kind, span in each.lifetimes.items()},
            ceilings={kind.value: lifetimes.text_of(span) for kind, span in each.ceilings.items()},
            required_attributes=list(each.required_attributes),
            dns_suffixes=list(each.dns_suffixes),
            email_domains=list(each.email_domains),
            pki_choice=cast("PkiChoice", each.pki_choice),
        )
        for each in found
        if each.state != "retired"
    ]


async def _identities(services: Services, principal: Principal) -> list[DeclaredIdentity] | None:
    """Those that are not retired; None when there are so many that a declaration is not the place for them."""
    if not principal.may(Permission.MTLS_VIEW):
        return None
    asked = ListQuery(filter=("state!=retired",), sort="id", limit=MOST_IDENTITIES, total=True)
    page = await registry.list_identities(services.mtls, principal, asked)
    if page.next_cursor is not None:
        return None
    return [
        DeclaredIdentity(
            domain=each.domain.name,
            kind=each.kind.value,
            name="" if each.kind == "user" else each.name,
            display_name=each.display_name,
            email=each.email,
            team=each.team,
            service=each.service,
            roles=list(each.roles),
            version=each.version,
            owner=each.owner,
            dns_names=list(each.dns_names),
            properties=dict(each.properties),
        )
        for each in page.identities
    ]


async def _policies(services: Services, principal: Principal) -> list[DeclaredPolicy] | None:
    """Those that have a version which counts, with that version; drafts are nobody's declaration."""
    if not principal.may(Permission.MTLS_VIEW):
        return None
    found = [each for each in await policies.list_policies(services.mtls, principal) if each.active_version]
    async with services.database.read() as view:
        versions = [await policies.load_version(view, each, each.active_version) for each in found]
    return [
        DeclaredPolicy(
            name=policy.name,
            organization=policy.organization,
            source=version.source,
            language=version.language,
            cases=[DeclaredCase(**asdict(case)) for case in version.cases],
            description=policy.description,
        )
        for policy, version in zip(found, versions, strict=True)
    ]


async def _ingresses(services: Services, principal: Principal) -> list[DeclaredIngress] | None:
    if not principal.may(Permission.MTLS_VIEW):
        return None
    return [
        DeclaredIngress(
            name=each.name,
            organization=each.organization,
            domain=each.domain,
            type=each.type,
            description=each.description,
            listener=each.listener,
            hosts=list(each.hosts),
            mode=each.mode,
            ip_rule=None if each.ip_rule is None else list(each.ip_rule),
            policy=each.policy,
            revocation_source=each.revocation_source,
            refresh_seconds=each.refresh_seconds,
            forward=list(each.forward),
            fail_mode=each.fail_mode,
        )
        for each in await ingresses.list_ingresses(services.mtls, principal)
    ]


def _issuers_first(ca: CaDetails) -> tuple[bool, str, str]:
    return ca.issuer is not None, ca.issuer or "", ca.name


async def _ca(services: Services, principal: Principal, ca: CaDetails) -> DeclaredCa:
    if ca.type == "ca-external-root":
        (root, *_) = await views.get_chain(services.authority, principal, ca.id)
        return DeclaredExternalRoot(kind="external-root", name=ca.name, label=ca.label, certificate=pem(root))
    rights = await list_rights(services.authority, principal, ca.id)
    values = {
        "name": ca.name,
        "label": ca.label,
        "key_algorithm": ca.key_algorithm,
        "key_provider": ca.key_provider or "software",
        "ocsp_key_algorithm": ca.ocsp_key_algorithm or "off",
        "subject": ca.subject,
        "profiles": list(ca.profiles),
        "administrators": [name for name, right in rights.items() if right == ADMINISTRATOR],
        "auditors": [name for name, right in rights.items() if right == AUDITOR],
        "tenants": {name: right for name, right in rights.items() if right not in (ADMINISTRATOR, AUDITOR)},
        "options": ca.options,
    }
    if ca.type == "ca-root":
        return DeclaredRoot.model_validate({"kind": "root", **values})
    issuer = (ca.issuer or "").rpartition("~")[2]
    below = {} if ca.path_length is None else {"path_length": ca.path_length}
    return DeclaredIssuing.model_validate({"kind": "issuing", "issuer": issuer, **below, **values})
