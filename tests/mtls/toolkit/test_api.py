"""The toolkit over HTTP gives what the command line gives, and keeps nothing."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from tests.server.management_client import Management, management

from intaglio.core.effort import Effort
from intaglio.core.secrets import MasterKey
from intaglio.mtls.toolkit import keys
from intaglio.mtls.toolkit.pkcs12_reader import open_pkcs12
from intaglio.server.management.mtls import toolkit
from intaglio.x509.certificates import read_certificate

_PASSWORD, _OTHER = "correct horse battery staple", "another purple elephant dances"


@pytest_asyncio.fixture
async def api(database_url: str, master_key: MasterKey, tmp_path: Path) -> AsyncIterator[Management]:
    async with management(database_url, master_key, tmp_path) as found:
        yield found


async def _post(api: Management, path: str, status: int = 200, **body: Any) -> Any:
    async with api.client(operator=True) as http:
        answer = await http.post(f"http://management/toolkit/v1/{path}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_who_asks_for_much_work_has_to_wait_and_others_go_on(
    api: Management, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making keys and deriving them from passwords takes seconds; one caller must not take all of a server."""
    used = 0.0

    def processor_time() -> float:
        nonlocal used
        used += 10.0
        return used

    monkeypatch.setattr(toolkit, "costly", Effort(budget=15.0, regained=0.001, processor_time=processor_time))
    body = {"algorithm": "P-256", "iterations": 1000}
    alice, bob = await api.user("alice", "auditor"), await api.user("bobby", "auditor")
    url = "http://management/toolkit/v1/keys"
    assert (await alice.post(url, json=body)).status_code == 200
    opening, inspecting = {"pkcs12": "MAA=", "password": "x"}, {"data": "MAA="}
    for path, asked in (("keys", body), ("pkcs12/open", opening), ("inspect", inspecting)):
        refused = await alice.post(f"http://management/toolkit/v1/{path}", json=asked)
        assert (refused.status_code, refused.json()["code"]) == (429, "too-much-work")
        assert int(refused.headers["retry-after"]) > 0
    assert (await bob.post(url, json=body)).status_code == 200


async def test_the_four_steps_work_over_http(api: Management) -> None:
    made = await _post(api, "keys", algorithm="P-384", password=_PASSWORD, iterations=1000)
    assert (made["key_algorithm"], made["password"]) == ("ecdsa-p384", None)
    names = [{"type": "email", "value": "alice@example.com"}]
    csr = await _post(api, "requests", key=made["key"], password=_PASSWORD, subject="CN=alice", names=names)
    crt = await _post(
        api, "certificates", csr=csr["pem"], key=made["key"], password=_PASSWORD, self_signed=True, digest="sha384"
    )
    certificate = read_certificate(crt["pem"])
    assert certificate.subject.rfc4514 == "CN=alice"
    p12 = await _post(
        api, "pkcs12", key=made["key"], key_password=_PASSWORD, certificate=crt["pem"], password=_OTHER,
        variant="compatible", iterations=1000, mac_iterations=1000,
    )  # fmt: skip
    found = open_pkcs12(base64.b64decode(p12["pkcs12"]), _OTHER)
    assert found.certificate == certificate.der
    opened = await _post(api, "pkcs12/open", pkcs12=p12["pkcs12"], password=_OTHER)
    assert keys.read_key(opened["key"].encode(), _OTHER).public_key() == found.key.public_key()
    told = await _post(api, "inspect", data=p12["pkcs12"], password=_OTHER)
    assert told[0]["facts"]["certificates"][0]["subject"] == "CN=alice"
    shared = await _post(api, "share", certificate=crt["pem"])
    assert base64.b64decode(shared["der"]) == certificate.der
    verdict = await _post(api, "verify", certificate=crt["pem"], trusted=crt["pem"], purpose="client")
    assert verdict["valid"]
    der = await _post(api, "convert", data=crt["pem"], to="der")
    assert base64.b64decode(der["data"]) == certificate.der


async def test_a_generated_password_opens_the_key(api: Management) -> None:
    made = await _post(api, "keys")
    assert keys.read_key(made["key"].encode(), made["password"])
    strength = await _post(api, "passwords/strength", password=made["password"])
    assert strength["sufficient"]
    assert len((await _post(api, "passwords"))["password"]) > 20
    remarks = (await _post(api, "advice", algorithm="rsa-4096", systems=["legacy"]))["remarks"]
    assert remarks[0]["instead"] == "Use rsa-2048."


async def test_weak_passwords_and_silent_self_signing_are_refused(api: Management) -> None:
    assert (await _post(api, "keys", 400, password="password1"))["code"] == "password-too-weak"
    refused = await _post(api, "certificates", 400, csr="x", key="x", self_signed=False)
    assert refused["code"] == "invalid-input"


async def test_nobody_unknown_uses_it(api: Management) -> None:
    async with api.client() as http:
        for path in ("keys", "inspect", "passwords"):
            answer = await http.post(f"http://management/toolkit/v1/{path}", json={})
            assert answer.status_code == 401


async def test_no_secret_is_in_an_answer_to_a_mistake_or_in_the_database(api: Management) -> None:
    made = await _post(api, "keys", password=_PASSWORD, iterations=1000)
    refused = await _post(api, "requests", 400, key=made["key"], password=_OTHER, subject="CN=x")
    assert refused["code"] == "password-wrong"
    assert _OTHER not in str(refused)
    wrong_type = await _post(api, "keys", 400, password=[_PASSWORD])
    assert _PASSWORD not in str(wrong_type)
    async with api.services.database.read() as view:
        recorded = await view.all(text("SELECT detail::text AS detail, object FROM audit_record"))
    assert not any(_PASSWORD in str(dict(row)) or _OTHER in str(dict(row)) for row in recorded)
