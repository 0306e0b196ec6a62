"""The page that shows a tenant's people where certificates are asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest_asyncio
from starlette.applications import Starlette
from tests.enrollment.conftest import NewEndpointAt
from tests.support.authority import OPERATOR

from intaglio.enrollment import pages
from intaglio.enrollment.administration import EndpointChanges, change_endpoint, create_tenant
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.settings import EnrollmentSettings
from intaglio.platform import live_settings


@pytest_asyncio.fixture
async def visitor(enrollment: Enrollment) -> AsyncIterator[httpx.AsyncClient]:
    for name in ("Fleet", "others"):
        await create_tenant(enrollment, OPERATOR, name)
    transport = httpx.ASGITransport(Starlette(routes=pages.routes(enrollment)))
    async with httpx.AsyncClient(transport=transport, base_url="https://enrol.example:1443") as client:
        yield client


async def test_the_page_shows_the_endpoints_of_one_tenant_with_commands(
    visitor: httpx.AsyncClient, new_endpoint: NewEndpointAt
) -> None:
    for protocol in ("acme", "est", "scep", "cmp"):
        await new_endpoint(protocol, tenant="Fleet")
    other = await new_endpoint("est", tenant="others", profile="est-non-repudiation", name="secret-name")
    page = await visitor.get("/urls/Fleet")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    place = "Fleet/demo~issuing/privatessl-tls-server"
    assert f"certbot certonly --standalone --server https://enrol.example:1443/acme/{place}/directory" in page.text
    for command in ("openssl cmp", "pki --scep", "curl --cacert platform-ca.pem"):
        assert command in page.text
    assert other.name not in page.text
    assert page.text.count("<section") == 4


async def test_nobody_learns_which_tenants_there_are(
    visitor: httpx.AsyncClient, new_endpoint: NewEndpointAt, enrollment: Enrollment
) -> None:
    endpoint = await new_endpoint("est", tenant="Fleet")
    for path in ("/urls/fleet", "/urls/", "/urls", "/urls/-/../page.css", "/urls/-/page.html.j2"):
        assert (await visitor.get(path)).status_code in (404, 307)
    await change_endpoint(enrollment, OPERATOR, endpoint.protocol, endpoint.name, EndpointChanges(enabled=False))
    await enrollment.authority.current()
    assert (await visitor.get("/urls/Fleet")).status_code == 404


async def test_whoever_may_not_ask_at_an_endpoint_is_not_shown_it(
    visitor: httpx.AsyncClient, new_endpoint: NewEndpointAt
) -> None:
    await new_endpoint("est", tenant="Fleet", name="for-all")
    await new_endpoint("est", tenant="Fleet", name="inside", profile="est-non-repudiation", networks=["10.0.0.0/8"])
    page = (await visitor.get("/urls/Fleet")).text
    assert "for-all" in page
    assert "inside" not in page


async def test_the_page_can_be_switched_off(
    visitor: httpx.AsyncClient, new_endpoint: NewEndpointAt, enrollment: Enrollment
) -> None:
    await new_endpoint("est", tenant="Fleet")
    async with enrollment.database.transaction() as tx:
        await live_settings.change(tx, OPERATOR, EnrollmentSettings.group, {"pages": False})
    assert (await visitor.get("/urls/Fleet")).status_code == 404


async def test_nothing_in_the_page_is_taken_from_elsewhere_or_run_inline(
    visitor: httpx.AsyncClient, new_endpoint: NewEndpointAt
) -> None:
    await new_endpoint("acme", tenant="Fleet", options={})
    for path in ("/urls/Fleet", "/urls/-/page.css", "/urls/-/copy.js"):
        answer = await visitor.get(path)
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_host_that_is_no_host_gets_into_no_command(
    visitor: httpx.AsyncClient, new_endpoint: NewEndpointAt
) -> None:
    await new_endpoint("est", tenant="Fleet")
    page = await visitor.get("/urls/Fleet", headers={"host": "enrol.example;rm -rf $HOME"})
    assert "rm -rf" not in page.text
    page = await visitor.get("/urls/Fleet", headers={"host": '"><script>alert(1)</script>'})
    assert "alert(1)" not in page.text
