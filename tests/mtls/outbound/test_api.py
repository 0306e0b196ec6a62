"""Outbound credentials over HTTP."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio
from tests.mtls.outbound.conftest import PASSWORD, Partner
from tests.server.management_client import Management, management

from intaglio.core.secrets import MasterKey

_BASE = "http://management/mtls/v1"


@pytest_asyncio.fixture
async def api(database_url: str, master_key: MasterKey, tmp_path: Path) -> AsyncIterator[Management]:
    async with management(database_url, master_key, tmp_path) as found:
        yield found


async def test_the_life_of_an_outbound_credential(api: Management, partner: Partner) -> None:
    async with api.client(operator=True) as http:

        async def call(method: str, path: str, status: int = 200, **body: Any) -> Any:
            answer = await http.request(method, f"{_BASE}{path}", json=body if method != "GET" else None)
            assert answer.status_code == status, answer.text
            return answer.json()

        await http.post("/organizations", json={"name": "demo"})
        wanted = {"organization": "demo", "name": "pay", "host_pattern": "pay.example"}
        await call("POST", "/outbound", 201, **wanted)
        assert (await call("POST", "/outbound", 409, **wanted))["code"] == "already-exists"
        changed = await call("PATCH", "/outbound/demo/pay", title="Payments", minimum_tls="1.3")
        assert (changed["title"], changed["minimum_tls"]) == ("Payments", "1.3")
        assert (await call("PATCH", "/outbound/demo/pay", sni="pay.other"))["title"] == "Payments"
        assert (await call("PATCH", "/outbound/demo/pay", 400, host_pattern="x.example"))["code"]
        first = base64.b64encode(partner.pkcs12("client", days=10)).decode()
        refused = await call("POST", "/outbound/demo/pay/import", 400, pkcs12=first, password="wrong")
        assert refused["code"] == "password-wrong"
        found = await call("POST", "/outbound/demo/pay/import", pkcs12=first, password=PASSWORD)
        assert (found["state"], found["credentials"][0]["subject"]) == ("active", "CN=client")
        assert "key" not in found["credentials"][0]
        shared = await call("POST", "/outbound/demo/pay/share", api="Payments", contact="ops@pay.example")
        assert shared["sha256"] == found["credentials"][0]["sha256"]
        holder = shared["outbound"]["credentials"][0]["holders"][0]["id"]
        await call("POST", f"/outbound/demo/pay/holders/{holder}/confirm")
        made = await call("POST", "/outbound/demo/pay/request", subject="CN=second")
        assert made["request"].startswith("-----BEGIN CERTIFICATE REQUEST-----")
        second = base64.b64encode(partner.pkcs12("second")).decode()
        found = await call("POST", "/outbound/demo/pay/import", pkcs12=second, password=PASSWORD)
        assert found["missing_confirmations"] == ["Payments"]
        assert (await call("POST", "/outbound/demo/pay/switch", 409))["code"] == "not-confirmed"
        found = await call("POST", "/outbound/demo/pay/switch", reason="The first key was lost.")
        assert found["state"] == "active"
        assert (await call("GET", "/outbound"))["items"][0]["name"] == "pay"
        assert await call("GET", "/outbound-due") == []
        refused = await call("POST", "/outbound/demo/pay/test", 422, host="evil.example")
        assert refused["code"] == "host-not-allowed"
        assert (await call("DELETE", "/outbound/demo/pay"))["state"] == "retired"


async def test_nobody_unknown_sees_anything(api: Management) -> None:
    async with api.client() as http:
        assert (await http.get(f"{_BASE}/outbound")).status_code == 401
        assert (await http.get(f"{_BASE}/outbound-due")).status_code == 401
