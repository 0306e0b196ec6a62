"""Enrolment and security codes over HTTP, on the console's listener: who may what, and what is answered."""

from __future__ import annotations

import plistlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import text
from tests.mtls.enrolment.conftest import csr
from tests.server import management_client
from tests.server.management_client import Management

from intaglio.core.secrets import MasterKey

EMAIL = "alice@example.com"


@pytest_asyncio.fixture
async def management(database_url: str, master_key: MasterKey, tmp_path: Any) -> AsyncIterator[Management]:
    async with management_client.management(database_url, master_key, tmp_path) as started:
        yield started


def at(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """The same client, at the paths beside ``/api/v1``."""
    client.base_url = httpx.URL("http://management")
    return client


@pytest_asyncio.fixture
async def operator(management: Management) -> AsyncIterator[httpx.AsyncClient]:
    """The operator of a host with the trust domain ``prod.example``."""
    mail = {"email_domains": ["example.com"]}
    async with at(management.client(operator=True)) as client:
        for path, body in (
            ("/api/v1/organizations", {"name": "demo"}),
            (
                "/mtls/v1/domains",
                {"name": "prod.example", "environment": "prod", "organization": "demo", "new_ca": {}, **mail},
            ),
        ):
            answer = await client.post(path, json=body)
            assert answer.status_code == 201, answer.text
        yield client


@pytest_asyncio.fixture
async def page(management: Management) -> AsyncIterator[httpx.AsyncClient]:
    """The enrolment page: nobody we know."""
    async with at(management.client()) as client:
        yield client


async def make(operator: httpx.AsyncClient, **more: Any) -> dict[str, Any]:
    answer = await operator.post("/enrol/v1/codes", json={"email": EMAIL, "display_name": "Alice", **more})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_the_page_gets_what_it_was_promised(operator: httpx.AsyncClient, page: httpx.AsyncClient) -> None:
    policy = (await page.get("/enrol/v1/policy")).json()
    assert policy["domain"] == "prod.example"
    assert policy["organization"] == "demo"
    assert policy["key_algorithm"] == "EC P-256"
    assert policy["validity_days"] == 5
    assert policy["p12_variants"] == ["modern", "compatible"]
    assert policy["renew_url"].endswith(":1443/enrol/v1/renew")
    code = (await make(operator))["code"]
    begun = await page.post("/enrol/v1/sessions", json={"code": code, "email": EMAIL})
    assert begun.status_code == 201
    assert begun.headers["cache-control"] == "no-store"
    session = begun.json()
    assert set(session) == {"session", "identity", "email", "nonce", "key_algorithm", "expires_at", "domain"}
    path = f"/enrol/v1/sessions/{session['session']}"
    request = csr(session["identity"], EMAIL, session["nonce"])
    answer = await page.post(f"{path}/csr", json={"csr": request.decode()})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert set(found) == {"certificate", "chain", "serial", "identity", "not_before", "not_after"}
    assert x509.load_pem_x509_certificate(found["certificate"].encode()).serial_number == int(found["serial"], 16)
    assert (await page.post(f"{path}/downloaded")).status_code == 204
    assert (await page.post("/enrol/v1/sessions/none/downloaded")).status_code == 404


async def test_ca_files_are_files(operator: httpx.AsyncClient, page: httpx.AsyncClient) -> None:
    policy = (await page.get("/enrol/v1/policy")).json()
    pem = await page.get("/enrol/v1/ca.pem")
    assert policy["ca"]["sha256"] in pem.text
    assert "attachment" in pem.headers["content-disposition"]
    der = await page.get("/enrol/v1/ca.cer")
    assert x509.load_der_x509_certificate(der.content) == x509.load_pem_x509_certificate(pem.content)
    profile = await page.get("/enrol/v1/ca.mobileconfig", params={"domain": "prod.example"})
    assert profile.headers["content-type"] == "application/x-apple-aspen-config"
    assert plistlib.loads(profile.content)["PayloadVersion"] == 1
    assert (await page.get("/enrol/v1/ca.pem", params={"domain": "none.example"})).status_code == 404


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"code": 1, "email": ""}', b'{"code": "x"}', b'{"code": "x", "email": "y", "z": 1}']
)
async def test_a_body_of_another_form_is_a_problem(page: httpx.AsyncClient, body: bytes) -> None:
    answer = await page.post("/enrol/v1/sessions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["code"] in ("invalid-json", "invalid-input")


@pytest.mark.parametrize("path", ["/enrol/v1/sessions", "/enrol/v1/sessions/x/csr", "/enrol/v1/revoke"])
async def test_a_private_key_is_refused_everywhere(
    management: Management, page: httpx.AsyncClient, path: str, capfd: pytest.CaptureFixture[str]
) -> None:
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    line = key.decode().splitlines()[1]
    for body in ({"json": {"code": key.decode()}}, {"content": key}, {"content": b'{"csr": "' + key}):
        answer = await page.post(path, **body)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["code"]) == (400, "private_key_received")
        assert line not in answer.text
    async with management.services.database.read() as view:
        rows = await view.all(text("SELECT t::text AS row FROM audit_record t"))
    assert len([row for row in rows if "private-key-received" in row["row"]]) == 3
    assert not any(line in row["row"] for row in rows)
    assert line not in "".join(capfd.readouterr())


async def test_a_body_that_is_too_long_is_refused(page: httpx.AsyncClient) -> None:
    answer = await page.post("/enrol/v1/sessions/x/csr", content=b"A" * 300_000)
    assert answer.status_code == 413


async def test_refusals_of_guesses_come_with_retry_after(operator: httpx.AsyncClient, page: httpx.AsyncClient) -> None:
    code = (await make(operator))["code"]
    wrong = code[:-1] + ("A" if code[-1] != "A" else "B")
    for _ in range(5):
        answer = await page.post("/enrol/v1/sessions", json={"code": wrong, "email": EMAIL})
        assert answer.json()["code"] == "code_invalid"
    locked = await page.post("/enrol/v1/sessions", json={"code": code, "email": EMAIL})
    assert (locked.status_code, locked.json()["code"]) == (429, "code_locked")
    assert int(locked.headers["retry-after"]) > 0


async def test_codes_are_made_listed_and_withdrawn(operator: httpx.AsyncClient) -> None:
    made = await make(operator, note="first day", ttl_hours=1)
    listed = (await operator.get("/enrol/v1/codes", params={"filter": f"id={made['id']}"})).json()["items"]
    assert [each["id"] for each in listed] == [made["id"]]
    assert "code" not in listed[0]
    shown = (await operator.get(f"/enrol/v1/codes/{made['id']}")).json()
    assert shown == listed[0]
    handed = await operator.post(f"/enrol/v1/codes/{made['id']}/send", json={"in_person": True})
    assert handed.json()["state"] == "delivered"
    withdrawn = await operator.post(f"/enrol/v1/codes/{made['id']}/revoke")
    assert withdrawn.json()["state"] == "revoked"


ADMINISTRATION = [
    ("POST", "/enrol/v1/codes", {"email": EMAIL}),
    ("GET", "/enrol/v1/codes", None),
    ("GET", "/enrol/v1/codes/0199d2a4-0000-7000-8000-000000000000", None),
    ("POST", "/enrol/v1/codes/0199d2a4-0000-7000-8000-000000000000/approve", {}),
    ("POST", "/enrol/v1/codes/0199d2a4-0000-7000-8000-000000000000/send", {}),
    ("POST", "/enrol/v1/codes/0199d2a4-0000-7000-8000-000000000000/revoke", {}),
    ("PUT", "/enrol/v1/mail/password", {"password": "x"}),
    ("DELETE", "/enrol/v1/mail/password", None),
    ("POST", "/enrol/v1/mail/test", {"to": EMAIL}),
    ("PUT", "/enrol/v1/binding-store/secret-key", {"password": "x"}),
    ("DELETE", "/enrol/v1/binding-store/secret-key", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ADMINISTRATION)
async def test_administration_needs_its_permission(
    management: Management, method: str, path: str, body: dict[str, Any] | None
) -> None:
    needed = "mtls.enrol" if "/codes" in path else "platform.manage"
    async with at(management.client()) as nobody:
        assert (await nobody.request(method, path, json=body)).status_code == 401
    async with at(await management.user("auditor1", "auditor")) as auditor:
        refused = await auditor.request(method, path, json=body)
        assert (refused.status_code, refused.json()["permission"]) == (403, needed)


def test_every_operation_of_administration_is_tried() -> None:
    from intaglio.server.management.app import openapi

    free = ("/policy", "/sessions", "/revoke", "/ca.", "/logins")
    found = {
        (method.upper(), path.replace("{code}", "0199d2a4-0000-7000-8000-000000000000"))
        for path, methods in openapi()["paths"].items()
        if path.startswith("/enrol/v1") and not path.removeprefix("/enrol/v1").startswith(free)
        for method in methods
    }
    assert found == {(method, path) for method, path, _ in ADMINISTRATION}


async def test_an_officer_makes_codes_in_his_organization_only(
    management: Management, operator: httpx.AsyncClient
) -> None:
    await make(operator)
    async with at(await management.user("officer", "enrolment-officer")) as officer:
        hidden = await officer.post("/enrol/v1/codes", json={"email": EMAIL, "domain": "prod.example"})
        assert hidden.status_code == 404
        assert (await officer.get("/enrol/v1/codes")).json()["items"] == []
        joined = await operator.put("/api/v1/organizations/demo/members/officer", json={})
        assert joined.status_code == 200
        assert (await officer.post("/enrol/v1/codes", json={"email": EMAIL})).status_code == 201
        assert len((await officer.get("/enrol/v1/codes")).json()["items"]) == 2
