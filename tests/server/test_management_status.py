"""Status authorities in the management API and in declarations."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, pkcs12
from cryptography.x509 import Certificate, load_pem_x509_csr
from httpx import AsyncClient
from tests.server.test_management_declaration import apply
from tests.support.foreign import ForeignCa


@pytest.fixture
def ca() -> ForeignCa:
    return ForeignCa()


def _body(ca: ForeignCa, name: str = "legacy", **changes: Any) -> dict[str, Any]:
    source = {"crls": [{"url": "http://crl.example/ca.crl"}]}
    return {"name": name, "source": "crl", "profile": "CRLProfile", "issuers": ca.pem, "crl": source, **changes}


async def test_an_authority_by_api(operator: AsyncClient, ca: ForeignCa) -> None:
    checked = (await operator.post("/validation/validate", json=_body(ca, profile="basic"))).json()
    assert not checked["ok"]
    assert [each["code"] for each in checked["problems"]] == ["profile-unfit"]
    made = await operator.post("/validation/authorities", json=_body(ca))
    assert made.status_code == 201, made.text
    assert made.json()["authority"]["crl"]["wait_to_pull"] == "5m"
    listed = (await operator.get("/validation/authorities", params={"filter": "source=crl", "total": True})).json()
    assert [each["name"] for each in listed["items"]] == ["legacy"]
    changed = await operator.put(
        "/validation/authorities/legacy", params={"version": 1}, json=_body(ca, profile="CRLProfileWithArchiveCutOff")
    )
    assert changed.json()["authority"]["version"] == 2
    again = await operator.put("/validation/authorities/legacy", params={"version": 1}, json=_body(ca))
    assert (again.status_code, again.json()["code"]) == (409, "version-changed")
    pulled = await operator.post("/validation/sources/legacy/pull")
    assert (pulled.status_code, pulled.json()["waiting"]) == (202, True)
    assert (await operator.get("/validation/sources/legacy")).json()["pull"]["waiting"]
    assert (await operator.get("/validation/database")).json()["ok"]
    assert (await operator.delete("/validation/authorities/legacy")).json()["name"] == "legacy"
    assert (await operator.get("/validation/authorities/legacy")).status_code == 404


async def test_a_wrong_configuration_names_every_member(operator: AsyncClient, ca: ForeignCa) -> None:
    refused = await operator.post("/validation/authorities", json=_body(ca, profile="SNListProfile", issuers=""))
    assert refused.status_code == 400
    assert refused.json()["code"] == "status-authority-invalid"
    assert {each["pointer"] for each in refused.json()["errors"]} == {"/crl/serial_list", "/issuers"}


async def test_a_password_of_a_directory_is_never_shown(operator: AsyncClient) -> None:
    body = {"name": "ldap1", "url": "ldaps://ldap.example", "user_name": "cn=reader", "password": "very secret"}
    saved = await operator.put("/validation/directories/ldap1", json=body)
    assert saved.status_code == 200, saved.text
    assert saved.json()["has_password"]
    kept = await operator.put("/validation/directories/ldap1", json={**body, "password": None, "start_tls": False})
    assert kept.json()["has_password"]
    moved = {**body, "password": None, "url": "ldaps://other.example"}
    assert not (await operator.put("/validation/directories/ldap1", json=moved)).json()["has_password"]
    shown = (await operator.get("/validation/directories")).text
    exported = (await operator.get("/declaration")).text
    assert "very secret" not in saved.text + kept.text + shown + exported


async def test_a_directory_in_use_is_not_deleted(operator: AsyncClient, ca: ForeignCa) -> None:
    await operator.put("/validation/directories/ldap1", json={"name": "ldap1", "url": "ldap://ldap.example"})
    body = _body(ca, crl={"crls": [{"directory": "ldap1", "entry": "cn=ca"}]})
    assert (await operator.post("/validation/authorities", json=body)).status_code == 201
    refused = await operator.delete("/validation/directories/ldap1")
    assert (refused.status_code, refused.json()["code"]) == (409, "directory-in-use")


async def test_credentials_are_listed_as_clients_of_the_original_know_them(
    operator: AsyncClient, ca: ForeignCa
) -> None:
    certificate, key = ca.end_entity("va")
    protection = BestAvailableEncryption(b"correct horse")
    data = pkcs12.serialize_key_and_certificates(b"va", key, certificate, None, protection)
    body = {"pkcs12": base64.b64encode(data).decode(), "password": "correct horse"}
    made = await operator.post("/validation/credentials", json=body)
    assert made.status_code == 201, made.text
    (listed,) = (await operator.get("/validation/credentials")).json()["items"]
    assert listed["DN"] == "CN=va"
    assert listed["SN"] == f"{certificate.serial_number:02X}"
    assert listed["latest"]
    assert listed["notAfter"]
    wrong = await operator.post("/validation/credentials", json={**body, "password": "guess"})
    assert (wrong.status_code, wrong.json()["code"]) == (400, "pkcs12-unreadable")
    assert (await operator.delete(f"/validation/credentials/{listed['id']}")).status_code == 204


async def test_authorities_and_directories_are_declared(operator: AsyncClient, ca: ForeignCa) -> None:
    wanted = {
        "status_directories": [{"name": "ldap1", "url": "ldaps://ldap.example", "user_name": "cn=reader"}],
        "status_authorities": [
            _body(ca, crl={"crls": [{"directory": "ldap1", "entry": "cn=ca,dc=example"}], "wait_to_pull": "1m"})
        ],
    }
    text = yaml.safe_dump(wanted)
    done = await apply(operator, text)
    assert [each["object"] for each in done["changes"]] == ["status directory ldap1", "status authority legacy"]
    assert any("password" in note for note in done["notes"])
    assert (await apply(operator, text))["changes"] == []
    exported = (await operator.get("/declaration")).json()["declaration"]
    assert (await apply(operator, exported, prune=True, dry_run=True))["changes"] == []
    changed = await apply(operator, text.replace("1m", "2m"))
    assert [each["object"] for each in changed["changes"]] == ["status authority legacy"]
    gone = await apply(operator, "status_directories: []\nstatus_authorities: []\n", prune=True)
    assert [each["object"] for each in gone["changes"]] == ["status authority legacy", "status directory ldap1"]


async def test_signers_are_declared_and_their_certificates_imported(operator: AsyncClient, ca: ForeignCa) -> None:
    await operator.post("/validation/authorities", json=_body(ca))
    wanted: dict[str, Any] = {"ocsp_signers": [{"authority": "legacy", "key_algorithm": "P-384"}]}
    done = await apply(operator, yaml.safe_dump(wanted))
    assert [(each["action"], each["object"]) for each in done["changes"]] == [
        ("create", "ocsp signer legacy (delegated)")
    ]
    (signer,) = (await operator.get("/validation/signers")).json()["items"]
    assert signer["id"] in done["notes"][0]
    assert (await apply(operator, yaml.safe_dump(wanted)))["changes"] == []

    certificate = ca.certify_signer(_request(signer))
    wanted["ocsp_signers"][0]["certificate"] = _pem(certificate)
    done = await apply(operator, yaml.safe_dump(wanted))
    assert [each[0] for each in done["changes"][0]["fields"]] == ["certificate"]
    assert (await operator.get(f"/validation/signers/{signer['id']}")).json()["state"] == "current"
    exported = (await operator.get("/declaration")).json()["declaration"]
    assert yaml.safe_load(exported)["ocsp_signers"][0]["certificate"] == _pem(certificate)
    assert (await apply(operator, exported, prune=True, dry_run=True))["changes"] == []

    successor = (await operator.post(f"/validation/signers/{signer['id']}/renew")).json()
    newer = {"certificate": _pem(ca.certify_signer(_request(successor)))}
    saved = await operator.post(f"/validation/signers/{successor['id']}/certificate", json=newer)
    assert saved.status_code == 200, saved.text
    assert (await apply(operator, exported))["changes"] == [], "the certificate before does not come back"

    wanted["ocsp_signers"][0]["key_algorithm"] = "P-521"
    refused = await operator.post("/declaration", json={"declaration": yaml.safe_dump(wanted)})
    assert (refused.status_code, refused.json()["code"]) == (422, "setting-frozen")
    gone = await apply(operator, "ocsp_signers: []\n", prune=True)
    assert [each["object"] for each in gone["changes"]] == ["ocsp signer legacy (delegated)"]
    assert (await operator.get("/validation/signers")).json()["items"] == []


@pytest.mark.usefixtures("hierarchy")
async def test_signers_of_every_kind_are_declared_once(operator: AsyncClient, ca: ForeignCa) -> None:
    native = {"name": "ours", "source": "native", "ca": "demo~issuing", "profile": "nextUpdate"}
    wanted = {
        "status_authorities": [_body(ca), native],
        "ocsp_signers": [
            {"kind": "automatic", "authority": "legacy", "ca": "demo~issuing"},
            {"kind": "shared", "label": "common", "ca": "demo~issuing", "subject": "CN=Common,O=Demo"},
            {"kind": "ca", "authority": "ours"},
        ],
    }
    text = yaml.safe_dump(wanted)
    assert len((await apply(operator, text))["changes"]) == 5
    assert (await apply(operator, text))["changes"] == []
    exported = (await operator.get("/declaration")).json()["declaration"]
    assert "certificate:" not in exported, "what renews itself is not kept in documents"
    assert (await apply(operator, exported, prune=True, dry_run=True))["changes"] == []
    gone = await apply(operator, "ocsp_signers: []\nstatus_authorities: []\n", prune=True)
    assert len(gone["changes"]) == 5


def _request(signer: dict[str, Any]) -> bytes:
    return load_pem_x509_csr(signer["request"].encode()).public_bytes(Encoding.DER)


def _pem(certificate: Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
