"""CAs and certificates through the management API."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12
from cryptography.x509.oid import NameOID
from httpx import AsyncClient
from tests.server.management_client import issuing_body, root_body

pytestmark = pytest.mark.usefixtures("hierarchy")


def csr(name: str = "www.example", encoding: Encoding = Encoding.PEM) -> str:
    """A request for a TLS server."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    )
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    request = builder.add_extension(names, critical=False).sign(
        ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()
    )
    encoded = request.public_bytes(encoding)
    return encoded.decode() if encoding is Encoding.PEM else base64.b64encode(encoded).decode()


async def issue(operator: AsyncClient, **changes: Any) -> dict[str, Any]:
    """A certificate of the issuing CA."""
    body = {"profile": "privatessl-tls-server", **({} if "pkcs12" in changes else {"csr": csr()}), **changes}
    answer = await operator.post("/cas/demo~issuing/certificates", json=body)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_new_names_get_a_credential_once(operator: AsyncClient) -> None:
    first = (await operator.post("/organizations/demo/cas", json=root_body("second", administrators=["zoe"]))).json()
    (credential,) = first["credentials"]
    holder = load_pkcs12(base64.b64decode(credential["pkcs12"]), credential["password"].encode())
    assert holder.cert is not None
    assert holder.cert.certificate.subject.rfc4514_string() == "CN=zoe,O=demo"
    again = (await operator.post("/organizations/demo/cas", json=root_body("third", administrators=["zoe"]))).json()
    assert again["credentials"] == []


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"name": "A"}, 400, "invalid-input"),
        ({"name": "crl"}, 400, "reserved-word"),
        ({"subject": "O=Demo"}, 400, "common-name-required"),
        ({"profiles": []}, 400, None),
        ({"administrators": ["  "]}, 400, "administrator-required"),
        ({"name": "root"}, 409, "ca-exists"),
        ({"key_algorithm": "RSA-1024"}, 400, "invalid-input"),
        ({"not_after": "2099-01-01T00:00:00Z"}, 422, None),
    ],
)
async def test_what_is_wrong_with_a_new_ca_is_named(
    operator: AsyncClient, changes: dict[str, Any], status: int, code: str | None
) -> None:
    answer = await operator.post("/organizations/demo/cas", json={**root_body("fresh"), **changes})
    assert answer.status_code == status, answer.text
    assert code is None or answer.json()["code"] == code
    assert answer.json()["detail"]


async def test_every_wrong_field_of_a_new_ca_is_named_by_its_place(operator: AsyncClient) -> None:
    wrong = root_body("fresh", not_after="soon", options={"crl_interval_hours": -1}, subject=[{"type": "CN"}])
    answer = await operator.post("/organizations/demo/cas", json=wrong)
    assert answer.status_code == 400
    places = [error["pointer"] for error in answer.json()["errors"]]
    assert {"/not_after", "/options/crl_interval_hours"} <= set(places)
    assert all(place.split("/")[1] in wrong for place in places)


async def test_an_external_root_takes_its_issuing_ca_from_request_to_certificate(operator: AsyncClient) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "External")])
    root = _ca_certificate(name, name, key.public_key(), key)
    external = {"kind": "external-root", "name": "outside", "certificate": root.public_bytes(Encoding.PEM).decode()}
    assert (await operator.post("/organizations/demo/cas", json=external)).status_code == 201
    made = await operator.post("/organizations/demo/cas", json=issuing_body("below") | {"issuer": "outside"})
    assert made.json()["ca"]["state"] == "awaiting-certificate"
    request = x509.load_pem_x509_csr((await operator.get("/cas/demo~below/csr")).content)
    wrong = await operator.put("/cas/demo~below/certificate", json={"certificate": external["certificate"]})
    assert wrong.status_code == 422
    signed = _ca_certificate(request.subject, name, request.public_key(), key, path_length=0)
    body = {"certificate": base64.b64encode(signed.public_bytes(Encoding.DER)).decode()}
    taken = await operator.put("/cas/demo~below/certificate", json=body)
    assert taken.status_code == 200, taken.text
    assert taken.json()["state"] == "active"


async def test_frozen_settings_are_refused_by_name(operator: AsyncClient) -> None:
    answer = await operator.patch("/cas/demo~root", json={"subject": "CN=Other"})
    assert (answer.status_code, answer.json()["code"]) == (422, "setting-frozen")
    assert answer.json()["fields"] == ["subject"]
    unknown = await operator.patch("/cas/demo~root", json={"colour": "red"})
    assert (unknown.status_code, unknown.json()["errors"][0]["pointer"]) == (400, "/colour")


async def test_a_root_with_subordinates_is_not_deleted(operator: AsyncClient) -> None:
    answer = await operator.delete("/cas/demo~root")
    assert answer.status_code == 409
    assert "demo~issuing" in answer.json()["detail"]
    assert (await operator.delete("/cas/demo~issuing")).status_code == 200
    assert (await operator.delete("/cas/demo~root")).json()["orphans"] == []


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
async def test_a_certificate_is_issued_from_a_request(operator: AsyncClient, encoding: Encoding) -> None:
    made = await issue(operator, csr=csr("api.example", encoding))
    leaf = x509.load_pem_x509_certificate(made["certificate"].encode())
    issuer = x509.load_pem_x509_certificate(made["chain"][0].encode())
    leaf.verify_directly_issued_by(issuer)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["api.example"]
    found = (await operator.get(f"/cas/demo~issuing/certificates/{made['serial_number'].lower()}")).json()
    assert (found["state"], found["channel"], found["requester"]) == ("valid", "console", "root")


async def test_subject_and_names_win_over_those_of_the_request(operator: AsyncClient) -> None:
    names = [{"type": "dNSName", "value": "other.example"}, {"type": "iPAddress", "value": "192.0.2.7"}]
    made = await issue(operator, subject="CN=other.example,O=Demo", names=names, validity="P30D")
    leaf = x509.load_pem_x509_certificate(made["certificate"].encode())
    assert leaf.subject.rfc4514_string() == "CN=other.example,O=Demo"
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days == 30


async def test_a_key_made_by_the_server_comes_as_pkcs12(operator: AsyncClient) -> None:
    await operator.patch("/cas/demo~issuing", json={"profiles": ["multiuse-p12-client"]})
    password = "a/b c:ü"
    made = await issue(operator, profile="multiuse_p12_client", subject="CN=dave", pkcs12={"password": password})
    holder = load_pkcs12(base64.b64decode(made["pkcs12"]), password.encode())
    assert holder.key is not None
    assert len(holder.additional_certs) == 2


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"subject": "nonsense"}, "/subject"),
        ({"validity": "soon"}, "/validity"),
        ({"profile": "unknown"}, "/profile"),
        ({"csr": "!"}, "/csr"),
        ({"csr": "AAAA"}, "/csr"),
        ({"names": [{"type": "dNSName", "value": "not a name"}]}, "/names/0"),
    ],
)
async def test_a_refusal_names_the_field_of_this_api(
    operator: AsyncClient, changes: dict[str, Any], pointer: str
) -> None:
    body = {"profile": "privatessl-tls-server", "csr": csr(), **changes}
    answer = await operator.post("/cas/demo~issuing/certificates", json=body)
    assert 400 <= answer.status_code < 500
    assert answer.json()["errors"][0]["pointer"] == pointer, answer.text


async def test_a_repeated_request_with_the_same_key_gives_the_same_certificate(operator: AsyncClient) -> None:
    body = {"profile": "privatessl-tls-server", "csr": csr()}
    headers = {"idempotency-key": "order-1"}
    answers = [await operator.post("/cas/demo~issuing/certificates", json=body, headers=headers) for _ in range(2)]
    assert answers[0].json()["serial_number"] == answers[1].json()["serial_number"]


async def test_a_preview_issues_nothing(operator: AsyncClient) -> None:
    body = {"profile": "privatessl-tls-server", "csr": csr("preview.example")}
    found = (await operator.post("/cas/demo~issuing/certificates/preview", json=body)).json()
    assert found["subject"] == "CN=preview.example"
    listed = await operator.get("/certificates", params={"filter": "subject=CN=preview.example"})
    assert listed.json()["items"] == []


async def test_status_changes_follow_each_other(operator: AsyncClient) -> None:
    path = f"/cas/demo~issuing/certificates/{(await issue(operator))['serial_number']}"
    assert (await operator.post(f"{path}/hold", json={})).json()["state"] == "held"
    assert (await operator.post(f"{path}/unhold", json={})).json()["state"] == "valid"
    revoked = (await operator.post(f"{path}/revoke", json={"reason": "keyCompromise", "issue_crl": True})).json()
    assert (revoked["state"], revoked["reason"]) == ("revoked", "keyCompromise")
    assert (await operator.post(f"{path}/unhold", json={})).status_code == 409
    crl = x509.load_pem_x509_crl((await operator.get("/cas/demo~issuing/crl")).content)
    assert crl.get_revoked_certificate_by_serial_number(int(revoked["serial_number"], 16)) is not None


async def test_all_certificates_of_a_subject_are_revoked_together(operator: AsyncClient) -> None:
    for _ in range(3):
        await issue(operator, subject="CN=many,O=Demo")
    body = {"subject": "/O=Demo/CN=MANY", "reason": "superseded"}
    changed = (await operator.post("/cas/demo~issuing/subjects/revoke", json=body)).json()["changed"]
    assert [each["state"] for each in changed] == ["revoked"] * 3


async def test_a_renewal_keeps_the_key_and_a_reissue_takes_another(operator: AsyncClient) -> None:
    old = await issue(operator)
    path = f"/cas/demo~issuing/certificates/{old['serial_number']}"
    renewed = (await operator.post(f"{path}/renew", json={})).json()
    reissued = (await operator.post(f"{path}/reissue", json={"csr": csr()})).json()
    keys = [
        x509.load_pem_x509_certificate(each["certificate"].encode()).public_key() for each in (old, renewed, reissued)
    ]
    assert keys[0] == keys[1] != keys[2]
    assert reissued["not_after"] == old["not_after"]


async def test_certificates_are_listed_by_condition_and_page(operator: AsyncClient) -> None:
    made = [(await issue(operator, subject=f"CN=host{number}"))["serial_number"] for number in range(5)]
    conditions: dict[str, Any] = {"filter": ["ca=demo~issuing", "subject~HOST"], "limit": 2, "total": True}
    seen: list[str] = []
    cursor = None
    while True:
        page = (
            await operator.get("/certificates", params={**conditions, **({"cursor": cursor} if cursor else {})})
        ).json()
        assert page["total"] == 5
        seen += [each["serial_number"] for each in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == made[::-1]
    one = await operator.get("/certificates", params={"filter": f"serial_number={made[0].lower()}"})
    assert [each["subject"] for each in one.json()["items"]] == ["CN=host0"]
    assert (await operator.get("/certificates", params={"filter": "ca=other~ca"})).json()["items"] == []
    assert (await operator.get("/certificates", params={"filter": "colour=red"})).json()["code"] == "filter-invalid"


async def test_events_continue_where_the_page_before_ended(operator: AsyncClient) -> None:
    made = await issue(operator)
    path = f"/cas/demo~issuing/certificates/{made['serial_number']}"
    start = (await operator.get("/events", params={"ca": "demo~issuing"})).json()["next"]
    await operator.post(f"{path}/hold", json={})
    await operator.post(f"{path}/unhold", json={})
    first = (await operator.get("/events", params={"ca": "demo~issuing", "after": start, "limit": 1})).json()
    second = (await operator.get("/events", params={"ca": "demo~issuing", "after": first["next"]})).json()
    assert [each["action"] for each in first["items"] + second["items"]] == ["held", "unheld"]
    assert (first["more"], second["more"]) == (True, False)


async def test_a_right_is_given_and_taken(operator: AsyncClient) -> None:
    granted = (await operator.put("/cas/demo~issuing/grants/bob", json={"right": "auditor"})).json()
    assert granted["credential"]["name"] == "bob"
    rights = (await operator.get("/cas/demo~issuing/grants")).json()["items"]
    assert rights == [{"name": "alice", "right": "administrator"}, {"name": "bob", "right": "auditor"}]
    assert (await operator.delete("/cas/demo~issuing/grants/bob")).status_code == 204
    assert (await operator.delete("/cas/demo~issuing/grants/alice")).json()["code"] == "last-administrator"


def _ca_certificate(subject: Any, issuer: Any, public_key: Any, key: Any, path_length: int | None = None) -> Any:
    from datetime import timedelta

    from intaglio.core import clock

    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public_key)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(clock.now() - timedelta(days=1))
    # What the root signs ends before the root, also when a second turns between the two.
    days = 700 if path_length is None else 600
    builder = builder.not_valid_after(clock.now() + timedelta(days=days))
    builder = builder.add_extension(x509.BasicConstraints(True, path_length), True).add_extension(usage, True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), False)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    return builder.add_extension(authority, False).sign(key, hashes.SHA256())
