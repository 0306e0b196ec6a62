"""Where clients reach an endpoint, and who they are behind a proxy."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update
from tests.enrollment.conftest import NewEndpointAt
from tests.support.authority import OPERATOR

from intaglio.authority.cas.delete import delete_ca
from intaglio.core.settings import Settings
from intaglio.enrollment import urls
from intaglio.enrollment.administration import delete_endpoint, list_endpoints
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.endpoints import EndpointUnknown
from intaglio.enrollment.models import endpoint as endpoint_table
from intaglio.enrollment.settings import EnrollmentSettings
from intaglio.enrollment.urls import asked_base, bases, source_of, urls_of
from intaglio.enrollment.values import Protocol

SETTINGS = Settings(hostname="pki.example", public_url="http://pki.example")
BEHIND = EnrollmentSettings(trusted_proxies=("10.0.0.0/8",))


def scope(*headers: tuple[str, str], peer: str = "192.0.2.7", scheme: str = "https") -> dict[str, Any]:
    found = [(name.encode(), value.encode()) for name, value in headers]
    return {"type": "http", "scheme": scheme, "client": (peer, 1), "headers": found}


def test_an_answer_names_the_host_that_was_asked() -> None:
    assert asked_base(SETTINGS, EnrollmentSettings(), scope(("host", "Est.Example:8443"))) == "https://est.example:8443"
    assert asked_base(SETTINGS, EnrollmentSettings(), scope(("host", "[2001:db8::1]:1443"))) == "https://[2001:db8::1]:1443"
    assert asked_base(SETTINGS, EnrollmentSettings(), scope(("host", "a"), scheme="http")) == "http://a"


@pytest.mark.parametrize("host", ["", "a b", "a/b", "a?b", "a#b", "evil.example/@x", "a:b:c", "a\r\nb", "ä.example"])
def test_a_host_that_is_none_gives_the_name_of_the_server(host: str) -> None:
    assert asked_base(SETTINGS, EnrollmentSettings(), scope(("host", host))) == "https://pki.example:1443"


def test_a_configured_base_wins() -> None:
    live = EnrollmentSettings(base_url="https://enroll.example/", plain_base_url="http://plain.example")
    assert asked_base(SETTINGS, live, scope(("host", "other"))) == "https://enroll.example"
    assert asked_base(SETTINGS, live, scope(("host", "other"), scheme="http")) == "http://plain.example"


def test_only_a_trusted_proxy_says_who_asks_and_where() -> None:
    forwarded = (
        ("host", "inner:1443"),
        ("x-forwarded-host", "acme.example"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-for", "203.0.113.9, 198.51.100.2, 10.1.2.3"),
    )
    stranger, proxy = scope(*forwarded), scope(*forwarded, peer="10.9.9.9", scheme="http")
    assert (asked_base(SETTINGS, BEHIND, stranger), source_of(BEHIND, stranger)) == ("https://inner:1443", "192.0.2.7")
    assert (asked_base(SETTINGS, BEHIND, proxy), source_of(BEHIND, proxy)) == ("https://acme.example", "198.51.100.2")
    assert source_of(BEHIND, scope(peer="10.9.9.9")) == "10.9.9.9"


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=80))
def test_no_header_makes_a_base_that_is_no_url(host: str, proto: str, forwarded: str) -> None:
    headers = [("host", host), ("x-forwarded-proto", proto), ("x-forwarded-host", forwarded), ("x-forwarded-for", host)]
    made = [(name.encode(), value.encode("utf-8", "replace")) for name, value in headers]
    asked = {"type": "http", "scheme": "https", "client": ("10.0.0.1", 1), "headers": made}
    base = asked_base(SETTINGS, BEHIND, asked)
    assert base.startswith(("https://", "http://"))
    assert not set(base.partition("://")[2]) & set("/?#@ \r\n\"'<>")
    assert len(source_of(BEHIND, asked)) <= 64


@pytest.mark.parametrize("wrong", ["enroll.example", "ftp://x", "https://", "https://a b", 'https://x"y', "https://x?y"])
def test_a_base_that_is_no_url_cannot_be_set(wrong: str) -> None:
    with pytest.raises(ValueError, match="https"):
        EnrollmentSettings(base_url=wrong)


async def test_every_endpoint_has_its_urls_and_commands(enrollment: Enrollment, new_endpoint: NewEndpointAt) -> None:
    where = bases(SETTINGS, EnrollmentSettings())
    for protocol, first in {
        "acme": "https://pki.example:1443/acme/main/demo~issuing/privatessl-tls-server/directory",
        "est": "https://pki.example:1443/.well-known/est",
        "scep": "http://pki.example/scep/main/demo~issuing/scep-digital-signature-key-encipherment/",
        "cmp": "http://pki.example/.well-known/cmp",
    }.items():
        shown = urls_of(await new_endpoint(protocol, name="default"), where)
        assert shown.urls[0] == first
        assert shown.commands
        assert all(each.title and each.lines for each in shown.commands)


async def test_the_unknown_part_of_a_url_is_named(enrollment: Enrollment, new_endpoint: NewEndpointAt) -> None:
    endpoint = await new_endpoint("scep", name="phones")
    at, profile = enrollment.endpoints.at, "scep-digital-signature-key-encipherment"
    assert await at(Protocol.SCEP, "main", "demo~issuing", profile.replace("-", "_")) == endpoint
    assert await enrollment.endpoints.named(Protocol.SCEP, "phones") == endpoint
    for tenant, ca, asked, element in (
        ("Main", "demo~issuing", profile, "tenant"),
        ("main", "demo~root", profile, "ca"),
        ("main", "demo~issuing", "est-digital-signature", "profile"),
    ):
        with pytest.raises(EndpointUnknown) as refusal:
            await at(Protocol.SCEP, tenant, ca, asked)
        assert (refusal.value.status, refusal.value.target) == (404, element)
    with pytest.raises(EndpointUnknown):
        await at(Protocol.ACME, "main", "demo~issuing", profile)
    with pytest.raises(EndpointUnknown):
        await enrollment.endpoints.named(Protocol.EST, "phones")


async def test_the_endpoint_of_a_deleted_ca_is_not_there(enrollment: Enrollment, new_endpoint: NewEndpointAt) -> None:
    endpoint = await new_endpoint("est", name="devices")
    await delete_ca(enrollment.authority, OPERATOR, endpoint.ca)
    await enrollment.authority.current()
    with pytest.raises(EndpointUnknown):
        await enrollment.endpoints.named(Protocol.EST, "devices")
    with pytest.raises(EndpointUnknown):
        await enrollment.endpoints.at(Protocol.EST, "main", endpoint.ca, endpoint.profile)
    (listed,) = await list_endpoints(enrollment, OPERATOR)
    assert listed.id == endpoint.id  # to be deleted
    await delete_endpoint(enrollment, OPERATOR, Protocol.EST, "devices")


async def test_an_endpoint_that_cannot_be_read_does_not_hide_the_others(
    enrollment: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    await new_endpoint("scep", name="phones")
    broken = await new_endpoint("est", name="devices")
    async with enrollment.database.transaction() as tx:
        await tx.execute(update(endpoint_table).where(endpoint_table.c.id == broken.id).values(options={"later": 1}))
        tx.changed_configuration()
    await enrollment.authority.current()
    assert (await enrollment.endpoints.named(Protocol.SCEP, "phones")).name == "phones"
    with pytest.raises(EndpointUnknown):
        await enrollment.endpoints.named(Protocol.EST, "devices")


async def test_the_base_and_the_source_follow_the_settings(enrollment: Enrollment) -> None:
    asked = scope(("host", "x.example"))
    assert await urls.base_url(enrollment, asked) == "https://x.example"
    assert await urls.source(enrollment, asked) == "192.0.2.7"
