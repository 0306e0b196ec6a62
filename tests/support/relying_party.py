"""What a relying party does: a leaf certificate, OCSP requests for it, the public listener over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from tests.support.eventually import eventually

from intaglio.asn1 import algorithms
from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.authority import issuance
from intaglio.authority.context import Authority
from intaglio.authority.directory import Snapshot
from intaglio.authority.issuance import Issued, Order
from intaglio.core.principal import SYSTEM
from intaglio.profiles.engine import IssuanceInput, RequestedValidity
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.names import Name


async def issue_leaf(
    authority: Authority,
    ca: str = "demo~issuing",
    host: str = "www.example",
    *,
    validity: RequestedValidity | None = None,
    key: algorithms.PrivateKey | None = None,
) -> Issued:
    """A TLS server certificate from a CA, over a P-256 key."""
    key = key or algorithms.generate_private_key(KeyAlgorithm.ECDSA_P256)
    wanted = IssuanceInput(
        subject=Name.build([("CN", host)]),
        spki=algorithms.spki(key.public_key()),
        key_algorithm=KeyAlgorithm.ECDSA_P256,
        channel="gateway-api",
        san=GeneralNames.build([("dns", host)]),
        validity=validity,
    )

    def decide(snapshot: Snapshot) -> Order:
        view = snapshot.ca(ca)
        return Order(view, view.profile("privatessl-tls-server"), wanted)

    return await issuance.issue(authority, SYSTEM, decide)


def certificate(der: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(der)


def ocsp_request(
    leaf: bytes, issuer: bytes, *, nonce: bytes | None = None, algorithm: hashes.HashAlgorithm | None = None
) -> bytes:
    """A request about one certificate, by default with SHA-1 in the CertID as most clients do."""
    builder = ocsp.OCSPRequestBuilder().add_certificate(
        certificate(leaf), certificate(issuer), algorithm or hashes.SHA1()
    )
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


@contextlib.asynccontextmanager
async def listening(app: Any) -> AsyncIterator[str]:
    """Serve an ASGI application on a free loopback port; yields its base URL."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    serving = asyncio.create_task(server.serve())
    try:
        await eventually(lambda: server.started or serving.done())
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
