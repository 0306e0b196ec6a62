"""Scenarios over the API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.server import management_client
from tests.server.management_client import Management

from intaglio.core.secrets import MasterKey

_BASE = "http://management/mtls/v1/scenarios"


@pytest_asyncio.fixture
async def management(database_url: str, master_key: MasterKey, tmp_path: Path) -> AsyncIterator[Management]:
    async with management_client.management(database_url, master_key, tmp_path) as started:
        yield started
        await started.services.mtls.close()


async def test_run_tells_what_it_does_line_by_line(management: Management) -> None:
    async with management.client(operator=True) as client:
        answer = await client.post(f"{_BASE}/2/runs")
        assert answer.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in answer.text.splitlines()]
        listed = (await client.get(_BASE)).json()["items"]
    assert [line["row"] for line in lines if "row" in line] == lines[-1]["run"]["rows"]
    assert lines[-1]["run"]["passed"]
    assert listed[1]["last_run"] == lines[-1]["run"]
    assert [each["last_run"] for each in listed if each["number"] != 2] == [None] * 7


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/9/runs", 404, "scenario-unknown"),
        ("/x/runs", 400, "invalid-input"),
        ("/8/runs?count=0", 400, "invalid-input"),
    ],
)
async def test_impossible_wish_is_refused_at_once(management: Management, path: str, status: int, code: str) -> None:
    async with management.client(operator=True) as client:
        answer = await client.post(f"{_BASE}{path}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_auditor_reads_and_does_not_run(management: Management) -> None:
    auditor = await management.user("eve", "auditor")
    assert (await auditor.get(_BASE)).status_code == 200
    answer = await auditor.post(f"{_BASE}/1/runs")
    assert (answer.status_code, answer.json()["permission"]) == (403, "mtls.policy")


async def test_nobody_sees_nothing(management: Management) -> None:
    async with management.client() as stranger:
        assert (await stranger.get(_BASE)).status_code == 401
        for path in ("settings", "changes"):
            answer = await stranger.get(f"http://management/mtls/v1/gateway/{path}")
            assert (answer.status_code, answer.json()["code"]) == (401, "ingress-token-invalid")


async def test_login_is_no_token_of_an_ingress(management: Management) -> None:
    admin = await management.user("root2", "administrator")
    answer = await admin.post("http://management/mtls/v1/gateway/decisions", json={"source_ip": "127.0.0.1"})
    assert (answer.status_code, answer.json()["code"]) == (401, "ingress-token-invalid")
