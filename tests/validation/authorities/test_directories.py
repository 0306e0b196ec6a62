"""Directories: whom their passwords are for."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select
from tests.support.authority import OPERATOR

from intaglio.audit.models import audit_record
from intaglio.validation.authorities import directories
from intaglio.validation.authorities.directories import DirectorySpec
from intaglio.validation.context import Validation

_KNOWN: dict[str, Any] = {"name": "main", "url": "ldap://ldap.example", "start_tls": True, "user_name": "cn=reader"}


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, True),
        ({"url": "ldap://other.example"}, False),
        ({"user_name": "cn=other"}, False),
        ({"start_tls": False}, False),  # it was never to be seen on the wire
    ],
)
async def test_a_password_stays_with_the_server_the_name_and_the_protection_it_was_given_for(
    validation: Validation, changes: dict[str, Any], kept: bool
) -> None:
    given = DirectorySpec(**_KNOWN, password=SecretStr("secret"))
    assert (await directories.save(validation, OPERATOR, given)).has_password
    changed = DirectorySpec(**{**_KNOWN, **changes})
    assert (await directories.save(validation, OPERATOR, changed)).has_password is kept
    async with validation.database.read() as view:
        query = select(audit_record.c.detail).where(audit_record.c.action == "status-directory.change")
        recorded = await view.scalar(query)
    assert {name: recorded[name] for name in ("url", "start_tls", "user_name")} == changed.model_dump(
        include={"url", "start_tls", "user_name"}
    )
    assert recorded["password"] == ("kept" if kept else "none")
