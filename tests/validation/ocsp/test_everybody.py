"""One URL for the status of everybody's certificates: other CAs and our own, one signer or several, every option."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from sqlalchemy import update
from tests.support.authority import OPERATOR
from tests.support.eventually import eventually
from tests.support.foreign import REVOKED, ForeignCa, Known, key_pem, learn
from tests.support.relying_party import issue_leaf, listening, ocsp_request
from tests.support.status_authorities import Establish

from intaglio.authority.certificates import RevocationReason
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView
from intaglio.authority.revocation import change_status, hold, revocation, unhold
from intaglio.core import clock
from intaglio.core.clock import monotonic
from intaglio.core.identifiers import new_id
from intaglio.core.principal import SYSTEM
from intaglio.db.engine import Database
from intaglio.validation import models
from intaglio.validation.api import PublicApp
from intaglio.validation.authorities import service as authorities
from intaglio.validation.authorities.values import AuthoritySpec
from intaglio.validation.context import Validation
from intaglio.validation.signers import service as signers
from intaglio.validation.signers.values import NewSigner
from intaglio.x509.certificates import pem

_STATUS = ocsp.OCSPResponseStatus
_GOOD, _REVOKED = ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED


def about(ca: ForeignCa, *serials: int, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
    """A request about serial numbers of a CA."""
    builder = ocsp.OCSPRequestBuilder()
    chosen = algorithm or hashes.SHA1()
    probe = builder.add_certificate(ca.certificate, ca.certificate, chosen).build()
    assert len(serials) == 1
    built = builder.add_certificate_by_hash(probe.issuer_name_hash, probe.issuer_key_hash, serials[0], chosen)
    return built.build().public_bytes(Encoding.DER)


async def post(client: httpx.AsyncClient, request: bytes, path: str = "/eva") -> ocsp.OCSPResponse:
    answered = await client.post(path, content=request)
    assert answered.status_code == 200
    return ocsp.load_der_ocsp_response(answered.content)


async def openssl(*arguments: str | Path) -> str:
    process = await asyncio.create_subprocess_exec(
        "openssl", *map(str, arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    return (await process.communicate())[0].decode()


async def test_one_url_answers_for_other_cas_and_for_our_own(
    authority: Authority, issuing: CaView, database: Database, client: httpx.AsyncClient, establish: Establish
) -> None:
    first, second = ForeignCa("First"), ForeignCa("Second")
    for ca, name in ((first, "first"), (second, "second")):
        await learn(database, await establish(ca, name, "basic"), {7: Known()})
    leaf = await issue_leaf(authority)
    own = ocsp_request(leaf.der, issuing.certificate.der)
    for request in (about(first, 7), about(second, 7), own):
        assert (await post(client, request)).certificate_status is _GOOD
    assert (await post(client, about(first, 7), "/eva/first")).certificate_status is _GOOD
    assert (await post(client, own, "/eva/demo~issuing")).certificate_status is _GOOD
    for path in ("/eva/second", "/eva/demo~issuing", "/eva/nobody", "/ocsp", "/ocsp/demo/issuing"):
        assert (await post(client, about(first, 7), path)).response_status is _STATUS.UNAUTHORIZED
    assert (await post(client, about(ForeignCa("Third"), 7))).response_status is _STATUS.UNAUTHORIZED


async def test_a_disabled_authority_answers_no_more_until_it_is_enabled(
    validation: Validation, database: Database, client: httpx.AsyncClient, establish: Establish
) -> None:
    first, second = ForeignCa("First"), ForeignCa("Second")
    made = [await establish(ca, name, "basic") for ca, name in ((first, "first"), (second, "second"))]
    for each in made:
        await learn(database, each, {7: Known()})

    async def answers(ca: ForeignCa, status: ocsp.OCSPResponseStatus, path: str) -> bool:
        return (await post(client, about(ca, 7), path)).response_status is status

    paths = ("/eva", "/eva/first")
    for path in paths:
        assert await answers(first, _STATUS.SUCCESSFUL, path)
    for enabled, expected in ((False, _STATUS.UNAUTHORIZED), (True, _STATUS.SUCCESSFUL)):
        spec = made[0].spec.model_copy(update={"enabled": enabled})
        await authorities.change(validation, OPERATOR, "first", spec)
        for path in paths:
            await eventually(partial(answers, first, expected, path))
        assert (await post(client, about(second, 7))).certificate_status is _GOOD
    assert (await post(client, about(first, 7))).certificate_status is _GOOD


async def test_a_revocation_at_our_own_ca_shows_at_the_url_of_everybody_within_a_second(
    authority: Authority, issuing: CaView, client: httpx.AsyncClient
) -> None:
    leaf = await issue_leaf(authority)
    request = ocsp_request(leaf.der, issuing.certificate.der)
    assert (await post(client, request)).certificate_status is _GOOD
    await change_status(authority, SYSTEM, issuing, leaf.serial, revocation(RevocationReason.KEY_COMPROMISE))
    committed = monotonic()
    while (await post(client, request)).certificate_status is not _REVOKED:
        assert monotonic() - committed < 1.0


async def test_what_a_source_learns_replaces_what_was_answered_before(
    database: Database, client: httpx.AsyncClient, establish: Establish
) -> None:
    ca = ForeignCa()
    authority = await establish(ca, "foreign", "CRLProfile")
    now = clock.now().replace(microsecond=0)
    span = {"this_update": now - timedelta(hours=1), "next_update": now + timedelta(hours=1)}
    await learn(database, authority, {8: Known(REVOKED, now, 1)}, **span)
    for _ in range(3):
        assert (await post(client, about(ca, 7))).certificate_status is _GOOD
        assert (await post(client, about(ca, 8))).certificate_status is _REVOKED
    await learn(database, authority, {7: Known(REVOKED, now, 1)}, **span)
    committed = monotonic()
    while (await post(client, about(ca, 7))).certificate_status is not _REVOKED:
        assert monotonic() - committed < 1.0
    newer = {"this_update": now, "next_update": now + timedelta(hours=2)}
    await learn(database, authority, {}, **newer)
    committed = monotonic()
    while (await post(client, about(ca, 8))).this_update_utc != now:
        assert monotonic() - committed < 1.0


@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
async def test_a_cert_id_may_use_every_usual_hash(
    database: Database, client: httpx.AsyncClient, establish: Establish, algorithm: hashes.HashAlgorithm
) -> None:
    ca = ForeignCa()
    await learn(database, await establish(ca, "foreign", "nextUpdate"), {7: Known()})
    assert (await post(client, about(ca, 7, algorithm=algorithm))).certificate_status is _GOOD


@pytest.mark.parametrize("key", ["rsa-2048", "rsa-3072", "rsa-4096", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521"])
async def test_a_signer_of_every_type_is_believed(
    database: Database, public: PublicApp, establish: Establish, tmp_path: Path, key: str
) -> None:
    ca = ForeignCa()
    await learn(database, await establish(ca, "foreign", "basic", key=key, digest="sha256"), {7: Known()})
    (tmp_path / "ca.pem").write_text(ca.pem)
    async with listening(public) as base:
        said = await openssl(
            "ocsp", "-issuer", tmp_path / "ca.pem", "-CAfile", tmp_path / "ca.pem", "-serial", "7", "-url",
            f"{base}/eva", "-resp_text",
        )  # fmt: skip
    assert "Response verify OK" in said
    assert "7: good" in said
    assert "sha256" in said.lower()


async def test_the_signer_is_named_and_signs_as_the_operator_wants(
    database: Database, client: httpx.AsyncClient, establish: Establish
) -> None:
    ca = ForeignCa()
    options = {"responder_id": "name", "digest": "sha512", "pss": True}
    await learn(database, await establish(ca, "foreign", "basic", key="rsa-2048", **options), {7: Known()})
    answer = await post(client, about(ca, 7))
    assert answer.responder_key_hash is None
    signer = answer.certificates[0]
    assert answer.responder_name == signer.subject
    public_key = signer.public_key()
    assert isinstance(public_key, rsa.RSAPublicKey)
    salted = padding.PSS(padding.MGF1(hashes.SHA512()), 64)
    public_key.verify(answer.signature, answer.tbs_response_bytes, salted, hashes.SHA512())


async def test_several_cas_in_one_request_need_one_signer_for_all(
    database: Database, public: PublicApp, establish: Establish, validation: Validation, tmp_path: Path
) -> None:
    trusted = ForeignCa("Trusted by agreement")
    made = await signers.create(validation, OPERATOR, NewSigner(kind="shared", label="common"))
    assert made.signer.request is not None
    certificate = trusted.certify_signer(made.signer.request)
    saved = await signers.import_certificate(
        validation, OPERATOR, made.signer.id, certificate.public_bytes(Encoding.DER)
    )
    assert any("trust" in warning for warning in saved.warnings)
    cas = [ForeignCa("First"), ForeignCa("Second"), ForeignCa("Third")]
    options: list[dict[str, Any]] = [{"signer": False, "shared_signer": "common"}] * 2 + [{}]
    for number, (ca, chosen) in enumerate(zip(cas, options, strict=True)):
        authority = await establish(ca, f"number-{number}", "basic", **chosen)
        await learn(database, authority, {7: Known(), 8: Known()})
    for number, ca in enumerate(cas):
        (tmp_path / f"{number}.pem").write_text(ca.pem)
    (tmp_path / "signer.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    asking: list[str | Path] = ["ocsp", "-VAfile", tmp_path / "signer.pem", "-no_nonce"]
    first, second, third = (("-issuer", tmp_path / f"{n}.pem", "-serial", "7", "-serial", "8") for n in range(3))
    async with listening(public) as base:
        both = await openssl(*asking, "-url", f"{base}/eva", *first, *second)
        assert "Response verify OK" in both
        assert both.count(": good") == 4
        mixed = await openssl(*asking, "-url", f"{base}/eva", *first, *third)
        assert "unauthorized" in mixed


async def test_a_failure_is_told_by_http_status_where_that_is_wanted(
    client: httpx.AsyncClient, establish: Establish
) -> None:
    loud, quiet = ForeignCa("Loud"), ForeignCa("Quiet")
    await establish(loud, "loud", "basic", http_error=True)
    stranger = about(ForeignCa("Stranger"), 7)
    for path in ("/eva", "/eva/loud"):
        for request, status, expected in ((b"rubbish", 400, _STATUS.MALFORMED_REQUEST), (stranger, 404, None)):
            answered = await client.post(path, content=request)
            assert answered.status_code == status
            answer = ocsp.load_der_ocsp_response(answered.content)
            assert answer.response_status is (expected or _STATUS.UNAUTHORIZED)
    await establish(quiet, "quiet", "basic")
    for path in ("/eva", "/eva/quiet", "/ocsp"):
        for request in (b"rubbish", stranger):
            assert (await client.post(path, content=request)).status_code == 200


async def test_get_answers_are_cacheable_until_next_update_and_not_at_all_without_one(
    database: Database, client: httpx.AsyncClient, establish: Establish
) -> None:
    timed, timeless = ForeignCa("Timed"), ForeignCa("Timeless")
    await learn(database, await establish(timed, "timed", "nextUpdate"), {7: Known()})
    await learn(database, await establish(timeless, "timeless", "basic"), {7: Known()})
    for ca, cacheable in ((timed, True), (timeless, False)):
        encoded = quote(base64.b64encode(about(ca, 7)), safe="")
        for path in (f"/eva/{encoded}", f"/eva/{ca.name.lower()}/{encoded}"):
            got = await client.get(path)
            assert ocsp.load_der_ocsp_response(got.content).certificate_status is _GOOD
            assert ("max-age" in got.headers["cache-control"]) is cacheable
            assert ("expires" in got.headers) is cacheable
    never_issued = await client.get(f"/eva/{quote(base64.b64encode(about(timed, 99)), safe='')}")
    assert never_issued.headers["cache-control"] == "no-store"


async def test_a_native_authority_follows_its_profile_here_and_the_platform_at_its_own_url(
    authority: Authority, issuing: CaView, validation: Validation, client: httpx.AsyncClient
) -> None:
    await authorities.create(
        validation, OPERATOR, AuthoritySpec(name="ours", source="native", ca="demo~issuing", profile="archiveCutOff")
    )
    leaf = await issue_leaf(authority)
    request = ocsp_request(leaf.der, issuing.certificate.der)
    answer = await post(client, request)
    assert answer.certificate_status is _GOOD
    assert answer.next_update_utc is None
    own = await post(client, request, "/ocsp/demo/issuing")
    assert own.next_update_utc is not None
    probe = ocsp.load_der_ocsp_request(request)
    unissued = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        probe.issuer_name_hash, probe.issuer_key_hash, 4711, hashes.SHA1()
    )
    strange = unissued.build().public_bytes(Encoding.DER)
    assert (await post(client, strange)).revocation_reason is x509.ReasonFlags.certificate_hold
    assert (await post(client, strange, "/ocsp")).certificate_status is ocsp.OCSPCertStatus.UNKNOWN


async def test_our_ca_can_sign_the_answers_about_its_certificates_itself(
    authority: Authority, issuing: CaView, validation: Validation, public: PublicApp, tmp_path: Path
) -> None:
    await authorities.create(
        validation, OPERATOR, AuthoritySpec(name="ours", source="native", ca="demo~issuing", profile="basic")
    )
    await signers.create(validation, OPERATOR, NewSigner(kind="ca", authority="ours"))
    leaf = await issue_leaf(authority)
    (tmp_path / "leaf.pem").write_text(pem(leaf.der))
    (tmp_path / "ca.pem").write_text(pem(issuing.chain[0]))
    (tmp_path / "root.pem").write_text(pem(issuing.chain[-1]))
    async with listening(public) as base:
        said = await openssl(
            "ocsp", "-issuer", tmp_path / "ca.pem", "-CAfile", tmp_path / "root.pem", "-cert", tmp_path / "leaf.pem",
            "-url", f"{base}/eva", "-resp_text",
        )  # fmt: skip
    assert "Response verify OK" in said
    assert "leaf.pem: good" in said
    assert "OCSP Signing" not in said


@pytest.mark.parametrize("way", ["signed", "unsigned", "stranger", "other name"])
async def test_where_requests_must_be_signed_only_the_right_ones_are_answered(
    database: Database, public: PublicApp, establish: Establish, tmp_path: Path, way: str
) -> None:
    ca, requestors = ForeignCa(), ForeignCa("Requestors")
    options = {"signed_requests": True, "requestor_cas": requestors.pem}
    await learn(database, await establish(ca, "foreign", "basic", **options), {7: Known()})
    certificate, key = (ForeignCa("Strangers") if way == "stranger" else requestors).end_entity()
    (tmp_path / "ca.pem").write_text(ca.pem)
    (tmp_path / "requestor.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "requestor.key").write_bytes(key_pem(key))
    signing = ["-signer", tmp_path / "requestor.pem", "-signkey", tmp_path / "requestor.key"]
    async with listening(public) as base:
        said = await openssl(
            "ocsp", "-issuer", tmp_path / "ca.pem", "-CAfile", tmp_path / "ca.pem", "-serial", "7",
            *([] if way == "unsigned" else signing), "-url", f"{base}/eva", "-reqout", tmp_path / "request.der",
        )  # fmt: skip
        if way == "other name":
            request = bytearray((tmp_path / "request.der").read_bytes())
            request[request.index(b"somebody")] ^= 1  # first in the requestorName, which is signed
            async with httpx.AsyncClient() as client:
                answered = await client.post(f"{base}/eva", content=bytes(request))
            assert ocsp.load_der_ocsp_response(answered.content).response_status is _STATUS.UNAUTHORIZED
            return
    expected = {"signed": "7: good", "unsigned": "sigrequired", "stranger": "unauthorized"}[way]
    assert expected in said


async def test_the_times_of_a_new_source_are_not_told_with_the_status_of_the_one_before(
    database: Database, client: httpx.AsyncClient, establish: Establish
) -> None:
    ca = ForeignCa()
    known = await establish(ca, "foreign", "basic")
    await learn(database, known, {7: Known()})
    assert (await post(client, about(ca, 4711))).certificate_status is _REVOKED  # unknown, which is not remembered
    async with database.transaction() as tx:  # seen in the database before the process hears of it
        values = {"set_id": new_id()}
        await tx.execute(update(models.status_authority).where(models.status_authority.c.id == known.id).values(values))
        await tx.execute(update(models.status_source).values(values))
    await learn(database, known, {8: Known()})  # the news of another one is heard of

    async def silent() -> bool:
        return (await post(client, about(ca, 4711))).response_status is _STATUS.TRY_LATER

    await eventually(silent)


async def _signed_by(folder: Path, ca: ForeignCa, certificate: str, key: Any) -> bytes:
    """A request about certificate 7 of ``ca``, signed by OpenSSL; the certificate's chain may stand behind it."""
    (folder / "ca.pem").write_text(ca.pem)
    (folder / "requestor.pem").write_text(certificate)
    (folder / "requestor.key").write_bytes(key_pem(key))
    signer = folder / "requestor.pem"
    await openssl(
        "ocsp", "-issuer", folder / "ca.pem", "-serial", "7", "-signer", signer, "-signkey", folder / "requestor.key",
        "-sign_other", signer, "-no_nonce", "-reqout", folder / "request.der",
    )  # fmt: skip
    return (folder / "request.der").read_bytes()


async def _is_told(client: httpx.AsyncClient, request: bytes, expected: ocsp.OCSPResponseStatus) -> None:
    async def told() -> bool:
        return (await post(client, request)).response_status is expected

    await eventually(told)


async def test_a_requestor_whose_certificate_was_revoked_is_not_answered(
    authority: Authority, issuing: CaView, database: Database, client: httpx.AsyncClient, establish: Establish,
    tmp_path: Path,
) -> None:  # fmt: skip
    ca, root = ForeignCa(), pem(issuing.chain[-1])
    options = {"signed_requests": True, "requestor_cas": root}
    await learn(database, await establish(ca, "foreign", "basic", **options), {7: Known()})
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = await issue_leaf(authority, key=key)
    request = await _signed_by(tmp_path, ca, pem(leaf.der) + pem(issuing.chain[0]), key)
    await _is_told(client, request, _STATUS.SUCCESSFUL)
    await change_status(authority, OPERATOR, issuing, leaf.serial, hold())
    await _is_told(client, request, _STATUS.UNAUTHORIZED)
    await change_status(authority, OPERATOR, issuing, leaf.serial, unhold())
    await _is_told(client, request, _STATUS.SUCCESSFUL)


async def test_requestors_of_a_ca_whose_source_is_stale_are_told_to_try_later(
    database: Database, client: httpx.AsyncClient, establish: Establish, tmp_path: Path
) -> None:
    ca, requestors = ForeignCa(), ForeignCa("Requestors")
    options = {"signed_requests": True, "requestor_cas": requestors.pem}
    await learn(database, await establish(ca, "foreign", "basic", **options), {7: Known()})
    certificate, key = requestors.end_entity()
    request = await _signed_by(tmp_path, ca, certificate.public_bytes(Encoding.PEM).decode(), key)
    await _is_told(client, request, _STATUS.SUCCESSFUL)
    known = await establish(requestors, "requestors", "CRLProfile", signer=False)
    await _is_told(client, request, _STATUS.TRY_LATER)
    await learn(database, known, {})
    await _is_told(client, request, _STATUS.SUCCESSFUL)
    await learn(database, known, {certificate.serial_number: Known(REVOKED)})
    await _is_told(client, request, _STATUS.UNAUTHORIZED)


async def test_a_signed_request_is_not_answered_again_for_another_nonce(
    database: Database, client: httpx.AsyncClient, establish: Establish, tmp_path: Path
) -> None:
    ca, requestors = ForeignCa(), ForeignCa("Requestors")
    options = {"signed_requests": True, "requestor_cas": requestors.pem}
    await learn(database, await establish(ca, "foreign", "basic", **options), {7: Known()})
    certificate, key = requestors.end_entity()
    (tmp_path / "ca.pem").write_text(ca.pem)
    (tmp_path / "requestor.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "requestor.key").write_bytes(key_pem(key))
    await openssl(
        "ocsp", "-issuer", tmp_path / "ca.pem", "-serial", "7", "-signer", tmp_path / "requestor.pem", "-signkey",
        tmp_path / "requestor.key", "-reqout", tmp_path / "request.der",
    )  # fmt: skip
    request = (tmp_path / "request.der").read_bytes()
    nonce = ocsp.load_der_ocsp_request(request).extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
    assert (await post(client, request)).certificate_status is _GOOD
    altered = request.replace(nonce, bytes(len(nonce)))
    assert (await post(client, altered)).response_status is _STATUS.UNAUTHORIZED


