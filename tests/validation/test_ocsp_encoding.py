"""Responses of every size are encoded as another library reads them."""

from __future__ import annotations

import secrets
from datetime import timedelta

import httpx
import pytest
from cryptography import x509
from cryptography.x509 import ocsp
from tests.support.eventually import eventually
from tests.support.relying_party import issue_leaf, ocsp_request

from intaglio.asn1 import der
from intaglio.authority.certificates import RevocationReason
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView
from intaglio.authority.revocation import change_status, revocation
from intaglio.core import clock
from intaglio.core.principal import SYSTEM
from intaglio.validation.api import PublicApp
from intaglio.validation.ocsp import responses


@pytest.mark.parametrize("size", [0, 1, 100, 200, 255, 256, 1000, 64_000, 65_000, 70_000])
def test_the_outer_structure_is_the_same_at_every_size(size: int) -> None:
    data = der.sequence(bytes(size))
    certs = responses.certificates()
    identifier, signature = der.sequence(der.oid("1.2.3")), b"s" * 70
    basic = der.sequence(data, identifier, der.bit_string(signature), certs)
    inner = der.sequence(der.oid("1.3.6.1.5.5.7.48.1.1"), der.octet_string(basic))
    expected = der.sequence(der.enumerated(0), der.explicit(0, inner))
    assert responses.successful_response(data, identifier, signature, certs) == expected


@pytest.mark.parametrize("length", [1, 8, 16, 32, 100, 125, 128])
async def test_every_nonce_comes_back_also_when_only_the_nonce_differs_from_an_earlier_request(
    authority: Authority, issuing: CaView, client: httpx.AsyncClient, length: int
) -> None:
    leaf = await issue_leaf(authority)
    for _ in range(4):
        nonce = secrets.token_bytes(length)
        request = ocsp_request(leaf.der, issuing.certificate.der, nonce=nonce)
        answered = await client.post("/ocsp/demo/issuing", content=request)
        answer = ocsp.load_der_ocsp_response(answered.content)
        assert answer.certificate_status is ocsp.OCSPCertStatus.GOOD
        assert answer.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == nonce
        assert abs(answer.this_update_utc - clock.now()) < timedelta(seconds=5)


async def test_an_answer_to_a_known_question_is_signed_again_and_forgotten_with_the_status(
    authority: Authority, issuing: CaView, public: PublicApp, client: httpx.AsyncClient
) -> None:
    leaf = await issue_leaf(authority)

    def question() -> bytes:
        return ocsp_request(leaf.der, issuing.certificate.der, nonce=secrets.token_bytes(16))

    async def is_known() -> bool:
        await client.post("/ocsp/demo/issuing", content=question())
        return public.responder.answer_again(question(), "/ocsp/demo/issuing") is not None

    await eventually(is_known)
    assert public.responder.answer_again(question(), "/ocsp/demo/root") is None
    assert public.responder.answer_again(question(), None) is None
    await change_status(authority, SYSTEM, issuing, leaf.serial, revocation(RevocationReason.SUPERSEDED))

    async def is_revoked() -> bool:
        answered = await client.post("/ocsp/demo/issuing", content=question())
        return ocsp.load_der_ocsp_response(answered.content).certificate_status is ocsp.OCSPCertStatus.REVOKED

    await eventually(is_revoked, timeout=1.0)
