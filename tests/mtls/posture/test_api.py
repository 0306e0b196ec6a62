"""Posture over the API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from tests.server import management_client
from tests.server.management_client import Management

from intaglio.core.secrets import MasterKey

_BASE = "http://management/mtls/v1"


@pytest_asyncio.fixture
async def management(database_url: str, master_key: MasterKey, tmp_path: Path) -> AsyncIterator[Management]:
    async with management_client.management(database_url, master_key, tmp_path) as started:
        async with started.client(operator=True) as client:
            await client.post("/organizations", json={"name": "demo"})
        yield started
        await started.services.mtls.close()


async def test_report_comes_in_every_form(management: Management) -> None:
    async with management.client(operator=True) as client:
        forms = {
            form: await client.get(f"{_BASE}/posture?organization=demo&format={form}")
            for form in ("json", "text", "html", "sarif")
        }
    assert {form: answer.status_code for form, answer in forms.items()} == dict.fromkeys(forms, 200)
    assert forms["json"].json()["passed"] is False
    assert forms["text"].text.startswith("Posture of demo")
    assert "default-src 'none'" in forms["html"].headers["content-security-policy"]
    assert json.loads(forms["sarif"].text)["version"] == "2.1.0"


async def test_auditor_reads_the_posture_and_waives_nothing(management: Management) -> None:
    auditor = await management.user("eve", "auditor")
    assert (await auditor.get(f"{_BASE}/posture/checks")).json()["items"][0]["id"] == "PC-01"
    assert (await auditor.get(f"{_BASE}/posture?organization=demo")).status_code == 404  # not a member
    wish = {
        "organization": "demo", "check": "PC-01", "subject": "*", "owner": "eve", "reason": "x",
        "until": "2027-01-01T00:00:00Z",
    }  # fmt: skip
    answer = await auditor.post(f"{_BASE}/posture/waivers", json=wish)
    assert (answer.status_code, answer.json()["permission"]) == (403, "mtls.policy")


async def test_edges_and_scans_are_recorded_and_listed(management: Management) -> None:
    async with management.client(operator=True) as client:
        edge = {"organization": "demo", "caller": "orders", "callee": "payments", "state": "none"}
        made = (await client.post(f"{_BASE}/service-edges", json=edge)).json()
        scan = {"organization": "demo", "kind": "code", "place": "repository", "complete": True, "findings": []}
        assert (await client.post(f"{_BASE}/posture/scans", json=scan)).status_code == 201
        listed = (await client.get(f"{_BASE}/service-edges?organization=demo&filter=state=none")).json()["items"]
        assert [each["id"] for each in listed] == [made["id"]]
        assert (await client.delete(f"{_BASE}/service-edges/{made['id']}")).status_code == 204
        assert (await client.delete(f"{_BASE}/service-edges/{made['id']}")).json()["code"] == "service-edge-unknown"
        assert len((await client.get(f"{_BASE}/posture/scans?organization=demo")).json()["items"]) == 1


async def test_nobody_sees_nothing(management: Management) -> None:
    async with management.client() as stranger:
        for path in ("posture", "posture/waivers", "service-edges"):
            assert (await stranger.get(f"{_BASE}/{path}?organization=demo")).status_code == 401


async def test_posture_finds_what_a_deleted_account_owned(management: Management) -> None:
    await management.user("carol")
    async with management.client(operator=True) as client:
        domain = {"name": "prod.example", "environment": "prod", "organization": "demo"}
        assert (await client.post(f"{_BASE}/domains", json=domain)).status_code == 201
        wish = {"domain": "prod.example", "kind": "device", "name": "d", "owner": "carol"}
        made = (await client.post(f"{_BASE}/identities", json=wish)).json()
        assert (made["owner"], made["owner_confirmed"]) == ("carol", True)
        assert (await client.delete("/users/carol")).status_code == 204
        found = (await client.get(f"{_BASE}/identities/{made['id']}")).json()
        assert (found["owner"], found["owner_confirmed"]) == ("carol", False)
        report = (await client.get(f"{_BASE}/posture?organization=demo&format=json")).json()
        (check,) = [each for each in report["results"] if each["id"] == "PC-25"]
        assert [each["subject"] for each in check["findings"]] == ["device:d@prod.example"]
        told = (await client.get("/audit", params={"filter": "action=identity.lose-owner"})).json()["items"]
        assert [each["detail"]["identities"] for each in told] == [["device:d@prod.example"]]
