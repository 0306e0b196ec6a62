"""Tokens in the management API: what is wrong with a body is said with the name of the member."""

from __future__ import annotations

from typing import Any

import pytest
from httpx import AsyncClient

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
