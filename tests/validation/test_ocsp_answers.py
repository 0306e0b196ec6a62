"""What a relying party learns from an OCSP answer."""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, timedelta
from urllib.parse import quote

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from tests.support.authority import OPERATOR, issuing_wish
from tests.support.relying_party import certificate, issue_leaf, ocsp_request

from intaglio.asn1 import der
from intaglio.authority.cas.create import create_issuing
from intaglio.authority.cas.delete import delete_ca
from intaglio.authority.cas.renewal import rekey_ca
from intaglio.authority.certificates import RevocationReason
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView
from intaglio.authority.revocation import change_status, hold, revocation
from intaglio.core import clock
from intaglio.core.principal import SYSTEM

_HEADERS = {"content-type": "application/ocsp-request"}


async def _ask(client: httpx.AsyncClient, request: bytes, path: str = "/ocsp/demo/issuing") -> ocsp.OCSPResponse:
    answered = await client.post(path, content=request, headers=_HEADERS)
    assert answered.status_code == 200
    assert answered.headers["content-type"] == "application/ocsp-response"
    return ocsp.load_der_ocsp_response(answered.content)


async def test_an_issued_certificate_is_good_and_the_answer_verifies(
    authority: Authority, issuing: CaView, client: httpx.AsyncClient
) -> None:
    leaf = await issue_leaf(authority)
    nonce = secrets.token_bytes(32)
    answer = await _ask(client, ocsp_request(leaf.der, issuing.certificate.der, nonce=nonce))
    assert answer.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
    assert answer.certificate_status is ocsp.OCSPCertStatus.GOOD
    assert answer.serial_number == certificate(leaf.der).serial_number
    assert answer.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == nonce
    signer = answer.certificates[0]
    signer.verify_directly_issued_by(certificate(issuing.certificate.der))
    signer.public_key().verify(answer.signature, answer.tbs_response_bytes, _ecdsa(answer))  # type: ignore[union-attr, call-arg, arg-type]
    assert answer.responder_key_hash == x509.SubjectKeyIdentifier.from_public_key(signer.public_key()).digest
    lifetime = answer.next_update_utc - answer.this_update_utc  # type: ignore[operator]
    assert lifetime == issuing.options.ocsp_validity
    assert abs(answer.produced_at_utc - clock.now()) < timedelta(seconds=5)


def _ecdsa(answer: ocsp.OCSPResponse) -> object:
    assert isinstance(answer.signature_hash_algorithm, hashes.SHA256)
    return ec.ECDSA(answer.signature_hash_algorithm)


async def test_a_revoked_certificate_is_revoked_with_time_and_reason(
    authority: Authority, issuing: CaView, client: httpx.AsyncClient
) -> None:
    leaf = await issue_leaf(authority)
    change = revocation(RevocationReason.KEY_COMPROMISE)
    revoked = await change_status(authority, SYSTEM, issuing, leaf.serial, change)
    answer = await _ask(client, ocsp_request(leaf.der, issuing.certificate.der))
    assert answer.certificate_status is ocsp.OCSPCertStatus.REVOKED
    assert answer.revocation_reason is x509.ReasonFlags.key_compromise
    assert answer.revocation_time_utc == revoked.revoked_at


async def test_a_certificate_on_hold_is_revoked_with_certificate_hold(
    authority: Authority, issuing: CaView, client: httpx.AsyncClient
) -> None:
    leaf = await issue_leaf(authority)
    await change_status(authority, SYSTEM, issuing, leaf.serial, hold())
    answer = await _ask(client, ocsp_request(leaf.der, issuing.certificate.der))
    assert answer.certificate_status is ocsp.OCSPCertStatus.REVOKED
    assert answer.revocation_reason is x509.ReasonFlags.certificate_hold


async def test_a_serial_number_nobody_issued_is_unknown_and_not_cacheable(
    issuing: CaView, client: httpx.AsyncClient
) -> None:
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        *_issuer_hashes(issuing), 0x1234567890, hashes.SHA1()
    )
    request = builder.build().public_bytes(Encoding.DER)
    answer = await _ask(client, request)
    assert answer.certificate_status is ocsp.OCSPCertStatus.UNKNOWN
    got = await client.get(f"/ocsp/demo/issuing/{quote(base64.b64encode(request), safe='')}")
    assert got.headers["cache-control"] == "no-store"


def _issuer_hashes(ca: CaView) -> tuple[bytes, bytes]:
    digest = hashes.Hash(hashes.SHA1())
    digest.update(ca.certificate.subject.der)
    return digest.finalize(), ca.key.issuer_key_sha1


@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
async def test_the_issuer_is_found_by_every_hash(
    authority: Authority, issuing: CaView, client: httpx.AsyncClient, algorithm: hashes.HashAlgorithm
) -> None:
    leaf = await issue_leaf(authority)
    request = ocsp_request(leaf.der, issuing.certificate.der, algorithm=algorithm)
    answer = await _ask(client, request)
    assert answer.certificate_status is ocsp.OCSPCertStatus.GOOD
    assert answer.issuer_key_hash == ocsp.load_der_ocsp_request(request).issuer_key_hash


async def test_another_ca_at_this_url_is_unauthorized(
    authority: Authority, issuing: CaView, client: httpx.AsyncClient
) -> None:
    await create_issuing(authority, OPERATOR, "demo", issuing_wish("second"))
    leaf = await issue_leaf(authority)
    request = ocsp_request(leaf.der, issuing.certificate.der)
    assert (await _ask(client, request, "/ocsp/demo/second")).response_status is ocsp.OCSPResponseStatus.UNAUTHORIZED
    assert (await _ask(client, request, "/ocsp/demo/nobody")).response_status is ocsp.OCSPResponseStatus.UNAUTHORIZED
    assert (await _ask(client, request, "/ocsp")).certificate_status is ocsp.OCSPCertStatus.GOOD


async def test_a_ca_without_ocsp_is_unauthorized(
    authority: Authority, issuing: CaView, client: httpx.AsyncClient
) -> None:
    await create_issuing(authority, OPERATOR, "demo", issuing_wish("silent", ocsp_key_algorithm="off"))
    silent = (await authority.snapshot()).ca("demo~silent")
    leaf = await issue_leaf(authority, "demo~silent")
    answer = await _ask(client, ocsp_request(leaf.der, silent.certificate.der), "/ocsp/demo/silent")
    assert answer.response_status is ocsp.OCSPResponseStatus.UNAUTHORIZED


async def test_the_root_answers_for_the_ca_it_issued(
    authority: Authority, issuing: CaView, client: httpx.AsyncClient
) -> None:
    answer = await _ask(client, ocsp_request(issuing.chain[0], issuing.chain[1]), "/ocsp/demo/root")
    assert answer.certificate_status is ocsp.OCSPCertStatus.GOOD


async def test_after_a_new_key_certificates_of_the_old_one_are_answered_by_a_signer_of_the_old_one(
    authority: Authority, issuing: CaView, client: httpx.AsyncClient
) -> None:
    before = await issue_leaf(authority)
    await rekey_ca(authority, OPERATOR, issuing.full_id)
    renewed = (await authority.snapshot()).ca(issuing.full_id)
    after = await issue_leaf(authority)
    for leaf, issuer in ((before, issuing), (after, renewed)):
        answer = await _ask(client, ocsp_request(leaf.der, issuer.certificate.der))
        assert answer.certificate_status is ocsp.OCSPCertStatus.GOOD
        answer.certificates[0].verify_directly_issued_by(certificate(issuer.certificate.der))
    confused = await _ask(client, ocsp_request(before.der, renewed.certificate.der))
    assert confused.certificate_status is ocsp.OCSPCertStatus.UNKNOWN


async def test_a_deleted_ca_is_answered_for(authority: Authority, issuing: CaView, client: httpx.AsyncClient) -> None:
    leaf = await issue_leaf(authority)
    await delete_ca(authority, OPERATOR, issuing.full_id, revoke_all=True)
    answer = await _ask(client, ocsp_request(leaf.der, issuing.certificate.der))
    assert answer.revocation_reason is x509.ReasonFlags.cessation_of_operation


async def test_every_certificate_of_a_request_is_answered_in_order(
    authority: Authority, issuing: CaView, client: httpx.AsyncClient
) -> None:
    leaves = [await issue_leaf(authority, host=f"h{n}.example") for n in range(3)]
    await change_status(authority, SYSTEM, issuing, leaves[1].serial, revocation(RevocationReason.SUPERSEDED))
    entries = [_request_entry(ocsp_request(leaf.der, issuing.certificate.der)) for leaf in leaves]
    request = der.sequence(der.sequence(der.sequence(*entries)))
    answered = await client.post("/ocsp/demo/issuing", content=request, headers=_HEADERS)
    singles = list(ocsp.load_der_ocsp_response(answered.content).responses)
    assert [single.serial_number for single in singles] == [certificate(leaf.der).serial_number for leaf in leaves]
    statuses = [single.certificate_status for single in singles]
    assert statuses == [ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED, ocsp.OCSPCertStatus.GOOD]


def _request_entry(request: bytes) -> bytes:
    tbs = der.children(der.read_tlv(request).content)[0]
    return der.children(der.children(tbs.content)[0].content)[0].der


async def test_rubbish_is_a_malformed_request(client: httpx.AsyncClient) -> None:
    for rubbish in (b"", b"\x30", b"hello", secrets.token_bytes(8192)):
        answer = await _ask(client, rubbish)
        assert answer.response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST
    got = await client.get("/ocsp/demo/issuing/%2F%2F")
    assert ocsp.load_der_ocsp_response(got.content).response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST


async def test_get_takes_base64_in_every_spelling(
    authority: Authority, issuing: CaView, client: httpx.AsyncClient
) -> None:
    leaf = await issue_leaf(authority)
    encoded = base64.b64encode(ocsp_request(leaf.der, issuing.certificate.der)).decode()
    for path in (quote(encoded, safe=""), quote(encoded), encoded.rstrip("="), f"/{encoded}", f"%2F{encoded}"):
        for base in ("/ocsp/demo/issuing", "/ocsp"):
            got = await client.get(f"{base}/{path}")
            assert ocsp.load_der_ocsp_response(got.content).certificate_status is ocsp.OCSPCertStatus.GOOD, path


async def test_an_answer_by_get_can_be_cached_for_half_of_its_life(
    authority: Authority, issuing: CaView, client: httpx.AsyncClient
) -> None:
    leaf = await issue_leaf(authority)
    encoded = quote(base64.b64encode(ocsp_request(leaf.der, issuing.certificate.der)), safe="")
    first = await client.get(f"/ocsp/demo/issuing/{encoded}")
    answer = ocsp.load_der_ocsp_response(first.content)
    assert answer.next_update_utc is not None
    seconds = int((answer.next_update_utc - answer.this_update_utc).total_seconds())
    assert f"max-age={seconds // 2}" in first.headers["cache-control"]
    modified = answer.this_update_utc.astimezone(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert first.headers["last-modified"] == modified
    again = await client.get(f"/ocsp/demo/issuing/{encoded}")
    assert again.content == first.content
    for validator in ({"if-none-match": first.headers["etag"]}, {"if-modified-since": first.headers["last-modified"]}):
        unchanged = await client.get(f"/ocsp/demo/issuing/{encoded}", headers=validator)
        assert (unchanged.status_code, unchanged.content) == (304, b"")


async def test_other_methods_and_endless_urls_are_refused(client: httpx.AsyncClient) -> None:
    refused = await client.put("/ocsp/demo/issuing", content=b"x")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, POST")
    assert (await client.get("/ocsp/demo/issuing/" + "A" * 20_000)).status_code == 431
    assert (await client.get("/ocspx")).status_code == 404


async def test_a_request_over_the_limit_is_refused_before_anything_is_read_of_it(client: httpx.AsyncClient) -> None:
    for path in ("/ocsp", "/ocsp/demo/issuing", "/eva"):
        answered = await client.post(path, content=bytes(9000), headers=_HEADERS)
        assert answered.status_code == 413
