"""Users, roles, tokens, profiles, audit, settings, server certificates and status through the management API."""

from __future__ import annotations

import json
from typing import Any

import pytest
from httpx import AsyncClient
from sqlalchemy import text
from tests.server import certificates
from tests.server.management_client import Management

from intaglio.audit.sealing import seal_once
from intaglio.keystore.audit_key import audit_signer
from intaglio.server.management.app import openapi

WEB = """
id: my-web
title: Web
group: privatessl
channels: [console]
key_usage: [digitalSignature]
extended_key_usage: [serverAuth]
validity: {default: P90D}
"""


async def test_a_role_is_made_given_and_kept_while_somebody_has_it(operator: AsyncClient) -> None:
    body = {"name": "revoker", "permissions": ["ca.operate", "ca.view"]}
    assert (await operator.post("/roles", json=body)).json()["permissions"] == ["ca.operate", "ca.view"]
    await operator.post("/users", json={"name": "dave", "roles": ["revoker"]})
    kept = await operator.delete("/roles/revoker")
    assert (kept.status_code, kept.json()["users"]) == (409, ["dave"])
    assert (await operator.patch("/users/dave", json={"roles": []})).json()["roles"] == []
    assert (await operator.delete("/roles/revoker")).status_code == 204


async def test_a_disabled_user_is_refused_at_once(operator: AsyncClient, management: Management) -> None:
    client = await management.user("dave", "auditor")
    await operator.patch("/users/dave", json={"disabled": True})
    assert (await client.get("/me")).status_code == 401


async def test_a_token_is_shown_once_and_can_be_revoked(operator: AsyncClient, management: Management) -> None:
    client = await management.user("dave", "ca-operator")
    made = (await client.post("/tokens", json={"name": "ci", "permissions": ["ca.view"]})).json()
    program = management.client(made["secret"])
    assert (await program.get("/me")).json()["permissions"] == ["ca.view"]
    listed = (await client.get("/tokens")).json()["items"]
    assert [each["name"] for each in listed] == ["ci"]
    assert made["secret"] not in json.dumps(listed)
    await client.delete(f"/tokens/{made['token']['id']}")
    assert (await program.get("/me")).status_code == 401


async def test_a_member_sees_the_trail_of_his_organization_only(operator: AsyncClient, management: Management) -> None:
    await operator.post("/roles", json={"name": "looker", "permissions": ["ca.view"]})
    member, stranger = await management.user("mia", "looker"), await management.user("sam", "looker")
    for name in ("hers", "theirs"):
        assert (await operator.post("/organizations", json={"name": name})).status_code == 201
    await operator.put("/organizations/hers/members/mia", json={"state": "member"})

    found = (await member.get("/audit", params={"limit": 1000})).json()["items"]
    assert {each["organization"] for each in found} == {"hers"}
    assert "organization.create" in {each["action"] for each in found}
    assert (await member.get(f"/audit/{found[0]['seq']}")).json() == found[0]
    assert (await member.get("/audit", params={"organization": "hers", "limit": 1000})).json()["items"] == found
    filtered = {"filter": "organization=theirs", "total": True}
    assert (await member.get("/audit", params=filtered)).json() == {"items": [], "next_cursor": None, "total": 0}
    for hidden in ("theirs", "none"):
        refused = await member.get("/audit", params={"organization": hidden})
        assert (refused.status_code, refused.json()["code"]) == (404, "organization-unknown")
    other = (await operator.get("/audit", params={"organization": "theirs"})).json()["items"]
    assert {each["organization"] for each in other} == {"theirs"}
    assert (await member.get(f"/audit/{other[0]['seq']}")).json()["code"] == "audit-record-unknown"

    for path in ("/audit/seals", "/audit/public-keys", "/audit/verify", f"/audit/{found[0]['seq']}/proof"):
        assert (await member.get(path)).json()["permission"] == "audit.view", path
    assert (await stranger.get("/audit", params={"organization": "hers"})).json()["permission"] == "audit.view"


async def test_a_custom_profile_goes_from_draft_to_active_to_retired(operator: AsyncClient) -> None:
    lint = await operator.post("/profiles/lint", json={"declaration": WEB})
    assert lint.json().get("ok"), lint.text
    made = (await operator.post("/profiles", json={"declaration": WEB})).json()
    assert (made["version"], made["state"]) == (1, "draft")
    assert (await operator.post("/profiles/my_web/activate", json={})).json()["state"] == "active"
    listed = await operator.get("/profiles", params={"filter": "state=active"})
    assert [each["id"] for each in listed.json()["items"]] == ["my-web"]
    assert (await operator.post("/profiles/my-web/retire")).status_code == 204


async def test_a_profile_says_what_its_certificates_hold(operator: AsyncClient) -> None:
    shown = (await operator.get("/profiles/privatessl_tls_server")).json()
    usage = next(each for each in shown["extensions"] if each["oid"] == "2.5.29.37")
    assert "serverAuth" in usage["value"]
    report = (await operator.post("/profiles/privatessl-tls-server/test")).json()
    assert (report["ok"], report["differences"]) == (True, [])
    clone = {"id": "my-clone", "based_on": "privatessl-tls-server", "changes": {"title": "Clone"}}
    assert (await operator.post("/profiles", json=clone)).json()["title"] == "Clone"
    assert (await operator.patch("/profiles/privatessl-tls-server", json={"changes": {}})).status_code == 403


async def verified(operator: AsyncClient, checkpoint: str | None = None) -> dict[str, Any]:
    """The report of a verification, from its last line."""
    answer = await operator.get("/audit/verify", params={"checkpoint": checkpoint} if checkpoint else None)
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    report: dict[str, Any] = json.loads(answer.text.strip().splitlines()[-1])["report"]
    return report


async def test_the_audit_trail_is_proved_and_an_edit_is_found(operator: AsyncClient, management: Management) -> None:
    services = management.services
    await operator.post("/organizations", json={"name": "demo"})
    while await seal_once(services.database, await audit_signer(services.database, services.keystore)):
        pass
    report = await verified(operator)
    assert (report["intact"], report["unsealed"]) == (True, 0)
    assert (await verified(operator, report["checkpoint"]))["intact"]
    found = await operator.get("/audit", params={"filter": "action=organization.create"})
    (record,) = found.json()["items"]
    proof = (await operator.get(f"/audit/{record['seq']}/proof")).json()
    assert proof["publicKey"] == (await operator.get("/audit/public-keys")).json()["items"][0]["public_key"]
    async with services.database.transaction() as tx:
        await tx.execute(text("UPDATE audit_record SET actor = 'mallory' WHERE seq = :seq"), {"seq": record["seq"]})
    report = await verified(operator)
    assert not report["intact"]
    assert (report["first_bad_seq"], report["findings"][0]["kind"]) == (record["seq"], "record-edited")


async def test_a_checkpoint_must_be_one(operator: AsyncClient) -> None:
    assert (await operator.get("/audit/verify", params={"checkpoint": "x"})).json()["code"] == "checkpoint-invalid"


async def test_seals_are_listed_newest_first(operator: AsyncClient, management: Management) -> None:
    services = management.services
    for name in ("one", "two"):
        await operator.post("/organizations", json={"name": f"org-{name}"})
        await seal_once(services.database, await audit_signer(services.database, services.keystore))
    seals = (await operator.get("/audit/seals")).json()["items"]
    assert seals[0]["number"] == seals[1]["number"] + 1
    assert seals[0]["previous"] == seals[1]["hash"]


async def test_a_setting_changes_only_from_the_version_that_was_read(operator: AsyncClient) -> None:
    first = await operator.patch("/settings/logging", json={"values": {"level": "WARN"}, "version": 0})
    assert first.json()["version"] == 1
    late = await operator.patch("/settings/logging", json={"values": {"level": "INFO"}, "version": 0})
    assert (late.status_code, late.json()["code"]) == (409, "version-moved")
    wrong = await operator.patch("/settings/logging", json={"values": {"level": "LOUD"}})
    assert wrong.json()["errors"][0]["pointer"] == "/level"
    assert (await operator.get("/settings/nothing")).status_code == 404


async def test_a_server_certificate_is_imported_and_its_key_is_never_shown(operator: AsyncClient) -> None:
    root = certificates.authority("Root")
    server = certificates.server(root, "pki.example")
    body = {"certificate": server.pem.decode(), "key": server.key_pem.decode()}
    imported = await operator.put("/server-certificates/console", json=body)
    assert imported.json()["names"] == ["localhost", "127.0.0.1", "::1"], imported.text
    other = certificates.server(root, "other.example")
    mismatch = await operator.put("/server-certificates/console", json={**body, "key": other.key_pem.decode()})
    assert (mismatch.status_code, mismatch.json()["code"]) == (400, "key-mismatch")
    listed = await operator.get("/server-certificates")
    assert [each["listener"] for each in listed.json()["items"]] == ["console"]
    assert "PRIVATE" not in listed.text + imported.text
    assert (await operator.delete("/server-certificates/console")).status_code == 204


async def test_private_keys_are_listed_without_what_is_secret(operator: AsyncClient, hierarchy: None) -> None:
    listed = await operator.get("/keys", params={"filter": "label~ca:demo", "total": True})
    assert {each["label"] for each in listed.json()["items"]} >= {"ca:demo~root", "ca:demo~issuing"}
    assert set(listed.json()["items"][0]) == {
        *("id", "label", "algorithm", "provider", "protection", "created_at", "destroyed_at", "erasure_due"),
    }


async def test_status_says_how_things_are(operator: AsyncClient, hierarchy: None) -> None:
    status = (await operator.get("/status")).json()
    assert (status["ready"], status["database"], status["cas"]) == (True, "up", {"active": 2})


async def test_the_platform_root_is_for_everybody(management: Management) -> None:
    answer = await management.client().get("/platform/ca-certificate")
    assert answer.text.startswith("-----BEGIN CERTIFICATE-----")


def test_the_openapi_document_describes_every_operation() -> None:
    document = openapi()
    assert document["openapi"].startswith("3.1")
    operations = [each for path in document["paths"].values() for each in path.values()]
    names = [each["operationId"] for each in operations]
    assert len(names) == len(set(names))
    for operation in operations:
        assert operation.get("description"), f"{operation['operationId']} says nothing"
        assert "default" in operation["responses"]


@pytest.mark.parametrize("path", ["/users", "/roles", "/tokens", "/organizations", "/cas", "/certificates", "/profiles",
                                  "/audit", "/audit/seals", "/settings", "/server-certificates", "/keys"])  # fmt: skip
async def test_every_list_is_asked_in_the_same_way(operator: AsyncClient, path: str) -> None:
    page = (await operator.get(path, params={"limit": 1, "total": True})).json()
    assert {"items", "next_cursor", "total"} <= set(page)
    assert isinstance(page["total"], int)
    assert (await operator.get(path, params={"limit": 0})).json()["errors"][0]["pointer"] == "query.limit"
    assert (await operator.get(path, params={"cursor": "x"})).json()["code"] == "cursor-invalid"


async def test_the_status_tells_nobody_of_the_cas_of_others(management: Management, hierarchy: None) -> None:
    stranger = await management.user("stranger", "auditor")
    assert (await stranger.get("/status")).json()["cas"] == {}
