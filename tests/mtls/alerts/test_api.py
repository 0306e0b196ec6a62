"""Alerts over the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from tests.server import management_client
from tests.server.management_client import Management

from intaglio.core.identifiers import new_id
from intaglio.core.secrets import MasterKey

_BASE = "http://management/mtls/v1/alerts"


@pytest_asyncio.fixture
async def management(database_url: str, master_key: MasterKey, tmp_path: Path) -> AsyncIterator[Management]:
    async with management_client.management(database_url, master_key, tmp_path) as started:
        async with started.client(operator=True) as client:
            await client.post("/organizations", json={"name": "demo"})
        yield started
        await started.services.mtls.close()


async def test_alert_is_fired_as_a_test_and_listed_as_closed(management: Management) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server, management.client(operator=True) as client:
        where = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert (await client.patch("/settings/alerts", json={"values": {"syslog": where}})).status_code == 200
        proof = await client.post(f"{_BASE}/kinds/revoked-attempt/test", json={"organization": "demo"})
        listed = (await client.get(f"{_BASE}?organization=demo&filter=state=closed")).json()["items"]
        change = await client.put(f"{_BASE}/{listed[0]['id']}", json={"state": "acknowledged"})
    assert (proof.status_code, proof.json()["channels"]) == (201, ["syslog"])
    assert [(each["kind"], each["severity"]) for each in listed] == [("revoked-attempt", "critical")]
    assert (change.status_code, change.json()["code"]) == (409, "alert-closed")


async def test_what_makes_no_sense_is_refused_with_a_code(management: Management) -> None:
    wish = {"organization": "demo", "until": "2999-01-01T00:00:00Z", "reason": "for good"}
    async with management.client(operator=True) as client:
        test = await client.post(f"{_BASE}/kinds/expiry/test", json={"organization": "demo"})
        mute = await client.put(f"{_BASE}/kinds/expiry/mute", json=wish)
        kind = await client.post(f"{_BASE}/kinds/nonsense/test", json={"organization": "demo"})
        unknown = await client.put(f"{_BASE}/{new_id()}", json={"state": "closed"})
    assert (test.status_code, test.json()["code"]) == (409, "alert-no-channel")
    assert (mute.status_code, mute.json()["code"]) == (400, "mute-too-long")
    assert kind.status_code == 400
    assert (unknown.status_code, unknown.json()["code"]) == (404, "alert-unknown")


async def test_auditor_changes_nothing_and_gets_no_secret(management: Management) -> None:
    auditor = await management.user("eve", "auditor")
    answer = await auditor.post(f"{_BASE}/kinds/expiry/test", json={"organization": "demo"})
    assert (answer.status_code, answer.json()["permission"]) == (403, "mtls.policy")
    assert (await auditor.get(f"{_BASE}/webhook-secret")).status_code == 403
    async with management.client(operator=True) as client:
        assert len((await client.get(f"{_BASE}/webhook-secret")).json()["secret"]) == 64
