"""Enrolling through the gateway."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, pkcs7, pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID
from sqlalchemy import func, select
from tests.gateway.conftest import configure
from tests.gateway.support import Client, b64, csr, wish
from tests.support.authority import OPERATOR, openssl

from intaglio.asn1 import der
from intaglio.audit.models import audit_record
from intaglio.authority import models
from intaglio.authority.cas.edit import edit_ca
from intaglio.authority.cas.values import CaChanges
from intaglio.authority.context import Authority
from intaglio.authority.options import CaOptions, KeySizePolicy
from intaglio.core import clock

PASSWORD = "p/ä=&\"' \\€"


def details(**values: Any) -> dict[str, Any]:
    return {"optionalCertificateRequestDetails": values}


def p12_wish(**changes: Any) -> dict[str, Any]:
    wanted = {"format": "PKCS12", "protection": {"type": "PasswordProtection", "password": PASSWORD}}
    body: dict[str, Any] = {"profileId": "multiuse-p12-client-server", "csr": ..., "requiredFormat": wanted}
    return wish(**(body | {"optionalCertificateRequestDetails": {"subjectDn": "CN=host,O=Demo"}} | changes))


def alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


async def recorded(authority: Authority) -> tuple[int, int]:
    """How many certificates and how many audit records of issuing there are."""
    async with authority.database.read() as view:
        certificates = await view.scalar(select(func.count()).select_from(models.certificate))
        audited = await view.scalar(
            select(func.count()).select_from(audit_record).where(audit_record.c.action == "certificate.issue")
        )
    return int(certificates), int(audited)


# ---- formats ---------------------------------------------------------------------------------------------------------


async def test_a_request_is_answered_with_a_certificate(integrator: Client) -> None:
    answer = await integrator.enroll(wish())
    certificate, enrolled = answer.certificate, answer.enrolled
    assert enrolled["status"] == "issued"
    assert enrolled["subjectName"] == certificate.subject.rfc4514_string() == "CN=www.example"
    assert int(enrolled["serialNumber"], 16) == certificate.serial_number
    assert enrolled["issuerName"] == "CN=issuing,O=Demo,C=CA"
    assert "chain" not in enrolled
    assert "\n" not in enrolled["body"]


async def test_pem_can_be_verified_with_the_chain_that_was_asked_for(integrator: Client, tmp_path: Path) -> None:
    answer = await integrator.enroll(wish(requiredFormat={"format": "PEM"}, includeCa=True))
    chain = [base64.b64decode(entry["certificateData"]) for entry in answer.enrolled["chain"]]
    assert len(chain) == 2
    issuing, root = (x509.load_der_x509_certificate(data) for data in chain)
    assert root.subject == root.issuer == issuing.issuer
    (tmp_path / "leaf").write_text(answer.enrolled["body"])
    (tmp_path / "root").write_bytes(root.public_bytes(Encoding.PEM))
    (tmp_path / "issuing").write_bytes(issuing.public_bytes(Encoding.PEM))
    openssl(
        "verify", "-x509_strict", "-CAfile", tmp_path / "root", "-untrusted", tmp_path / "issuing", tmp_path / "leaf"
    )


async def test_pkcs7_holds_the_chain_when_asked_for(integrator: Client) -> None:
    body = wish(requiredFormat={"format": "PKCS7"})
    alone, chained = await integrator.enroll(body), await integrator.enroll(body | {"includeCa": True})
    counts = [len(pkcs7.load_der_pkcs7_certificates(base64.b64decode(a.enrolled["body"]))) for a in (alone, chained)]
    assert counts == [1, 3]


@pytest.mark.parametrize("encryption", ["modern", "legacy"])
async def test_pkcs12_opens_with_the_password_whatever_is_in_it(integrator: Client, encryption: str) -> None:
    protection = {"type": "PasswordProtection", "password": PASSWORD, "encryption": encryption}
    answer = await integrator.enroll(p12_wish(requiredFormat={"format": "PKCS12", "protection": protection}))
    opened = pkcs12.load_pkcs12(base64.b64decode(answer.enrolled["body"]), PASSWORD.encode())
    assert isinstance(opened.key, rsa.RSAPrivateKey)
    assert opened.key.key_size == 2048
    assert opened.cert is not None
    assert opened.cert.certificate.subject.rfc4514_string() == "CN=host,O=Demo"
    assert opened.cert.certificate.public_key() == opened.key.public_key()
    assert len(opened.additional_certs) == 2


async def test_the_key_type_of_a_pkcs12_can_be_chosen(integrator: Client) -> None:
    answer = await integrator.enroll(p12_wish(**details(subjectDn="CN=host", keyAlgorithm="P-384")))
    key = pkcs12.load_pkcs12(base64.b64decode(answer.enrolled["body"]), PASSWORD.encode()).key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.curve.name == "secp384r1"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"requiredFormat": {"format": "PKCS12"}}, "cagw-4008"),
        ({"requiredFormat": {"format": "PKCS12", "protection": {"password": ""}}}, "cagw-4008"),
        ({"csr": b64(csr())}, "cagw-4008"),
        ({"profileId": "privatessl-tls-server"}, "cagw-4008"),
        (details(subjectDn="CN=host", keyAlgorithm="dsa-1024"), "cagw-4006"),
        (details(subjectDn="CN=host", keyAlgorithm="ed25519"), "cagw-4006"),
    ],
)
async def test_a_pkcs12_that_cannot_be_made_is_refused(integrator: Client, changes: dict[str, Any], code: str) -> None:
    answer = await integrator.enroll(p12_wish(**changes))
    assert (answer.status, answer.code) == (400, code)


# ---- keys ------------------------------------------------------------------------------------------------------------


async def test_a_public_key_alone_is_certified(integrator: Client) -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    encoded = b64(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    body = wish(csr=..., subjectAltNames=[{"type": "dNSName", "value": "www.example"}])
    answer = await integrator.enroll(body | details(encodedPublicKey=encoded, subjectDn="CN=device"))
    assert answer.certificate.public_key() == key


async def test_a_request_without_proof_of_possession_is_refused_unless_overridden(integrator: Client) -> None:
    tampered = bytearray(csr())
    tampered[-1] ^= 1
    refused = await integrator.enroll(wish(csr=b64(bytes(tampered))))
    assert (refused.status, refused.code) == (400, "cagw-4002")
    assert refused.json["error"]["details"][0]["step"] == "proof-of-possession"
    accepted = await integrator.enroll(wish(csr=b64(bytes(tampered)), **details(performPOP=False)))
    assert accepted.status == 200


async def test_a_pem_request_is_taken_as_well(integrator: Client) -> None:
    pem = x509.load_der_x509_csr(csr()).public_bytes(Encoding.PEM).decode()
    assert (await integrator.enroll(wish(csr=pem))).status == 200


@pytest.mark.parametrize("text", ["", "nonsense", "AAAA", b64(b"\x30\x80"), "=" * 1000])
async def test_what_is_no_certificate_request_is_refused(integrator: Client, text: str) -> None:
    answer = await integrator.enroll(wish(csr=text))
    assert (answer.status, answer.code) == (400, "cagw-4002")


async def test_a_small_key_is_logged_or_blocked_by_the_policy_of_the_ca(
    authority: Authority, integrator: Client
) -> None:
    body = wish(csr=b64(csr(key=rsa.generate_private_key(65537, 2048))))

    async def under(policy: KeySizePolicy) -> Any:
        await edit_ca(authority, OPERATOR, "demo~issuing", CaChanges(options=CaOptions(minimum_keysize=policy)))
        return await integrator.enroll(body)

    logged = await under(KeySizePolicy(action="log", rsa=3072))
    assert logged.status == 200
    assert "the key has 2048 bits, CA demo~issuing wants at least 3072" in str(logged.json["message"])
    blocked = await under(KeySizePolicy(action="block", rsa=3072))
    assert (blocked.status, blocked.code) == (400, "cagw-4006")
    assert "demo~issuing" in blocked.json["error"]["message"]


async def test_the_policy_for_all_cas_covers_keys_made_here(authority: Authority, integrator: Client) -> None:
    await configure(authority, minimum_keysize={"action": "block", "ecc": 384})
    assert (await integrator.enroll(wish())).code == "cagw-4006"
    made_here = await integrator.enroll(p12_wish(**details(subjectDn="CN=host", keyAlgorithm="P-256")))
    assert made_here.code == "cagw-4006"


async def test_a_policy_set_on_another_process_holds_for_the_next_certificate(
    authority: Authority, integrator: Client
) -> None:
    """This process has not heard of it: the commit notices, and the decision is taken again under the new policy."""
    other = Authority(authority.settings, authority.database, authority.keystore)
    assert (await integrator.enroll(wish())).status == 200
    await configure(other, minimum_keysize={"action": "block", "ecc": 384})
    assert (await integrator.enroll(wish())).code == "cagw-4006"


# ---- names -----------------------------------------------------------------------------------------------------------


async def test_variables_build_the_subject_in_order_of_arrival(integrator: Client) -> None:
    variables = [{"type": "cn", "value": "test, O=evil"}, {"type": "o", "value": "pki"}, {"type": "c", "value": "ca"}]
    answer = await integrator.enroll(wish(subjectVariables=variables))
    assert answer.enrolled["subjectName"] == r"CN=test\, O=evil,O=pki,C=CA"


@pytest.mark.parametrize(
    "text", ["CN=y,O=x,C=CA", ' cn = "y" , o = x , C = CA ', "/C=CA/O=x/CN=y", "2.5.4.3=y,2.5.4.10=x,2.5.4.6=CA"]
)
async def test_a_subject_is_understood_in_every_syntax(integrator: Client, text: str) -> None:
    answer = await integrator.enroll(wish(**details(subjectDn=text)))
    assert answer.enrolled["subjectName"] == "CN=y,O=x,C=CA"


async def test_the_full_subject_wins_over_variables_and_variables_over_the_request(integrator: Client) -> None:
    variables = [{"type": "CN", "value": "variable"}]
    both = await integrator.enroll(wish(subjectVariables=variables, **details(subjectDn="CN=full")))
    one = await integrator.enroll(wish(subjectVariables=variables))
    assert (both.enrolled["subjectName"], one.enrolled["subjectName"]) == ("CN=full", "CN=variable")


async def test_a_request_with_an_empty_subject_is_named_by_its_names(integrator: Client) -> None:
    answer = await integrator.enroll(wish(csr=b64(csr(None))))
    extension = answer.certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    assert extension.critical
    assert answer.enrolled["subjectName"] == ""


async def test_names_of_every_type_reach_the_certificate(integrator: Client) -> None:
    registered = base64.b64encode(b"\x88\x03\x2a\x03\x04").decode()
    names = [
        {"type": "dnsName", "value": "*.example"},
        {"type": "iPAddress", "value": "2001:db8::1"},
        {"type": "rfc822Name", "value": "alice@example.com"},
        {"type": "uniformResourceIdentifier", "value": "spiffe://example/a"},
        {"type": "directoryName", "value": "CN=alice,O=Demo"},
        {"type": "UserPrincipleName", "value": "alice@corp.example"},
        {"type": "registeredID", "der": registered},
    ]
    found = alternative_names((await integrator.enroll(wish(subjectAltNames=names))).certificate)
    assert found.get_values_for_type(x509.DNSName) == ["*.example"]
    assert found.get_values_for_type(x509.IPAddress) == [ip_address("2001:db8::1")]
    assert found.get_values_for_type(x509.RFC822Name) == ["alice@example.com"]
    assert found.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://example/a"]
    assert found.get_values_for_type(x509.DirectoryName)[0].rfc4514_string() == "CN=alice,O=Demo"
    assert found.get_values_for_type(x509.RegisteredID)[0].dotted_string == "1.2.3.4"
    upn = found.get_values_for_type(x509.OtherName)[0]
    assert (upn.type_id.dotted_string, upn.value) == ("1.3.6.1.4.1.311.20.2.3", der.utf8_string("alice@corp.example"))


@pytest.mark.parametrize(
    ("switch", "requested", "expected"),
    [
        (None, [], ["www.example"]),
        (None, ["other.example"], ["other.example"]),
        (True, ["other.example"], ["www.example", "other.example"]),
        (True, ["www.example"], ["www.example"]),
        (False, ["other.example"], ["other.example"]),
    ],
)
async def test_names_of_the_certificate_request_are_taken_as_asked(
    integrator: Client, switch: bool | None, requested: list[str], expected: list[str]
) -> None:
    names = [{"type": "dNSName", "value": value} for value in requested]
    answer = await integrator.enroll(wish(subjectAltNames=names, **details(useSANFromCSR=switch)))
    assert alternative_names(answer.certificate).get_values_for_type(x509.DNSName) == expected


async def test_names_of_the_certificate_request_can_be_switched_off(integrator: Client) -> None:
    answer = await integrator.enroll(wish(**details(useSANFromCSR=False)))
    assert (answer.status, answer.code) == (400, "cagw-4004")


@pytest.mark.parametrize(
    "name",
    [
        {"type": "dNSName", "value": "not a name"},
        {"type": "dNSName"},
        {"type": "dNSName", "value": "a.example", "der": "ggdhLnRlc3Q="},
        {"type": "dNSName", "der": "%%%"},
        {"type": "dNSName", "der": b64(b"\x87\x04\x01\x02\x03\x04")},
        {"type": "shoeSize", "value": "42"},
    ],
)
async def test_a_name_that_is_none_is_refused_with_its_place(integrator: Client, name: dict[str, str]) -> None:
    answer = await integrator.enroll(wish(subjectAltNames=[{"type": "dNSName", "value": "ok.example"}, name]))
    assert (answer.status, answer.json["error"]["target"]) == (400, "/subjectAltNames/1")


async def test_a_renamed_subject_keeps_its_history(integrator: Client) -> None:
    await integrator.enroll(wish(**details(subjectDn="CN=maiden")))
    old = (await integrator.enroll(wish(**details(subjectDn="CN=maiden")))).enrolled
    new = await integrator.enroll(wish(previousSubjectDn="cn=MAIDEN", **details(subjectDn="CN=married")))
    found = (await integrator.certificate_of(new.enrolled["serialNumber"])).json["certificate"]
    assert found["previousId"] == old["id"]
    unknown = await integrator.enroll(wish(previousSubjectDn="CN=nobody"))
    assert (unknown.status, unknown.code) == (404, "cagw-4020")


# ---- extensions ------------------------------------------------------------------------------------------------------


async def test_an_extended_key_usage_can_be_asked_for_by_dotted_oid(integrator: Client) -> None:
    extension = {"oid": "2.5.29.37", "critical": "true", "value": "1.3.6.1.5.5.7.3.4"}
    body = wish(profileId="multiuse-p12-custom", **details(extensions=[extension]))
    usage = (await integrator.enroll(body)).certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert list(usage.value) == [ExtendedKeyUsageOID.EMAIL_PROTECTION]


@pytest.mark.parametrize(
    "oid",
    [
        *("2.5.29.35", "2.5.29.19", "2.5.29.31", "2.5.29.20", "1.2.840.113533.7.65.0", "2.5.29.24", "2.5.29.28"),
        *("2.16.840.1.113730.1.3", "2.5.29.21", "2.5.29.14"),
    ],
)
async def test_nobody_may_ask_for_what_the_ca_writes_itself(integrator: Client, oid: str) -> None:
    answer = await integrator.enroll(wish(**details(extensions=[{"oid": oid, "value": b64(b"\x30\x00")}])))
    assert (answer.status, answer.code) == (403, "cagw-4015")


async def test_such_an_extension_in_the_certificate_request_is_ignored_with_a_remark(integrator: Client) -> None:
    request = csr(extensions=[(x509.BasicConstraints(ca=True, path_length=None), True)])
    answer = await integrator.enroll(wish(csr=b64(request)))
    constraints = answer.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.value.ca is False
    assert "basicConstraints" in str(answer.json["message"]["details"])


async def test_a_private_key_usage_period_is_a_share_of_the_validity(integrator: Client) -> None:
    answer = await integrator.enroll(wish(**details(privateKeyUsagePercentage=50, validityPeriod="P10D")))
    oid = x509.ObjectIdentifier("2.5.29.16")
    period = answer.certificate.extensions.get_extension_for_oid(oid).value
    assert isinstance(period, x509.PrivateKeyUsagePeriod)
    assert period.not_after is not None
    assert period.not_before is not None
    assert timedelta(days=5) <= period.not_after - period.not_before < timedelta(days=5, minutes=5)


async def test_the_key_usage_can_be_overridden(integrator: Client) -> None:
    body = wish(**details(keyUsage=["digitalSignature", "keyAgreement"]))
    usage = (await integrator.enroll(body)).certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_agreement, usage.key_encipherment) == (True, True, False)


# ---- validity --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["validityPeriod", "validity_period"])
@pytest.mark.parametrize("text", ["PT1440M", "PT86400S", "P1D"])
async def test_a_duration_counts_from_now(integrator: Client, field: str, text: str) -> None:
    now = clock.now().replace(microsecond=0)
    with clock.frozen(now):
        certificate = (await integrator.enroll(wish(**details(**{field: text})))).certificate
    assert certificate.not_valid_after_utc == now + timedelta(days=1)


async def test_an_interval_is_taken_to_the_second(integrator: Client) -> None:
    start = (clock.now() + timedelta(hours=1)).replace(second=0, microsecond=0)
    end = start + timedelta(days=3)
    text = f"{start:%Y-%m-%dT%H:%MZ}/{end:%Y-%m-%dT%H:%M:%SZ}"
    answer = await integrator.enroll(wish(**details(validityPeriod=text)))
    assert answer.enrolled["validityPeriod"] == f"{clock.rfc3339(start)}/{clock.rfc3339(end)}"


async def test_the_end_of_the_ca_is_the_last_end_there_is(authority: Authority, integrator: Client) -> None:
    end = (await authority.snapshot()).ca("demo~issuing").certificate.not_after

    async def until(moment: Any) -> Any:
        return await integrator.enroll(wish(**details(validityPeriod=f"/{clock.rfc3339(moment)}")))

    assert (await until(end)).certificate.not_valid_after_utc == end
    assert (await until(end - timedelta(minutes=30))).status == 200
    beyond = await until(end + timedelta(seconds=1))
    assert (beyond.status, beyond.code) == (403, "cagw-4027")


async def test_a_constrained_tenant_may_only_shorten(clients: dict[str, Client]) -> None:
    tenant = clients["policy-constrained-tenant"]
    assert (await tenant.enroll(wish(**details(validityPeriod="P364D")))).status == 200
    longer = await tenant.enroll(wish(**details(validityPeriod="P367D")))
    assert (longer.status, longer.code) == (403, "cagw-4027")


@pytest.mark.parametrize("text", ["tomorrow", "P", "P0D", "/", "2026-13-01T00:00:00Z", "P1D/2026-01-01", "x" * 4000])
async def test_an_unreadable_validity_is_refused(integrator: Client, text: str) -> None:
    answer = await integrator.enroll(wish(**details(validityPeriod=text)))
    assert (answer.status, answer.code) == (400, "cagw-4001")


# ---- the rest --------------------------------------------------------------------------------------------------------


async def test_a_profile_is_known_by_either_spelling_and_others_are_404(integrator: Client) -> None:
    assert (await integrator.enroll(wish(profileId="privatessl_tls_server"))).status == 200
    for profile in ("codesigning-digital-signature", "basic-ca-subord", "nonsense"):
        answer = await integrator.enroll(wish(profileId=profile))
        assert (answer.status, answer.code) == (404, "cagw-4019")


async def test_a_profile_says_what_requests_may_bring(integrator: Client) -> None:
    shown = (await integrator.get("/cagw/v1/certificate-authorities/demo~issuing/profiles")).json["profiles"]
    facts = {profile["id"]: profile["properties"] for profile in shown}
    fixed, free = facts["privatessl-tls-server"], facts["multiuse-p12-custom"]
    assert (fixed["extended_key_usage"], fixed["extended_key_usage_from_request"]) == ("serverAuth", "false")
    assert fixed["request_extensions"] == "1.3.6.1.4.1.311.21.10,2.5.29.32"
    assert (free["extended_key_usage"], free["extended_key_usage_from_request"]) == ("", "true")
    assert "2.5.29.37" in free["request_extensions"].split(",")
    assert (fixed["key_server_generated"], free["key_server_generated"]) == ("false", "true")
    assert fixed["key_algorithms"] == "ecdsa-p256,ecdsa-p384,ecdsa-p521,rsa-2048,rsa-3072,rsa-4096"


async def test_a_dry_run_decides_and_records_nothing(authority: Authority, integrator: Client) -> None:
    before = await recorded(authority)
    good = await integrator.enroll(wish(), query="?validateOnly=true")
    assert good.enrolled["status"] == "validated"
    assert good.enrolled["subjectName"] == "CN=www.example"
    assert (await integrator.enroll(p12_wish(), query="?validateOnly=true")).status == 200
    bad = await integrator.enroll(wish(**details(validityPeriod="P90Y")), query="?validateOnly=true")
    assert (bad.status, bad.code) == (403, "cagw-4027")
    assert await recorded(authority) == before


async def test_properties_are_echoed_and_kept(integrator: Client) -> None:
    answer = await integrator.enroll(wish(properties={"tracking.requesterName": "Zoë", "number1": 342.0, "none": None}))
    expected = {"tracking.requesterName": "Zoë", "number1": "342.0", "none": ""}
    assert answer.enrolled["properties"] == expected
    found = await integrator.certificate_of(answer.enrolled["serialNumber"])
    assert found.json["certificate"]["properties"] == expected


async def test_an_enrolment_can_be_polled_by_its_id(integrator: Client, clients: dict[str, Client]) -> None:
    enrolled = (await integrator.enroll(wish())).enrolled
    path = f"/cagw/v1/certificate-authorities/demo~issuing/enrollments/{enrolled['id']}"
    assert (await clients["auditor"].get(path)).json["enrollment"]["body"] == enrolled["body"]
    for wrong in (path.replace("issuing", "root"), path[:-1], path + "0"):
        assert (await integrator.get(wrong)).code == "cagw-4020"


async def test_every_certificate_has_an_audit_record(authority: Authority, integrator: Client) -> None:
    before = await recorded(authority)
    await integrator.enroll(wish())
    await integrator.enroll(wish(), Idempotency_Key="one")
    after = await recorded(authority)
    assert [b - a for a, b in zip(before, after, strict=True)] == [2, 2]


@pytest.mark.parametrize(
    ("changes", "target"),
    [
        (details(validityPeriod="P50Y"), "/optionalCertificateRequestDetails/validityPeriod"),
        ({"profileId": "nobodys"}, "/profileId"),
        ({"csr": b64(csr(key=ed25519.Ed25519PrivateKey.generate()))}, "/csr"),
        ({"csr": b64(csr(None, names=[]))}, "/csr"),
        ({"csr": b64(csr(extensions=[(x509.IssuerAlternativeName([x509.DNSName("a.example")]), False)]))}, "/csr"),
        (
            details(extensions=[{"oid": "2.5.29.19", "value": "MAA="}]),
            "/optionalCertificateRequestDetails/extensions",
        ),
        ({"csr": b64(csr(names=[]))}, "/subjectAltNames"),
    ],
)
async def test_a_refusal_points_at_the_place_in_the_body(
    integrator: Client, changes: dict[str, Any], target: str
) -> None:
    for query in ("", "?validateOnly=true"):
        error = (await integrator.enroll(wish(**changes), query=query)).json["error"]
        assert error["target"] == target, error


async def test_unknown_fields_are_ignored_with_a_remark(integrator: Client) -> None:
    answer = await integrator.enroll(wish(shoeSize=42, **details(colour="red")))
    assert answer.status == 200
    remarks = str(answer.json["message"]["details"])
    assert "shoeSize" in remarks
    assert "optionalCertificateRequestDetails.colour" in remarks


async def test_key_backup_is_not_pretended(integrator: Client) -> None:
    answer = await integrator.enroll(wish(**details(encodedPrivateKey="AAAA")))
    assert (answer.status, answer.code) == (501, "cagw-5010")


# ---- repetition ------------------------------------------------------------------------------------------------------


async def test_two_hundred_concurrent_repetitions_get_one_certificate(authority: Authority, integrator: Client) -> None:
    before = await recorded(authority)
    body = wish()
    answers = await asyncio.gather(*(integrator.enroll(body, Idempotency_Key="same") for _ in range(200)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.enrolled["body"] for answer in answers}) == 1
    after = await recorded(authority)
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1]


async def test_the_same_key_for_another_request_is_refused(integrator: Client) -> None:
    await integrator.enroll(wish(), Idempotency_Key="k")
    other = await integrator.enroll(wish(csr=b64(csr("other.example"))), Idempotency_Key="k")
    assert (other.status, other.code) == (409, "cagw-4026")


async def test_a_private_key_is_handed_out_once(integrator: Client) -> None:
    body = p12_wish(**details(subjectDn="CN=once", keyAlgorithm="P-256"))
    first = await integrator.enroll(body, Idempotency_Key="p12")
    again = await integrator.enroll(body, Idempotency_Key="p12")
    assert (first.status, again.status, again.code) == (200, 409, "cagw-4026")


async def test_callers_do_not_share_idempotency_keys(clients: dict[str, Client]) -> None:
    body = wish()
    one = await clients["integrator"].enroll(body, Idempotency_Key="k")
    two = await clients["policy-override-tenant"].enroll(body, Idempotency_Key="k")
    assert one.enrolled["serialNumber"] != two.enrolled["serialNumber"]


@pytest.mark.parametrize("key", ["x" * 256, "tab\there", ""])
async def test_a_key_that_cannot_be_kept_is_refused(integrator: Client, key: str) -> None:
    answer = await integrator.enroll(wish(), Idempotency_Key=key)
    assert (answer.status, answer.code) == (400, "cagw-4001")


async def test_many_concurrent_enrolments_all_get_their_own_certificate(
    authority: Authority, integrator: Client
) -> None:
    before = await recorded(authority)
    bodies = [wish(csr=b64(csr(f"host{i}.example"))) for i in range(20)] * 5
    answers = await asyncio.gather(*(integrator.enroll(body) for body in bodies))
    assert len({answer.enrolled["serialNumber"] for answer in answers}) == 100
    after = await recorded(authority)
    assert [b - a for a, b in zip(before, after, strict=True)] == [100, 100]
