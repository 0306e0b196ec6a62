"""Requests as existing clients of this API send them, and what those clients read from the answers.

The bodies follow the public sources of the clients: the HashiCorp Vault plug-in, the SPIRE upstream authority plug-in,
an AnyCA connector, shell utilities, and an Ansible module.
"""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12
from tests.gateway.support import CA_PATH, Client, b64, csr
from tests.support.authority import OPERATOR, issuing_wish

from intaglio.authority.cas.create import create_issuing
from intaglio.authority.context import Authority

CA = f"{CA_PATH}/demo~issuing"


async def post(client: Client, path: str, body: Any) -> dict[str, Any]:
    answer = await client.request("POST", path, json.dumps(body).encode())
    assert answer.status == 200, answer.body
    return answer.json


# ---- Vault -----------------------------------------------------------------------------------------------------------


async def test_vault_reads_a_profile_and_signs_a_request(integrator: Client) -> None:
    profile = (await integrator.get(f"{CA}/profiles/privatessl-tls-server")).json["profile"]
    assert {"id", "name", "subjectVariableRequirements", "subjectAltNameRequirements"} <= set(profile)
    answer = await post(
        integrator,
        f"{CA}/enrollments",
        {
            "profileId": "privatessl-tls-server",
            "requiredFormat": {"format": "X509", "protection": None},
            "csr": b64(csr()),
            "subjectVariables": None,
            "subjectAltNames": None,
            "optionalCertificateRequestDetails": {"validityPeriod": "PT1440M"},
        },
    )
    certificate = x509.load_der_x509_certificate(base64.b64decode(answer["enrollment"]["body"]))
    assert certificate.subject.rfc4514_string() == "CN=www.example"


async def test_vault_issues_a_pkcs12(integrator: Client) -> None:
    answer = await post(
        integrator,
        f"{CA}/enrollments",
        {
            "profileId": "multiuse-p12-client-server",
            "requiredFormat": {
                "format": "PKCS12",
                "protection": {"type": "PasswordProtection", "password": "s/e+c"},
            },
            "csr": "",
            "subjectVariables": [{"type": "cn", "value": "Test"}, {"type": "o", "value": "Entrust"}],
            "subjectAltNames": [{"type": "dNSName", "value": "test.example"}],
            "optionalCertificateRequestDetails": {"validityPeriod": "PT2880M"},
        },
    )
    opened = pkcs12.load_pkcs12(base64.b64decode(answer["enrollment"]["body"]), b"s/e+c")
    assert opened.cert is not None
    assert opened.cert.certificate.subject.rfc4514_string() == "CN=Test,O=Entrust"


async def test_vault_shows_the_message_of_an_error(integrator: Client) -> None:
    answer = await integrator.get(f"{CA_PATH}/nowhere~none/profiles")
    error = answer.json["error"]
    assert (answer.status, error["code"]) == (404, "cagw-4018")
    assert error["message"]


# ---- SPIRE -----------------------------------------------------------------------------------------------------------


async def test_spire_obtains_certificate_chain_and_root(integrator: Client) -> None:
    headers = {"ca-client-id": "some-client", "accept": "application/json"}
    body = {
        "csr": b64(csr("SPIRE")),
        "profileId": "privatessl-tls-server",
        "requiredFormat": {"format": "X509"},
        "optionalCertificateRequestDetails": {
            "subjectDn": "CN=SPIRE,O=SPIFFE,C=US",
            "useSANFromCSR": True,
            "validityPeriod": "PT86400S",
        },
    }
    answer = await integrator.request("POST", f"{CA}/enrollments", body, headers)
    leaf = answer.certificate
    fields = urlencode({"$fields": "ca.certificate,ca.chain"})
    ca = (await integrator.request("GET", f"{CA}?{fields}", headers=headers)).json["ca"]
    chain = [
        x509.load_der_x509_certificate(base64.b64decode(entry["certificateData"]))
        for entry in [ca["certificate"], *ca["chain"]]
    ]
    leaf.verify_directly_issued_by(chain[0])
    assert chain[-1].subject == chain[-1].issuer
    assert len(chain) == 2


async def test_spire_obtains_a_ca_certificate_from_a_profile_for_cas(
    authority: Authority, clients: dict[str, Client]
) -> None:
    """The path length of the issuing CA decides whether there is room for another CA below it."""
    wished = issuing_wish("upper", path_length=1, profiles=["tlsproxy-ca-subord"], administrators=["integrator"])
    await create_issuing(authority, OPERATOR, "demo", wished)
    body = {"csr": b64(csr("SPIRE", names=[])), "profileId": "tlsproxy_ca_subord", "requiredFormat": {"format": "X509"}}
    answer = await clients["integrator"].enroll(body, "demo~upper")
    constraints = answer.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert constraints.ca is True


# ---- AnyCA connector -------------------------------------------------------------------------------------------------


async def test_the_anyca_connector_enrols_reads_and_revokes(integrator: Client) -> None:
    ca = (await integrator.get(CA)).json["ca"]
    assert ca["properties"]["connector_name"] == ca["properties"]["connector-name"] == "com.entrust.PKIHub"
    assert ca["properties"]["type"]
    profile = (await integrator.get(f"{CA}/profiles/privatessl-tls-server")).json["profile"]
    enrolled = await post(
        integrator,
        f"{CA}/enrollments",
        {
            "profileId": profile["id"],
            "requiredFormat": {"format": "X509", "protection": None},
            "subjectVariables": [],
            "csr": b64(csr()),
            "includeCa": False,
            "properties": {"tracking.trackingInfo": "", "tracking.requesterName": "KF", "tracking.requesterPhone": ""},
        },
    )
    serial = enrolled["enrollment"]["serialNumber"]
    revoked = await post(
        integrator,
        f"{CA}/certificates/{serial}/actions",
        {
            "action": {
                "type": "RevokeAction",
                "reason": "caCompromise",
                "comment": "Revoked from outside",
                "issueCrl": "true",
            }
        },
    )
    assert revoked["action"]["status"] in ("ACCEPTED", "COMPLETED")
    found = (await integrator.certificate_of(serial)).json["certificate"]
    assert found["status"] == "revoked"
    assert datetime.strptime(found["revocationInfo"]["revocationDate"], "%Y-%m-%dT%H:%M:%SZ")  # noqa: DTZ007


async def test_the_anyca_connector_pages_through_events(integrator: Client) -> None:
    for index in range(3):
        await post(
            integrator,
            f"{CA}/enrollments",
            {"profileId": "privatessl-tls-server", "requiredFormat": {"format": "X509"}, "csr": b64(csr(f"h{index}"))},
        )
    query = "%24fields=-events.certificate&startDate=2000-01-01T00:00:00.00Z&preferredPageSize=2"
    page = (await integrator.get(f"{CA}/certificate-events?{query}")).json
    assert page["morePages"] is True
    assert all(isinstance(page["metadata"][name], int) for name in ("currentCount", "totalCount", "currentLimit"))
    assert all(isinstance(event["event"], int) for event in page["events"])
    last = (await integrator.get(f"{CA}/certificate-events?nextPageIndex={page['nextPageIndex']}")).json
    assert (len(last["events"]), last["morePages"]) == (1, False)


# ---- shell utilities -------------------------------------------------------------------------------------------------


async def test_the_shell_utilities_list_cas_with_their_certificates(integrator: Client) -> None:
    cas = (await integrator.get(f"{CA_PATH}?%24fields=caList.certificate.certificateData")).json["caList"]
    assert [ca["id"] for ca in cas] == ["demo~issuing", "demo~root"]
    subjects = [
        x509.load_der_x509_certificate(base64.b64decode(ca["certificate"]["certificateData"])).subject for ca in cas
    ]
    assert [subject.rfc4514_string() for subject in subjects] == ["CN=issuing,O=Demo,C=CA", "CN=root,O=Demo,C=CA"]
    profiles = (await integrator.get(f"{CA}/profiles")).json["profiles"]
    assert "privatessl-tls-server" in [profile["id"] for profile in profiles]


async def test_the_shell_utilities_enrol_with_pem_answers(integrator: Client) -> None:
    answer = await post(
        integrator,
        f"{CA}/enrollments",
        {
            "profileId": "privatessl-tls-server",
            "requiredFormat": {"format": "PEM"},
            "csr": b64(csr()),
            "optionalCertificateRequestDetails": {"subjectDn": ""},
            "subjectAltNames": [],
        },
    )
    assert answer["type"] == "EnrollmentResponse"
    certificate = x509.load_pem_x509_certificate(answer["enrollment"]["body"].encode())
    assert certificate.subject.rfc4514_string() == "CN=www.example"


async def test_the_shell_utilities_report_active_certificates_from_the_feed(integrator: Client) -> None:
    async def enrol(name: str) -> str:
        body = {"profileId": "privatessl-tls-server", "requiredFormat": {"format": "PEM"}, "csr": b64(csr(name))}
        return str((await post(integrator, f"{CA}/enrollments", body))["enrollment"]["serialNumber"])

    kept, revoked = await enrol("kept"), await enrol("revoked")
    body = {"action": {"type": "RevokeAction", "reason": "cessationOfOperation", "issueCrl": False}}
    await post(integrator, f"{CA}/certificates/{revoked}/actions", body)
    events = (await integrator.get(f"{CA}/certificate-events?startDate=2000-01-01T00:00:00.00Z")).json["events"]
    gone = {event["serialNumber"] for event in events if event["action"] == "revoked"}
    active = [event for event in events if event["serialNumber"] not in gone]
    assert [event["serialNumber"] for event in active] == [kept]
    assert x509.load_der_x509_certificate(base64.b64decode(active[0]["certificate"]))


async def test_the_shell_utilities_revoke_by_subject(integrator: Client) -> None:
    body = {"profileId": "privatessl-tls-server", "requiredFormat": {"format": "PEM"}, "csr": b64(csr("by subject"))}
    serial = (await post(integrator, f"{CA}/enrollments", body))["enrollment"]["serialNumber"]
    path = f"{CA}/subjects/{quote('cn=by subject', safe='')}/actions"
    action = {"type": "RevokeAction", "reason": "superseded", "issueCrl": True, "comment": ""}
    answer = await post(integrator, path, {"action": action})
    assert answer["type"] == "ActionResponse"
    assert (await integrator.certificate_of(serial)).json["certificate"]["status"] == "revoked"


# ---- Ansible ---------------------------------------------------------------------------------------------------------


async def test_ansible_requests_checks_and_holds_a_certificate(integrator: Client) -> None:
    text = x509.load_der_x509_csr(csr()).public_bytes(Encoding.PEM).decode()
    enrolled = await post(
        integrator,
        f"{CA}/enrollments",
        {
            "profileId": "privatessl-tls-server",
            "requiredFormat": {"format": "X509"},
            "subjectAltNames": [
                {"type": "dNSName", "value": "server.example.com"},
                {"type": "iPAddress", "value": "192.168.1.1"},
                {"type": "directoryName", "value": "cn=john doe,o=example inc,c=us"},
                {"type": "uniformResourceIdentifier", "value": "http://example.com/"},
            ],
            "optionalCertificateRequestDetails": {"subjectDn": None},
            "csr": "".join(text.splitlines()[1:-1]),
        },
    )
    details = enrolled["enrollment"]
    end = datetime.strptime(details["validityPeriod"].split("/")[1], "%Y-%m-%dT%H:%M:%SZ")  # noqa: DTZ007
    assert end.year > 2000
    serial = f"{x509.load_der_x509_certificate(base64.b64decode(details['body'])).serial_number:X}"
    for action, status in (("HoldAction", "held"), ("UnholdAction", "normal"), ("RevokeAction", "revoked")):
        body = {"action": {"type": action, "reason": "unspecified"}}
        answer = await post(integrator, f"{CA}/certificates/{serial}/actions", body)
        assert answer["action"]["status"] == "COMPLETED"
        found = (await integrator.certificate_of(serial)).json["certificate"]
        assert found["status"] == status
        assert found["certificateData"] == details["body"]


async def test_ansible_requests_a_pkcs12_with_the_slash_form_of_a_name(integrator: Client) -> None:
    answer = await post(
        integrator,
        f"{CA}/enrollments",
        {
            "profileId": "multiuse-p12-client-server",
            "requiredFormat": {
                "format": "PKCS12",
                "protection": {"type": "PasswordProtection", "password": "Entrust@2018"},
            },
            "optionalCertificateRequestDetails": {"subjectDn": "/C=CA/O=iotrust/CN=CA/CN=ans-test-101"},
        },
    )
    assert answer["enrollment"]["subjectName"] == "CN=ans-test-101,CN=CA,O=iotrust,C=CA"
