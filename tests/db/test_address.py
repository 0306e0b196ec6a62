from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
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


@pytest.fixture
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing that libpq would take from the environment."""
    for name in ("HOST", "HOSTADDR", "SERVICE", "SSLMODE", "SSLROOTCERT"):
        monkeypatch.delenv(f"PG{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.usefixtures("plain_environment")
@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///pki",
        "postgresql://ca@localhost/pki",
        "postgresql://ca@LOCALHOST/pki?sslmode=disable",
        "postgresql://ca@127.0.0.1:5433/pki?sslmode=prefer",
        "postgresql://ca@127.8.9.1,[::1]/pki",
        "postgresql://ca@/pki?host=/run/postgresql",
        "postgresql://ca@%2Frun%2Fpostgresql/pki",
        "host=db.example hostaddr=127.0.0.1",
    ],
)
def test_a_database_on_this_host_is_reached_as_the_address_says(url: str) -> None:
    assert address.secured(url) == url


REMOTE = [
    "postgresql://ca@db.example/pki",
    "postgresql://ca@192.0.2.1/pki",
    "postgresql://ca@[2001:db8::1]/pki",
    "postgresql://ca@localhost,db.example/pki",
    "postgresql://ca@localhost.example/pki",
    "postgresql://ca@127.0.0.1.example/pki",
    "host=localhost hostaddr=192.0.2.1",
    "host=/run,db.example dbname=pki",
    "service=pki",
]


@pytest.mark.usefixtures("plain_environment")
@pytest.mark.parametrize("url", REMOTE)
def test_a_database_elsewhere_is_verified_even_when_the_address_does_not_say_so(url: str) -> None:
    found = address.parse(address.secured(url))
    assert found["sslmode"] == "verify-full"
    assert found.get("sslrootcert") == (None if "service" in url else "system")
    assert {name: found[name] for name in address.parse(url)} == address.parse(url)
    assert address.parse(address.secured(address.secured(url))) == found


@pytest.mark.usefixtures("plain_environment")
@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca", "nonsense"])
@pytest.mark.parametrize("url", REMOTE)
def test_less_than_full_verification_of_a_database_elsewhere_is_refused(
    monkeypatch: pytest.MonkeyPatch, url: str, mode: str
) -> None:
    with_mode = f"{url}?sslmode={mode}" if url.startswith("postgresql:") else f"{url} sslmode={mode}"
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    with pytest.raises(InvalidInput) as refused:
        address.secured(with_mode)
    assert refused.value.code == "database-tls-required"
    monkeypatch.setenv("PGSSLMODE", mode)
    with pytest.raises(InvalidInput):
        address.secured(url)


@pytest.mark.usefixtures("plain_environment")
def test_the_roots_of_the_operator_are_trusted_in_place_of_those_of_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = address.secured("postgresql://ca@db.example/pki?sslrootcert=/etc/ca.pem")
    assert address.parse(own)["sslrootcert"] == "/etc/ca.pem"
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql" / "root.crt").touch()
    assert "sslrootcert" not in address.parse(address.secured("postgresql://ca@db.example/pki"))
    (tmp_path / ".postgresql" / "root.crt").unlink()
    monkeypatch.setenv("PGSSLROOTCERT", "/etc/ca.pem")
    assert "sslrootcert" not in address.parse(address.secured("postgresql://ca@db.example/pki"))


@pytest.mark.usefixtures("plain_environment")
@pytest.mark.parametrize(("name", "value"), [("PGHOST", "db.example"), ("PGHOSTADDR", "192.0.2.1"), ("PGSERVICE", "x")])
def test_a_host_from_the_environment_counts(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert address.parse(address.secured("postgresql:///pki"))["sslmode"] == "verify-full"
    with pytest.raises(InvalidInput):
        address.secured("postgresql:///pki?sslmode=require")


@pytest.mark.usefixtures("plain_environment")
@given(st.text(max_size=80) | st.from_regex(r"postgresql://[a-z@:/0-9.,\[\]%?=&]{0,40}", fullmatch=True))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_address_is_on_this_host_or_verified_or_refused(text: str) -> None:
    try:
        url = address.secured(text)
    except InvalidInput:
        return
    assert url == text or address.parse(url)["sslmode"] == "verify-full"
