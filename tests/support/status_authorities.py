"""Status authorities with signers of their own, and the responder that answers for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.authority import OPERATOR
from tests.support.foreign import ForeignCa

from intaglio.authority.context import Authority
from intaglio.core.secrets import MasterKey
from intaglio.db.listen import Watch
from intaglio.validation.authorities import service as authorities
from intaglio.validation.authorities.values import Authority as StatusAuthority
from intaglio.validation.authorities.values import AuthoritySpec
from intaglio.validation.context import Validation
from intaglio.validation.signers import service as signers
from intaglio.validation.signers.values import NewSigner

CRL_SOURCE = {"crls": [{"url": "http://crl.example/foreign.crl"}]}
GATEWAY_SOURCE = {"url": "https://gateway.example/cagw", "ca": "org~issuing"}

Establish = Callable[..., Awaitable[StatusAuthority]]


@pytest.fixture
def validation(authority: Authority, master_key: MasterKey, watch: Watch) -> Validation:
    """The validation authority of one process."""
    return Validation(authority, master_key, watch)


@pytest.fixture
def establish(validation: Validation) -> Establish:
    """Makes a status authority for a foreign CA, with a delegated signer unless ``signer=False``."""

    async def make(
        ca: ForeignCa, name: str, profile: str, *, signer: bool = True, key: str = "ecdsa-p256", **responder: Any
    ) -> StatusAuthority:
        source: dict[str, Any] = {"source": "gateway", "gateway": GATEWAY_SOURCE | {"server_ca": ca.pem}}
        if "CRL" in profile or "SNList" in profile:
            lists = {"serial_list": "http://crl.example/serials.txt"} if "SNList" in profile else {}
            source = {"source": "crl", "crl": CRL_SOURCE | lists}
        spec = AuthoritySpec(name=name, profile=profile, issuers=ca.pem, responder=responder, **source)
        saved = await authorities.create(validation, OPERATOR, spec)
        if signer:
            wish = NewSigner(kind="delegated", authority=name, key_algorithm=key)
            made = await signers.create(validation, OPERATOR, wish)
            assert made.signer.request is not None
            certificate = ca.certify_signer(made.signer.request)
            await signers.import_certificate(validation, OPERATOR, made.signer.id, _pem(certificate))
        return saved.authority

    return make


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
