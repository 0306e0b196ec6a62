"""Every role against every permission, through the API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.gateway.support import CA_PATH, Answer, Client, b64, csr, wish

from intaglio.x509 import extensions as x509

ROLES = (
    "integrator",
    "policy-override-tenant",
    "policy-constrained-tenant",
    "read-only-integrator",
    "read-only-tenant",
)
Attempt = Callable[[Client], Awaitable[Answer]]


def _details(**details: object) -> Attempt:
    return lambda client: client.enroll(wish(optionalCertificateRequestDetails=details))


def _tampered() -> bytes:
    request = bytearray(csr())
    request[-1] ^= 1
    return bytes(request)


def _public_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return b64(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


async def _external_key(client: Client) -> Answer:
    names = [{"type": "dNSName", "value": "www.example"}]
    details = {"encodedPublicKey": _public_key()}
    return await client.enroll(wish(csr=..., subjectAltNames=names, optionalCertificateRequestDetails=details))


async def _without_proof(client: Client) -> Answer:
    return await client.enroll(
        wish(csr=b64(_tampered()), optionalCertificateRequestDetails={"performPOP": False})
    )


async def _pkcs12(client: Client) -> Answer:
    wanted = {"format": "PKCS12", "protection": {"type": "PasswordProtection", "password": "a/b c&d€"}}
    details = {"subjectDn": "CN=p12", "keyAlgorithm": "P-256"}
    return await client.enroll(
        wish(
            profileId="multiuse-p12-client-server",
            csr=...,
            requiredFormat=wanted,
            optionalCertificateRequestDetails=details,
        )
    )


async def _names(client: Client) -> Answer:
    return await client.enroll(wish(subjectAltNames=[{"type": "dNSName", "value": "other.example"}]))


async def _policies(client: Client) -> Answer:
    value = b64(x509.certificate_policies(["1.2.3.4.5"]))
    extension = {"oid": "2.5.29.32", "critical": False, "value": value}
    return await client.enroll(wish(optionalCertificateRequestDetails={"extensions": [extension]}))


async def _hold(client: Client) -> Answer:
    return await client.act("00", type="HoldAction")


PERMISSIONS: dict[str, tuple[Attempt, str]] = {
    "explicit extensions": (_policies, "yynnn"),
    "key usage": (_details(keyUsage=["digitalSignature"]), "yynnn"),
    "private key usage period": (_details(privateKeyUsagePercentage=50), "yynnn"),
    "public key without request": (_external_key, "yynnn"),
    "override of proof of possession": (_without_proof, "yynnn"),
    "longer validity": (_details(validityPeriod="P5Y"), "yynnn"),
    "shorter validity": (_details(validityPeriod="P1D"), "yyynn"),
    "enrolment with a request": (lambda client: client.enroll(wish()), "yyynn"),
    "enrolment with PKCS#12": (_pkcs12, "yyynn"),
    "choice of the subject": (_details(subjectDn="CN=chosen"), "yyynn"),
    "choice of names": (_names, "yyynn"),
    "managing": (_hold, "yyynn"),
    "search by serial": (lambda client: client.certificate_of("00"), "yyyyy"),
    "search by subject": (lambda client: client.get(f"{CA_PATH}/demo~issuing/subjects/CN%3Dnobody"), "yyyyy"),
    "list": (lambda client: client.get(f"{CA_PATH}/demo~issuing/certificates"), "yyyyy"),
    "events": (lambda client: client.get(f"{CA_PATH}/demo~issuing/certificate-events"), "yyyyy"),
}


@pytest.mark.parametrize("permission", PERMISSIONS)
async def test_what_each_role_may_do(clients: dict[str, Client], permission: str) -> None:
    attempt, expected = PERMISSIONS[permission]
    allowed = ""
    for role in ROLES:
        answer = await attempt(clients[role])
        # 404 is the answer of somebody who may look, about a certificate that is not there.
        assert answer.status in (200, 403, 404), answer.body
        if answer.status == 403:
            assert answer.code in ("cagw-4014", "cagw-4027")
        allowed += "n" if answer.status == 403 else "y"
    assert allowed == expected


async def test_a_refusal_names_the_field_and_the_step(clients: dict[str, Client]) -> None:
    answer = await clients["policy-constrained-tenant"].enroll(
        wish(optionalCertificateRequestDetails={"keyUsage": ["digitalSignature"]})
    )
    error = answer.json["error"]
    assert error["target"] == "/optionalCertificateRequestDetails/keyUsage"
    assert error["details"][0]["step"] == "permission"


async def test_a_constrained_tenant_cannot_set_the_validity_of_a_pkcs12(clients: dict[str, Client]) -> None:
    wanted = {"format": "PKCS12", "protection": {"type": "PasswordProtection", "password": "secret secret"}}
    details = {"subjectDn": "CN=p12", "validityPeriod": "P1D"}
    answer = await clients["policy-constrained-tenant"].enroll(
        wish(
            profileId="multiuse-p12-client-server",
            csr=...,
            requiredFormat=wanted,
            optionalCertificateRequestDetails=details,
        )
    )
    assert (answer.status, answer.code) == (403, "cagw-4014")


async def test_capabilities_show_only_what_the_caller_can_use(clients: dict[str, Client]) -> None:
    async def capabilities(name: str) -> dict[str, dict[str, object]]:
        answer = await clients[name].get(f"{CA_PATH}/demo~issuing/capabilities")
        return dict(answer.json["capabilities"])

    full, constrained, reader = [await capabilities(n) for n in ("integrator", "policy-constrained-tenant", "auditor")]
    assert full["enrollment"]["ExtensionInRequest"] is True
    assert full["enrollment"]["CAGeneratedKey"] is True
    assert full["enrollment"]["CAGeneratedKeyBackup"] is False
    assert "RenewAction" in full["certificateManagement"]["certificateActions"]
    assert "ReactivateAction" not in full["certificateManagement"]["certificateActions"]
    assert constrained["enrollment"]["ExtensionInRequest"] is False
    assert constrained["enrollment"]["EnrollmentByCSR"] is True
    assert not any(reader["enrollment"].values())
    assert reader["certificateManagement"]["certificateActions"] == []
    assert reader["search"] == {"SearchBySerial": True, "SearchBySubjectDN": True}
