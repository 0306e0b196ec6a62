"""What a running CA signs, judged by pkilint: a certificate of every profile, CRLs of every kind, OCSP answers."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from tests.support.authority import OPERATOR, issuing_wish, root_wish
from tests.support.programs import run
from tests.support.relying_party import certificate, issue_leaf, ocsp_request

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.authority import crls, issuance, upkeep
from intaglio.authority.cas.create import create_issuing, create_root
from intaglio.authority.certificates import RevocationReason
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView, Snapshot
from intaglio.authority.issuance import Order
from intaglio.authority.ocsp_signers import ensure_signer
from intaglio.authority.options import CaOptions
from intaglio.authority.revocation import change_status, hold, revocation
from intaglio.core.principal import SYSTEM
from intaglio.db.engine import Database
from intaglio.db.listen import Watch
from intaglio.profiles import registry
from intaglio.profiles.engine import IssuanceInput
from intaglio.profiles.model import CertificateProfile
from intaglio.validation.api import public_app
from intaglio.x509.lint import deep_lint
from intaglio.x509.requests import CertificateRequest, parse_request

OFFERED = sorted(profile.id for profile in registry.builtin_profiles().values() if profile.exposed)

#: RFC 3279 wants keyAgreement for elliptic curves only and keyEncipherment for RSA only. These profiles serve either.
_BOTH = "pkix.key_usage_value_prohibited_for_rsa"

Requests = Callable[[KeyAlgorithm], CertificateRequest]


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> Requests:
    """PKCS #10 requests made by openssl, one per key type."""
    folder = tmp_path_factory.mktemp("requests")
    options = {
        KeyAlgorithm.RSA_2048: ("-newkey", "rsa:2048"),
        KeyAlgorithm.ECDSA_P256: ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
    }
    return {algorithm: parse_request(_request(folder, key)) for algorithm, key in options.items()}.__getitem__


def _request(folder: Path, key: tuple[str, ...]) -> str:
    names = "DNS:www.demo.example,email:www@demo.example,IP:192.0.2.7,otherName:msUPN;UTF8:www@demo.example"
    run(
        "openssl", "req", "-new", *key, "-nodes", "-keyout", folder / "key.pem", "-out", folder / "csr.pem",
        "-subj", "/C=AT/O=Demo/CN=www.demo.example",
        "-addext", f"subjectAltName={names}", "-addext", "extendedKeyUsage=clientAuth,emailProtection",
    )  # fmt: skip
    return (folder / "csr.pem").read_text()


@pytest.fixture
async def ca(authority: Authority, organization: str) -> CaView:
    """A CA with room for CAs below it that offers every profile there is to offer."""
    await create_root(authority, OPERATOR, organization, root_wish())
    wish = issuing_wish(profiles=OFFERED, path_length=2)
    await create_issuing(authority, OPERATOR, organization, wish)
    return (await authority.snapshot()).ca(f"{organization}~issuing")


async def test_a_certificate_of_every_profile_passes(authority: Authority, ca: CaView, requests: Requests) -> None:
    issued = {profile_id: await _issue(authority, registry.get(profile_id), requests) for profile_id in OFFERED}
    signer = await ensure_signer(authority, ca, ca.generation)
    issued |= {"basic-ca-subord": ca.chain[0], "basic-ca-root": ca.chain[1], "basic-ocsp": signer.certificate}
    assert sorted(issued) == sorted(registry.builtin_profiles())
    assert len(issued) == 79
    findings = {profile_id: {finding.code for finding in deep_lint(der)} for profile_id, der in issued.items()}
    assert {profile_id: found for profile_id, found in findings.items() if found} == {
        profile_id: {_BOTH} for profile_id in OFFERED if {"keyAgreement", "keyEncipherment"} <= _usages(profile_id)
    }


def _usages(profile_id: str) -> set[str]:
    return set(registry.get(profile_id).key_usage)


async def _issue(authority: Authority, profile: CertificateProfile, requests: Requests) -> bytes:
    encrypts = {"keyEncipherment", "dataEncipherment"} & set(profile.key_usage)
    request = requests(KeyAlgorithm.RSA_2048 if encrypts else KeyAlgorithm.ECDSA_P256)
    wanted = IssuanceInput(
        subject=request.subject,
        spki=request.spki,
        key_algorithm=request.key_algorithm,
        channel=profile.channels[0],
        mode=profile.issuance_modes[0],
        san=request.san,
        extensions=request.extensions,
        on_unlisted="drop",
    )

    def decide(snapshot: Snapshot) -> Order:
        chosen = snapshot.ca("demo~issuing")
        return Order(chosen, chosen.profile(profile.id), wanted)

    return (await issuance.issue(authority, SYSTEM, decide)).der


@pytest.mark.parametrize(
    ("options", "partition"),
    [({}, 0), ({"delta_crl_interval_minutes": 60}, 0), ({"crl_partitions": 1}, 1)],
    ids=["complete", "with-delta", "partitioned"],
)
async def test_crls_pass(authority: Authority, organization: str, options: dict[str, int], partition: int) -> None:
    await create_root(authority, OPERATOR, organization, root_wish())
    await create_issuing(
        authority, OPERATOR, organization, issuing_wish(options=CaOptions.model_validate(options))
    )
    await upkeep.run_due_crls(authority)
    issuing = (await authority.snapshot()).ca(f"{organization}~issuing")
    leaves = [await issue_leaf(authority, host=f"h{number}.example") for number in range(3)]
    await change_status(authority, SYSTEM, issuing, leaves[0].serial, revocation(RevocationReason.KEY_COMPROMISE))
    await change_status(authority, SYSTEM, issuing, leaves[1].serial, hold())
    published = await crls.issue_crl(authority, OPERATOR, issuing, partition=partition)
    assert len(published) == (2 if "delta_crl_interval_minutes" in options else 1)
    for crl in published:
        assert deep_lint(crl.der, "crl") == []
        assert {entry.serial_number for entry in x509.load_der_x509_crl(crl.der)} == {
            certificate(leaf.der).serial_number for leaf in leaves[:2]
        }


async def test_ocsp_answers_pass(authority: Authority, ca: CaView, database: Database) -> None:
    good, revoked, held = [await issue_leaf(authority, host=f"h{number}.example") for number in range(3)]
    await change_status(authority, SYSTEM, ca, revoked.serial, revocation(RevocationReason.KEY_COMPROMISE))
    await change_status(authority, SYSTEM, ca, held.serial, hold())
    watch = Watch(database)
    await watch.start()
    app = public_app(authority, watch)
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://pki.example") as client:
            for leaf in (good, revoked, held):
                for nonce in (None, secrets.token_bytes(16)):
                    request = ocsp_request(leaf.der, ca.certificate.der, nonce=nonce)
                    answer = await client.post("/ocsp/demo/issuing", content=request)
                    assert deep_lint(answer.content, "ocsp-response") == []
    finally:
        await app.close()
        await watch.stop()
