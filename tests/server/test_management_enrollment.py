"""Tenants, endpoints, credentials and waiting requests of enrolment in the management API and in declarations."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from httpx import AsyncClient
from tests.server.management_client import Management
from tests.server.test_management_declaration import apply
from tests.support.requests import request

from intaglio.core.principal import SYSTEM
from intaglio.enrollment import pipeline
from intaglio.enrollment.values import Applicant, Application, Granted, Protocol, Waiting
from intaglio.identity.roles import create_role

SERVER = "privatessl-tls-server"


def wish(**changes: Any) -> dict[str, Any]:
    return {"protocol": "acme", "ca": "demo~issuing", "profile": SERVER, **changes}


async def created(client: AsyncClient, **changes: Any) -> dict[str, Any]:
    made = await client.post("/enrollment/endpoints", json=wish(**changes))
    assert made.status_code == 201, made.text
    found: dict[str, Any] = made.json()
    return found


@pytest.mark.usefixtures("hierarchy")
async def test_an_endpoint_needs_no_more_than_protocol_ca_and_profile(operator: AsyncClient) -> None:
    made = await created(operator)
    assert (made["address"], made["tenant"], made["enabled"]) == (f"acme/issuing-{SERVER}", "main", True)
    assert made["url"] == f"https://pki.example:1443/acme/main/demo~issuing/{SERVER}/directory"
    tenants = (await operator.get("/enrollment/tenants")).json()["items"]
    assert [(each["name"], each["endpoints"]) for each in tenants] == [("main", 1)]
    urls = (await operator.get("/enrollment/urls", params={"filter": "protocol=acme"})).json()["items"]
    assert urls[0]["urls"] == [made["url"]]
    assert any(made["url"] in line for each in urls[0]["commands"] for line in each["lines"])


@pytest.mark.usefixtures("hierarchy")
@pytest.mark.parametrize("field", ["name", "url", "ca_certificate"])
async def test_what_is_too_long_for_a_credential_is_refused(operator: AsyncClient, field: str) -> None:
    await created(operator, name="web")
    path = "/enrollment/endpoints/acme/web/credentials"
    refused = await operator.post(path, json={"kind": "eab", field: "x" * 70_000})
    assert refused.status_code == 400, refused.text


@pytest.mark.usefixtures("hierarchy")
async def test_an_endpoint_is_changed_switched_off_and_deleted(operator: AsyncClient) -> None:
    made = await created(operator, name="web", networks=["10.0.0.0/8"])
    path = "/enrollment/endpoints/acme/web"
    changed = await operator.patch(path, json={"approval": "manual", "hourly_limit": 10, "networks": []})
    assert changed.status_code == 200, changed.text
    assert {k: changed.json()[k] for k in ("approval", "hourly_limit", "networks", "version")} == {
        "approval": "manual",
        "hourly_limit": 10,
        "networks": [],
        "version": 2,
    }
    moved = await operator.patch(path, json={"enabled": False, "version": made["version"]})
    assert (moved.status_code, moved.json()["code"]) == (409, "version-moved")
    unlimited = await operator.patch(path, json={"hourly_limit": 0, "enabled": False})
    assert (unlimited.json()["hourly_limit"], unlimited.json()["enabled"]) == (None, False)
    assert (await operator.get("/enrollment/urls")).json()["items"] == []
    assert (await operator.delete(path)).status_code == 204
    assert (await operator.get(path)).json()["code"] == "endpoint-unknown"


@pytest.mark.usefixtures("hierarchy")
@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"ca": "demo~nowhere"}, 404, "ca-unknown"),
        ({"profile": "nowhere"}, 404, "profile-unknown"),
        ({"protocol": "est"}, 422, "channel-not-allowed"),
        ({"tenant": "other"}, 404, "tenant-unknown"),
        ({"name": "Not a name"}, 400, "endpoint-name"),
        ({"networks": ["10.0.0.0/33"]}, 400, "network-invalid"),
        ({"options": {"no-such-option": 1}}, 400, "endpoint-options-invalid"),
        ({"hourly_limit": 0}, 400, "invalid-input"),
    ],
)
async def test_an_endpoint_that_cannot_be_is_refused(
    operator: AsyncClient, changes: dict[str, Any], status: int, code: str
) -> None:
    refused = await operator.post("/enrollment/endpoints", json=wish(**changes))
    assert (refused.status_code, refused.json()["code"]) == (status, code), refused.text


@pytest.mark.usefixtures("hierarchy")
async def test_a_place_and_a_name_are_given_once(operator: AsyncClient) -> None:
    await created(operator, name="web")
    assert (await operator.post("/enrollment/tenants", json={"name": "Plant-7"})).status_code == 201
    for changes in ({"name": "web", "tenant": "Plant-7"}, {"name": "other"}):
        refused = await operator.post("/enrollment/endpoints", json=wish(**changes))
        assert (refused.status_code, refused.json()["code"]) == (409, "endpoint-exists")
    await created(operator, name="other", tenant="Plant-7")


@pytest.mark.usefixtures("hierarchy")
async def test_tenants_are_told_apart_by_case_and_deleted_when_empty(operator: AsyncClient) -> None:
    for name in ("Plant", "plant"):
        assert (await operator.post("/enrollment/tenants", json={"name": name})).status_code == 201
    again = await operator.post("/enrollment/tenants", json={"name": "plant"})
    assert again.json()["code"] == "tenant-exists"
    wrong = await operator.post("/enrollment/tenants", json={"name": "a b"})
    assert wrong.json()["code"] == "tenant-name"
    await created(operator, tenant="Plant")
    assert (await operator.delete("/enrollment/tenants/Plant")).json()["code"] == "tenant-in-use"
    assert (await operator.delete("/enrollment/tenants/plant")).status_code == 204
    assert (await operator.delete("/enrollment/tenants/plant")).json()["code"] == "tenant-unknown"


@pytest.mark.usefixtures("hierarchy")
async def test_a_secret_is_shown_once(operator: AsyncClient) -> None:
    await created(operator, name="web")
    path = "/enrollment/endpoints/acme/web/credentials"
    made = await operator.post(path, json={"kind": "eab", "name": "kid-1", "uses": 1})
    assert made.status_code == 201, made.text
    assert len(made.json()["secret"]) >= 43
    listed = await operator.get(path)
    assert [each["name"] for each in listed.json()["items"]] == ["kid-1"]
    assert made.json()["secret"] not in listed.text
    twice = await operator.post(path, json={"kind": "eab", "name": "kid-1"})
    assert twice.json()["code"] == "credential-exists"
    other = await operator.post(path, json={"kind": "password", "name": "x"})
    assert other.json()["code"] == "credential-kind"
    short = await operator.post(path, json={"kind": "eab", "name": "x", "secret": "short"})
    assert short.json()["code"] == "credential-secret"
    assert (await operator.delete(f"{path}/eab/kid-1")).status_code == 204
    assert (await operator.delete(f"{path}/eab/kid-1")).json()["code"] == "enrollment-credential-unknown"


@pytest.mark.usefixtures("hierarchy")
async def test_somebody_approves_a_request(management: Management, operator: AsyncClient) -> None:
    await created(operator, name="web", approval="manual")
    enrollment = management.services.enrollment
    endpoint = await enrollment.endpoints.named(Protocol.ACME, "web")
    wanted = [Application(endpoint, Applicant(name, "account", "192.0.2.1"), csr=request(dns=[name]), key=name)
              for name in ("www.example", "mail.example")]  # fmt: skip
    for each in wanted:
        assert isinstance(await pipeline.apply(enrollment, each), Waiting)
    query = {"filter": ["state=pending", "applicant=www.example"]}
    (waiting,) = (await operator.get("/enrollment/requests", params=query)).json()["items"]
    assert waiting["csr"].startswith("-----BEGIN CERTIFICATE REQUEST-----")
    assert waiting["sans"] == ["dNSName=www.example"]
    approved = await operator.post(f"/enrollment/requests/{waiting['id']}/approve")
    assert approved.json()["state"] == "approved"
    assert isinstance(await pipeline.apply(enrollment, wanted[0]), Granted)
    (other,) = (await operator.get("/enrollment/requests", params={"filter": "state=pending"})).json()["items"]
    rejected = await operator.post(f"/enrollment/requests/{other['id']}/reject", json={"reason": "unknown"})
    assert (rejected.json()["state"], rejected.json()["reason"]) == ("rejected", "unknown")
    again = await operator.post(f"/enrollment/requests/{other['id']}/approve")
    assert (again.status_code, again.json()["code"]) == (409, "request-decided")


@pytest.mark.usefixtures("hierarchy")
async def test_endpoints_of_other_organizations_do_not_exist(management: Management, operator: AsyncClient) -> None:
    made = await created(operator, name="web")
    async with management.services.database.transaction() as tx:
        await create_role(tx, SYSTEM, "enrolling", ["enrollment.view", "enrollment.manage", "enrollment.approve"])  # type: ignore[list-item]
    stranger = await management.user("stranger", "enrolling")
    assert (await stranger.get("/enrollment/endpoints")).json()["items"] == []
    for answer in (
        await stranger.get(f"/enrollment/endpoints/{made['address']}"),
        await stranger.patch(f"/enrollment/endpoints/{made['address']}", json={"enabled": False}),
        await stranger.delete(f"/enrollment/endpoints/{made['address']}"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "endpoint-unknown")
    refused = await stranger.post("/enrollment/endpoints", json=wish(name="mine"))
    assert (refused.status_code, refused.json()["code"]) == (404, "ca-unknown")


@pytest.mark.usefixtures("hierarchy")
async def test_tenants_and_endpoints_are_declared(operator: AsyncClient) -> None:
    wanted: dict[str, Any] = {
        "enrollment_tenants": [{"name": "Plant-7", "description": "Machines"}],
        "enrollment_endpoints": [
            {"protocol": "acme", "name": "web", "ca": "demo~issuing", "profile": SERVER, "networks": ["10.0.0.0/8"]},
            {"protocol": "acme", "name": "plant", "tenant": "Plant-7", "ca": "demo~issuing", "profile": SERVER},
        ],
    }
    text = yaml.safe_dump(wanted)
    done = await apply(operator, text)
    assert [each["object"] for each in done["changes"]] == [
        "enrolment tenant Plant-7",
        "enrolment endpoint acme/web",
        "enrolment endpoint acme/plant",
    ]
    assert (await apply(operator, text))["changes"] == []
    exported = (await operator.get("/declaration")).json()["declaration"]
    assert (await apply(operator, exported, prune=True, dry_run=True))["changes"] == []
    wanted["enrollment_endpoints"][0] |= {"approval": "manual", "networks": [], "hourly_limit": 5}
    changed = await apply(operator, yaml.safe_dump(wanted))
    assert [sorted(field[0] for field in each["fields"]) for each in changed["changes"]] == [
        ["approval", "hourly_limit", "networks"]
    ]
    assert (await apply(operator, yaml.safe_dump(wanted)))["changes"] == []
    wanted["enrollment_endpoints"][0]["profile"] = "privatessl-tls-client"
    refused = await operator.post("/declaration", json={"declaration": yaml.safe_dump(wanted)})
    assert (refused.status_code, refused.json()["code"]) == (422, "setting-frozen")
    gone = await apply(operator, "enrollment_tenants: []\nenrollment_endpoints: []\n", prune=True)
    assert len(gone["changes"]) == 4
    assert (await operator.get("/enrollment/tenants")).json()["items"] == []


@pytest.mark.usefixtures("hierarchy")
async def test_everything_that_is_wrong_with_declared_endpoints_is_said_before_anything_changes(
    operator: AsyncClient,
) -> None:
    place = {"protocol": "acme", "ca": "demo~issuing", "profile": SERVER}
    endpoints = [
        {**place, "name": "good"},
        {**place, "name": "again"},
        {**place, "name": "elsewhere", "tenant": "nope"},
        {**place, "name": "lost", "ca": "demo~nope"},
        {**place, "name": "foreign", "profile": "multiuse-p12-server"},
        {**place, "name": "other", "protocol": "est"},
        {**place, "name": "odd", "tenant": "Plant-7", "options": {"order_lifetime": "a week", "colour": "red"}},
    ]
    text = yaml.safe_dump({"enrollment_tenants": [{"name": "Plant-7"}], "enrollment_endpoints": endpoints})
    refused = await operator.post("/declaration", json={"declaration": text})
    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (400, "declaration-invalid")
    assert [each["pointer"].removeprefix("/enrollment_endpoints/") for each in problem["errors"]] == [
        "1",
        "2/tenant",
        "3/ca",
        "4/profile",
        "5/profile",
        "6/options/order_lifetime",
        "6/options/colour",
    ]
    assert (await operator.get("/enrollment/endpoints")).json()["items"] == []


async def test_the_options_of_every_protocol_are_described(operator: AsyncClient) -> None:
    for protocol in Protocol:
        schema = (await operator.get(f"/enrollment/options/{protocol}")).json()
        assert schema["additionalProperties"] is False
        for name, each in schema.get("properties", {}).items():
            assert each.get("description") or "$ref" in each, f"{protocol}: {name}"
