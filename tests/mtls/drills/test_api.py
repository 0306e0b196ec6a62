"""Drills over the API."""

from __future__ import annotations

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
            domain = {"name": "prod.example", "environment": "prod", "organization": "demo", "new_ca": {}}
            assert (await client.post(f"{_BASE}/domains", json=domain)).status_code == 201
        yield started
        await started.services.mtls.close()


async def test_drill_is_run_listed_and_shown_with_its_evidence(management: Management) -> None:
    async with management.client(operator=True) as client:
        ingress = {"name": "web", "organization": "demo", "domain": "prod.example", "type": "gateway"}
        ingress |= {"mode": "enforce"}
        await client.post(f"{_BASE}/ingresses", json=ingress)
        made = (await client.post(f"{_BASE}/drills/revoke", json={"domain": "prod.example"})).json()
        listed = (await client.get(f"{_BASE}/drills?organization=demo&filter=kind=revoke")).json()["items"]
        shown = (await client.get(f"{_BASE}/drills/{made['id']}")).json()
        due = (await client.get(f"{_BASE}/drills/due?organization=demo&filter=overdue=false")).json()["items"]
    assert made["state"] == "passed"
    assert listed == [made] == [shown]
    assert [each["kind"] for each in due] == ["revoke"]


async def test_runbook_comes_as_markdown_and_as_page(management: Management) -> None:
    async with management.client(operator=True) as client:
        for form, kind in (("markdown", "text/markdown"), ("html", "text/html")):
            answer = await client.post(f"{_BASE}/drills/runbook", json={"domain": "prod.example", "format": form})
            assert answer.headers["content-type"].startswith(kind)
            assert "Rotation runbook of prod.example" in answer.text


async def test_auditor_sees_drills_and_starts_none(management: Management) -> None:
    auditor = await management.user("eve", "auditor")
    answer = await auditor.post(f"{_BASE}/drills/revoke", json={"domain": "prod.example"})
    assert (answer.status_code, answer.json()["permission"]) == (403, "mtls.policy")
