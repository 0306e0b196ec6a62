"""Identities that ask for themselves: clients of the listener, with certificates, tokens and requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec
from tests.support.authority import OPERATOR
from tests.support.identities import make_request, make_service

from intaglio.mtls.automation.bootstrap import CreatedToken, NewBootstrapToken, create_token
from intaglio.mtls.automation.routes import automation_routes
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities.values import Identity, TrustDomain
from intaglio.server.enrolment_listener import enrolment_app

Client = Callable[..., httpx.AsyncClient]
SOURCE = "192.0.2.9"


@pytest_asyncio.fixture
async def payments(mtls: Mtls, trust_domain: TrustDomain) -> Identity:
    """The service ``payments`` of ``prod.example``."""
    return await make_service(mtls, dns_names=["payments.prod.example"])


@pytest_asyncio.fixture
async def client(mtls: Mtls) -> AsyncIterator[Client]:
    """Makes clients of the listener that come with these certificates (leaf first)."""
    application = enrolment_app(mtls, automation_routes(mtls))
    opened: list[httpx.AsyncClient] = []

    def make(*chain: bytes, source: str = SOURCE, **headers: str) -> httpx.AsyncClient:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            tls = {"client_cert_der": chain[0] if chain else None, "client_chain_der": chain, "tls_version": 0x0304}
            scope["extensions"] = {"tls": tls}
            await application(scope, receive, send)

        transport = httpx.ASGITransport(app=app, client=(source, 4711))
        opened.append(httpx.AsyncClient(transport=transport, base_url="https://pki.example:1443", headers=headers))
        return opened[-1]

    yield make
    for each in opened:
        await each.aclose()
    await mtls.close()


async def token_for(mtls: Mtls, identity: Identity, **values: Any) -> CreatedToken:
    """A bootstrap token."""
    return await create_token(mtls, OPERATOR, NewBootstrapToken(identity.id, **values))


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


async def sign(asking: httpx.AsyncClient, token: str | None = None, key: Any = None, **body: Any) -> httpx.Response:
    """Ask for a certificate as an agent does."""
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    csr = make_request(key, body.pop("common_name", "anything")).decode()
    return await asking.post("/mtls/v1/sign", json={"csr": csr, **body}, headers=headers)
