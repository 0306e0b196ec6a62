"""Tokens in the management API: what is wrong with a body is said with the name of the member."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from httpx import AsyncClient
from tests.server.test_management_declaration import apply

_BODY: dict[str, Any] = {"name": "main", "module": "softhsm2", "label": "one", "pin": "1234"}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"pin": None}, "pin"),
        ({"pin": ""}, "pin"),
        ({"label": None}, "label"),
        ({"name": None}, "name"),
        ({"name": "Main"}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "-a"}, "name"),
        ({"name": "a" * 41}, "name"),
        ({"module": None}, "module"),
        ({"label": "x" * 33}, "label"),
        ({"slot": -1}, "slot"),
        ({"sessions": 0}, "sessions"),
        ({"timeout": 121}, "timeout"),
        ({"password": "x"}, "password"),
    ],
)
async def test_what_is_wrong_with_a_new_token_is_named(
    operator: AsyncClient, changes: dict[str, Any], named: str
) -> None:
    body = {name: value for name, value in {**_BODY, **changes}.items() if value is not None}
    refused = await operator.post("/hsm/tokens", json=body)
    assert refused.status_code == 400, refused.text
    assert [each["pointer"] for each in refused.json()["errors"]] == [f"/{named}"]
    assert "1234" not in refused.text
    assert (await operator.get("/hsm/tokens")).json()["items"] == []


async def test_tokens_are_declared_without_their_pins(operator: AsyncClient) -> None:
    wanted = {"tokens": [{"name": "main", "module": "softhsm2", "label": "one", "sessions": 4}]}
    text = yaml.safe_dump(wanted)
    done = await apply(operator, text)
    assert [(each["action"], each["object"]) for each in done["changes"]] == [("create", "token main")]
    assert "intaglio hsm token set-pin main" in done["notes"][0]
    (found,) = (await operator.get("/hsm/tokens")).json()["items"]
    assert (found["sessions"], found["pin_state"]) == (4, "none")
    refused = await operator.post("/keys", json={"key_algorithm": "P-256", "provider": "pkcs11:main"})
    assert (refused.status_code, refused.json()["code"]) == (503, "token-unavailable")
    assert "set-pin main" in refused.json()["remedy"]
    checked = (await operator.post("/hsm/tokens/main/check", json={})).json()
    assert not checked["ok"]
    exported = (await operator.get("/declaration")).json()["declaration"]
    assert (await apply(operator, exported, prune=True, dry_run=True))["changes"] == []
    changed = await apply(operator, text.replace("sessions: 4", "sessions: 6"))
    assert changed["changes"][0]["fields"] == [["sessions", "4", "6"]]
    gone = await apply(operator, "tokens: []\n", prune=True)
    assert [(each["action"], each["object"]) for each in gone["changes"]] == [("delete", "token main")]
    nowhere = await operator.post("/declaration", json={"declaration": "tokens: [{name: x, module: softhsm2}]\n"})
    assert nowhere.json()["code"] == "token-not-named"
