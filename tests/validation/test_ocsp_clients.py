"""Real OCSP clients against the listener: OpenSSL, GnuTLS, curl; and the linter of the field."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from cryptography.x509 import ocsp
from tests.support.authority import OPERATOR, issuing_wish, make_hierarchy
from tests.support.relying_party import issue_leaf, listening, ocsp_request

from intaglio.asn1 import der
from intaglio.asn1.algorithms import KeyAlgorithm, load_public_key, verify
from intaglio.authority.cas.create import create_issuing
from intaglio.authority.certificates import RevocationReason
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView
from intaglio.authority.revocation import change_status, revocation
from intaglio.core.principal import SYSTEM
from intaglio.validation.api import PublicApp
from intaglio.x509.certificates import pem, read_certificate
from intaglio.x509.lint import deep_lint


async def _run(*arguments: str | Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *map(str, arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


def _files(folder: Path, ca: CaView, *leaves: bytes) -> None:
    (folder / "root.pem").write_text(pem(ca.chain[-1]))
    (folder / "issuer.pem").write_text(pem(ca.chain[0]))
    for number, leaf in enumerate(leaves):
        (folder / f"{number}.pem").write_text(pem(leaf))


async def test_openssl_believes_good_and_revoked_with_and_without_nonce_and_sha256(
    authority: Authority, issuing: CaView, public: PublicApp, tmp_path: Path
) -> None:
    good, revoked = await issue_leaf(authority), await issue_leaf(authority, host="bad.example")
    await change_status(authority, SYSTEM, issuing, revoked.serial, revocation(RevocationReason.KEY_COMPROMISE))
    _files(tmp_path, issuing, good.der, revoked.der)
    async with listening(public) as base:
        for options in (["-nonce"], ["-no_nonce"], ["-sha256", "-nonce"]):
            output = await _run(
                "openssl", "ocsp", "-url", f"{base}/ocsp/demo/issuing", "-CAfile", tmp_path / "root.pem",
                *options[:-1], "-issuer", tmp_path / "issuer.pem", "-cert", tmp_path / "0.pem",
                "-cert", tmp_path / "1.pem", options[-1],
            )  # fmt: skip
            assert "Response verify OK" in output
            assert "WARNING" not in output
            assert "0.pem: good" in output
            assert "1.pem: revoked" in output
            assert "Reason: keyCompromise" in output


async def test_gnutls_believes_the_answer(
    authority: Authority, issuing: CaView, public: PublicApp, tmp_path: Path
) -> None:
    leaf = await issue_leaf(authority)
    _files(tmp_path, issuing, leaf.der)
    async with listening(public) as base:
        output = await _run(
            "ocsptool", f"--ask={base}/ocsp/demo/issuing", "--load-issuer", tmp_path / "issuer.pem",
            "--load-cert", tmp_path / "0.pem", "--load-trust", tmp_path / "issuer.pem", "--nonce",
        )  # fmt: skip
    assert "Certificate Status: good" in output
    assert "Verifying OCSP Response: Success" in output


async def test_curl_gets_an_answer_that_openssl_reads(
    authority: Authority, issuing: CaView, public: PublicApp, tmp_path: Path
) -> None:
    leaf = await issue_leaf(authority)
    _files(tmp_path, issuing, leaf.der)
    encoded = quote(base64.b64encode(ocsp_request(leaf.der, issuing.certificate.der)), safe="")
    async with listening(public) as base:
        url = f"{base}/ocsp/demo/issuing/{encoded}"
        await _run("curl", "--fail", "--silent", "--output", tmp_path / "answer.der", url)
    output = await _run(
        "openssl", "ocsp", "-respin", tmp_path / "answer.der", "-CAfile", tmp_path / "root.pem",
        "-issuer", tmp_path / "issuer.pem", "-cert", tmp_path / "0.pem", "-no_nonce",
    )  # fmt: skip
    assert "Response verify OK" in output
    assert "0.pem: good" in output


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
async def test_a_signer_of_every_algorithm_answers(
    authority: Authority, organization: str, client: httpx.AsyncClient, algorithm: KeyAlgorithm
) -> None:
    await make_hierarchy(authority)
    wish = issuing_wish("special", ocsp_key_algorithm=algorithm)
    await create_issuing(authority, OPERATOR, "demo", wish)
    ca = (await authority.snapshot()).ca("demo~special")
    leaf = await issue_leaf(authority, ca.full_id)
    answered = await client.post("/ocsp/demo/special", content=ocsp_request(leaf.der, ca.certificate.der))
    answer = ocsp.load_der_ocsp_response(answered.content)
    assert answer.certificate_status is ocsp.OCSPCertStatus.GOOD
    assert answer.signature_algorithm_oid.dotted_string == algorithm.signature_oid
    signer = read_certificate(_signer_certificate(answered.content))
    assert signer.verify_signed_by(ca.key.spki)
    key = load_public_key(signer.spki)[0]
    assert verify(key, algorithm.signature_oid, answer.signature, answer.tbs_response_bytes)


def _signer_certificate(answer: bytes) -> bytes:
    response_bytes = der.children(der.children(der.children(answer)[0].content)[1].content)[0].content
    basic = der.children(der.children(response_bytes)[1].content)[0]
    return der.children(der.children(basic.content)[3].content)[0].content


async def test_answers_pass_the_linter(authority: Authority, issuing: CaView, client: httpx.AsyncClient) -> None:
    leaf = await issue_leaf(authority)
    request = ocsp_request(leaf.der, issuing.certificate.der)
    answered = await client.post("/ocsp/demo/issuing", content=request)
    assert deep_lint(answered.content, "ocsp-response") == []
