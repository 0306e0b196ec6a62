"""Every key type a CA can have: its chain, CRL and OCSP answers, judged by the programs that know the type."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509 import ocsp
from tests.support.authority import OPERATOR, issuing_wish, root_wish
from tests.support.programs import refused, run
from tests.support.relying_party import certificate, issue_leaf, ocsp_request

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.authority import crls
from intaglio.authority.cas.create import create_issuing, create_root
from intaglio.authority.certificates import RevocationReason
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView
from intaglio.authority.issuance import Issued
from intaglio.authority.revocation import change_status, revocation
from intaglio.core.principal import SYSTEM
from intaglio.db.engine import Database
from intaglio.db.listen import Watch
from intaglio.validation.api import public_app
from intaglio.x509.certificates import pem

POST_QUANTUM = [KeyAlgorithm.ML_DSA_44, KeyAlgorithm.ML_DSA_65, KeyAlgorithm.ML_DSA_87]
CLASSIC = [algorithm for algorithm in KeyAlgorithm if algorithm not in POST_QUANTUM]


@dataclass(frozen=True)
class Published:
    """What a CA below a root has published about a good and a revoked certificate."""

    root: bytes
    issuing: bytes
    good: bytes
    revoked: bytes
    crl: bytes
    root_crl: bytes
    good_answer: bytes
    revoked_answer: bytes

    def write(self, folder: Path) -> None:
        """As PEM files, certificates and CRLs, and DER files, the answers."""
        for name in ("root", "issuing", "good", "revoked"):
            (folder / f"{name}.pem").write_text(pem(getattr(self, name)))
        for name in ("crl", "root_crl", "good_answer", "revoked_answer"):
            (folder / f"{name}.der").write_bytes(getattr(self, name))
        for name in ("crl", "root_crl"):
            run("openssl", "crl", "-inform", "der", "-in", folder / f"{name}.der", "-out", folder / f"{name}.pem")


async def publish(authority: Authority, database: Database, algorithm: KeyAlgorithm) -> Published:
    """A root and an issuing CA with keys of this type, at work."""
    await create_root(authority, OPERATOR, "demo", root_wish(key_algorithm=algorithm))
    await create_issuing(authority, OPERATOR, "demo", issuing_wish(key_algorithm=algorithm))
    snapshot = await authority.snapshot()
    root, issuing = snapshot.ca("demo~root"), snapshot.ca("demo~issuing")
    good, revoked = await issue_leaf(authority), await issue_leaf(authority, host="bad.example")
    await change_status(authority, SYSTEM, issuing, revoked.serial, revocation(RevocationReason.SUPERSEDED))
    (crl,) = await crls.issue_crl(authority, OPERATOR, issuing)
    (root_crl,) = await crls.issue_crl(authority, OPERATOR, root)
    answers = await _answers(authority, database, issuing, good, revoked)
    return Published(
        issuing.chain[1], issuing.chain[0], good.der, revoked.der, crl.der, root_crl.der, answers[0], answers[1]
    )


async def _answers(authority: Authority, database: Database, issuing: CaView, *leaves: Issued) -> list[bytes]:
    watch = Watch(database)
    await watch.start()
    app = public_app(authority, watch)
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://pki.example") as client:
            requests = [ocsp_request(leaf.der, issuing.certificate.der) for leaf in leaves]
            return [(await client.post("/ocsp/demo/issuing", content=request)).content for request in requests]
    finally:
        await app.close()
        await watch.stop()


@pytest.mark.parametrize("algorithm", CLASSIC)
async def test_programs_agree_about_certificates_and_their_status(
    authority: Authority, organization: str, database: Database, tmp_path: Path, algorithm: KeyAlgorithm
) -> None:
    published = await publish(authority, database, algorithm)
    published.write(tmp_path)
    _openssl_agrees(tmp_path)
    _gnutls_agrees(tmp_path)
    _cryptography_agrees(published)


def _openssl_agrees(folder: Path) -> None:
    chain = ("-x509_strict", "-CAfile", folder / "root.pem", "-untrusted", folder / "issuing.pem")
    checked = (*chain, "-crl_check_all", "-CRLfile", folder / "crl.pem", "-CRLfile", folder / "root_crl.pem")
    run("openssl", "verify", *checked, folder / "good.pem")
    run("openssl", "verify", *chain, folder / "revoked.pem")
    assert "certificate revoked" in refused("openssl", "verify", *checked, folder / "revoked.pem")
    for name, status in (("good", "good"), ("revoked", "revoked")):
        told = run(
            "openssl", "ocsp", "-respin", folder / f"{name}_answer.der", "-CAfile", folder / "root.pem",
            "-issuer", folder / "issuing.pem", "-cert", folder / f"{name}.pem", "-verify_other", folder / "issuing.pem",
        )  # fmt: skip
        assert "Response verify OK" in told
        assert f"{name}.pem: {status}" in told


def _gnutls_agrees(folder: Path) -> None:
    chain = folder / "chain.pem"
    chain.write_text("".join((folder / f"{name}.pem").read_text() for name in ("good", "issuing", "root")))
    assert "Chain verification output: Verified" in run("certtool", "--verify-chain", "--infile", chain)
    assert "Verified" in run(
        "certtool", "--verify-crl", "--load-ca-certificate", folder / "issuing.pem", "--infile", folder / "crl.pem"
    )
    for name in ("good", "revoked"):
        told = run(
            "ocsptool", "--verify-response", "--load-response", folder / f"{name}_answer.der",
            "--load-trust", folder / "issuing.pem",
        )  # fmt: skip
        assert "Verifying OCSP Response: Success" in told
        assert f"Certificate Status: {name}" in told


@pytest.mark.parametrize("algorithm", POST_QUANTUM)
async def test_post_quantum_certificates_and_their_status_verify(
    authority: Authority, organization: str, database: Database, tmp_path: Path, algorithm: KeyAlgorithm
) -> None:
    published = await publish(authority, database, algorithm)
    _cryptography_agrees(published)
    if "ML-DSA" in run("openssl", "list", "-signature-algorithms"):  # OpenSSL 3.5 and newer
        published.write(tmp_path)
        _openssl_agrees(tmp_path)


def _cryptography_agrees(published: Published) -> None:
    root, issuing = certificate(published.root), certificate(published.issuing)
    root.verify_directly_issued_by(root)
    issuing.verify_directly_issued_by(root)
    for leaf in (published.good, published.revoked):
        certificate(leaf).verify_directly_issued_by(issuing)
    crl = x509.load_der_x509_crl(published.crl)
    assert crl.is_signature_valid(issuing.public_key())  # type: ignore[arg-type]
    assert crl.get_revoked_certificate_by_serial_number(certificate(published.good).serial_number) is None
    assert crl.get_revoked_certificate_by_serial_number(certificate(published.revoked).serial_number) is not None
    for answered, status in (
        (published.good_answer, ocsp.OCSPCertStatus.GOOD),
        (published.revoked_answer, ocsp.OCSPCertStatus.REVOKED),
    ):
        answer = ocsp.load_der_ocsp_response(answered)
        assert answer.certificate_status is status
        (signer,) = answer.certificates
        signer.verify_directly_issued_by(issuing)
        _verify(signer.public_key(), answer)


def _verify(key: Any, answer: ocsp.OCSPResponse) -> None:
    digest = answer.signature_hash_algorithm
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(answer.signature, answer.tbs_response_bytes, padding.PKCS1v15(), digest)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(answer.signature, answer.tbs_response_bytes, ec.ECDSA(digest))
    else:
        key.verify(answer.signature, answer.tbs_response_bytes)
