"""An EST application of one process, and clients with a certificate of their choice."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7
from pydantic import SecretStr
from starlette.applications import Starlette
from tests.enrollment.conftest import NewEndpointAt
from tests.support.authority import OPERATOR

from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.credential_administration import NewCredential, create_credential
from intaglio.enrollment.est.routes import routes
from intaglio.enrollment.values import Endpoint
from intaglio.x509.certificates import pem

USER, PASSWORD = "router-7", "correct-horse-battery"


@dataclass
class Est:
    """Asks an EST server. ``chain`` is what TLS clients present, ``bindings`` name their connection."""

    enrollment: Enrollment
    new_endpoint: NewEndpointAt
    chain: Sequence[bytes] = ()
    bindings: Sequence[bytes] = field(default=())

    async def endpoint(self, name: str = "default", **changes: Any) -> Endpoint:
        """An endpoint, with a password for ``router-7``."""
        made = await self.new_endpoint("est", name=name, **changes)
        await self.credential(made)
        return made

    async def credential(self, endpoint: Endpoint, **changes: Any) -> None:
        wish = NewCredential(**{"kind": "password", "name": USER, "secret": SecretStr(PASSWORD), **changes})
        await create_credential(self.enrollment, OPERATOR, endpoint.protocol, endpoint.name, wish)

    async def __call__(
        self, operation: str, body: bytes | None = None, *, login: tuple[str, str] | None = (USER, PASSWORD)
    ) -> httpx.Response:
        """The answer to an operation of the endpoint ``default`` (or ``label/operation``); ``body`` is DER."""
        app = Starlette(routes=routes(self.enrollment))

        async def with_tls(scope: Any, receive: Any, send: Any) -> None:
            scope["extensions"] = {
                "tls": {"observed_chain_der": tuple(self.chain), "channel_bindings": lambda: tuple(self.bindings)}
            }
            await app(scope, receive, send)

        transport = httpx.ASGITransport(app=with_tls)
        async with httpx.AsyncClient(transport=transport, base_url="https://est.example") as client:
            path = operation if operation.startswith("/") else f"/.well-known/est/{operation}"
            if body is None:
                return await client.get(path)
            return await client.post(path, content=base64.b64encode(body), auth=login)

    async def issuer(self) -> str:
        """The certificate of the CA, as an operator lists it."""
        return pem((await self.enrollment.authority.current()).ca("demo~issuing").certificate.der)

    async def enrolled(self, csr: bytes, operation: str = "simpleenroll", **more: Any) -> x509.Certificate:
        """The certificate that an operation gives."""
        answer = await self(operation, csr, **more)
        assert answer.status_code == 200, answer.text
        (found,) = certificates(answer)
        return found


def certificates(answer: httpx.Response) -> list[x509.Certificate]:
    """The certificates in an answer."""
    assert answer.headers["content-type"] == "application/pkcs7-mime; smime-type=certs-only"
    return pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.content))


@pytest_asyncio.fixture
async def est(enrollment: Enrollment, new_endpoint: NewEndpointAt) -> AsyncIterator[Est]:
    yield Est(enrollment, new_endpoint)
