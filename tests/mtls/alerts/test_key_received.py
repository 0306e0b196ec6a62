"""Whoever is sent a private key where a request belongs tells the organization whose it is."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from tests.server import management_client
from tests.server.management_client import Management

from intaglio.core.secrets import MasterKey

ROOT = "http://management"
_KEY = ec.generate_private_key(ec.SECP256R1())
PEM_KEY = _KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
PKCS12 = base64.b64encode(
    pkcs12.serialize_key_and_certificates(b"me", _KEY, None, None, BestAvailableEncryption(b"secret"))
).decode()


@pytest_asyncio.fixture
async def operator(database_url: str, master_key: MasterKey, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Two organizations, one of which has a trust domain with a service."""
    async with management_client.management(database_url, master_key, tmp_path) as started:
        async with started.client(operator=True) as client:
            for name in ("demo", "other"):
                await client.post("/organizations", json={"name": name})
            domain = {"name": "prod.example", "environment": "prod", "organization": "demo", "new_ca": {}}
            assert (await client.post(f"{ROOT}/mtls/v1/domains", json=domain)).status_code == 201
            service = {"domain": "prod.example", "kind": "service", "name": "payments", "team": "finance"}
            assert (await client.post(f"{ROOT}/mtls/v1/identities", json=service)).status_code == 201
            yield client
        await stopped(started)


async def stopped(started: Management) -> None:
    await started.services.mtls.close()


async def alerts(client: httpx.AsyncClient, organization: str = "demo") -> list[tuple[str, str, str, int]]:
    found = (await client.get(f"{ROOT}/mtls/v1/alerts?organization={organization}")).json()["items"]
    assert PEM_KEY[40:80] not in str(found)
    return [(each["kind"], each["subject"], each["severity"], each["count"]) for each in found]


@pytest.mark.parametrize("sent", [PEM_KEY, PKCS12], ids=["pem", "pkcs12"])
async def test_key_of_a_known_identity_is_an_alert_about_it(operator: httpx.AsyncClient, sent: str) -> None:
    where = f"{ROOT}/mtls/v1/identities/service:payments@prod.example/certificates"
    answer = await operator.post(where, json={"csr": sent})
    assert (answer.status_code, answer.json()["code"]) == (400, "private_key_received")
    assert sent[40:80] not in answer.text
    ((kind, subject, severity, count),) = await alerts(operator)
    assert (kind, severity, count) == ("key-received", "critical", 1)
    assert subject.endswith("/svc/payments")


async def test_key_of_nobody_known_is_an_alert_to_whoever_enrols_people(operator: httpx.AsyncClient) -> None:
    body = {"code": "none", "email": PEM_KEY}
    for _ in range(2):
        answer = await operator.post(f"{ROOT}/enrol/v1/sessions", json=body)
        assert answer.json()["code"] == "private_key_received"
    assert await alerts(operator) == [("key-received", "", "critical", 2)]
    assert await alerts(operator, "other") == []


async def test_key_for_a_subordinate_ca_is_an_alert(operator: httpx.AsyncClient) -> None:
    where = f"{ROOT}/mtls/v1/domains/prod.example/subordinates"
    answer = await operator.post(where, json={"csr": PEM_KEY, "purpose": "cert-manager", "lifetime": "30d"})
    assert answer.json()["code"] == "private_key_received"
    assert [each[0] for each in await alerts(operator)] == ["key-received"]
