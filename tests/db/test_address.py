from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.core.errors import InvalidInput
from intaglio.db import address


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ca@db1,db2/pki?sslmode=verify-full", "postgresql://ca@db1,db2/pki?sslmode=verify-full"),
        ("postgresql://ca:hunter2@db/pki", "postgresql://ca@db/pki"),
        ("postgresql://:hunter2@db/pki", "postgresql://db/pki"),
        ("postgresql://ca@db/pki?password=hunter2&sslmode=require", "postgresql://ca@db/pki?sslmode=require"),
        ("postgresql://ca@db/pki?p%61ssword=hunter2", "postgresql://ca@db/pki"),
        ("postgresql://ca@db/pki?sslpassword=hunter2", "postgresql://ca@db/pki"),
        ("postgresql://ca:hunter2@[::1]:5433/pki", "postgresql://ca@[::1]:5433/pki"),
        ("host=db user=ca password='hunter 2'", "user=ca host=db"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert address.without_secrets(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ca:hunter/2@db/pki",
        "postgresql://ca:hunter2@2@db/pki",
        "postgresql://ca:hunter%zz2@db/pki",
        "mysql://ca:hunter2@db/pki",
        "host=db port=hunter2",
    ],
)
def test_an_unreadable_address_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        address.without_secrets(url)
    assert refused.value.code == "database-url-invalid"
    assert "hunter" not in str(refused.value)
    assert "%40" in refused.value.remedy


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_any_password_can_be_written(password: str) -> None:
    url = f"postgresql://ca:{quote(password, safe='')}@db/pki"
    assert address.parse(url)["password"] == password
    assert address.without_secrets(url) == "postgresql://ca@db/pki"


@given(st.text(max_size=80))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address.without_secrets(text)
    except InvalidInput:
        return
    assert address.parse(text) is not None
