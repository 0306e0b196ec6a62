"""Trust domains, and the CAs that count in them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.authority.cas.values import KeyType
from intaglio.mtls.identities import domains, lifetimes, names, rotation
from intaglio.mtls.identities.authorities import NewCaWish
from intaglio.mtls.identities.values import Kind
from intaglio.mtls.identities.values import TrustDomain as Found
from intaglio.server.management.access import Asked, Asker
from intaglio.server.management.lists import Items, page
from intaglio.server.management.mtls.given import GivenMtls

router = APIRouter(prefix="/mtls/v1", tags=["trust domains"])

PkiChoice = Literal["own", "aws-private-ca", "vault", "acme", "enterprise"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TrustDomain(BaseModel):
    """Who trusts whom in one environment. ``lifetimes`` and ``ceilings`` are ISO 8601 durations by kind of identity."""

    name: str
    environment: str
    organization: str
    title: str
    state: Literal["draft", "active", "rotating", "retired"]
    issuing_ca: str | None
    cas: list[str]
    anchor: Literal["root", "issuing"]
    bundle_version: int
    lifetimes: dict[str, str]
    ceilings: dict[str, str]
    required_attributes: list[str]
    dns_suffixes: list[str]
    email_domains: list[str]
    pki_choice: PkiChoice
    created_by: str
    created_at: datetime

    @classmethod
    def of(cls, found: Found) -> TrustDomain:
        return cls.model_validate(
            {
                "name": found.name,
                "environment": found.environment,
                "organization": found.organization,
                "title": found.title,
                "state": found.state,
                "issuing_ca": found.issuing_ca or None,
                "cas": list(found.cas),
                "anchor": found.anchor,
                "bundle_version": found.bundle_version,
                "lifetimes": {kind.value: lifetimes.text_of(span) for kind, span in found.lifetimes.items()},
                "ceilings": {kind.value: lifetimes.text_of(span) for kind, span in found.ceilings.items()},
                "required_attributes": list(found.required_attributes),
                "dns_suffixes": list(found.dns_suffixes),
                "email_domains": list(found.email_domains),
                "pki_choice": found.pki_choice,
                "created_by": found.created_by,
                "created_at": found.created_at,
            }
        )


class DedicatedCa(_Body):
    """A root and an issuing CA below it, made for the trust domain."""

    key_algorithm: KeyType = KeyAlgorithm.ECDSA_P256
    ca_id: str = Field(default="", description="Id of the issuing CA; made from the environment when it is empty.")

    @property
    def wish(self) -> NewCaWish:
        return NewCaWish(self.key_algorithm, self.ca_id)


class NewTrustDomain(_Body):
    """A trust domain to be made, with a CA of its own (``new_ca``) or a given one (``issuing_ca``)."""

    name: str = Field(description="SPIFFE trust domain: a DNS name in lower case.")
    environment: str = Field(description="dev, staging, prod or a name of one's own.")
    organization: str
    title: str = ""
    new_ca: DedicatedCa | None = None
    issuing_ca: str | None = None
    anchor: Literal["root", "issuing"] = "root"
    lifetimes: dict[str, str] = {}
    ceilings: dict[str, str] = {}
    required_attributes: list[str] = ["team", "service"]
    dns_suffixes: list[str] = []
    email_domains: list[str] = Field(default=[], description="Hosts of addresses; .example: all hosts below it.")
    pki_choice: PkiChoice = "own"


class TrustDomainChanges(_Body):
    """What is left out stays."""

    title: str | None = None
    lifetimes: dict[str, str] | None = None
    ceilings: dict[str, str] | None = None
    required_attributes: list[str] | None = None
    dns_suffixes: list[str] | None = None
    email_domains: list[str] | None = None
    pki_choice: PkiChoice | None = None


class NewIssuer(_Body):
    """The CA a trust domain shall issue with from now on: one made for it, or a given one."""

    domain: str
    new_ca: DedicatedCa | None = None
    issuing_ca: str | None = None


class EndOfRotation(_Body):
    """``force`` ends it although certificates of the old CA are live; they are refused from then on."""

    force: bool = False


@router.get("/domains")
async def list_trust_domains(mtls: GivenMtls, asker: Asker, asked: Asked) -> Items[TrustDomain]:
    """The trust domains of the organizations one belongs to."""
    return page(map(TrustDomain.of, await domains.list_domains(mtls, asker)), asked, key="name")


@router.post("/domains", status_code=201)
async def create_trust_domain(mtls: GivenMtls, asker: Asker, body: NewTrustDomain) -> TrustDomain:
    """Make a trust domain for an environment."""
    wanted = domains.NewDomain(
        name=body.name,
        environment=body.environment,
        organization=body.organization,
        title=body.title,
        new_ca=body.new_ca.wish if body.new_ca else None,
        issuing_ca=body.issuing_ca,
        anchor=body.anchor,
        lifetimes=_spans(body.lifetimes, "lifetimes"),
        ceilings=_spans(body.ceilings, "ceilings"),
        required_attributes=body.required_attributes,
        dns_suffixes=body.dns_suffixes,
        email_domains=body.email_domains,
        pki_choice=body.pki_choice,
    )
    return TrustDomain.of(await domains.create_domain(mtls, asker, wanted))


@router.get("/domains/{domain}")
async def get_trust_domain(mtls: GivenMtls, asker: Asker, domain: str) -> TrustDomain:
    """One trust domain."""
    return TrustDomain.of(await domains.get_domain(mtls, asker, domain))


@router.patch("/domains/{domain}")
async def edit_trust_domain(mtls: GivenMtls, asker: Asker, domain: str, body: TrustDomainChanges) -> TrustDomain:
    """Change lifetimes, what must be registered, or names; what was issued stays."""
    changes = domains.DomainChanges(
        title=body.title,
        lifetimes=None if body.lifetimes is None else _spans(body.lifetimes, "lifetimes"),
        ceilings=None if body.ceilings is None else _spans(body.ceilings, "ceilings"),
        required_attributes=body.required_attributes,
        dns_suffixes=body.dns_suffixes,
        email_domains=body.email_domains,
        pki_choice=body.pki_choice,
    )
    return TrustDomain.of(await domains.edit_domain(mtls, asker, domain, changes))


@router.post("/cas", status_code=201)
async def give_trust_domain_ca(mtls: GivenMtls, asker: Asker, body: NewIssuer) -> TrustDomain:
    """Let a trust domain issue with another CA; one that had a CA is rotating then, and both count."""
    new_ca = body.new_ca.wish if body.new_ca else None
    return TrustDomain.of(await rotation.give_ca(mtls, asker, body.domain, new_ca=new_ca, issuing_ca=body.issuing_ca))


@router.post("/domains/{domain}/finish-rotation")
async def finish_trust_domain_rotation(
    mtls: GivenMtls, asker: Asker, domain: str, body: EndOfRotation
) -> TrustDomain:
    """Stop trusting the CAs that do not issue any more."""
    return TrustDomain.of(await rotation.finish_rotation(mtls, asker, domain, force=body.force))


@router.post("/domains/{domain}/retire")
async def retire_trust_domain(mtls: GivenMtls, asker: Asker, domain: str) -> TrustDomain:
    """End a trust domain that has no identities any more."""
    return TrustDomain.of(await domains.retire_domain(mtls, asker, domain))


def _spans(given: dict[str, str], target: str) -> dict[Kind, timedelta]:
    return {names.kind_of(kind): lifetimes.duration_of(text, target=target) for kind, text in given.items()}
