"""Mutual TLS identity on a fresh database: services, a trust domain with CAs of its own, identities and requests."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from tests.support.authority import OPERATOR, on_authority
from tests.support.database import MakeStage, Stage

from intaglio.authority.context import Authority
from intaglio.core.principal import Principal
from intaglio.core.secrets import MasterKey
from intaglio.db.listen import Watch
from intaglio.gateway.service import Gateway
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities.authorities import NewCaWish
from intaglio.mtls.identities.domains import NewDomain, create_domain
from intaglio.mtls.identities.issuing import issue_identity
from intaglio.mtls.identities.registry import NewIdentity, add_identity
from intaglio.mtls.identities.values import Channel, Identity, IssuedIdentity, TrustDomain

Key = CertificateIssuerPrivateKeyTypes


@pytest.fixture
def mtls(authority: Authority, master_key: MasterKey) -> Mtls:
    """Mutual TLS identity of one process. Its watch is not started; tests that need it start it."""
    return mtls_on(authority, master_key)


@pytest.fixture(scope="session")
def trust_domain_stage(make_stage: MakeStage, organization_stage: Stage, _master_key: MasterKey) -> Stage:
    """A database with the trust domain ``prod.example``."""

    async def build(authority: Authority) -> TrustDomain:
        return await make_domain(mtls_on(authority, _master_key))

    return make_stage(on_authority(build), organization_stage)


@pytest_asyncio.fixture
async def trust_domain(stage: Stage, trust_domain_stage: Stage, mtls: Mtls, organization: str) -> TrustDomain:
    """The trust domain ``prod.example`` with a root and an issuing CA of its own."""
    if stage.includes(trust_domain_stage):
        made: TrustDomain = trust_domain_stage.value
        return made
    return await make_domain(mtls, organization=organization)


def mtls_on(authority: Authority, master_key: MasterKey) -> Mtls:
    """Mutual TLS identity on an authority floor; its watch is not started."""
    return Mtls(authority, Gateway(authority), master_key, Watch(authority.database))


async def make_domain(mtls: Mtls, name: str = "prod.example", environment: str = "prod", **changes: Any) -> TrustDomain:
    """A trust domain with CAs of its own, and addresses of example.com and of its own name."""
    mail = ["example.com", "example.org", "corp.example", name]
    values: dict[str, Any] = {"organization": "demo", "new_ca": NewCaWish(), "email_domains": mail}
    return await create_domain(mtls, OPERATOR, NewDomain(name, environment, **(values | changes)))


async def make_service(mtls: Mtls, name: str = "payments", domain: str = "prod.example", **changes: Any) -> Identity:
    """A registered service."""
    values: dict[str, Any] = {"team": "finance", "roles": ["reader"], "version": "1.4.2"}
    return await add_identity(mtls, OPERATOR, NewIdentity(domain, "service", name, **(values | changes)))


async def make_user(mtls: Mtls, email: str = "alice@example.com", domain: str = "prod.example") -> Identity:
    """A registered person."""
    return await add_identity(mtls, OPERATOR, NewIdentity(domain, "user", display_name="Alice", email=email))


def make_request(key: Key | None = None, common_name: str = "anything") -> bytes:
    """A certificate request in PEM, over a fresh P-256 key unless one is given."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.sign(key or ec.generate_private_key(ec.SECP256R1()), SHA256()).public_bytes(Encoding.PEM)


async def issue(
    mtls: Mtls, identity: Identity, *, principal: Principal = OPERATOR, key: Key | None = None, **options: Any
) -> IssuedIdentity:
    """A certificate for an identity."""
    options = {"channel": Channel.MANUAL} | options
    return await issue_identity(mtls, principal, identity, make_request(key), **options)


def hours(count: float) -> datetime.timedelta:
    """So many hours."""
    return datetime.timedelta(hours=count)
