"""Two trust domains, a service with a certificate, an ingress, and decisions with a watch that runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tests.support.authority import OPERATOR, on_authority
from tests.support.database import MakeStage, Stage
from tests.support.identities import issue, make_domain, make_service, mtls_on

from intaglio.authority.context import Authority
from intaglio.core import clock
from intaglio.core.secrets import MasterKey
from intaglio.mtls.access.decision import AccessDecider, Decision, Facts
from intaglio.mtls.access.ingress_values import Ingress, NewIngress
from intaglio.mtls.access.ingresses import create_ingress
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities.values import IssuedIdentity, TrustDomain

#: Seconds after which something that should happen counts as not happening.
PATIENCE = 20.0


@dataclass
class House:
    """What the tests of this folder work in."""

    mtls: Mtls
    domain: TrustDomain
    payments: IssuedIdentity
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def decider(self) -> AccessDecider:
        return self.mtls.decider

    async def ingress(self, name: str = "web", **changes: Any) -> Ingress:
        """An ingress of prod.example, which enforces unless told otherwise."""
        values: dict[str, Any] = {"organization": "demo", "domain": "prod.example", "mode": "enforce"}
        made = await create_ingress(self.mtls, OPERATOR, NewIngress(name, **(values | changes)))
        self.tokens[name] = made.token
        await self.settled()
        return made.ingress

    async def decide(self, ingress: Ingress, *presented: bytes, **changes: Any) -> Decision:
        """Decide about a GET of ``/`` from 10.0.0.1 with these certificates."""
        values: dict[str, Any] = {"source_ip": "10.0.0.1", "method": "GET", "path": "/", "at": clock.now()}
        return await self.decider.decide(Facts(ingress.id, presented=presented, **(values | changes)))

    async def settled(self) -> None:
        """Wait until this process has heard of every change of the configuration."""
        current = (await self.mtls.authority.current()).epoch
        await until(lambda: self.mtls.watch.epoch >= current and self.mtls.watch.current)


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition holds; fail when it does not for a long time."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = condition()
            if await found if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.01)


@pytest.fixture(scope="session")
def payments_stage(make_stage: MakeStage, trust_domain_stage: Stage, _master_key: MasterKey) -> Stage:
    """A database with the service ``payments`` in ``prod.example``, and the certificate that it has."""

    async def build(authority: Authority) -> IssuedIdentity:
        mtls = mtls_on(authority, _master_key)
        return await issue(mtls, await make_service(mtls, service="payments"))

    return make_stage(on_authority(build), trust_domain_stage)


@pytest_asyncio.fixture
async def house(payments_stage: Stage, mtls: Mtls, trust_domain: TrustDomain) -> AsyncIterator[House]:
    await mtls.watch.start()
    made = House(mtls, trust_domain, payments_stage.value)
    await made.settled()
    yield made
    await mtls.close()
    await mtls.watch.stop()


@pytest_asyncio.fixture
async def foreign(house: House) -> IssuedIdentity:
    """A service of another environment."""
    await make_domain(house.mtls, "dev.example", "dev")
    issued = await issue(house.mtls, await make_service(house.mtls, "payments", "dev.example", service="payments"))
    await house.settled()
    return issued


Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def self_made(
    *,
    issuer: tuple[x509.Certificate, Key] | None = None,
    key: Key | None = None,
    name: str = "mallory",
    ca: bool = False,
    eku: bool = True,
    hash_algorithm: Any = None,
) -> tuple[x509.Certificate, Key]:
    """A certificate nobody of us has issued, self-signed unless an issuer is given."""
    own = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = clock.now()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca, None), True)
    )
    if eku and not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
    signed = builder.sign(issuer[1] if issuer else own, hash_algorithm or SHA256())
    return signed, own


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


@pytest.fixture
def other_ca() -> tuple[x509.Certificate, Key]:
    """A CA somebody made for himself."""
    return self_made(name="Other CA", ca=True)
