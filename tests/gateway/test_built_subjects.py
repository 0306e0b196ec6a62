"""Profiles that make the subject, copy it into the alternative names, and want to know things."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509
from tests.gateway.support import Client, b64, csr, wish
from tests.support.authority import OPERATOR

from intaglio.authority import custom_profiles
from intaglio.authority.cas.edit import edit_ca
from intaglio.authority.cas.values import CaChanges
from intaglio.authority.context import Authority

STAFF = {
    "subject_builder": {"name": "template", "template": "cn=<First Name> <Last Name>,ou=CA01,o=Demo"},
    "subject_variable_requirements": [
        {"name": "First Name", "description": "As in the passport", "required": True},
        {"name": "Last Name", "required": True},
        {"name": "Nickname", "required": False},
    ],
    "san_requirements": [{"type": "email", "required": True}, {"type": "upn", "required": False}],
}


async def offer(authority: Authority, profile_id: str, changes: dict[str, Any]) -> None:
    """Make a client profile with ``changes`` and have the issuing CA offer it."""
    await custom_profiles.clone_profile(authority, OPERATOR, "privatessl-tls-client", profile_id, changes)
    await custom_profiles.activate_profile(authority, OPERATOR, profile_id)
    await edit_ca(authority, OPERATOR, "demo~issuing", CaChanges(profiles=["privatessl-tls-client", profile_id]))


def variables(**values: str) -> list[dict[str, str]]:
    return [{"type": name.replace("_", " "), "value": value} for name, value in values.items()]


def names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


async def test_what_a_profile_wants_is_advertised_and_enforced(authority: Authority, integrator: Client) -> None:
    await offer(authority, "staff", STAFF)
    shown = (await integrator.get("/cagw/v1/certificate-authorities/demo~issuing/profiles/staff")).json["profile"]
    assert [entry["name"] for entry in shown["subjectVariableRequirements"]] == ["First Name", "Last Name", "Nickname"]
    assert [entry["required"] for entry in shown["subjectVariableRequirements"]] == [True, True, False]
    assert shown["properties"]["subject_template"] == "cn=<First Name> <Last Name>,ou=CA01,o=Demo"
    assert shown["subjectAltNameRequirements"] == [
        {"type": "rfc822Name", "required": True},
        {"type": "userPrincipalName", "required": False},
    ]
    mail = [{"type": "rfc822Name", "value": "ada@demo.example"}]
    whole = variables(First_Name="Ada", Last_Name="Lovelace, o=evil")

    missing = await integrator.enroll(wish(profileId="staff", subjectVariables=whole[:1], subjectAltNames=mail))
    assert (missing.status, missing.code) == (400, "cagw-4003")
    assert "Last Name" in missing.json["error"]["message"]
    nameless = await integrator.enroll(wish(profileId="staff", subjectVariables=whole))
    assert (nameless.status, nameless.code) == (400, "cagw-4004")
    assert "rfc822Name" in nameless.json["error"]["message"]
    issued = await integrator.enroll(wish(profileId="staff", subjectVariables=whole, subjectAltNames=mail))
    assert issued.certificate.subject.rfc4514_string() == "CN=Ada Lovelace\\, o=evil,OU=CA01,O=Demo"


async def test_facts_a_profile_asks_for_must_be_there(authority: Authority, integrator: Client) -> None:
    asked = [
        {"name": "requesterEmail", "description": "Whom to ask", "required": True},
        {"name": "costCentre", "required": False},
    ]
    await offer(authority, "tracked", {"requested_properties": asked})
    shown = (await integrator.get("/cagw/v1/certificate-authorities/demo~issuing/profiles/tracked")).json["profile"]
    assert shown["requestedProperties"] == [asked[0], {**asked[1], "description": ""}]
    for properties in ({}, {"requesterEmail": " "}, {"costCentre": "4711"}):
        refused = await integrator.enroll(wish(profileId="tracked", properties=properties))
        assert (refused.status, refused.code) == (400, "cagw-4007")
        assert "requesterEmail" in refused.json["error"]["message"]
    for name in ("requesterEmail", "tracking.requesterEmail"):
        issued = await integrator.enroll(wish(profileId="tracked", properties={name: "ada@demo.example"}))
        assert issued.enrolled["properties"] == {name: "ada@demo.example"}


async def test_a_template_is_filled_from_the_certificate_request(authority: Authority, integrator: Client) -> None:
    template = {"name": "TemplateSubjectBuilder", "template": "cn=<CN>,ou=Devices,o=Demo"}
    await offer(authority, "device", {"subject_builder": template})
    issued = await integrator.enroll(wish(profileId="device", csr=b64(csr("box"))))
    assert issued.certificate.subject.rfc4514_string() == "CN=box,OU=Devices,O=Demo"
    empty = await integrator.enroll(wish(profileId="device", csr=b64(csr(None))))
    assert (empty.status, empty.code) == (400, "cagw-4005")
    assert "<CN>" in empty.json["error"]["message"]
    asked = {"subjectDn": "CN=in full"}
    full = await integrator.enroll(wish(profileId="device", optionalCertificateRequestDetails=asked))
    assert full.certificate.subject.rfc4514_string() == "CN=in full"


async def test_a_request_without_subject_is_named_by_its_alternative_name(
    authority: Authority, integrator: Client
) -> None:
    builder = {"name": "san", "template": "cn=<SAN>,ou=CA01,o=Demo", "san_type_order": "dNSName,iPAddress"}
    await offer(authority, "host", {"subject_builder": builder})

    async def subject(*requested: tuple[str, str], of_csr: list[x509.GeneralName] | None = None, **details: Any) -> str:
        body = wish(
            profileId="host",
            csr=b64(csr(None, names=of_csr or [])),
            subjectAltNames=[{"type": kind, "value": value} for kind, value in requested],
            optionalCertificateRequestDetails=details,
        )
        answer = await integrator.enroll(body)
        return answer.certificate.subject.rfc4514_string() if answer.status == 200 else answer.code

    of_csr: list[x509.GeneralName] = [x509.DNSName("csr.example")]
    assert await subject(of_csr=of_csr) == "CN=csr.example,OU=CA01,O=Demo"
    assert await subject(("iPAddress", "192.0.2.1"), of_csr=of_csr) == "CN=192.0.2.1,OU=CA01,O=Demo"
    both = [("iPAddress", "192.0.2.1"), ("dNSName", "cagw.test")]
    assert await subject(*both) == "CN=cagw.test,OU=CA01,O=Demo"
    assert await subject(("dNSName", "a.example"), ("dNSName", "b.example")) == "cagw-4005"
    assert await subject(of_csr=of_csr, useSANFromCSR=False) == "cagw-4005"


@pytest.mark.parametrize(
    ("common_name", "expected"),
    [
        ("box.example", x509.DNSName("box.example")),
        ("192.0.2.1", x509.IPAddress(ip_address("192.0.2.1"))),
        ("2001:db8::1", x509.IPAddress(ip_address("2001:db8::1"))),
        ("ada@demo.example", x509.RFC822Name("ada@demo.example")),
    ],
)
async def test_the_common_name_is_copied_by_its_form_and_once(
    authority: Authority, integrator: Client, common_name: str, expected: x509.GeneralName
) -> None:
    await offer(authority, "copying", {"copy_cn_to_san": True})
    bare = await integrator.enroll(wish(profileId="copying", csr=b64(csr(common_name, names=[]))))
    assert names(bare.certificate) == [expected]
    twice = await integrator.enroll(wish(profileId="copying", csr=b64(csr(common_name, names=[expected]))))
    assert names(twice.certificate) == [expected]
    other = x509.DNSName("other.example")
    added = await integrator.enroll(wish(profileId="copying", csr=b64(csr(common_name, names=[other]))))
    assert names(added.certificate) == [other, expected]


async def test_a_common_name_that_is_no_name_is_left_out_with_a_remark(
    authority: Authority, integrator: Client
) -> None:
    await offer(authority, "copying", {"copy_cn_to_san": True})
    issued = await integrator.enroll(wish(profileId="copying", csr=b64(csr("Ada Lovelace", names=[]))))
    with pytest.raises(x509.ExtensionNotFound):
        names(issued.certificate)
    assert "Ada Lovelace" in issued.json["message"]["details"][0]["message"]
