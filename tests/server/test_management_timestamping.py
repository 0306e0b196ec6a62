"""Timestamp issuers in the management API and in declarations."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding
from httpx import AsyncClient
from tests.server.test_management_declaration import apply
from tests.support.foreign import ForeignCa

POLICY = "1.3.6.1.4.1.99999.1"


def _wish(name: str = "standard", **changes: Any) -> dict[str, Any]:
    return {"name": name, "profile": {"policy": POLICY}, "ca": "demo~issuing", **changes}


@pytest.mark.usefixtures("hierarchy")
async def test_an_issuer_by_api(operator: AsyncClient) -> None:
    made = await operator.post("/timestamping/issuers", json=_wish(profile={"policy": POLICY, "accuracy": "1s"}))
    assert made.status_code == 201, made.text
    assert made.json()["url"].endswith("/tsa/standard")
    assert made.json()["profile"]["accuracy"] == 1_000_000
    assert made.json()["certificate"]["renew_at"] is not None
    listed = (await operator.get("/timestamping/issuers", params={"filter": "name=standard"})).json()["items"]
    assert [each["ca"] for each in listed] == ["demo~issuing"]
    changed = await operator.patch("/timestamping/issuers/standard", json={"profile": {"accuracy": "none"}})
    assert (changed.json()["profile"]["accuracy"], changed.json()["version"]) == (None, 2)
    moved = await operator.patch("/timestamping/issuers/standard", json={"enabled": False, "version": 1})
    assert (moved.status_code, moved.json()["code"]) == (409, "version-moved")
    renewed = await operator.post("/timestamping/issuers/standard/renew")
    assert renewed.json()["certificate"]["serial_number"] != made.json()["certificate"]["serial_number"]
    verdict = (await operator.post("/timestamping/issuers/standard/validate", json={})).json()
    assert verdict == {"ok": True, "findings": []}
    assert (await operator.delete("/timestamping/issuers/standard")).status_code == 204
    assert (await operator.get("/timestamping/issuers/standard")).status_code == 404


@pytest.mark.parametrize(
    "profile",
    [
        {"policy": "1"},
        {"policy": POLICY, "serial_octets": 7},
        {"policy": POLICY, "serial_octets": 21},
        {"policy": POLICY, "hashes": ["md5"]},
        {"policy": POLICY, "hashes": ["sha512"]},
        {"policy": POLICY, "accuracy": "soon"},
        {},
    ],
)
async def test_a_wrong_profile_is_refused(operator: AsyncClient, profile: dict[str, Any]) -> None:
    assert (await operator.post("/timestamping/issuers", json=_wish(ca=None, profile=profile))).status_code == 400


async def test_a_wrong_change_is_refused_with_what_is_wrong(operator: AsyncClient) -> None:
    assert (await operator.post("/timestamping/issuers", json=_wish(ca=None))).status_code == 201
    for changes in ({"serial_octets": 7}, {"digest": "sha256", "hashes": ["sha512"]}):
        refused = await operator.patch("/timestamping/issuers/standard", json={"profile": changes})
        assert (refused.status_code, refused.json()["code"]) == (400, "timestamp-profile-invalid")
    judged = await operator.post("/timestamping/issuers/standard/validate", json={"profile": {"serial_octets": 21}})
    assert judged.json()["code"] == "timestamp-profile-invalid"


async def test_a_request_waits_for_another_ca(operator: AsyncClient) -> None:
    made = (await operator.post("/timestamping/issuers", json=_wish(ca=None))).json()
    assert made["request_pending"]
    assert made["certificate"] is None
    request = await operator.post("/timestamping/issuers/standard/csr", json={})
    assert request.text.startswith("-----BEGIN CERTIFICATE REQUEST-----")
    refused = await operator.put("/timestamping/issuers/standard/certificate", json={"certificate": "bm90aGluZw=="})
    assert (refused.status_code, refused.json()["code"]) == (400, "certificate-unparsable")
    verdict = (await operator.post("/timestamping/issuers/standard/validate", json={})).json()
    assert [each["code"] for each in verdict["findings"]] == ["tsa-certificate-missing"]
    assert not verdict["ok"]


async def test_the_clock_is_asked(operator: AsyncClient) -> None:
    settings = {"clock_source": "chrony", "chrony_address": "127.0.0.1:9"}
    changed = await operator.patch("/settings/timestamping", json={"values": settings})
    assert changed.status_code == 200, changed.text
    found = (await operator.get("/timestamping/clock")).json()
    assert (found["status"], found["source"]) == ("DOWN", "chrony")
    assert "cannot be asked" in found["cause"]
    wrong = await operator.patch("/settings/timestamping", json={"values": {"chrony_address": "not an address"}})
    assert wrong.status_code == 400


@pytest.mark.usefixtures("hierarchy")
async def test_issuers_are_declared(operator: AsyncClient) -> None:
    wanted = {
        "timestamp_issuers": [
            {"name": "first", "profile": {"policy": POLICY, "accuracy": "500ms"}, "ca": "demo~issuing"},
            {"name": "second", "profile": {"policy": "1.2.3", "ordering": True}, "share_with": "first"},
            {"name": "third", "profile": {"policy": "1.2.3"}, "key_algorithm": "rsa-2048"},
        ]
    }
    text = yaml.safe_dump(wanted)
    done = await apply(operator, text)
    assert [each["object"].split()[-1] for each in done["changes"]] == ["first", "second", "third"]
    assert any("third waits for its certificate" in note for note in done["notes"])
    assert (await apply(operator, text))["changes"] == []
    exported = (await operator.get("/declaration")).json()["declaration"]
    assert (await apply(operator, exported, prune=True, dry_run=True))["changes"] == []
    changed = await apply(operator, text.replace("500ms", "2s"))
    assert [each["object"] for each in changed["changes"]] == ["timestamp issuer first"]
    refused = await operator.post("/declaration", json={"declaration": text.replace("rsa-2048", "rsa-4096")})
    assert (refused.status_code, refused.json()["code"]) == (422, "setting-frozen")
    gone = await apply(operator, "timestamp_issuers: []\n", prune=True)
    assert len(gone["changes"]) == 3


async def test_the_certificate_of_another_ca_is_declared_with_its_issuer(operator: AsyncClient) -> None:
    ca = ForeignCa()
    issuer: dict[str, Any] = {"name": "foreign", "profile": {"policy": POLICY}}
    await apply(operator, yaml.safe_dump({"timestamp_issuers": [issuer]}))
    request = await operator.post("/timestamping/issuers/foreign/csr", json={})
    pem = ca.certify_timestamps(request.content).public_bytes(Encoding.PEM).decode()
    text = yaml.safe_dump({"timestamp_issuers": [issuer | {"certificate": pem + ca.pem}]})
    done = await apply(operator, text)
    assert [[field[0] for field in each["fields"]] for each in done["changes"]] == [["certificate"]]
    found = (await operator.get("/timestamping/issuers/foreign")).json()
    assert (found["certificate"]["certificate"], len(found["certificate"]["chain"])) == (pem, 1)
    assert (await apply(operator, text))["changes"] == []
    exported = (await operator.get("/declaration")).json()["declaration"]
    assert (await apply(operator, exported, prune=True, dry_run=True))["changes"] == []
    twice = yaml.safe_dump({"timestamp_issuers": [issuer | {"certificate": pem, "ca": "demo~issuing"}]})
    refused = await operator.post("/declaration", json={"declaration": twice})
    assert (refused.status_code, refused.json()["code"]) == (400, "declaration-invalid")
