"""Who may do what through the management API, and how it says no."""

from __future__ import annotations

import json

import pytest
from httpx import AsyncClient
from sqlalchemy import select
from tests.server.management_client import PASSWORD, Management, root_body
from tests.support.eventually import eventually

from intaglio.audit.models import audit_record


async def test_nobody_is_asked_for_a_token(management: Management) -> None:
    answer = await management.client().get("/cas")
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["code"] == "token-missing"
    assert "remedy" in answer.json()


async def test_an_unknown_token_is_refused_even_on_the_unix_socket(management: Management) -> None:
    client = management.client("igt_" + "0" * 49, operator=True)
    assert (await client.get("/me")).json()["code"] == "token-invalid"


async def test_the_operator_of_the_host_needs_no_token(operator: AsyncClient) -> None:
    me = (await operator.get("/me")).json()
    assert me["kind"] == "operator"
    assert "platform.manage" in me["permissions"]


async def test_the_operator_is_somebody_else_when_he_sends_a_token(management: Management) -> None:
    await management.user("carol", "auditor")
    client = management.client(await management.token("carol"), operator=True)
    me = (await client.get("/me")).json()
    assert (me["kind"], me["name"]) == ("user", "carol")
    rooms = ("audit", "ca", "enrollment", "mtls", "timestamping", "validation")
    assert me["permissions"] == [f"{room}.view" for room in rooms]


async def test_a_one_time_secret_is_good_only_for_a_new_password(management: Management, operator: AsyncClient) -> None:
    secret = (await operator.post("/users", json={"name": "dave", "roles": ["auditor"]})).json()["secret"]
    login = (await management.client().post("/login", json={"name": "dave", "password": secret})).json()
    assert login["password_change_required"]
    client = management.client(login["token"])
    assert (await client.get("/cas")).json()["code"] == "password-change-required"
    changed = await client.post("/me/password", json={"new": PASSWORD.get_secret_value()})
    assert changed.status_code == 200
    assert (await management.client(changed.json()["token"]).get("/cas")).status_code == 200
    assert (await client.get("/cas")).status_code == 401


async def test_everybody_else_can_be_made_to_choose_a_new_password(
    management: Management, operator: AsyncClient
) -> None:
    manager, carol = await management.user("manager", "administrator"), await management.user("carol", "auditor")
    assert (await manager.post("/users/require-password-change")).json() == {"users": 1}
    assert (await carol.get("/cas")).status_code == 401
    assert (await manager.get("/cas")).status_code == 200
    again = await management.client().post("/login", json={"name": "carol", "password": PASSWORD.get_secret_value()})
    assert again.json()["password_change_required"]
    assert (await operator.get("/users/manager")).json()["must_change_password"] is False


async def test_after_logout_the_session_is_over(management: Management) -> None:
    client = await management.user("dave", "auditor")
    assert (await client.post("/logout")).status_code == 204
    assert (await client.get("/me")).status_code == 401


async def test_a_wrong_password_and_an_unknown_user_look_the_same(management: Management) -> None:
    await management.user("dave", "auditor")
    wrong = await management.client().post("/login", json={"name": "dave", "password": "wrong"})
    unknown = await management.client().post("/login", json={"name": "nobody", "password": "wrong"})
    same = ("status", "code", "detail", "remedy")
    assert [wrong.json()[name] for name in same] == [unknown.json()[name] for name in same]
    assert wrong.status_code == 401


async def test_organizations_of_others_do_not_exist(management: Management, hierarchy: None) -> None:
    stranger = await management.user("stranger", "ca-operator")
    hidden = await stranger.get("/cas/demo~root")
    unknown = await stranger.get("/cas/demo~none")
    assert hidden.status_code == unknown.status_code == 404
    assert hidden.json()["detail"].replace("root", "none") == unknown.json()["detail"]
    assert (await stranger.get("/cas")).json()["items"] == []
    assert (await stranger.get("/certificates")).json()["items"] == []
    assert (await stranger.get("/events?ca=demo~root")).status_code == 404
    assert (await stranger.get("/events")).json()["code"] == "ca-needed"


async def test_a_member_sees_his_organization_and_no_other(management: Management, operator: AsyncClient) -> None:
    member = await management.user("member", "ca-operator")
    for name in ("mine", "other"):
        await operator.post("/organizations", json={"name": name})
        await operator.post(f"/organizations/{name}/cas", json=root_body())
    assert (await operator.put("/organizations/mine/members/member", json={})).json()["state"] == "member"
    assert [ca["id"] for ca in (await member.get("/cas")).json()["items"]] == ["mine~root"]
    assert (await operator.delete("/organizations/mine/members/member")).status_code == 422, "the last one stays"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/organizations"),
        ("POST", "/organizations/demo/cas"),
        ("PATCH", "/cas/demo~root"),
        ("DELETE", "/cas/demo~root"),
        ("POST", "/cas/demo~root/renew"),
        ("POST", "/cas/demo~issuing/certificates"),
        ("POST", "/cas/demo~issuing/crls"),
        ("POST", "/users"),
        ("POST", "/roles"),
        ("GET", "/settings"),
        ("GET", "/keys"),
        ("GET", "/server-certificates"),
    ],
)
async def test_an_auditor_changes_nothing(
    management: Management, operator: AsyncClient, hierarchy: None, method: str, path: str
) -> None:
    auditor = await management.user("auditor", "auditor")
    await operator.put("/organizations/demo/members/auditor", json={})
    bodies = {
        "/organizations": {"name": "another"},
        "/organizations/demo/cas": root_body("second"),
        "/cas/demo~root": {"label": "x"},
        "/cas/demo~issuing/certificates": {"profile": "privatessl-tls-server"},
        "/users": {"name": "eve"},
        "/roles": {"name": "eve", "permissions": []},
    }
    answer = await auditor.request(method, path, json=bodies.get(path, {}) if method != "GET" else None)
    assert answer.status_code == 403, answer.text
    assert answer.json()["code"] == "permission-missing"


async def test_refusals_are_in_the_audit_trail(management: Management, hierarchy: None) -> None:
    stranger = await management.user("stranger", "auditor")
    await stranger.get("/cas/demo~root")

    async def recorded() -> bool:
        async with management.services.database.read() as view:
            rows = await view.all(select(audit_record).where(audit_record.c.actor == "stranger"))
        return any(row["action"] == "api.get-ca" and row["outcome"] == "refused" for row in rows)

    await eventually(recorded)


async def test_somebody_unknown_cannot_fill_the_audit_trail_with_names(management: Management) -> None:
    nobody = management.client()
    for number in range(20):
        assert (await nobody.get(f"/cas/made-up~{number}")).status_code == 401
    await management.services.refusals.stop()
    async with management.services.database.read() as view:
        rows = await view.all(select(audit_record).where(audit_record.c.action == "api.get-ca"))
    assert {row["object"] for row in rows} == {"GET /cas/{ca}"}
    assert sum(row["detail"]["count"] for row in rows) == 20


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/login", {"name": "nobody", "password": "\ud800"}),
        ("/login", {"name": "\ud800", "password": "x"}),
        ("/organizations", {"name": "\ud800"}),
        ("/organizations", {"name": "half", "description": "\ud800"}),
        ("/roles", {"name": "half", "description": "\ud800", "permissions": []}),
        ("/profiles", {"id": "half", "based_on": "privatessl-tls-server", "changes": {"title": "\ud800"}}),
        ("/declaration", {"declaration": "organizations: [{name: '\ud800'}]"}),
    ],
)
async def test_half_a_character_is_refused(operator: AsyncClient, path: str, body: dict[str, str]) -> None:
    content = json.dumps(body).encode()
    answer = await operator.post(path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 401, 422), answer.text
    assert answer.json()["code"] != "internal-error"


@pytest.mark.parametrize("path", ["/nothing", "/cas/demo~root/nothing"])
async def test_unknown_paths_are_problems_too(operator: AsyncClient, path: str) -> None:
    answer = await operator.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


async def test_wrong_methods_and_bodies_are_problems_that_name_the_field(operator: AsyncClient) -> None:
    assert (await operator.put("/cas")).status_code == 405
    broken = await operator.post("/organizations", content=b"{", headers={"content-type": "application/json"})
    assert broken.json()["code"] == "invalid-json"
    unknown = await operator.post("/organizations", json={"name": "demo", "nmae": "demo"})
    assert unknown.status_code == 400
    assert unknown.json()["errors"][0]["pointer"] == "/nmae"


async def test_a_body_never_comes_back_in_a_refusal(operator: AsyncClient) -> None:
    body = {"name": "dave", "password": 4711_4711_4711}
    assert "471147114711" not in (await operator.post("/login", json=body)).text
